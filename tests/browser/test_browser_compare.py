"""Compare in a real browser: slider, upload, refusals, downloads, address."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect
from pypdf import PdfReader
from running_app import RunningApp
from sklearn.metrics import roc_auc_score

pytestmark = pytest.mark.browser

PATIENCE_MS = 180_000
BAD_TABLES = {
    "case,label,a\n1,0,.1\n2,1,.9\n": "'patient' is missing",
    "case,patient,label,a\n1,1,0,.1\n2,2,1,1.9\n3,3,1,.9\n": "outside 0 to 1",
    "case,patient,label,a\n1,1,0,.1\n2,2,0,.9\n": "same label",
    "case,patient,label,a\n1,1,0,.1\n1,2,1,.9\n": "name the same case",
    "case,patient,label,a\n1,1,0,.1\n2,2,1,high\n3,3,1,.9\n": "is not a number",
    "case,patient,label,=cmd()\n1,1,0,.1\n2,2,1,.9\n": "spreadsheet's formula",
    "case,patient,label,a\n" + "1,1,0,.1\n" * 1_000_000: "more than 100,000 rows",
}


@pytest.fixture(scope="module")
def scores(test_data: Path) -> Path:
    return test_data / "data/reader_study/scores.csv"


@pytest.fixture(scope="module")
def sha256(scores: Path) -> str:
    return hashlib.sha256(scores.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def study(page: Page, site: RunningApp, scores: Path) -> Page:
    """The reader study uploaded, in the order of its columns."""
    upload(page, site, scores)
    page.get_by_text("Confusion matrices").wait_for()
    settled(page)
    return page


def settled(page: Page) -> None:
    page.wait_for_timeout(400)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_timeout(300)


def upload(page: Page, site: RunningApp, file: Path) -> None:
    page.goto(f"{site.url}/compare?data=Upload")
    page.locator('input[type="file"]').wait_for(state="attached")
    settled(page)
    page.locator('input[type="file"]').set_input_files(file)


def words(page: Page) -> str:
    return page.locator('[data-testid="stMain"]').inner_text()


def matrices(page: Page) -> str:
    return page.locator(".sr-matrices").inner_text()


def marker_of(page: Page, key: str) -> str:
    """Where the first scorer's point lies on a figure."""
    points = page.locator(f".st-key-figure_{key} .scatterlayer .trace .points path")
    return str(points.first.get_attribute("transform"))


def downloaded(page: Page, button: str | re.Pattern[str], place: int = 0) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=isinstance(button, str)).nth(place).click()
    return Path(waiting.value.path()).read_bytes()


def test_the_reader_study_is_compared_with_intervals_and_hashes(study: Page) -> None:
    shown = words(study)
    assert "1440 cases" in shown and "61 positive" in shown and "data 1215da4d" in shown
    table = study.locator(".sr-numbers").first.inner_text()
    assert "0.726" in table and "0.654 to 0.794" in table  # reader_01, patients drawn
    assert "p adjusted by Holm over 6 pairs" in shown


def test_one_slider_moves_the_table_every_matrix_and_the_points_of_both_curves(study: Page) -> None:
    before = (matrices(study), marker_of(study, "roc"), marker_of(study, "precision-recall"))
    first_table = study.locator(".sr-numbers").first.inner_text()
    slider = study.get_by_role("slider").first
    slider.focus()
    for _ in range(60):
        slider.press("ArrowLeft")
    settled(study)
    expect(study).to_have_url(re.compile("at=0.2"), timeout=PATIENCE_MS)
    expect(study.locator(".sr-matrices").first).to_contain_text("threshold 0.2", timeout=PATIENCE_MS)
    settled(study)
    after = (matrices(study), marker_of(study, "roc"), marker_of(study, "precision-recall"))
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert study.locator(".sr-matrices figure").count() == 4
    assert matrices(study).count("threshold 0.2") == 4
    assert study.locator(".sr-numbers").first.inner_text() != first_table


