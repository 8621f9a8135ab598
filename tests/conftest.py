"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real images (`data/`) and hostile files (`corpus/`), from SECONDREAD_TEST_DATA.

    Skips with a reason where it is unset, and fails where CI=true.
    """
    folder = os.environ.get("SECONDREAD_TEST_DATA", "")
    if folder and (Path(folder) / "data").is_dir():
        return Path(folder)
    reason = "SECONDREAD_TEST_DATA does not name the folder with the real test images (data/ and corpus/)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
