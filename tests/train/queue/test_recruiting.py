"""When a process of the cluster is asked to help with a run, how long a failed worker's others are waited for, and that
who ended, or never began, leaves its place to others.

What the cluster says is given here, so that every bound can be met; `test_cluster` runs the same on a real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.serving.loops import FAILURES_MOST
from core.settings import Settings
from train.fitting.workers import LOST
from train.queue import cluster
from train.queue.child import NodeLost
from train.queue.cluster import LOSS_SECONDS, RECRUIT_SECONDS, JoinedProcesses, RayRun, WorkersRun
from train.queue.worker import _comparing


class Site:
    """A cluster with so many parts of a run open, and room for so many processes more."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.n_open, self.free = 1000.0, 3, {"CPU": 4.0, "GPU": 0.0}
        self.answers = True
        self.reserved: list[object] = []
        util = SimpleNamespace(
            placement_group=lambda places, strategy: self.reserved.append(places) or places,
            remove_placement_group=self.reserved.remove,
            scheduling_strategies=SimpleNamespace(PlacementGroupSchedulingStrategy=lambda places, rank: rank),
        )
        ray = SimpleNamespace(available_resources=lambda: self.free, is_initialized=lambda: True, util=util)
        monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(cluster, "n_open", lambda folder: self.n_open)
        monkeypatch.setattr(cluster, "answers", lambda settings: self.answers)
        monkeypatch.setattr(cluster, "ray_of", lambda settings: ray)
        monkeypatch.setattr(cluster, "NodeProcess", Helper)
        self.joined = JoinedProcesses(Settings(state_dir=folder, ray_cpus=2), ["fit"], folder)

    def look(self, seconds: float = RECRUIT_SECONDS) -> list[str]:
        """Where those stand that help after so many seconds more; "" for one that waits for room."""
        self.now += seconds
        self.joined.look()
        return [process.where for process in self.joined.processes]


class Helper:
    def __init__(
        self, settings: Settings, arguments: Sequence[str], words: Path, heading: str, **where: object
    ) -> None:
        words.touch()
        self.where, self.status, self.is_stopped = "", None, False
        self.memory_mib, self.words = 300, ""

    def look(self, seconds: float) -> int | None:
        return self.status

    def stop(self) -> None:
        self.is_stopped = True

    def text(self) -> str:
        return self.words


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_one_more_is_asked_at_a_time_until_each_open_part_but_the_leaders_has_one(site: Site) -> None:
    assert site.look() == [""]
    assert site.look() == [""], "one waits for room, and another job finds its place"
    site.joined.processes[0].where = "a"
    assert site.look(RECRUIT_SECONDS - 0.01) == ["a"], "it is too soon"
    assert site.look(0.01) == ["a", ""]
    site.joined.processes[1].where = "b"
    assert site.look() == ["a", "b"]
    site.n_open = 2
    assert site.look() == ["a", "b"], "one more than there are parts for, which ends by itself"
    site.n_open = 4
    assert site.look() == ["a", "b", ""]


def test_where_no_part_is_left_who_waits_is_sent_away_and_who_works_stays(site: Site) -> None:
    site.look()
    site.joined.processes[0].where = "a"
    site.look()
    waiting = site.joined.processes[1]
    site.n_open = 2
    assert site.look() == ["a", ""], "one part besides the leader's is open"
    site.n_open = 1
    assert site.look() == ["a"] and waiting.is_stopped and not site.joined.processes[0].is_stopped
    site.joined.stop()
    assert site.joined.processes == []


@pytest.mark.parametrize(
    ("free", "asked"), [({"CPU": 2.0, "GPU": 0.0}, [""]), ({"CPU": 1.9, "GPU": 0.0}, []), ({}, [])]
)
def test_room_is_what_one_process_is_given(site: Site, free: dict[str, float], asked: list[str]) -> None:
    site.free = free
    assert site.look() == asked


def test_while_the_cluster_does_not_answer_none_is_asked(site: Site) -> None:
    site.answers = False
    assert site.look() == []


@pytest.mark.parametrize(("status", "replaced"), [(0, FAILURES_MOST + 1), (1, FAILURES_MOST)])
def test_who_ends_is_replaced_and_after_so_many_failures_nobody_is(site: Site, status: int, replaced: int) -> None:
    for _ in range(replaced):
        assert site.look() == [""]
        (helper,) = site.joined.processes
        helper.where, helper.status = "a", status
    assert (site.look() == [""]) is (status == 0)


@pytest.mark.parametrize(
    ("failed_at", "is_enough"),
    [(None, False), (1000.0 - LOSS_SECONDS, False), (999.9 - LOSS_SECONDS, True), (100.0, True)],
)
def test_the_others_of_a_failed_worker_have_so_long_to_end(
    site: Site, failed_at: float | None, is_enough: bool
) -> None:
    run = object.__new__(WorkersRun)
    run._failed_at = failed_at
    assert run._is_enough() is is_enough


def test_a_run_that_ended_leaves_its_place_and_can_still_be_asked(site: Site, tmp_path: Path) -> None:
    run = RayRun(site.joined.settings, ["fit"], tmp_path / "log.txt", "attempt 1", site.joined)
    leader = run._leader
    assert run.wait(0) is None and not leader.is_stopped
    leader.where, leader.status, leader.words = "a", 0, "done"
    (helper,) = site.joined.processes
    assert run.wait(0) == 0 and leader.is_stopped and helper.is_stopped
    assert (run.where, run.text(), run.memory_mib()) == ("a", "done", 300)


def test_a_comparison_that_waits_for_room_says_so(site: Site, tmp_path: Path) -> None:
    run = RayRun(site.joined.settings, ["compare"], tmp_path / "log.txt", "comparison")
    assert _comparing(run)["message"].endswith("with the live model: Waits for a node with room.")
    run._leader.where = "a"
    assert _comparing(run)["message"].endswith("with the live model: starting.")


@pytest.mark.parametrize(("words", "own_status"), [("", 1), (LOST, None)])
def test_a_first_worker_that_goes_on_is_waited_for_so_long_after_another_failed(
    site: Site, tmp_path: Path, words: str, own_status: int | None
) -> None:
    run = WorkersRun(site.joined.settings, ["fit"], tmp_path, "attempt 1", 2)
    first, second = run._processes
    run._addresses = {0: "a:1", 1: "b:1"}
    assert run.wait(0) is None
    second.status, second.words = 1, words
    assert run.wait(0) is None
    site.now += LOSS_SECONDS
    assert run.wait(0) is None, "not longer yet"
    site.now += 0.1
    if own_status is None:
        with pytest.raises(NodeLost):
            run.wait(0)
        assert "lost each other" in run._log.read_text()
    else:
        assert run.wait(0) == own_status and first.is_stopped


def test_workers_that_cannot_begin_leave_no_places_reserved(site: Site, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        WorkersRun(site.joined.settings, ["fit"], tmp_path / "away", "attempt 1", 2)
    assert site.reserved == []
    run = WorkersRun(site.joined.settings, ["fit"], tmp_path, "attempt 1", 1)
    assert len(site.reserved) == 1
    run.stop()
    assert site.reserved == []
