"""What may be skipped where the real test images are not there, and that the made ones stand in for the rest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from real_data import BEGINNING, NO_NAMESPACES, VARIABLE, forbidden_skips, real_folder, why_skipped


def item(*marks: pytest.Mark) -> Any:
    named = {mark.name: mark for mark in marks}
    return SimpleNamespace(nodeid="tests/test_a.py::test_b", get_closest_marker=named.get)


def skipped(reason: str) -> Any:
    return SimpleNamespace(longrepr=("tests/test_a.py", 1, f"Skipped: {reason}"))


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the variable names, still without data/."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_a_test_of_real_images_is_skipped_with_what_it_measures_until_they_are_there(somewhere: Path) -> None:
    marked = item(pytest.mark.real_data("the share that is recognised").mark)
    assert real_folder() is None and why_skipped(item()) is None
    assert why_skipped(marked) == f"{BEGINNING}the share that is recognised. {VARIABLE} names their folder."
    (somewhere / "data").mkdir()
    assert real_folder() == somewhere and why_skipped(marked) is None


@pytest.mark.parametrize("mark", [pytest.mark.real_data, pytest.mark.real_data(" "), pytest.mark.real_data("a", "b")])
def test_a_mark_without_a_reason_is_refused(mark: pytest.MarkDecorator) -> None:
    with pytest.raises(pytest.UsageError, match="needs a reason"):
        why_skipped(item(mark.mark))


def test_where_ci_is_true_only_what_measures_real_images_that_nobody_promised_or_the_machine_refuses_may_be_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports = [
        skipped(f"{BEGINNING}scores."),
        skipped("PostgreSQL is not installed"),
        skipped(f"{NO_NAMESPACES}not permitted"),
    ]
    monkeypatch.setenv(VARIABLE, "")
    assert forbidden_skips(reports) == ["Skipped: PostgreSQL is not installed"]
    monkeypatch.setenv(VARIABLE, "/nowhere")
    assert len(forbidden_skips(reports)) == 2
    assert forbidden_skips([]) == []
