"""A reader who never touches a file: a four-view exam from a real archive, read, and its report back in the archive."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_images import MG, dicom
from orthanc_site import AE_TITLE, Orthanc, running_orthanc
from PIL import Image
from playwright.sync_api import Page, expect
from running_app import RunningApp, chromium, set_up
from warm_server import WarmServer, free_port, serve_with_levels

from core.archive.results.cad_report import MAMMOGRAPHY_CAD_SR
from core.records.archives.outbox import RESULT_KINDS
from core.settings import REPOSITORY

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the server is forked from a warm process"),
]

READER = "Dr Reader"
PATIENCE_MS = 90_000
STUDY = "1.2.826.0.1.3680043.8.498.1"
LEAD = "mammography-ensemble-rsna"
PATIENT, NAME = "P-4711", "Planted^Petra"
OBJECTS = {
    "sr": ("ComprehensiveSR", "SR", 1), "pdf": ("EncapsulatedPDF", "DOC", 1), "sc": ("SCImage", "OT", 2),
    "pr": ("GrayscaleSoftcopyPresentationState", "PR", 2), "seg": ("Segmentation", "SEG", 1),
    "cad": ("MammographyCADSR", "SR", 1),
}  # fmt: skip
"""What comes of the read: form -> what dciodvfy calls it, its modality, and at most how many (one for each image with a
mark)."""
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
    """The application with its models. One thing is of the test: the level from which the model for mammograms proposes
    peaks, as no collection here says where the lesions of its pictures are."""
    folder = tmp_path_factory.mktemp("site")
    card = json.loads((REPOSITORY / "weights" / LEAD / "card.json").read_text(encoding="utf-8"))
    level = {"model_id": LEAD, "level": 0.5, "n_validation": 10, "n_images": 10, "n_peaks": 10, "n_inside": 5}
    (folder / "levels.json").write_text(json.dumps({card["weights"]["sha256"]: level}))
    server = WarmServer(
        folder / "state", free_port(), folder / "terminal", archive_credentials=f"Main PACS = {orthanc.credentials}",
        target=partial(serve_with_levels, levels=folder / "levels.json"),
    )  # fmt: skip
    try:
        server.wait_until_ready()
        (code,) = re.findall(r"Setup code: (\S+)", server.output.read_text(errors="replace"))
        yield RunningApp(server.url, code, folder / "state", server.output, server.process.pid or 0)
    finally:
        server.kill(signal.SIGKILL)


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
    for title in RESULT_KINDS.values():
        field = page.get_by_role("combobox", name=f"{title}: after the final read")
        field.scroll_into_view_if_needed()  # a list that is open closes when the page is scrolled
        settled(page)
        field.click()
        page.get_by_role("option", name="Main PACS").click()
        page.keyboard.press("Escape")
    settled(page)
    shot(page, "settings_results")
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


def outline_a_mass(page: Page) -> None:
    """On the first picture, by hand, and say what it is."""
    box = page.locator(".st-key-sr-pictures .cell canvas").first.bounding_box()
    assert box is not None
    corners = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
               for x, y in ((0.85, 0.4), (0.95, 0.4), (0.95, 0.6), (0.85, 0.6), (0.85, 0.41))]  # fmt: skip
    page.mouse.move(*corners[0])
    page.keyboard.press("t")
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    marks = page.locator(".st-key-sr-findings")
    marks.get_by_text("outline · R CC").click()
    page.get_by_role("combobox", name="Type").click()
    page.get_by_role("option", name="mass", exact=True).click()
    marks.get_by_text("1 mass · R CC").wait_for()
    settled(page)


def accept_a_peak(page: Page) -> None:
    """The first place that the model proposes, as it is, and say what is there."""
    marks = page.locator(".st-key-sr-findings")
    marks.get_by_text("AI proposals:").click()
    page.get_by_role("button", name="Accept").first.click()
    mark = marks.get_by_text("point · ")
    mark.wait_for()
    settled(page)
    shot(page, "peak_accepted")
    mark.click()
    page.get_by_role("combobox", name="Type").click()
    page.get_by_role("option", name="mass", exact=True).click()
    marks.get_by_text("2 mass · ").wait_for()
    settled(page)


def give(page: Page, birads: dict[str, str], button: str) -> None:
    for breast, category in birads.items():
        group = page.locator('[data-testid="stButtonGroup"]', has_text=f"{breast}: BI-RADS")
        group.get_by_role("radio", name=category, exact=True).click()
        settled(page)
    page.get_by_role("button", name=button).click()
    settled(page)


def checked_objects(orthanc: Orthanc, folder: Path) -> dict[str, Path]:
    """An object of each form in the archive, of this patient and study, once the validators have nothing to say."""
    found: dict[str, Path] = {}
    for kind, (name, modality, most) in OBJECTS.items():
        is_cad = kind == "cad"
        of_kind = [one for one in orthanc.objects(modality) if (one.SOPClassUID == MAMMOGRAPHY_CAD_SR) == is_cad]
        assert 1 <= len(of_kind) <= most, (kind, len(of_kind))
        for one in of_kind:
            assert (one.PatientID, one.StudyInstanceUID, one.AccessionNumber) == (PATIENT, STUDY, "ACC-0815"), kind
            found[kind] = folder / f"{kind}.dcm"
            one.save_as(found[kind])
            said = subprocess.run(["dciodvfy", str(found[kind])], capture_output=True, text=True, check=False).stderr
            assert said.split("\n") == [name, ""], said
    for program, kind in (("dsrdump", "sr"), ("dsrdump", "cad"), ("dcmpschk", "pr")):
        done = subprocess.run([program, str(found[kind])], capture_output=True, text=True, check=False)
        assert "E:" not in done.stderr and (done.returncode == 0 or "Test passed" in done.stderr), done.stderr
    return found


def exported(page: Page) -> None:
    """The study's files without whom they show, by the button beside it, and what is said of them."""
    page.locator(".st-key-open_1 button").click()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)  # a run of the page closes what was opened
    page.get_by_role("button", name="Export").click()
    expect(page.get_by_text("is not looked for and may still be there")).to_be_visible()
    shot(page, "export")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="De-identified files").click()
    with zipfile.ZipFile(waiting.value.path()) as whole:
        content = {name: whole.read(name) for name in whole.namelist()}
    assert sum(name.endswith(".dcm") for name in content) == 4 and "manifest.csv" in content
    for secret in (PATIENT, "Petra", f"{STUDY}.1", "ACC-0815"):
        assert not [name for name, one in content.items() if secret.encode() in one + name.encode()], "named"
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    settled(page)
    shot(page, "study_phone")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1440, "height": 900})


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
    outline_a_mass(page)
    give(page, {"Right breast": "3", "Left breast": "1"}, "Save first impression")
    page.get_by_role("button", name="Show second read").click()
    page.get_by_text("Probability of malignancy").first.wait_for()
    settled(page)
    shown = page.locator('[data-testid="stMain"]').inner_text().replace("\u00a0", " ")
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)
    accept_a_peak(page)
    give(page, {}, "Save final assessment")
    # Beside the study only once the read is saved: leaving before would take the click back.
    page.get_by_text("Structured report (TID 1500)").wait_for()
    shot(page, "study_with_results")
    page.goto(f"{site.url}/archive")  # drawn anew by itself every few seconds
    for kind in OBJECTS:
        expect(page.get_by_text(f"Delivered · {RESULT_KINDS[kind]}").first).to_be_visible(timeout=PATIENCE_MS)
    shot(page, "delivered")
    exported(page)
    for name in ("archive", "site_settings"):
        page.goto(f"{site.url}/{name}")
        page.locator("h1").wait_for()
        page.set_viewport_size({"width": 390, "height": 844})
        settled(page)
        shot(page, f"{name}_phone")
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), name

    objects = checked_objects(orthanc, tmp_path)
    marks = subprocess.run(["dsr2html", str(objects["cad"])], capture_output=True, text=True, check=True).stdout
    assert LEAD in marks and "Center" in marks
    text = subprocess.run(["dsr2html", str(objects["sr"])], capture_output=True, text=True, check=True).stdout
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
