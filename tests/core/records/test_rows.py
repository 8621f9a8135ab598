"""Predictions with their maps, as rows and files: what goes in comes back, once, or nothing stays of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from record_site import CALM, add_person, answer, explanation, picture, stored_files
from sqlalchemy import func, select

from core.errors import NotFound
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.image_store import ImageStore
from core.records.people.permissions import Person
from core.records.reads import predictions, reads
from core.records.reads.studies import create_study, delete_study, load_study

FIRST = {"R": CALM}


@pytest.fixture
def ann(records: Database) -> Person:
    return add_person(records, "Ann", "radiologist")


@pytest.fixture
def study_id(records: Database, ann: Person) -> str:
    """A study of one image that one model has answered."""
    study_id = create_study(records, ann, display_name="Case 1", images=[picture()])
    stored = load_study(records, ann, study_id).images[0]
    predictions.record_predictions(records, study_id, stored.id, answer(stored.image), explanation())
    return study_id


def test_predictions_and_maps_come_back_as_they_went_in(records: Database, ann: Person) -> None:
    study_id = create_study(records, ann, display_name="x", images=[picture(1), picture(2)])
    first, second = load_study(records, ann, study_id).images
    given = [(second, "b", 1), (first, "b", 2), (first, "a", 3)]
    for stored, model_id, seed in given:
        made = explanation(seed)
        prediction = answer(stored.image, model_id=model_id)
        predictions.record_predictions(records, study_id, stored.id, prediction, made)
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.reveal(records, ann, study_id)

    found = predictions.predictions_of(records, ann, study_id)

    assert [(image_id, retained.model_id) for image_id, retained, _ in found] == [
        (first.id, "a"), (first.id, "b"), (second.id, "b")
    ]  # fmt: skip
    assert found[2][1] == answer(second.image, model_id="b")
    retained, made = found[2][2], explanation(1)
    assert (retained.classes, retained.positive_index, retained.fit) == (made.classes, made.positive_index, made.fit)
    assert set(retained.maps) == set(made.maps)
    for branch, values in made.maps.items():
        assert np.allclose(retained.maps[branch], values, atol=0.0005 * values.max(), rtol=0)


def test_the_same_weights_answer_once_and_new_weights_beside_them(
    records: Database, ann: Person, study_id: str
) -> None:
    stored = load_study(records, ann, study_id).images[0]
    predictions.record_predictions(records, study_id, stored.id, answer(stored.image, malignant=0.1), explanation(9))
    files = len(stored_files(records))
    newer = answer(stored.image, weights="f" * 64, malignant=0.3)
    predictions.record_predictions(records, study_id, stored.id, newer, explanation(4))
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.reveal(records, ann, study_id)

    assert files == 2
    assert [retained for _, retained, _ in predictions.predictions_of(records, ann, study_id)] == [newer]
    with records.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.prediction)).scalar_one() == 2


def test_a_prediction_that_cannot_be_kept_leaves_nothing(
    records: Database, ann: Person, study_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = load_study(records, ann, study_id).images[0]
    files = stored_files(records)
    newer = answer(stored.image, weights="f" * 64)
    with pytest.raises(NotFound):
        predictions.record_predictions(records, study_id, "0" * 32, newer, explanation(1))
    assert stored_files(records) == files

    put, calls = ImageStore.put, []

    def keep_once(self: ImageStore, blob: Any) -> None:
        calls.append(blob)
        if len(calls) > 1:
            raise OSError("disk gone")
        put(self, blob)

    with monkeypatch.context() as broken, pytest.raises(OSError):
        broken.setattr(ImageStore, "put", keep_once)
        predictions.record_predictions(records, study_id, stored.id, newer, explanation(1))
    assert stored_files(records) == files
    delete_study(records, ann, study_id, reason="wrong upload")
    with pytest.raises(NotFound):
        predictions.record_predictions(records, study_id, stored.id, newer, explanation(1))
    assert stored_files(records) == []