def test_downloads_open_again_and_start_no_formula(study: Page, scores: Path, sha256: str) -> None:
    measures = pd.read_csv(io.BytesIO(downloaded(study, re.compile("CSV, every measure"))))
    area = measures[(measures["scorer"] == "reader_01") & (measures["measure"] == "auc")].iloc[0]
    table = pd.read_csv(scores)
    assert area["n"] == 1440 and area["value"] == pytest.approx(roc_auc_score(table["label"], table["reader_01"]))
    assert set(measures["data_sha256"].str[:8]) == {sha256[:8]}
    curve = downloaded(study, re.compile("CSV$"))
    points = pd.read_csv(io.BytesIO(curve))
    assert {"scorer", "threshold", "sensitivity", "specificity"} <= set(points.columns)
    assert not [line for line in curve.decode().splitlines() if line.startswith(("=", "+", "@"))]
    report = downloaded(study, re.compile("Comparison as HTML")).decode()
    assert "<script" not in report and sha256[:8] in report and "data:image/svg+xml" in report
    pdf = PdfReader(io.BytesIO(downloaded(study, re.compile("Comparison as PDF"))))
    assert "Are the differences real?" in "".join(one.extract_text() for one in pdf.pages)


@pytest.mark.parametrize(
    ("tab", "expected"),
    [
        ("Calibration", "In the large"),
        ("Decision curve", "Net benefit"),
        ("Subgroups", "Grey: fewer than 20 cases"),
        ("Classes", "one score a case"),
        ("Training", "history of its training"),
        ("Seeds", "runs of one model with different seeds"),
    ],
)
def test_every_part_opens_and_the_address_keeps_it(study: Page, tab: str, expected: str) -> None:
    study.get_by_role("tab", name=tab).click()
    study.get_by_text(expected).first.wait_for()
    settled(study)
    assert f"show={tab.replace(' ', '+')}" in study.url


