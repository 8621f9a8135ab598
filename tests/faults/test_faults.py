"""A dozen kills at random moments lose nothing, leave nothing half and nothing over: the short run of `make faults`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import kill_rounds
import pytest
from kill_rounds import Figures, Site, judge
from record_site import picture

from core.records.database.db import open_database
from core.records.reads import studies

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the rounds fork")


def test_a_dozen_kills_lose_nothing_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill_rounds, "SECONDS_MOST", 1.5)
    kill_rounds.run(tmp_path, kills=6, seed="short")
    figures = kill_rounds.run(tmp_path, kills=12, seed="short")  # goes on where it stopped
    assert figures.is_clean, figures.text()
    assert sum(figures.kills.values()) == 12 and all(figures.kills.values())
    assert json.loads((tmp_path / kill_rounds.FIGURES).read_text())["kills"] == figures.kills


def test_the_judge_finds_what_is_lost_half_or_left_over(tmp_path: Path) -> None:
    """Or the rounds would be green whatever happens."""
    site = Site(tmp_path)
    db = open_database(site.settings)
    study = studies.create_study(db, site.person, display_name="x", images=[picture(7)])
    db.store.remove(db.store.keys()[0])
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
