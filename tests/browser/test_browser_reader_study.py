"""A reader study in a real browser: designed on pictures of a data set, locked, read, closed, and taken home."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Raster
from playwright.sync_api import Page, expect
from record_site import Somebody, add_person
from running_app import chromium, running_app

from core.records import data_sets
from core.records.database.db import Database, open_database
from core.records.people import sessions
from core.records.reader_studies import designs, readings
from core.records.reads import reads
from core.records.reads.reads import Impression
from core.server.guards import SESSION_COOKIE
from core.settings import Settings
from core.types import Modality

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader_study") / "state"


@pytest.fixture(scope="module")
def db(state: Path) -> Iterator[Database]:
    opened = open_database(Settings(state_dir=state))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def people(db: Database) -> tuple[Somebody, Somebody]:
    """Who designs and reads, and who only reads. Four held-back pictures, two of them malignant."""
    ann, bob = add_person(db, "Ann", "administrator", "radiologist"), add_person(db, "Bob", "radiologist")
    rows = []
    for number in range(4):
        out = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 255, (200, 160)).astype(np.uint8)
        Raster.fromarray(pixels).save(out, "PNG")
        rows.append(
            f"{data_sets.store_file(db.settings, out.getvalue(), 'png')},{('benign', 'malignant')[number % 2]},test"
        )
    data_sets.create_data_set(
        db, ann, name="Lesions", modality=Modality.ULTRASOUND, split={}, found={"leaking": False},
        manifest=("file,label,split\n" + "\n".join(rows) + "\n").encode(),
        counts={"test": {"malignant": 2, "benign": 2}},
    )  # fmt: skip
    return ann, bob


@pytest.fixture(scope="module")
def page(
    state: Path, db: Database, people: tuple[Somebody, Somebody], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    with running_app(state, weights_dir=tmp_path_factory.mktemp("none")) as app, chromium() as browser:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=app.url)
        context.add_cookies([{"name": SESSION_COOKIE, "value": sessions.start_session(db, people[0]), "url": app.url}])
        context.set_default_timeout(60_000)
        yield context.new_page()


def settled(page: Page) -> None:
    page.wait_for_timeout(150)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()


def choose(page: Page, key: str, option: str) -> None:
    page.locator(f".st-key-{key} input").click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def design(page: Page) -> None:
    page.goto("/reader_studies")
    page.get_by_label("Title").fill("Does it help?")
    choose(page, "rs_modality", "ultrasound")
    choose(page, "rs_source_ultrasound", "data set Lesions, version 1, held-back pictures")
    for name in ("Ann", "Bob"):
        choose(page, "rs_readers", name)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Make the design").wait_for()


def test_a_reader_study_goes_from_its_design_to_its_report(
    page: Page, db: Database, people: tuple[Somebody, Somebody]
) -> None:
    design(page)
    expect(page.get_by_text("50 % of the cases have cancer")).to_be_visible()
    page.get_by_role("button", name="Make the design").click()
    page.get_by_role("button", name="Lock the protocol").click()
    page.get_by_text("0 of 16 reads").wait_for()

    page.goto("/study_reading")
    for number in range(1, 4):
        page.get_by_text(f"Does it help?: {number - 1} of 8 reads").wait_for()
        page.get_by_role("radio", name="4C", exact=True).click()
        settled(page)
        page.get_by_role("radio", name="4C", exact=True).click()  # once more: it stays
        page.get_by_role("button", name="Save and go on").click()
    page.get_by_text("Does it help?: 3 of 8 reads").wait_for()

    (row,) = designs.list_reader_studies(db, people[0])
    for reader in people:
        while (task := readings.turns(db, reader)[0].task) is not None:
            readings.begin_task(db, reader, row.id, task)
            if task.modality == "aided":
                reads.reveal(db, reader, task.case.study_id)
            said = Impression("4B", 70 if any(task.case.truth.values()) else 20 + 7 * task.number)
            readings.save_read(db, reader, row.id, task, dict.fromkeys(task.case.truth, said))

    page.goto("/reader_studies")
    page.get_by_role("button", name="Close the reading").click()
    page.get_by_text("Area, random readers and cases").wait_for()
    settled(page)
    with page.expect_download() as sent:
        page.get_by_role("button", name="Report (PDF)").click()
    assert Path(sent.value.path()).read_bytes().startswith(b"%PDF")
