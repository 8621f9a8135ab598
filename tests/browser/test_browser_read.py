"""The whole way in a real browser: setup code, upload, first read, second read, heat map, final read, PDF."""

from __future__ import annotations

import io
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from accessibility import violations
from playwright.sync_api import Page, expect
from pypdf import PdfReader
from record_site import add_person
from running_app import RunningApp, chromium, running_app, set_up

from core.imaging.intake import read_study
from core.reading.new_studies import NewPicture, hinted
from core.records.database.db import open_database
from core.records.people.permissions import LocalTerminal
from core.records.reads import reads, studies, worklist
from core.records.reads.reads import Impression
from core.settings import Settings
from core.types import Modality

pytestmark = pytest.mark.browser

READER = "Dr Reader"
PASSWORD = "a long enough password for tests"
MODELS = {
    "ultrasound": ("Fusion", "EfficientNet-Lite0", "Small CNN", "Ensemble of 2"),
    "mammography": ("Fusion", "Ensemble of 2"),
}
PATIENCE_MS = 180_000
"""The first answer of a model imports TensorFlow and builds a graph, on two cores beside other tests."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    weights = os.environ.get("SECONDREAD_WEIGHTS_DIR")
    folder = tmp_path_factory.mktemp("site") / "state"
    with running_app(folder, serving="process", **({"weights_dir": weights} if weights else {})) as app:
        yield app


@pytest.fixture(scope="module")
def page(site: RunningApp) -> Iterator[Page]:
    """A tab in which the first administrator, made with the setup code, is signed in."""
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
        tab.set_default_timeout(PATIENCE_MS)
        set_up(tab, site, name=READER, password=PASSWORD)
        yield tab


def settled(page: Page) -> None:
    """Wait until the script has run to its end."""
    page.wait_for_timeout(300)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_timeout(200)


def begin_study(page: Page, files: list[Path], name: str) -> None:
    """From the worklist to a study with these files, still to be completed and saved."""
    page.get_by_role("link", name="Worklist").first.click()
    page.get_by_role("button", name="New study").click()
    page.locator('input[type="file"]').set_input_files(files)
    page.get_by_role("textbox", name="Name of the study").fill(name)
    page.keyboard.press("Tab")
    settled(page)


@pytest.fixture(scope="module")
def mammography(page: Page, site: RunningApp) -> str:
    """The model of mammograms that an administrator let answer although it may be no better than chance."""
    model_id = "mammography-fusion"
    page.goto(f"{site.url}/releases")
    page.get_by_text(f"{model_id} · does not answer").first.click()
    page.locator(f".st-key-why_{model_id} input").fill("For <b>our</b> study.")
    page.keyboard.press("Tab")
    settled(page)
    page.locator(f".st-key-allow_{model_id} button").click()
    page.get_by_text("answers from the next read on").first.wait_for()
    return model_id


def save_study(page: Page) -> None:
    whose = page.get_by_text("I checked: these pictures show one patient in one exam.")
    if whose.count():
        whose.click()
        settled(page)
    page.get_by_role("button", name="Save the study").click()
    page.get_by_text("Your first impression").wait_for()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)


def give_impressions(page: Page, birads: dict[str, str], button: str) -> None:
    for breast, category in birads.items():
        group = page.locator('[data-testid="stButtonGroup"]', has_text=f"{breast}: BI-RADS")
        group.get_by_role("radio", name=category, exact=True).click()
        settled(page)
    page.get_by_role("button", name=button).click()
    settled(page)


def shown_text(page: Page) -> str:
    return page.locator('[data-testid="stMain"]').inner_text().replace("\u00a0", " ")


OVERFLOW = """() => {
  const tall = element => Math.max(0, element.scrollHeight - element.clientHeight);
  const panel = document.querySelector(".st-key-sr-panel").closest('[data-testid="stColumn"]');
  return {
    page: tall(document.scrollingElement), main: tall(document.querySelector('[data-testid="stMain"]')),
    panel: tall(panel), bottom: Math.round(panel.getBoundingClientRect().bottom - innerHeight),
  };
}"""
"""How many pixels of the page and of the panel do not fit, and how far the panel reaches below the window."""


def fits(page: Page) -> None:
    """Nothing of the study has to be scrolled for, neither the page nor the panel, and the pictures stay large."""
    settled(page)
    for _ in range(50):  # what is drawn last is laid out a moment after the page is at rest
        found = page.evaluate(OVERFLOW)
        if max(found.values()) <= 0:
            break
        page.wait_for_timeout(100)
    assert (found["page"], found["main"], found["panel"]) == (0, 0, 0) and found["bottom"] <= 0, found
    cells = page.locator(".st-key-sr-pictures .cell").all()
    boxes = [box for cell in cells if (box := cell.bounding_box())]
    assert boxes and max(box["y"] + box["height"] for box in boxes) <= 900
    assert min(box["height"] for box in boxes) >= 250


def stays(page: Page) -> None:
    """The page itself has nothing to scroll, whatever of the panel has."""
    settled(page)
    found = page.evaluate(OVERFLOW)
    assert (found["page"], found["main"]) == (0, 0) and found["bottom"] <= 0, found


def four_views(test_data: Path) -> list[Path]:
    folder = test_data / "data/mammography/nyu_gmic_exam0_16bit"
    return [folder / f"{name}.png" for name in ("L_MLO", "R_CC", "R_MLO", "L_CC")]


def read_by_two(site: RunningApp, files: list[Path]) -> str:
    """A study of a double reading whose readers disagree on both breasts, with words; its id."""
    db = open_database(Settings(state_dir=site.state_dir))
    with closing(db):
        one, two = add_person(db, "Dr Margarete Longname", "radiologist"), add_person(db, "Dr Two", "radiologist")
        found = read_study(files, settings=db.settings, modality=Modality.MAMMOGRAPHY)
        images = [NewPicture(intake, *hinted(intake.name)).image for intake in found]
        study_id = studies.create_study(db, one, display_name="Read by two", images=images)
        worklist.assign(db, LocalTerminal(1), study_id, reader=None, is_double_read=True)
        for person, categories in ((one, ("4A", "4B")), (two, ("2", "1"))):
            given = {breast: Impression(birads, 20) for breast, birads in zip("RL", categories, strict=True)}
            reads.record_first_read(db, person, study_id, given, "Seen first.")
            words = f"{person.name} compared it with what was <b>remembered</b> of last year's exam."
            reads.record_final_read(db, person, study_id, given, words, sentence="For the report. " * 8, density="C")
    return study_id


def picture(page: Page) -> bytes:
    """What the viewer's first canvas shows, as PNG bytes."""
    return page.locator(".st-key-sr-pictures .cell canvas").first.screenshot()


