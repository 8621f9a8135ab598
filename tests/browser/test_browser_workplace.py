"""A four-view 16-bit exam with a prior, as it is read: beside the earlier one, by keys alone, and on a phone."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from accessibility import unseen_focus, violations
from playwright.sync_api import Browser, Page, TimeoutError, expect
from running_app import RunningApp, chromium, running_app, set_up
from test_browser_read import settled

pytestmark = pytest.mark.browser

READER, PASSWORD = "Dr Reader", "a long enough password for tests"
YEARS = (2024, 2025)
PATIENCE_MS = 90_000
VIEWS = ["R CC", "L CC", "R MLO", "L MLO"]
FOCUSED = """() => {
  let at = document.activeElement
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement
  const name = at.getAttribute("aria-label") || at.labels?.[0]?.innerText || at.innerText || at.title || ""
  if (at.classList.contains("cell")) return at.querySelector(".label").innerText
  return at.matches("button, input, textarea, select, a, summary, [role]") ? name.trim().slice(0, 60) : ""
}"""


def exams(folder: Path) -> bytes:
    """A zip of the same woman's exam in two years, four files of 16 bits each."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(folder.glob("exam0_*.dcm")):
            for year in YEARS:
                found = pydicom.dcmread(file)
                assert found.BitsAllocated == 16
                found.PatientID, found.StudyDate, found.StudyInstanceUID = "P1", f"{year}0314", f"1.2.826.{year}"
                made = io.BytesIO()
                found.save_as(made)
                archive.writestr(f"exams/{year}/{file.name}", made.getvalue())
    return out.getvalue()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: Browser, test_data: Path) -> Iterator[RunningApp]:
    """With the two exams stored."""
    weights = os.environ.get("SECONDREAD_WEIGHTS_DIR")
    folder = tmp_path_factory.mktemp("site") / "state"
    with running_app(folder, serving="process", **({"weights_dir": weights} if weights else {})) as app:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        set_up(page, app, name=READER, password=PASSWORD)
        page.get_by_role("button", name="New study").click()
        content = exams(test_data / "data/dicom/mg_derived")
        sent = {"name": "exams.zip", "mimeType": "application/zip", "buffer": content}
        page.locator('input[type="file"]').set_input_files(sent)
        page.get_by_text("These 8 pictures are 2 studies.").wait_for()
        page.get_by_role("textbox", name="Name of the studies, which are numbered").fill("Exam")
        page.keyboard.press("Tab")
        settled(page)
        page.get_by_role("button", name="Save 2 studies").click()
        page.get_by_role("button", name="Exam 2", exact=True).wait_for()  # the worklist, once they are stored
        page.close()
        yield app


def tab_to(page: Page, name: str, *, presses: int = 120) -> None:
    """On by Tab until what is called so, or begins so, has the focus."""
    seen = []
    for _ in range(presses):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        seen.append(found)
        if any(line.startswith(name) for line in found.split("\n")):  # the first line may be an icon's
            return
    raise AssertionError(f"{name} cannot be reached by keys: {seen}")


def press(page: Page, name: str, key: str = "Enter") -> None:
    tab_to(page, name)
    page.keyboard.press(key)
    settled(page)


