"""No copyleft at run time, and a page that says what is installed."""

from __future__ import annotations

import re

from core.commands.licences import UNKNOWN, Dependency, dependencies
from core.settings import REPOSITORY

ROOT = REPOSITORY


def test_no_dependency_at_run_time_is_under_the_gpl_or_agpl() -> None:
    entries = dependencies(ROOT / "requirements.txt")
    assert len(entries) > 40
    assert not [entry for entry in entries if entry.is_copyleft]
    assert not [entry for entry in entries if entry.licence == UNKNOWN]


def test_copyleft_is_recognised_and_the_lesser_gpl_is_not_it() -> None:
    def says(licence: str) -> bool:
        return Dependency("x", "1", licence, True).is_copyleft

    assert says("GPL-3.0-only") and says("GNU General Public License v3 (GPLv3)") and says("AGPL-3.0")
    assert says("GNU Affero General Public License v3")
    assert not says("LGPL-3.0") and not says("GNU Lesser General Public License v3 (LGPLv3)") and not says("MIT")


def test_the_page_lists_every_direct_dependency() -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    for entry in dependencies(ROOT / "requirements.txt"):
        if entry.is_direct:
            assert f"| {entry.name} | {entry.licence} | direct |" in page, entry.name


def test_every_direct_dependency_is_pinned_exactly() -> None:
    for path in sorted(ROOT.glob("requirements*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.split("#")[0].split(";")[0].strip()
            assert not text or text.startswith("-r ") or re.fullmatch(r"[\w.\[\]-]+==[\w.]+", text), text
