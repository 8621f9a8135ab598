"""Ten exams in one zip become ten studies, in a real browser."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from accessibility import unseen_focus, violations
from made_images import dicom
from PIL import Image as Raster
from playwright.sync_api import Page, expect
from running_app import RunningApp

pytestmark = pytest.mark.browser

N_PATIENTS = 10
VIEWS = {"L_CC": ("L", "CC", "A\\R"), "R_CC": ("R", "CC", "P\\L")}


def settled(page: Page) -> None:
    page.wait_for_timeout(300)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_timeout(200)


def quarter(file: Path) -> np.ndarray:
    with Raster.open(file) as picture:
        return np.asarray(picture).astype(np.uint16)[::4, ::4]


def test_a_folder_that_is_chosen_becomes_studies_by_its_folders(page: Page, tmp_path: Path, test_data: Path) -> None:
    """Pictures without tags: whose they are is said by where they lie, which the browser sends along."""
    for number in range(2):
        folder = tmp_path / "march" / f"woman {number}"
        folder.mkdir(parents=True)
        for view in VIEWS:
            shown = quarter(test_data / f"data/mammography/nyu_gmic_exam0_16bit/{view}.png")
            Raster.fromarray(np.roll(shown, number, axis=0)).save(folder / f"{view}.png")
    page.get_by_role("link", name="Worklist").first.click()
    page.get_by_role("button", name="New study").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(tmp_path / "march")
    page.get_by_text("These 4 pictures are 2 studies.").wait_for()
    settled(page)
    assert page.get_by_text("together by folder and name").count() == 2
    assert "march/woman 1/R_CC.png" in page.locator('[data-testid="stMain"]').inner_text()


def many_exams(folder: Path) -> bytes:
    """A zip of ten patients' folders, two views each, as a quarter of a real exam's size; the first patient twice."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (side, view, orientation) in VIEWS.items():
            stored = quarter(folder / f"{name}.png")
            for number in range(N_PATIENTS):
                tags = {"ImageLaterality": side, "ViewPosition": view, "PatientOrientation": orientation.split("\\")}
                tags |= {"PatientID": f"P{max(1, number)}", "StudyInstanceUID": f"1.2.826.{number + 1}"}
                tags |= {"StudyDate": f"{2025 - (number == 0)}0314"}
                shown = np.roll(stored, number, axis=0)
                made = dicom(shown, WindowCenter=2048, WindowWidth=4096, **tags)
                archive.writestr(f"exams/{number}/{name}.dcm", made)
    return out.getvalue()


def test_ten_exams_of_one_zip_become_ten_studies_that_were_shown_before(page: Page, site: RunningApp, test_data: Path):
    content = many_exams(test_data / "data/mammography/nyu_gmic_exam0_16bit")
    page.get_by_role("link", name="Worklist").first.click()
    page.get_by_role("button", name="New study").click()
    page.locator('input[type="file"]').set_input_files(
        {"name": "exams.zip", "mimeType": "application/zip", "buffer": content}
    )
    page.get_by_text("These 20 pictures are 10 studies.").wait_for()
    settled(page)
    assert page.get_by_text("together by their tags").count() == N_PATIENTS
    assert page.locator("canvas").count() == 0

    page.get_by_role("textbox", name="Name of the studies, which are numbered").fill("March")
    page.keyboard.press("Tab")
    settled(page)
    page.get_by_role("button", name="Save 10 studies").click()
    page.get_by_text("10 studies").first.wait_for()
    settled(page)
    assert violations(page) == []
    for number in (1, N_PATIENTS):
        expect(page.get_by_role("button", name=f"March {number}", exact=True)).to_have_count(1)

    page.get_by_role("button", name="March 2", exact=True).click()
    page.get_by_role("button", name="1 earlier study").wait_for()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    labels = page.locator(".st-key-sr-pictures .cell .label")
    assert {label for label in labels.all_inner_texts() if "no image" not in label} == {"R CC", "L CC"}
    assert violations(page) == []
    assert unseen_focus(page, steps=25) == []
    log = site.output.read_text(errors="replace")
    assert "Traceback" not in log and not re.search(r"\bP1\b", log)
