"""A number that comes from a leaking split says so, wherever it is shown."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_cards import changed
from pypdf import PdfReader
from record_site import add_person, sqlite_only

from core.errors import NotAllowed
from core.evaluation.cache import ComparisonCache
from core.evaluation.statistics.operating_points import compare_calls_by_class, operating_rows
from core.evaluation.tables.cohort import Cohort, cohort_of_cards, group_cards
from core.models.cards import LEAKING, Card, all_cards, leaks_of
from core.records.audit import trail
from core.records.audit.trail import record_comparison_export
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.reports.comparison import ComparisonReport, comparison_document
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.settings import Settings
from pages.parts import tables

SENTENCE = "12 values of patient (30 cases) are in more than one split."


def with_data(card: Card, name: str, **data: Any) -> Card:
    return changed(card, model_id=name, data=card.content()["data"] | data)


def shipped() -> Card:
    return next(card for card in all_cards(Settings()) if card.model_id == "ultrasound-cnn4")


@pytest.fixture
def cohort() -> Cohort:
    card = shipped()
    leak = {"check": "patient in two splits", "n": 12, "sentence": SENTENCE}
    (group,) = group_cards([with_data(card, "clean"), with_data(card, "flattered", leaks=[leak])])
    found = cohort_of_cards(group)
    assert found is not None
    return found


def test_what_the_card_keeps_of_leaks_marks_the_model_and_no_other(cohort: Cohort) -> None:
    assert cohort.leaks == {"flattered": (SENTENCE,)}
    assert cohort.provenance(["clean"]).leaking == () and "LEAKING" not in cohort.provenance(["clean"]).text
    stated = cohort.provenance(["clean", "flattered"])
    assert "LEAKING SPLIT: flattered" in stated.text and "color:#ff6b5e" in stated.caption


def test_a_split_of_single_images_is_a_leak_where_a_patient_has_several() -> None:
    card = shipped()
    scores = pd.read_csv(card.folder / f"{card.weights_sha256[:8]}.test_scores.csv")
    assert scores["patient"].duplicated().any()
    assert leaks_of(with_data(card, "x", split_by="image"))
    assert leaks_of(with_data(card, "x", split_by="file, 5 folds"))
    assert not leaks_of(with_data(card, "x", split_by="patient")) and not leaks_of(card)


def test_every_table_and_both_reports_carry_the_mark(cohort: Cohort) -> None:
    numbers = ComparisonCache(cohort)
    names = ("clean", "flattered")
    at = dict.fromkeys(names, 0.5)
    rows, calls = operating_rows(cohort.table, at), compare_calls_by_class(cohort.table, at)
    colour = ("red", "blue").__getitem__
    shown = tables.table_of_measures(cohort, numbers.results(names), rows, numbers.pairs(names), calls, colour)
    matrices = tables.confusion_grid(cohort, rows, colour)
    pair = tables.pair_text(cohort, numbers.pairs(names)[0])
    assert shown.count('class="leak"') == matrices.count('class="leak"') == pair.count('class="leak"') == 1
    report = ComparisonReport(numbers, rows, calls, "x", datetime(2026, 1, 1, tzinfo=UTC), "Ada")
    html = build_html(comparison_document(report))
    pdf = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(build_pdf(comparison_document(report)))).pages)
    assert f"flattered ({LEAKING})" in html and f"clean ({LEAKING})" not in html
    for words in (SENTENCE, "LEAKING SPLIT"):
        assert words in html and words in " ".join(pdf.split()), words


def test_a_download_says_what_it_was_computed_from_and_which_scorer_leaks(cohort: Cohort) -> None:
    of = cohort.provenance(["clean", "flattered"])
    by_scorer = of.stated_in(pd.DataFrame({"scorer": ["clean", "flattered"], "auc": [0.7, 0.9]}))
    assert list(by_scorer["leaking_split"]) == [False, True]
    assert set(by_scorer["data_sha256"]) == {cohort.data_sha256} and set(by_scorer["split"]) == {"test"}
    assert list(by_scorer["weights_sha256"]) == [cohort.weights["clean"], cohort.weights["flattered"]]
    whole = of.stated_in(pd.DataFrame({"first": ["clean"], "second": ["flattered"]}))
    assert whole["leaking_split"][0] == "flattered" and cohort.weights["clean"] in whole["weights_sha256"][0]
    own = of.stated_in(pd.DataFrame({"case": ["a", "b"], "split": ["train", "test"], "data_set": ["x", "y"]}))
    assert list(own["split in the table"]) == ["train", "test"] and list(own["data_set in the table"]) == ["x", "y"]
    assert set(own["split"]) == {"test"} and set(own["data_set"]) == {cohort.dataset}


@sqlite_only
@pytest.mark.parametrize("role", ["researcher", "administrator"])
def test_what_a_researcher_downloads_is_in_the_audit_trail(records: Database, role: str) -> None:
    ada = add_person(records, "Ada", role)
    record_comparison_export(records, ada, what="roc.csv", data_sha256="ab" * 32)
    admin = add_person(records, "Root", "administrator")
    (entry,) = trail.entries(records, admin, action="export comparison")
    assert entry.subject == f"data {'ab' * 8}" and entry.detail == {"what": "roc.csv"} and entry.person_id == ada.id


@sqlite_only
def test_a_radiologist_downloads_no_comparison(records: Database) -> None:
    ann: Person = add_person(records, "Ann", "radiologist")
    with pytest.raises(NotAllowed):
        record_comparison_export(records, ann, what="roc.csv", data_sha256="ab" * 32)


def test_of_the_shipped_models_only_the_lesson_has_a_leaking_split() -> None:
    cards = all_cards(Settings(weights_dir=Path("weights").resolve()))
    (lesson,) = (card for card in cards if leaks_of(card))
    assert lesson.model_id.endswith("-by-image") and not lesson.has_weights
