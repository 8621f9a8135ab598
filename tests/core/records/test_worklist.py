"""The worklist of one reader: own state beside others', and disagreements that only those see who may."""

from __future__ import annotations

import pytest
from record_site import CALM, WORRIED, Somebody, add_person, picture, sqlite_only

from core.records.database.db import Database
from core.records.reads import reads
from core.records.reads.reads import Impression
from core.records.reads.studies import create_study, load_study
from core.records.reads.worklist import WorklistRow, disagreement_of, worklist


@pytest.fixture
def ann(records: Database) -> Somebody:
    return add_person(records, "Ann", "radiologist")


@pytest.fixture
def bea(records: Database) -> Somebody:
    return add_person(records, "Bea", "radiologist")


@pytest.fixture
def study_id(records: Database, ann: Somebody) -> str:
    return create_study(records, ann, display_name="Case", images=[picture()])


def row_of(db: Database, person: Somebody, study_id: str) -> WorklistRow:
    (row,) = [row for row in worklist(db, person) if row.study.id == study_id]
    return row


def test_one_reader_s_final_read_finishes_nothing_of_another_s(
    records: Database, ann: Somebody, bea: Somebody, study_id: str
) -> None:
    reads.record_first_read(records, ann, study_id, {"R": CALM})
    reads.record_first_read(records, bea, study_id, {"R": CALM})
    reads.record_final_read(records, bea, study_id, {"R": CALM})

    of_ann, of_bea = row_of(records, ann, study_id), row_of(records, bea, study_id)
    assert (of_ann.my_state, of_ann.others) == ("first read saved", {"Bea": "final"})
    assert (of_bea.my_state, of_bea.others) == ("final", {"Ann": "first read saved"})
    assert of_ann.study.state == "final"
    assert not load_study(records, ann, study_id).is_final_for_me and load_study(records, bea, study_id).is_final_for_me
    admin = add_person(records, "Root", "administrator")
    assert row_of(records, admin, study_id).my_state == "final"  # of the study: an administrator reads nothing


def test_a_disagreement_is_marked_for_whoever_may_see_both_reads_and_for_nobody_else(
    records: Database, ann: Somebody, bea: Somebody, study_id: str
) -> None:
    eve = add_person(records, "Eve", "radiologist")
    for reader, category in ((ann, "4A"), (bea, "2")):
        reads.record_first_read(records, reader, study_id, {"R": Impression(category, 10)})
    assert row_of(records, ann, study_id).disagreement == {"R": ("4A", "2")}
    assert row_of(records, eve, study_id).disagreement == {}  # may still form a first impression
    assert row_of(records, eve, study_id).my_state == "new"

    reads.record_final_read(records, bea, study_id, {"R": WORRIED})  # the last assessment counts
    assert row_of(records, ann, study_id).disagreement == {}
    reads.record_final_read(records, bea, study_id, {"R": CALM})
    assert row_of(records, ann, study_id).disagreement == {"R": ("4A", "2")}


@pytest.mark.parametrize(
    ("categories", "is_marked"),
    [("4A 2", True), ("1 2", False), ("4A 5", False), ("3 2", True), ("3 4A", True), ("0 1", True), ("2", False)],
)
def test_a_disagreement_is_about_what_is_to_be_done(categories: str, is_marked: bool) -> None:
    assert bool(disagreement_of([{"R": category} for category in categories.split()])) == is_marked


def test_breasts_are_held_against_each_other_one_by_one() -> None:
    assert disagreement_of([{"R": "4A", "L": "1"}, {"R": "2", "L": "2"}, {"R": "5"}]) == {"R": ("5", "4A", "2")}


@sqlite_only
def test_the_list_is_searched_by_name(records: Database, ann: Somebody, study_id: str) -> None:
    assert [row.study.id for row in worklist(records, ann, search=" cAs ")] == [study_id]
    assert worklist(records, ann, search="other") == []
