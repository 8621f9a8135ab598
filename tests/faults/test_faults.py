"""The short run of `make faults`: a few kills of each kind lose nothing, leave nothing half and nothing over."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import act_rounds
import kill_rounds
import pytest
from act_rounds import Site, judge
from bad_conditions import CONDITIONS, FILES
from kill_figures import Figures
from record_site import picture
from server_rounds import half_uploads

from core.records.database.db import open_database
from core.records.reads import studies
from core.settings import REPOSITORY

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the rounds fork and look into /proc")


def short(folder: Path, *kinds: str, kills: int) -> Figures:
    figures = kill_rounds.run(folder, kills=kills, seed="short", kinds=dict.fromkeys(kinds, 1))
    assert figures.is_clean, figures.text()
    return figures


def test_a_process_that_acts_is_killed_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act_rounds, "SECONDS_MOST", 1.5)
    short(tmp_path, "acts", kills=3)
    figures = short(tmp_path, "acts", kills=6)  # goes on where it stopped
    assert figures.n_kills == 6 and sum(figures.acknowledged.values()) > 0
    assert json.loads((tmp_path / kill_rounds.FIGURES).read_text())["kills"] == figures.kills


def test_a_decoding_child_and_who_waits_for_it_are_killed(tmp_path: Path) -> None:
    figures = short(tmp_path, "decode", kills=1)
    assert sum(figures.kills["decoding child"].values()) > 0


def test_a_machine_fails_otherwise(tmp_path: Path) -> None:
    """Each condition once; the last kill is that of a process which acts, so that the rounds end."""
    rounds, figures = kill_rounds.ConditionRounds(tmp_path / "conditions"), Figures()
    for number in range(len(CONDITIONS) + len(FILES)):
        rounds.one(f"short-{number}", figures)
        assert figures.is_clean, figures.text()
    assert set(figures.conditions) == {*CONDITIONS, *FILES}
    assert all(figures.conditions[name][1] for name in ("read-only database", "locked database", *FILES))


@pytest.mark.parametrize("kinds", [("server",), ("worker",), ("listener", "sending")])
def test_the_command_kills_each_of_these_and_prints_its_figures_last(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """In a process of its own: the rounds fork warm ones, which pytest's would not make."""
    command = [sys.executable, "tests/faults/kill_rounds.py", "--kills", "2", "--folder", str(tmp_path)]
    command += [word for kind in kinds for word in ("--only", kind)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith("seconds") and "lost                  0" in done.stdout


def test_the_judge_finds_what_is_lost_half_or_left_over(tmp_path: Path) -> None:
    """Or the rounds would be green whatever happens."""
    site = Site(tmp_path)
    db = open_database(site.settings)
    study = studies.create_study(db, site.person, display_name="x", images=[picture(7)])
    db.store.remove(db.store.blobs.keys()[0])
    there = studies.create_study(db, site.person, display_name="y", images=[picture(8)])
    acts = [("study", study), ("first read", there), ("study", "0" * 32), ("import", "9"), ("deleted", there)]
    acts.append(("release", "f" * 64))
    db.close()
    (site.out / "half.backup").write_bytes(b"half")
    (site.out / "left").touch()
    (site.settings.state_dir / "store" / f"{'a' * 8}.half").touch()
    figures = Figures()
    judge(site, "1", acts, figures)
    assert not figures.is_clean
    told = {name: " ".join(getattr(figures, name)) for name in ("lost", "half", "left_over")}
    assert "0" * 32 in told["lost"] and "import 9" in told["lost"] and "release ffffffff" in told["lost"]
    assert f"first read of {there}" in told["lost"]
    assert "is named and not there" in told["half"] and "half.backup" in told["half"]
    assert "left" in told["left_over"] and ".half" in told["left_over"] and "deleted study" in told["left_over"]


def test_a_process_that_ends_by_itself_is_no_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round in which the process had died before, at its first act, found nothing lost and proved nothing."""

    def broken(*_: object) -> None:
        raise AttributeError

    monkeypatch.setattr(act_rounds.Acting, "go_on", broken)
    figures = Figures()
    kill_rounds.ActRounds(tmp_path).one("1", figures)
    assert "ended by itself with 1" in " ".join(figures.half)


def test_what_an_upload_left_half_is_found(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for name, content in (("1/a/whole/data", b"x"), ("1/a/half/.x", b"x"), ("1/b/empty/", None)):
        path = site.settings.state_dir / "inbox" / name
        (path if content is None else path.parent).mkdir(parents=True)
        if content is not None:
            path.write_bytes(content)
    assert sorted(half_uploads(site.settings)) == ["1/a/half", "1/b/empty"]


def test_kills_are_counted_by_what_was_killed(tmp_path: Path) -> None:
    figures = Figures()
    figures.killed("server", signal.SIGKILL)
    figures.killed("server", signal.SIGTERM)
    figures.tried("full disk", 6, 2)
    figures.store(tmp_path / "figures.json")
    again = Figures.stored(tmp_path / "figures.json")
    assert again == figures and again.n_kills == 2
    assert "full disk" in again.text() and "lost                  0" in again.text()
