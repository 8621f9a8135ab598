"""Which tests may be skipped where the real test images are not there, and which skips fail a run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

VARIABLE = "SECONDREAD_TEST_DATA"
BEGINNING = "Measures real images, which are not here: "
NO_NAMESPACES = "This machine lets nobody make network namespaces: "
"""A machine's owner decides that, often for everything in a container; nothing that can be installed changes it."""


def real_folder() -> Path | None:
    """The folder with the real `data/` and `corpus/`, or None where the variable is not set or names none."""
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named and (Path(named) / "data").is_dir() else None


def why_skipped(item: pytest.Item) -> str | None:
    """The sentence that a test marked `real_data` is skipped with where the real images are not there, else None.

    Raises `pytest.UsageError` for a mark that gives no reason.
    """
    mark = item.get_closest_marker("real_data")
    if mark is None:
        return None
    if len(mark.args) != 1 or not str(mark.args[0]).strip():
        raise pytest.UsageError(f"{item.nodeid}: real_data needs a reason, what is measured on real images.")
    return None if real_folder() else f"{BEGINNING}{mark.args[0]}. {VARIABLE} names their folder."


def forbidden_skips(skipped: Iterable[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """Of the reports of skips, the reasons that CI=true does not allow.

    A skip hides a missing tool or a missing file, so that none is allowed but where the machine itself refuses
    (`NO_NAMESPACES`), and of tests that measure real images where the variable does not promise them.
    """
    reasons = [report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext for report in skipped]
    allowed = (NO_NAMESPACES,) if os.environ.get(VARIABLE) else (NO_NAMESPACES, BEGINNING)
    return [reason for reason in reasons if not reason.removeprefix("Skipped: ").startswith(allowed)]