def signed_in_by_keys(page: Page, site: RunningApp) -> None:
    page.set_default_timeout(PATIENCE_MS)
    page.goto(site.url)
    page.locator("[name=who]").wait_for()
    tab_to(page, "Name")
    page.keyboard.type(READER)
    tab_to(page, "Password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_text("Sign out").wait_for()
    settled(page)


def seen(page: Page, picture: int) -> str:
    """What one canvas shows, as a PNG's address, once it stays so."""
    before, now = None, ""
    while now != before:
        page.wait_for_timeout(150)
        before, now = now, page.locator(".st-key-sr-pictures .cell canvas").nth(picture).evaluate("c => c.toDataURL()")
    return str(now)


def test_an_exam_hangs_over_its_prior_view_over_view_and_all_move_together(browser: Browser, site: RunningApp) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    signed_in_by_keys(page, site)
    page.get_by_role("button", name="Exam 2", exact=True).click()
    page.get_by_role("button", name="1 earlier study").click()
    page.get_by_role("button", name="Hang beside").click()
    labels = page.locator(".st-key-sr-pictures .cell .label")
    expect(labels).to_have_count(8, timeout=PATIENCE_MS)
    page.keyboard.press("Escape")
    grid = page.locator(".st-key-sr-pictures .grid[data-whole=yes]")
    grid.wait_for()
    settled(page)
    words = [word.replace("\u2011", "-") for word in labels.all_inner_texts()]
    assert words[:4] == VIEWS and words[4:] == [f"{view} \u00b7 EARLIER 2024-03-14" for view in VIEWS]
    assert grid.evaluate("grid => getComputedStyle(grid).gridTemplateColumns").count("px") == 4
    cells = [cell.bounding_box() for cell in page.locator(".st-key-sr-pictures .cell").all()]
    for now, then in zip(cells[:4], cells[4:], strict=True):
        assert now and then and now["x"] == then["x"] and now["y"] + now["height"] == pytest.approx(then["y"], abs=1)
    whole = [seen(page, number) for number in range(8)]
    assert whole[:4] == whole[4:], "the same picture is seen at the same scale and window"
    box = cells[1]
    page.mouse.move(box["x"] + 60, box["y"] + 150)
    page.mouse.wheel(0, -700)
    page.keyboard.press("3")
    zoomed = [seen(page, number) for number in range(8)]
    assert zoomed[:4] == zoomed[4:] and not set(zoomed) & set(whole)
    page.close()


def marks_by_keys(page: Page) -> None:
    """Window, zoom, a distance and a described finding on the left CC."""
    tab_to(page, "L CC")
    for key in ("3", "+", "+", "d", "Enter", "Enter", *["ArrowRight"] * 3, *["ArrowDown"] * 4, "Enter"):
        page.keyboard.press(key)
    page.locator(".st-key-sr-findings").get_by_text("distance").wait_for()
    settled(page)
    assert page.get_by_label("Window", exact=True).input_value() == "2"
    for key in ("e", "Enter", "Enter", *["ArrowLeft"] * 4, *["ArrowUp"] * 4, "Enter"):
        page.keyboard.press(key)
    page.locator(".st-key-sr-findings").get_by_text("ellipse").wait_for()
    settled(page)
    tab_to(page, "straighten")  # the icon of the first mark's button
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_role("combobox", name="Type").wait_for()
    settled(page)
    tab_to(page, "Type")
    page.keyboard.type("mass")
    page.keyboard.press("Enter")
    page.locator(".st-key-sr-findings").get_by_text("1 mass").wait_for()
    settled(page)


def next_study_by_key(page: Page) -> None:
    """From the worklist; a key that is pressed before the page listens is pressed again, as a person would."""
    for attempt in range(9):
        page.keyboard.press("n")
        try:
            page.wait_for_url("**/read*", timeout=10_000)
            return
        except TimeoutError:
            assert attempt < 8


def test_the_whole_way_from_signing_in_to_the_report_is_gone_by_keys_alone(browser: Browser, site: RunningApp) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    signed_in_by_keys(page, site)
    next_study_by_key(page)
    page.get_by_text("Your first impression").wait_for()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)
    marks_by_keys(page)
    for category in (1, 4):
        tab_to(page, "0")
        for _ in range(category):
            page.keyboard.press("ArrowRight")
        page.keyboard.press(" ")
        settled(page)
    press(page, "Save first impression")
    press(page, "Show second read")
    page.get_by_text("Probability of malignancy").first.wait_for()
    settled(page)
    press(page, "Meaning")
    expect(page.get_by_text("not malignant: no cancer")).to_be_visible()
    page.keyboard.press("Escape")
    press(page, "Save final assessment")
    page.get_by_role("button", name="Report as PDF").wait_for()
    settled(page)
    tab_to(page, "Report as PDF")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert Path(waiting.value.path()).read_bytes().startswith(b"%PDF")
    saved = page.locator(".st-key-sr-panel").inner_text()
    assert saved.count("1. Left breast: Mass") == 2 and saved.count("1 measurement saved") == 2
    assert saved.count("suspicion 6 of 100 (preset of 4A)") == 2
    page.close()


OUTSIDE = """() => [...document.querySelectorAll('[data-testid="stMain"] :is(button, input, textarea, [role=radio])')]
  .filter((one) => one.checkVisibility() && !one.closest(".workplace"))
  .filter((one) => one.getBoundingClientRect().left < 0 || one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.outerHTML.slice(0, 200))"""


def narrow(page: Page) -> None:
    """Nothing to be scrolled sideways but the viewer's own tools, every control in the window's width and named."""
    settled(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert page.locator('[data-testid="stMain"]').evaluate("main => main.scrollWidth - main.clientWidth") <= 0
    assert page.evaluate(OUTSIDE) == []
    assert violations(page, but=("stSidebarNav", "li:nth-child")) == []  # Streamlit's own list of pages


def test_a_study_is_read_revealed_and_concluded_on_a_phone(browser: Browser, site: RunningApp) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    signed_in_by_keys(page, site)
    page.get_by_role("button", name="Next study").tap()
    page.get_by_text("Your first impression").wait_for()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    narrow(page)
    for canvas in page.locator(".st-key-sr-pictures .cell canvas").all():
        box: Any = canvas.bounding_box()
        assert box["width"] >= 150 and box["height"] >= 150
    for breast, category in (("Right breast", "1"), ("Left breast", "2")):
        group = page.locator('[data-testid="stButtonGroup"]', has_text=f"{breast}: BI-RADS")
        group.get_by_role("radio", name=category, exact=True).tap()
        settled(page)
    for button, then in (
        ("Save first impression", "Show second read"),
        ("Show second read", "Final assessment"),
        ("Save final assessment", "Report as PDF"),
    ):
        page.get_by_role("button", name=button).tap()
        page.get_by_text(then, exact=True).first.wait_for()
        narrow(page)
    expect(page.get_by_role("button", name="Report as PDF")).to_be_visible()
    context.close()


def test_what_has_the_focus_is_seen_on_the_read_page(browser: Browser, site: RunningApp) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    signed_in_by_keys(page, site)
    page.get_by_role("button", name="Exam 1").click()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)
    assert violations(page) == []
    page.get_by_role("button", name="Fit (=)").focus()
    assert unseen_focus(page, steps=26) == []
    page.close()
