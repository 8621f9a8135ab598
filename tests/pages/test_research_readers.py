"""First impressions of this site as scores: who counts, who is shown them, and under which names."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest
from record_site import CALM, WORRIED, Somebody, add_person, answer, explanation, finish, picture, sqlite_only

from core.evaluation.tables.scores import read_scores
from core.models.aggregate import per_breast
from core.records.database.db import Database
from core.records.reads import predictions, reader_scores, reads, studies, truths
from core.types import Image, Modality, Prediction


@sqlite_only
def test_breasts_with_a_truth_become_rows_and_readers_have_numbers(records: Database) -> None:
    ann, ada = add_person(records, "Ann", "radiologist"), add_person(records, "Ada", "researcher")
    finish(records, ann, 1, "malignant", suspicion=WORRIED)
    finish(records, ann, 2, "not biopsied, stable", suspicion=CALM)
    finish(records, ann, 3, None, suspicion=CALM)
    data = reader_scores.reader_scores(records, ada)
    table = read_scores(data)
    assert table.n == 2 and table.positives == 1
    assert set(table.scorers) == {f"reader {ann.id}", "model"}
    assert sorted(table.scorers[f"reader {ann.id}"]) == [0.05, 0.85] and set(table.scorers["model"]) == {0.25}
    assert b"Ann" not in data and b"Jane" not in data and f"{1:064d}".encode() not in data


@sqlite_only
def test_a_correction_of_the_truth_counts_instead_of_it(records: Database) -> None:
    ann, ada = add_person(records, "Ann", "radiologist"), add_person(records, "Ada", "researcher")
    study = finish(records, ann, 1, "benign", suspicion=WORRIED)
    finish(records, ann, 2, "benign", suspicion=CALM)
    truths.record_truth(
        records, ann, study, breast="R", pathology="malignant", happened_on=date(2024, 2, 1), source="surgery"
    )
    assert read_scores(reader_scores.reader_scores(records, ada)).positives == 1


@sqlite_only
def test_who_is_between_first_and_final_read_is_not_shown_the_study(records: Database) -> None:
    ann = add_person(records, "Ann", "radiologist")
    both = add_person(records, "Bea", "radiologist", "researcher")
    image = picture(1)
    study = studies.create_study(records, ann, display_name="x", images=[image])
    for reader in (ann, both):
        reads.record_first_read(records, reader, study, {"R": WORRIED})
    reads.record_final_read(records, ann, study, {"R": WORRIED}, "")
    truths.record_truth(
        records, ann, study, breast="R", pathology="benign", happened_on=date(2024, 1, 1), source="core biopsy"
    )
    assert reader_scores.reader_scores(records, both) == b""
    reads.record_final_read(records, both, study, {"R": CALM}, "")
    assert reader_scores.reader_scores(records, both).count(b"\n") == 2


def read_with(records: Database, ann: Somebody, images: list[Image], answers: list[Prediction]) -> str:
    """A finished study whose breast has several images, each answered once."""
    study = studies.create_study(records, ann, display_name="x", images=images)
    for stored, said in zip(studies.load_study(records, ann, study).images, answers, strict=True):
        predictions.record_predictions(records, study, stored.id, said, explanation())
    reads.record_first_read(records, ann, study, {"R": WORRIED})
    reads.record_final_read(records, ann, study, {"R": WORRIED}, "")
    truths.record_truth(
        records, ann, study, breast="R", pathology="malignant", happened_on=date(2024, 1, 1), source="core biopsy"
    )
    return study


@sqlite_only
@pytest.mark.parametrize(("modality", "expected"), [(Modality.MAMMOGRAPHY, 0.4), (Modality.ULTRASOUND, 0.6)])
def test_a_breast_of_two_images_has_the_number_that_is_shown_beside_its_pictures(
    records: Database, modality: Modality, expected: float
) -> None:
    ann, ada = add_person(records, "Ann", "radiologist"), add_person(records, "Ada", "researcher")
    images = [picture(1, modality=modality), picture(2, modality=modality)]
    said = [answer(image, malignant=score) for image, score in zip(images, (0.2, 0.6), strict=True)]
    read_with(records, ann, images, said)
    (row,) = csv.DictReader(io.StringIO(reader_scores.reader_scores(records, ada).decode()))
    assert float(row["model"]) == pytest.approx(expected)
    assert float(row["model"]) == per_breast(images, [[one] for one in said])[0].malignant


@sqlite_only
def test_scores_of_a_model_promoted_in_between_are_never_one_number_nor_one_column(records: Database) -> None:
    ann, ada = add_person(records, "Ann", "radiologist"), add_person(records, "Ada", "researcher")
    images = [picture(number) for number in range(1, 5)]
    read_with(records, ann, images[:2], [
        answer(images[0], malignant=0.2), answer(images[1], weights="f" * 64, malignant=0.6),
    ])  # fmt: skip
    (row,) = csv.DictReader(io.StringIO(reader_scores.reader_scores(records, ada).decode()))
    assert [name for name in row if name.startswith("model")] == [] and row[f"reader {ann.id}"] == "0.85"
    read_with(records, ann, images[2:3], [answer(images[2], malignant=0.3)])
    read_with(records, ann, images[3:], [answer(images[3], weights="f" * 64, malignant=0.7)])
    rows = list(csv.DictReader(io.StringIO(reader_scores.reader_scores(records, ada).decode())))
    assert [(row["model (eeeeeeee)"], row["model (ffffffff)"]) for row in rows] == [("", ""), ("0.3", ""), ("", "0.7")]


@sqlite_only
def test_pictures_that_stand_alone_are_in_no_breast_s_score(records: Database) -> None:
    ann, ada = add_person(records, "Ann", "radiologist"), add_person(records, "Ada", "researcher")
    full = picture(1, modality=Modality.MAMMOGRAPHY, laterality="R", view="CC")
    images = [full, picture(2, modality=Modality.MAMMOGRAPHY, laterality="R", is_scored_alone=True)]
    said = [answer(image, malignant=score) for image, score in zip(images, (0.2, 0.9), strict=True)]
    read_with(records, ann, images, said)
    (row,) = csv.DictReader(io.StringIO(reader_scores.reader_scores(records, ada).decode()))
    assert float(row["model"]) == 0.2