@pytest.mark.parametrize("content", BAD_TABLES, ids=lambda text: str(BAD_TABLES.get(text)))
def test_a_bad_table_is_refused_with_a_sentence(page: Page, site: RunningApp, tmp_path: Path, content: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(content)
    upload(page, site, file)
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text(BAD_TABLES[content], timeout=PATIENCE_MS)
    assert "Confusion matrices" not in words(page)


def test_scorers_without_a_case_in_common_or_without_both_classes_are_named_and_the_others_compared(
    page: Page, site: RunningApp, tmp_path: Path
) -> None:
    lines = ["case,patient,label,early,late,every,sick"]
    for n in range(60):
        score, is_sick = f"{(n * 7 % 60) / 60:.3f}", n % 3 == 0
        early, late = (score, "") if n < 30 else ("", score)
        lines.append(f"{n},{n},{int(is_sick)},{early},{late},{(n * 11 % 60) / 60},{score if is_sick else ''}")
    file = tmp_path / "apart.csv"
    file.write_text("\n".join(lines))
    upload(page, site, file)
    page.get_by_text("Confusion matrices").wait_for()
    settled(page)
    page.get_by_role("tab", name="Pairs").click()
    page.get_by_text("they share no case").wait_for()
    settled(page)
    shown = words(page)
    assert "Left out: sick." in shown and "Holm over 2 pairs" in shown and "early vs every" in shown
    page.get_by_text("Who calls differently").click()
    settled(page)
    assert page.locator('[data-testid="stAlertContentError"], [data-testid="stException"]').count() == 0
    assert downloaded(page, re.compile("Comparison as PDF")).startswith(b"%PDF")


def test_an_address_that_is_opened_again_shows_the_same_choice(page: Page, site: RunningApp) -> None:
    page.goto(f"{site.url}/compare?mode=Same+specificity&specificity=0.95&show=Training")
    page.get_by_text("Confusion matrices").wait_for()
    settled(page)
    expect(page.get_by_role("slider").first).to_have_value("0.95")
    assert page.get_by_role("tab", name="Training").get_attribute("aria-selected") == "true"


def test_the_slider_shows_the_threshold_that_another_data_set_is_computed_at_also_for_who_opens_the_address(
    page: Page, site: RunningApp
) -> None:
    def thresholds() -> set[str]:
        return set(re.findall(r"threshold ([\d.]+)", matrices(page)))

    def require_shown() -> None:
        (one,) = thresholds()
        assert float(page.get_by_role("slider").first.input_value()) == pytest.approx(float(one), abs=1e-9)
        has_bands = page.locator(".st-key-figure_roc .scatterlayer .trace .fills path, .js-fill").count() > 0
        assert page.get_by_role("switch", name="95 % bands").is_checked() is has_bands

    page.goto(f"{site.url}/compare")
    page.get_by_text("Confusion matrices").wait_for()
    settled(page)
    first = thresholds()
    require_shown()
    page.get_by_role("combobox", name=re.compile("Data set")).click()
    page.get_by_role("option", name=re.compile("mini-MIAS")).click()
    expect(page.locator(".sr-matrices").first).to_contain_text("mammography-fusion", timeout=PATIENCE_MS)
    settled(page)
    assert thresholds() != first
    require_shown()
    before = matrices(page)
    page.goto(page.url)
    expect(page.locator(".sr-matrices").first).to_contain_text("mammography-fusion", timeout=PATIENCE_MS)
    settled(page)
    assert matrices(page) == before


def test_the_cases_page_lists_and_says_that_the_pictures_are_not_here(page: Page, site: RunningApp) -> None:
    page.goto(f"{site.url}/cases?a=ultrasound-efficientnet_lite0")  # one that misses some
    page.get_by_text("scores only").first.wait_for()
    settled(page)
    assert "cases" in words(page)
    listed = pd.read_csv(io.BytesIO(downloaded(page, re.compile("CSV, all of the list"))))
    assert set(listed["label"]) == {"malignant"}
    assert "Traceback" not in site.output.read_text(errors="replace")


def test_the_leak_check_shows_the_cards_and_says_that_the_files_are_not_here(page: Page, site: RunningApp) -> None:
    page.goto(f"{site.url}/leak_check?data=BUSI+ultrasound+c5d5e351")
    page.get_by_text("are not on this machine").wait_for()
    settled(page)
    shown = words(page)
    assert "no leak was found" in shown and "ultrasound-cnn4" in shown and "What a leak costs" in shown
    # Of the networks that were trained on this data, only the lesson leaks, and it is marked.
    expect(page.locator("tr", has=page.locator(".leak"))).to_contain_text("ultrasound-efficientnet_lite0-by-image")


def test_published_figures_stand_beside_ours_and_open_again(page: Page, site: RunningApp) -> None:
    page.goto(f"{site.url}/published")
    page.get_by_text("What figures to believe").first.wait_for()
    settled(page)
    listed = pd.read_csv(io.BytesIO(downloaded(page, re.compile("CSV$"))))
    fusion = listed[listed["system"] == "ultrasound-fusion"].iloc[0]
    assert fusion["published"] == "macro-AUC .956; AUC .916" and fusion["ours"].startswith("macro-AUC .9")
    assert "macro-AUC .956" in words(page) and set(listed["leaking_split"]) == {False}


def test_every_download_is_in_the_audit_trail(study: Page, site: RunningApp, sha256: str) -> None:
    with closing(sqlite3.connect(site.state_dir / "secondread.sqlite3")) as database:
        rows = database.execute("SELECT subject, detail FROM audit WHERE action = 'export comparison'").fetchall()
    files = {json.loads(detail)["what"] for _, detail in rows}
    assert {"measures.csv", "roc.csv", "comparison.html", "comparison.pdf"} <= files
    assert f"data {sha256[:8]}" in {subject[:13] for subject, _ in rows}