def changed_from(before: bytes, look: Callable[[], bytes]) -> bytes:
    """What is shown once that is no longer `before`: a slow machine paints late."""
    until = time.monotonic() + 60
    while (now := look()) == before:
        assert time.monotonic() < until, "The picture stayed as it was."
        time.sleep(0.2)
    return now


def downloaded(page: Page, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path()).read_bytes()


def pdf_text(pdf: bytes) -> str:
    words = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    return re.sub(r"\s+", " ", words).replace("- ", "-")  # a name may be broken after its hyphen


def read_to_the_end(page: Page, birads: dict[str, str], models: tuple[str, ...]) -> str:
    """First read, second read, heat map, final read; the words of the downloaded PDF."""
    before = shown_text(page)
    assert "Probability of malignancy" not in before
    assert "Show where a model looked" not in before
    assert not page.get_by_role("button", name="Show second read").count()

    fits(page)
    page.get_by_text("Second read: ready", exact=True).wait_for()
    fits(page)
    give_impressions(page, birads, "Save first impression")
    fits(page)
    assert "Probability of malignancy" not in shown_text(page)
    page.get_by_role("button", name="Show second read").click()
    page.get_by_text("Probability of malignancy").first.wait_for()
    settled(page)
    fits(page)
    for others in page.locator(".st-key-sr-panel [data-testid=stExpander] summary").all():
        others.click()
    settled(page)
    assert violations(page) == []
    words = shown_text(page)
    for model in models:
        assert model in words
    assert "the threshold of" in words
    assert "AI-generated" in words

    bare = picture(page)
    for others in page.locator(".st-key-sr-panel [data-testid=stExpander] summary").all():
        others.click()
    settled(page)
    page.get_by_text("Show where a model looked").click()
    page.get_by_text("Model attention, not a lesion outline").first.wait_for()
    settled(page)
    stays(page)
    # The picture also changes when the page makes room for it; the map is there once its note is.
    note = page.locator(".st-key-sr-pictures .cell .note").first
    expect(note).not_to_be_empty(timeout=PATIENCE_MS)
    covered = changed_from(bare, lambda: picture(page))
    page.keyboard.press("o")
    expect(note).to_be_empty(timeout=PATIENCE_MS)
    hidden = changed_from(covered, lambda: picture(page))
    page.keyboard.press("o")
    expect(note).not_to_be_empty(timeout=PATIENCE_MS)
    changed_from(hidden, lambda: picture(page))

    give_impressions(page, {}, "Save final assessment")
    page.get_by_role("button", name="Report as PDF").wait_for()
    fits(page)
    correction = page.locator("details", has_text="Correct my final assessment")
    correction.locator("summary").click()
    expect(page.get_by_role("button", name="Save the correction")).to_be_in_viewport(ratio=1, timeout=20_000)
    assert "<script" not in downloaded(page, "Report as HTML").decode()
    return pdf_text(downloaded(page, "Report as PDF"))


