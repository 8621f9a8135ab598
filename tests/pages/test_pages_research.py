"""The pictures behind a number on the page Cases, without a browser: the real page and files, a model of no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_images import encoded, ultrasound
from page_site import CLASSES, FakeModel, PageSite, Tab, release

from core.records.audit import trail
from core.records.people.permissions import LocalTerminal
from train.datasets.manifest import read_manifest

ROWS, COLUMNS, N = 150, 200, 60


@pytest.fixture
def cases(opened_site: PageSite, tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tab:
    """The page, two models tested on sixty cases, and the files of those in the site's folder for data."""
    from pages.research.parts import pictures

    folder = tmp_path / "data" / "made"
    folder.mkdir(parents=True)
    lines = ["file,label,patient,modality"]
    for number in range(N):
        (folder / f"c{number}").write_bytes(encoded(ultrasound(ROWS, COLUMNS, seed=number)))
        lines.append(f"c{number},{CLASSES[number % 3]},p{number},ultrasound")
    (folder / "manifest.csv").write_text("\n".join(lines))
    for name, sha256 in (("ultrasound-fusion", "ab" * 32), ("ultrasound-cnn", "cd" * 32)):
        release(opened_site.weights, name, sha256=sha256)
        card = opened_site.weights / name / "card.json"
        raw = json.loads(card.read_text())
        raw["data"]["sha256"] = read_manifest(folder / "manifest.csv").sha256
        card.write_text(json.dumps(raw))
    monkeypatch.setenv("SECONDREAD_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(pictures, "read_image", lambda card, image: FakeModel(card).read(image))
    tab.app.query_params["a"] = "ultrasound-cnn"
    tab.app.query_params["b"] = "ultrasound-fusion"
    tab.app.query_params["list"] = "All cases"
    return tab


def test_without_its_files_the_page_says_what_brings_them_and_shows_the_scores(
    cases: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECONDREAD_DATA_ROOT")
    words = cases.open("research/cases").text
    assert "SECONDREAD_DATA_ROOT" in words and "60 of 60 cases" in words.replace("*", "")
    assert (
        cases.app.dataframe[0].value["case"].is_unique
        and not cases.app.dataframe[0].value["case"].str.contains("/").any()
    )
    assert not cases.app.image


def test_the_first_cases_are_thumbnails_and_with_maps_both_models_stand_side_by_side(cases: Tab) -> None:
    words = cases.open("research/cases").text
    assert len(cases.app.image) == 12
    assert "A 0.600, B 0.600" in words or "A 0.200, B 0.200" in words
    toggle = next(toggle for toggle in cases.app.toggle if toggle.label == "Show where these models looked")
    assert not toggle.value
    toggle.set_value(True)
    words = cases.settled().text
    assert "Side by side: Cnn | Fusion" in words and "not a lesion outline" in words
    assert len(cases.app.image) == 12


def test_whoever_looks_at_single_cases_is_known_to_have_seen_the_scores_of_these_models_alone(
    opened_site: PageSite, cases: Tab
) -> None:
    def shown() -> list[str]:
        admin = LocalTerminal(opened_site.one.id)
        acts = trail.entries(opened_site.db, admin, action="see case scores")
        return sorted(act.detail["weights_sha256"] for act in acts)

    assert shown() == []
    cases.app.query_params["b"] = "none"
    cases.open("research/cases")
    assert shown() == ["cd" * 32]
    next(box for box in cases.app.selectbox if box.label == "Scorer B").select("ultrasound-fusion")
    for _ in range(2):
        cases.settled()
    assert shown() == ["ab" * 32, "cd" * 32]
