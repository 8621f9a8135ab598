"""The real application as its users start it, and a real browser: for tests that need both."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.settings import REPOSITORY

CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
START_SECONDS = 240


@dataclass(frozen=True)
class RunningApp:
    """A started SecondRead. setup_code: what its terminal shows, or an empty string. output: its terminal."""

    url: str
    setup_code: str
    state_dir: Path
    output: Path
    pid: int


@contextmanager
def running_app(state_dir: Path, *, port: int = 0, script: str = "app.py", **settings: object) -> Iterator[RunningApp]:
    """`streamlit run app.py` on `port`, or a free one; `settings` become SECONDREAD_ variables. Ends with the block.

    script: another one, to compare with.
    """
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    state_dir.parent.mkdir(parents=True, exist_ok=True)
    output = state_dir.parent / f"{state_dir.name}.terminal"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SECONDREAD_")}
    environment |= {"SECONDREAD_STATE_DIR": str(state_dir), "PYTHONUNBUFFERED": "1", "SECONDREAD_WORKER": "0"}
    # Models in a process of its own, or loaded ahead, would cost every start TensorFlow.
    environment |= {"SECONDREAD_SERVING": "inside", "SECONDREAD_MODELS_AT_START": "0"}
    environment |= {f"SECONDREAD_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)]
    with output.open("ab") as terminal:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=terminal, stderr=subprocess.STDOUT)
        try:
            url = f"http://localhost:{port}"
            _wait_for(url, process, output)
            codes = re.findall(r"Setup code: (\S+)", output.read_text(errors="replace"))
            yield RunningApp(url, codes[-1] if codes else "", state_dir, output, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def chromium() -> Iterator[Any]:
    """A Playwright browser on the system's Chromium. Skips with a reason without one, and fails where CI=true."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    reason = "Chromium is not installed (Debian: apt-get install chromium)"
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if path is None:
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def set_up(page: Any, app: RunningApp, *, name: str, password: str) -> None:
    """The first administrator, from the setup code to being signed in, as a person does it."""
    page.goto(app.url)
    page.fill("[name=code]", app.setup_code)
    page.fill("[name=who]", name)
    page.fill("[name=password]", password)
    page.fill("[name=repeated]", password)
    page.click("text=Create and sign in")
    page.wait_for_selector("text=Sign out")


def sign_in(page: Any, app: RunningApp, *, name: str, password: str) -> None:
    page.goto(app.url)
    page.fill("[name=who]", name)
    page.fill("[name=password]", password)
    page.click("form[action='/login'] button")


def _wait_for(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"the app did not start:\n{output.read_text(errors='replace')}")
