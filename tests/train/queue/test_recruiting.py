"""When a process of the cluster is asked to help with a run, and how long a failed worker's others are waited for.

What the cluster says is given here, so that every bound can be met; `test_cluster` runs the same on a real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.serving.loops import FAILURES_MOST
from core.settings import Settings
from train.queue import cluster
from train.queue.cluster import LOSS_SECONDS, RECRUIT_SECONDS, JoinedProcesses, WorkersRun


class Site:
    """A cluster with so many parts of a run open, and room for so many processes more."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.n_open, self.free = 1000.0, 3, {"CPU": 4.0, "GPU": 0.0}
        self.answers = True
        ray = SimpleNamespace(available_resources=lambda: self.free, is_initialized=lambda: True)
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
    def __init__(self, settings: Settings, arguments: Sequence[str], words: Path, heading: str) -> None:
        self.where, self.status, self.is_stopped = "", None, False

    def look(self, seconds: float) -> int | None:
        return self.status

    def stop(self) -> None:
        self.is_stopped = True


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
