"""Pixels go when the site says so: never before a final read, never two studies' at once, and everything else stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from record_site import CALM, add_person, answer, at_terminal, explanation, picture, stored_files
from sqlalchemy import select

from core.errors import InvalidInput
from core.imaging.dicom.views import SPECIMEN
from core.records import site_settings
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.reads import predictions, reads, retention, studies, truths
from core.records.reads.truths import known_images
from core.types import NEEDS_SIDE, Modality

DAYS = 30


@pytest.fixture
def ann(records: Database) -> Person:
    return at_terminal(add_person(records, "Ann", "radiologist", "administrator"))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A month and a day from now, for those who ask what is due."""
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=DAYS + 1))
    yield


def read_study(db: Database, person: Person, number: int, *, is_final: bool = True, truth: bool = False) -> str:
    study_id = studies.create_study(db, person, display_name="x", images=[picture(number)])
    stored = studies.load_study(db, person, study_id).images[0]
    predictions.record_predictions(db, study_id, stored.id, answer(stored.image), explanation(number))
    reads.record_first_read(db, person, study_id, {"R": CALM})
    reads.reveal(db, person, study_id)
    if is_final:
        reads.record_final_read(db, person, study_id, {"R": CALM})
    return study_id


def pixels_there(db: Database) -> int:
    return sum(name.endswith(".png") for name in stored_files(db))


def test_nothing_goes_unless_the_site_says_so(records: Database, ann: Person, later: None) -> None:
    read_study(records, ann, 1)
    assert retention.apply_policy(records) == 0 and pixels_there(records) == 1


def test_the_pixels_of_final_studies_go_and_all_else_stays(records: Database, ann: Person, later: None) -> None:
    final, unfinished = read_study(records, ann, 1), read_study(records, ann, 2, is_final=False)
    site_settings.choose(records, ann, "keep_pixels_days", DAYS)
    assert retention.n_due(records, ann, DAYS) == 1
    before = studies.load_study(records, ann, final)

    assert retention.apply_policy(records) == 1
    assert retention.apply_policy(records) == 0
    assert pixels_there(records) == 1
    study = studies.load_study(records, ann, final)
    assert study.pixels_removed_at is not None and study.images[0].image.pixels.shape == (1, 1)
    assert replace(study.images[0].image, pixels=before.images[0].image.pixels).sha256 == before.images[0].image.sha256
    assert [read.kind for read in reads.reads_of(records, ann, final)] == ["first", "final"]
    assert predictions.predictions_of(records, ann, final)[0][1].malignant == 0.8
    assert studies.load_study(records, ann, unfinished).pixels_removed_at is None
    entry = trail.entries(records, ann, action="remove pixels")[0]
    assert (entry.person_id, entry.subject, entry.detail["days"]) == (None, f"study {final}", DAYS)
    assert trail.verify(records).is_intact


def test_an_amendment_starts_the_days_anew(records: Database, ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    study_id = read_study(records, ann, 1)
    site_settings.choose(records, ann, "keep_pixels_days", DAYS)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=DAYS - 1))
    assert retention.apply_policy(records) == 0
    in_twenty_days = tables.now() + timedelta(days=20)
    with monkeypatch.context() as then:
        then.setattr(tables, "now", lambda: in_twenty_days)
        reads.record_final_read(records, ann, study_id, {"R": CALM})
    monkeypatch.setattr(retention, "now", lambda: in_twenty_days + timedelta(days=DAYS - 1))
    assert retention.apply_policy(records) == 0
    monkeypatch.setattr(retention, "now", lambda: in_twenty_days + timedelta(days=DAYS + 1))
    assert retention.apply_policy(records) == 1


def test_a_picture_that_another_study_holds_stays_for_it(records: Database, ann: Person, later: None) -> None:
    read_study(records, ann, 1)
    other = read_study(records, ann, 1, is_final=False)
    site_settings.choose(records, ann, "keep_pixels_days", DAYS)
    assert retention.apply_policy(records) == 1
    assert studies.load_study(records, ann, other).images[0].image.pixels.shape == (24, 20)


def test_a_read_at_the_last_moment_keeps_the_pixels(records: Database, ann: Person, later: None) -> None:
    study_id = read_study(records, ann, 1)
    with records.read() as connection:
        assert retention._is_due(connection, study_id, DAYS)
    assert not retention._remove(records, study_id, DAYS * 2)


def test_the_days_are_a_number_that_makes_sense(records: Database, ann: Person) -> None:
    for wrong in (-1, 40_000):
        with pytest.raises(InvalidInput, match="0 to 36500"):
            site_settings.choose(records, ann, "keep_pixels_days", wrong)
    assert site_settings.current(records).keep_pixels_days == 0


def test_no_data_set_is_made_of_pictures_that_are_gone(records: Database, ann: Person, later: None) -> None:
    bob = add_person(records, "Bob", "administrator")
    study_id = studies.create_study(records, ann, display_name="x", images=[picture(3, laterality="R")])
    reads.record_first_read(records, ann, study_id, {"R": CALM})
    reads.reveal(records, ann, study_id)
    reads.record_final_read(records, ann, study_id, {"R": CALM})
    truths.record_truth(
        records, ann, study_id, breast="R", pathology="benign", happened_on=tables.now().date(), source="biopsy"
    )
    assert len(known_images(records, bob, Modality.ULTRASOUND).images) == 1
    site_settings.choose(records, ann, "keep_pixels_days", DAYS)
    retention.apply_policy(records)
    found = known_images(records, bob, Modality.ULTRASOUND)
    assert not found.images and "removed by the site's policy" in next(iter(found.left_out))


def test_no_data_set_is_made_of_pictures_that_no_model_reads(records: Database, ann: Person) -> None:
    bob = add_person(records, "Bob", "administrator")
    read = picture(4)
    others = [picture(5, not_scored=SPECIMEN), picture(6, laterality=None, needs_side=True)]
    study_id = studies.create_study(records, ann, display_name="x", images=[read, *others])
    given = dict.fromkeys(studies.load_study(records, ann, study_id).breasts, CALM)
    reads.record_first_read(records, ann, study_id, given)
    reads.reveal(records, ann, study_id)
    reads.record_final_read(records, ann, study_id, given)
    for breast in given:
        truths.record_truth(
            records, ann, study_id, breast=breast, pathology="malignant", happened_on=tables.now().date(), source="x"
        )
    found = known_images(records, bob, Modality.ULTRASOUND)
    first = studies.load_study(records, ann, study_id).images[0]
    with records.read() as connection:
        stored = connection.execute(select(tables.image.c.stored).where(tables.image.c.id == first.id)).scalar_one()
    assert [image.stored for image in found.images] == [stored]
    assert found.left_out == {SPECIMEN: 1, NEEDS_SIDE: 1}
