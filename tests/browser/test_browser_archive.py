"""A reader who never touches a file: a four-view exam from a real archive, read, and its report back in the archive."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_images import MG, dicom
from orthanc_site import AE_TITLE, Orthanc, running_orthanc
from PIL import Image
from playwright.sync_api import Page, expect
from running_app import RunningApp, chromium, running_app, set_up

pytestmark = pytest.mark.browser

READER = "Dr Reader"
PATIENCE_MS = 90_000
STUDY = "1.2.826.0.1.3680043.8.498.1"
PATIENT, NAME = "P-4711", "Planted^Petra"
SCREENSHOTS = os.environ.get("ARCHIVE_SCREENSHOTS", "")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Iterator[Orthanc]:
    """An archive that holds the exam of one patient as 12-bit DICOM."""
    folder = test_data / "data/mammography/nyu_gmic_exam0_16bit"
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        for number, name in enumerate(("R_CC", "L_CC", "R_MLO", "L_MLO"), 1):
            side, view = name.split("_")
            stored = np.asarray(Image.open(folder / f"{name}.png")).astype(np.uint16)
            running.put(
                dicom(
                    stored, PatientName=NAME, PatientID=PATIENT, PatientBirthDate="19600101", PatientSex="F",
                    StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1", SOPInstanceUID=f"{STUDY}.1.{number}",
                    StudyDate="20260102", StudyTime="101112", AccessionNumber="ACC-0815", StudyID="7",
                    ReferringPhysicianName="Sender^Sam", ImageLaterality=side, ViewPosition=view, SOPClassUID=MG,
                    StudyDescription="Screening",
                )
            )  # fmt: skip
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[RunningApp]:
    credentials = f"Main PACS = {orthanc.credentials}"
    with running_app(tmp_path_factory.mktemp("site") / "state", archive_credentials=credentials) as app:
        yield app


@pytest.fixture(scope="module")
def page(site: RunningApp) -> Iterator[Page]:
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.set_default_timeout(PATIENCE_MS)
        set_up(tab, site, name=READER, password="a long enough password for tests")
        yield tab


def settled(page: Page) -> None:
    page.wait_for_timeout(300)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_timeout(200)


def shot(page: Page, name: str) -> None:
    """A picture for whoever works on the pages; none in the usual run."""
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/{name}.png", full_page=True)


def fill(page: Page, label: str, value: str) -> None:
    """A field of a form: nothing runs before the form is sent."""
    page.get_by_role("textbox", name=label).fill(value)
    page.keyboard.press("Tab")


def name_archive(page: Page, site: RunningApp, orthanc: Orthanc) -> None:
    page.goto(f"{site.url}/site_settings")
    page.get_by_text("Name an archive").click()
    fill(page, "Name", "Main PACS")
    fill(page, "DICOMweb address", orthanc.web)
    fill(page, "AE title", AE_TITLE)
    fill(page, "Host for DICOM messages", "127.0.0.1")
    page.get_by_role("spinbutton", name="Port").last.fill(str(orthanc.port))
    page.keyboard.press("Tab")
    page.locator(".st-key-save_archive_new_0 button").click()
    page.get_by_text("Save what goes where").wait_for()
    settled(page)
    field = page.get_by_role("combobox", name="Structured report (TID 1500): after the final read")
    field.scroll_into_view_if_needed()  # a list that is open closes when the page is scrolled
    settled(page)
    field.click()
    page.get_by_role("option", name="Main PACS").click()
    page.keyboard.press("Escape")
    settled(page)
    page.locator(".st-key-save_results button").click()
    settled(page)
    page.locator(".st-key-archive_box_1 summary").click()
    settled(page)
    page.locator(".st-key-test_archive_1 button").click()
    page.get_by_text("The place to store answers").wait_for()
    words = page.locator('[data-testid="stMain"]').inner_text()
    for service in ("ORTHANC answered.", "1 mammography study listed.", "An object of"):
        assert service in words, service
    shot(page, "settings")


def give(page: Page, birads: dict[str, str], button: str) -> None:
    for breast, category in birads.items():
        group = page.locator('[data-testid="stButtonGroup"]', has_text=f"{breast}: BI-RADS")
        group.get_by_role("radio", name=category, exact=True).click()
        settled(page)
    page.get_by_role("button", name=button).click()
    settled(page)


def test_an_exam_comes_from_the_archive_and_its_final_read_goes_back(
    page: Page, site: RunningApp, orthanc: Orthanc, tmp_path: Path
) -> None:
    name_archive(page, site, orthanc)
    page.get_by_role("link", name="Archive").first.click()
    page.get_by_test_id("stBaseButton-primaryFormSubmit").wait_for()
    settled(page)  # another page's fields have gone
    fill(page, "Name", "Planted")
    page.get_by_test_id("stBaseButton-primaryFormSubmit").click()
    page.get_by_text("Planted Petra").wait_for()
    shot(page, "archive")
    page.get_by_role("button", name="Fetch").click()
    page.get_by_text("4 images.").wait_for()
    shot(page, "archive_fetched")
    page.locator(".st-key-open_1 button").click()
    page.get_by_text("Your first impression").wait_for()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)
    cells = page.locator(".st-key-sr-pictures .cell")
    assert [cells.nth(place).locator(".label").inner_text() for place in range(4)] == ["R CC", "L CC", "R MLO", "L MLO"]
    give(page, {"Right breast": "3", "Left breast": "1"}, "Save first impression")
    page.get_by_role("button", name="Show second read").click()
    page.get_by_text("Probability of malignancy").first.wait_for()
    settled(page)
    shown = page.locator('[data-testid="stMain"]').inner_text().replace("\u00a0", " ")
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)
    give(page, {}, "Save final assessment")
    # Beside the study only once the read is saved: leaving before would take the click back.
    page.get_by_text("Structured report (TID 1500)").wait_for()
    page.goto(f"{site.url}/archive")  # drawn anew by itself every few seconds
    expect(page.get_by_text("Delivered · Structured report (TID 1500)")).to_be_visible(timeout=PATIENCE_MS)
    shot(page, "delivered")
    page.set_viewport_size({"width": 390, "height": 844})
    settled(page)
    shot(page, "archive_phone")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")

    (report,) = orthanc.objects("SR")
    assert (report.PatientID, report.StudyInstanceUID, report.AccessionNumber) == (PATIENT, STUDY, "ACC-0815")
    path = tmp_path / "report.dcm"
    report.save_as(path)
    text = subprocess.run(["dsr2html", str(path)], capture_output=True, text=True, check=True).stdout
    assert "3 - Probably Benign" in text and "1 - Negative" in text and READER in text
    found = {
        float(value) for value in re.findall(r'Probability of cancer:</b><br>\s*<span class="under">([\d.]+) %', text)
    }
    right = re.search(r"Right breast\s+(\d+)\s*%", shown)
    assert right is not None and any(round(value) == int(right.group(1)) for value in found), (shown, found)
    log = site.output.read_text(errors="replace")
    assert "Traceback" not in log
    for secret in (PATIENT, "Petra", STUDY, "ACC-0815", orthanc.credentials):
        assert secret not in log, "the log names nobody"
