"""In a real browser: workbooks joined with columns set by hand, and near-duplicates settled into a new version."""

from __future__ import annotations

import sqlite3
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_data_sets import hospital, with_copies
from running_app import RunningApp, chromium, running_app, set_up

pytestmark = pytest.mark.browser

PATIENCE_MS = 180_000  # a machine that trains beside the tests answers late
COLUMNS = ("Bilddatei", "Study Day", "Uhrzeit", "Pat Nr")
SHEETS = ("Befund positiv", "Befund negativ")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hospital")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Iterator[RunningApp]:
    with running_app(tmp_path_factory.mktemp("data_sets") / "state", data_root=data_root, worker=1) as started:
        yield started


@pytest.fixture(scope="module")
def page(app: RunningApp) -> Iterator[Any]:
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1440, "height": 1400})
        context.set_default_timeout(PATIENCE_MS)
        tab = context.new_page()
        set_up(tab, app, name="Anna Berg", password="correct horse battery")
        yield tab
        context.close()


def asked(app: RunningApp, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(app.state_dir / "secondread.sqlite3", timeout=30) as connection:
        return connection.execute(query).fetchall()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def choose(page: Any, key: str, value: str) -> None:
    """In the middle of the window and at rest: an open list closes when the page scrolls under it."""
    box = page.locator(f".st-key-link_{key}_0 input")
    box.evaluate("box => box.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(300)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    box.click()
    page.get_by_role("option", name=value, exact=True).click()


def test_workbooks_are_joined_by_the_sheets_and_columns_that_are_set(
    app: RunningApp, page: Any, data_root: Path
) -> None:
    sources = hospital(data_root / "books", data_root / "jpg from dicom", COLUMNS, "Windows path", SHEETS)
    page.goto(f"{app.url}/data_sets")
    page.get_by_role("radio", name="A hospital's two workbooks").click()
    page.locator(".st-key-workbooks_name_0 input").fill("Hospital")
    page.keyboard.press("Enter")
    for place, book in (
        (".st-key-link_combined_0", sources.combined),
        (".st-key-link_validation_0", sources.validation),
    ):
        page.locator(f"{place} input.pick").set_input_files(str(book))
        page.locator(f"{place} .told", has_text="1 file uploaded").wait_for()
    page.locator(".st-key-link_folder_0 input").fill("jpg from dicom")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Choose the sheets")
    choose(page, "sheet_cancer", SHEETS[0])
    choose(page, "sheet_non_cancer", SHEETS[1])
    page.wait_for_selector("text=Still to choose above: ")
    for which in ("combined", "validation"):
        for part, column in zip(("name", "date", "time", "patient"), COLUMNS, strict=True):
            choose(page, f"{which}_{part}", column)
    page.wait_for_selector("text=11 of 13")
    page.wait_for_selector("text=19 of 20")
    assert asked(app, "SELECT count(*) FROM data_set") == [(0,)]
    page.get_by_role("button", name="Make a data set of 30 pictures").click()
    page.wait_for_selector("text=11 of 13 cancer rows found their picture.")
    page.get_by_role("heading", name="Hospital, version 1").wait_for()
    assert asked(app, "SELECT modality FROM data_set") == [("mammography",)]
    assert not list((app.state_dir / "inbox").glob("*/*/*"))  # the workbooks are gone
    for path in app.state_dir.rglob("*"):
        assert not path.is_file() or b"DIT43912" not in path.read_bytes()


def test_near_duplicates_are_settled_side_by_side(app: RunningApp, page: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, content in with_copies().items():
            archive.writestr(name, content)
    page.goto(f"{app.url}/data_sets")
    page.locator("[class*=st-key-pictures_name_] input").fill("Copies")
    page.keyboard.press("Enter")
    page.set_input_files("input.pick", str(tmp_path / "set.zip"))
    page.wait_for_selector("text=/^1 file uploaded$/")
    page.get_by_role("button", name="Add the data set").click()
    page.wait_for_selector("text=/Copies (waits to be|is being) imported|Copies: The data set was added/")
    page.goto("about:blank")  # the import goes on without its page
    until(lambda: asked(app, "SELECT state FROM data_import ORDER BY id") == [("done",), ("done",)])
    page.goto(f"{app.url}/data_sets")
    page.get_by_text("Copies: The data set was added.").wait_for()
    page.get_by_role("button", name="Close this message").last.click()
    page.get_by_text("Copies: The data set was added.").wait_for(state="detached")
    page.get_by_role("heading", name="Copies, version 1").wait_for()
    page.wait_for_selector("text=LEAKING")
    page.get_by_role("radio", name="Near-duplicates").click()
    page.wait_for_selector("text=2 pairs: 1 in different parts of the split")
    page.get_by_text("drop both").nth(1).click()
    page.get_by_role("button", name="Make a new version of 1 decision").wait_for()
    page.get_by_role("button", name="Keep 1 leaking pair together").click()
    page.get_by_role("button", name="Make a new version of 2 decisions").click()
    page.get_by_role("heading", name="Copies, version 2").wait_for()
    page.wait_for_selector("text=No leak found")
    page.wait_for_selector("text=/1 near-duplicate kept together, 2 pictures dropped/")
    found = asked(app, "SELECT v.number FROM data_set_version v JOIN data_set d ON d.id = v.data_set_id "
                       "WHERE d.name = 'Copies' ORDER BY v.number")  # fmt: skip
    assert found == [(1,), (2,)]
    page.get_by_role("radio", name="Pictures").click()
    page.get_by_role("button", name="Show others").wait_for()
    page.locator("[data-testid=stImage] img").nth(19).wait_for()
