"""The short run of `make attack`: no answer is wrong, and wrong ones would be found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from attack_site import ROLES, Figures, Site, rooms

from core.records.people.permissions import ACTIONS
from core.settings import REPOSITORY

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the server is forked from a warm process")


def test_a_short_attack_finds_no_wrong_answer_and_prints_its_figures_last() -> None:
    command = [sys.executable, "tests/attack/attack.py", "--short"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    requests, wrong, seconds = done.stdout.splitlines()[-3:]
    assert int(requests.split()[-1]) > 400 and wrong.split() == ["wrong", "answers", "0"]
    assert seconds.startswith("seconds")


def test_a_wrong_answer_is_found(tmp_path: Path) -> None:
    """Or the attack would be green whatever the server says."""
    site, figures = Site(tmp_path / "site"), Figures()
    try:
        assert site.leaked("a list with Case Bittern", "researcher") == ["Case Bittern"]
        assert site.leaked("a list with Case Bittern", "reader") == []
        assert site.leaked(f"/invitation?link={site.link}", "administrator") == [site.link[:16]]
        before = site.state()
        site.new_token("reader")
        assert site.state() == before
        figures.held("a defence", False, "it let somebody in")
        assert figures.wrong == ["a defence: it let somebody in"] and "wrong answers          1" in figures.text()
    finally:
        site.db.close()


def test_who_attacks_and_the_pages_are_those_of_the_product() -> None:
    assert {action for _, action in rooms() if action} <= set(ACTIONS) and ("account", "see_models") in rooms()
    assert {"nobody", "reader", "researcher", "administrator", "demoted", "disabled", "session ended"} <= set(ROLES)