def test_an_ultrasound_dicom_is_read_from_upload_to_the_report(page: Page, site: RunningApp, test_data: Path) -> None:
    files = [
        test_data / "data/dicom/us_breast/uta11_13a7a53c_IM0.dcm",
        test_data / "data/dicom/wrong_modality/ct_small.dcm",
    ]
    sent: list[object] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    page.reload()
    begin_study(page, files, "Case <b>one</b> $x$ :smile:")
    words = shown_text(page)
    assert "1 file was refused. The other one stays." in words
    assert "ct_small.dcm: This DICOM file is not" in words
    expect(page.get_by_role("radio", name="Left")).to_have_count(1)
    page.get_by_role("radio", name="Left").click()
    settled(page)
    save_study(page)
    page.get_by_text("Second read: ready", exact=True).wait_for()
    settled(page)
    n_before = len(sent)
    page.wait_for_timeout(3000)
    assert n_before and len(sent) == n_before, "nothing is looked at again once the second read is ready"
    assert "Case <b>one</b> $x$ :smile:" in shown_text(page)

    report = read_to_the_end(page, {"Left breast": "4A"}, MODELS["ultrasound"])
    for expected in (
        "Case <b>one</b> $x$ :smile:",
        "Research use only",
        READER,
        "BI-RADS 4A (low suspicion), suspicion 6 of 100",
        "Final assessment",
        "ultrasound-fusion",
        "AI-generated",
        "Read first",
    ):
        assert expected in report, expected

    page.get_by_role("link", name="Worklist").first.click()
    page.get_by_role("button", name="New study").wait_for()
    settled(page)
    assert "Final" in shown_text(page)
    log = site.output.read_text(errors="replace")
    assert "Traceback" not in log
    assert "uta11" not in log
    assert "Case <b>" not in log


@pytest.mark.usefixtures("mammography")
def test_a_four_view_mammogram_hangs_back_to_back_and_is_read_to_the_report(
    page: Page, site: RunningApp, test_data: Path
) -> None:
    begin_study(page, four_views(test_data), "Four views")
    assert "suggested by the name of the file" in shown_text(page)
    save_study(page)
    cells = page.locator(".st-key-sr-pictures .cell")
    assert [cells.nth(place).locator(".label").inner_text() for place in range(4)] == ["R CC", "L CC", "R MLO", "L MLO"]
    canvas = page.locator(".st-key-sr-pictures .cell canvas").first
    canvas.evaluate("canvas => { canvas.isTheFirst = true }")

    report = read_to_the_end(page, {"Right breast": "3", "Left breast": "1"}, MODELS["mammography"])
    for expected in ("Four views", "Right breast", "Left breast", "BI-RADS 3 (probably benign)", "mean over the views"):
        assert expected in report, expected
    assert "No second opinion is offered" not in report
    assert "It answers by decision of Dr Reader" in report and "For <b>our</b> study." in report
    for label in ("R CC", "L CC", "R MLO", "L MLO"):
        assert label in report
    assert canvas.evaluate("canvas => canvas.isTheFirst"), "a run of the page made the canvas anew"
    assert "Traceback" not in site.output.read_text(errors="replace")


