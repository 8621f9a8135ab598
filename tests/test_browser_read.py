"""The whole way in a real browser: setup code, upload, first read, second read, heat map, final read, PDF."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).resolve().parent.parent
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
PASSWORD = "a long enough password for tests"
PATIENCE_MS = 90_000
"""The first answer of a model imports TensorFlow and builds a graph, on two cores beside other tests."""


@dataclass(frozen=True)
class Site:
    """A running SecondRead with an empty state folder."""

    url: str
    setup_code: str
    state: Path
    output: Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_site(state: Path) -> Iterator[Site]:
    port = _free_port()
    output = state.parent / f"{state.name}.log"
    environment = {**os.environ, "SECONDREAD_STATE_DIR": str(state)}
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with output.open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield Site(f"http://localhost:{port}", _setup_code(output, process), state, output)
        finally:
            process.terminate()
            process.wait(30)


def _setup_code(output: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        found = re.search(r"Setup code: (\S+)", output.read_text(errors="replace"))
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"the app did not start:\n{output.read_text(errors='replace')}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        reason = "Chromium is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site") / "state") as running:
        yield running
