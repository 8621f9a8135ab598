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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CI=true nothing may be skipped: a skip there hides a missing tool or a missing file."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("Skipped tests fail the run where CI=true.")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
