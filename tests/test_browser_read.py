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
from playwright.sync_api import Browser, Page, sync_playwright

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).resolve().parent.parent
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
READER = "Dr Reader"
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
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        reason = "Chromium is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A tab in which the first administrator, made with the setup code, is signed in."""
    tab = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    tab.set_default_timeout(PATIENCE_MS)
    tab.goto(site.url)
    tab.fill("#sr-code", site.setup_code)
    tab.fill("#sr-who", READER)
    tab.fill("#sr-password", PASSWORD)
    tab.fill("#sr-repeated", PASSWORD)
    tab.click("text=Create and sign in")
    tab.get_by_role("button", name="New study").wait_for()
    yield tab
    tab.close()


def settled(page: Page) -> None:
    """Wait until the script has run to its end."""
    page.wait_for_timeout(300)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()


def begin_study(page: Page, files: list[Path], name: str) -> None:
    """From the worklist to a study with these files, still to be completed and saved."""
    page.get_by_role("link", name="Worklist").first.click()
    page.get_by_role("button", name="New study").click()
    page.locator('input[type="file"]').set_input_files(files)
    page.get_by_role("textbox", name="Name of the study").fill(name)
    page.keyboard.press("Tab")
    settled(page)


def save_study(page: Page) -> None:
    page.get_by_role("button", name="Save the study").click()
    page.get_by_text("Your first impression").wait_for()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)


def give_first_impression(page: Page, birads: dict[str, str]) -> None:
    for breast, category in birads.items():
        group = page.get_by_role("radiogroup", name=f"{breast}: BI-RADS").or_(
            page.locator('[data-testid="stButtonGroup"]', has_text=f"{breast}: BI-RADS")
        )
        group.first.get_by_text(category, exact=True).click()
        settled(page)
    page.get_by_role("button", name="Save first impression").click()
    page.get_by_role("button", name="Show second read").wait_for()
    settled(page)


def downloaded(page: Page, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path()).read_bytes()