@pytest.mark.usefixtures("mammography")
def test_who_decides_between_two_readers_reads_reveals_and_concludes_without_scrolling(
    page: Page, site: RunningApp, test_data: Path
) -> None:
    page.goto(f"{site.url}/read?study={read_by_two(site, four_views(test_data))}")
    page.get_by_text("The two readers disagree").wait_for()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    fits(page)
    page.get_by_role("button", name="See both reads and decide").click()
    page.get_by_text("Right breast: readers disagree, 4A against 2").wait_for()
    fits(page)
    page.get_by_role("button", name="Show second read").click()
    page.get_by_text("Probability of malignancy").first.wait_for()
    fits(page)
    assert violations(page) == []
    words = shown_text(page)
    for seen in ("Left breast: readers disagree, 4B against 1", "R 4A (20) · L 4B (20) · density C", "R 2 (20)"):
        assert seen in words, seen
    whole = page.get_by_text("Dr Two compared it with what was <b>remembered</b> of last year's exam.").first
    expect(whole).to_be_hidden()
    page.locator(".sr-other summary", has_text="Dr Two").click()
    expect(whole).to_be_visible()
    page.locator(".sr-other summary", has_text="Dr Two").click()
    give_impressions(page, {"Right breast": "4A", "Left breast": "1"}, "Save final assessment")
    page.get_by_role("button", name="Report as PDF").wait_for()
    fits(page)


def test_pixels_have_an_address_that_answers_their_own_session_only(page: Page) -> None:
    """Uses the study that the test before has left open."""
    found = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    addresses = [address for address in found if "/media/" in address and address.endswith(".bin")]
    assert len(addresses) >= 4
    for address in addresses[-4:]:
        assert page.request.get(address).status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address)


def test_an_enlarged_picture_opens_zooms_and_closes_with_escape(page: Page) -> None:
    """Uses the study that the test before has left open."""
    page.locator(".st-key-sr-pictures .cell canvas").first.dblclick()
    large = page.locator("dialog .cell canvas")
    large.wait_for()
    before = large.screenshot()
    large.hover()
    page.mouse.wheel(0, -600)
    changed_from(before, large.screenshot)
    assert page.locator("dialog .label").inner_text() == "R CC"
    page.keyboard.press("Escape")
    large.wait_for(state="detached")


def test_a_long_name_of_the_lead_that_wraps_begins_at_the_left(page: Page) -> None:
    from pages.reader.parts import pictures
    from pages.reader.parts.scores import Bar, bars_html

    bar = Bar("Left breast", 0.42, (0.3, 0.5), 0.3, by="Ensemble of 2 (weighted voting, two collections), weak " * 2)
    tab = page.context.browser.new_page()
    for width, is_wrapped in ((300, True), (1400, False)):
        tab.set_content(f"<style>{pictures._STYLE}</style><div style='width:{width}px'>{bars_html([bar])}</div>")
        lefts = tab.locator(".sr-ends.sr-soft span").last.evaluate(
            """span => { const range = document.createRange(); range.selectNodeContents(span)
              const left = span.parentElement.getBoundingClientRect().left
              return [...range.getClientRects()].map(box => Math.round(box.left - left)) }"""
        )
        assert (len(lefts) > 1 and not any(lefts)) if is_wrapped else lefts[0] > 400, lefts
    tab.close()


def test_the_models_truth_and_about_pages_open(page: Page) -> None:
    for link, words in (("Models", "Measured on its test cases"), ("Truth", "What became"), ("About", "must not be")):
        page.get_by_role("link", name=link).first.click()
        page.get_by_text(words).first.wait_for()
        settled(page)


def test_a_card_s_tables_are_there_once_they_are_opened(page: Page) -> None:
    page.get_by_role("link", name="Models").first.click()
    settled(page)
    for title, words in (("Every measure", "sensitivity at threshold"), ("Data, training and calibration", "Licence")):
        assert not page.get_by_text(words, exact=False).first.is_visible()
        page.get_by_text(title, exact=True).first.click()
        page.locator('[data-testid="stExpander"]').filter(has_text=title).first.get_by_text(words).first.wait_for()
        settled(page)
