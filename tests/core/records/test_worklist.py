"""The worklist of one reader: own state beside others', and disagreements that only those see who may."""

from __future__ import annotations

import pytest
from record_site import CALM, WORRIED, Somebody, add_person, picture, sqlite_only

from core.errors import Conflict, InvalidInput
from core.records.database import tables
from core.records.database.db import Database
from core.records.reads import reading_leases, reads
from core.records.reads.reading_leases import READING_SECONDS, hold_study
from core.records.reads.reads import Impression, disagreement_of
from core.records.reads.studies import create_study, load_study
from core.records.reads.worklist import WorklistRow, assign, n_open, next_study, readers, worklist


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


def test_search_finds_part_of_a_name_in_any_case_and_takes_signs_as_they_are(records: Database, ann: Somebody) -> None:
    for name in ("Übung 100%", "ubung 1000", "Case_7", "CaseX7"):
        create_study(records, ann, display_name=name, images=[picture()])

    def found(search: str) -> list[str]:
        return sorted(row.study.display_name for row in worklist(records, ann, search=search))

    assert found("übung") == ["Übung 100%"]
    assert found("100%") == ["Übung 100%"]
    assert found("e_7") == ["Case_7"]
    assert found(" CASE ") == ["CaseX7", "Case_7"]
    assert found("'; DROP TABLE study; --") == []
    assert len(found("")) == 4


def test_an_assigned_study_is_its_reader_s_and_comes_before_older_ones(
    records: Database, ann: Somebody, bea: Somebody, study_id: str
) -> None:
    second = create_study(records, ann, display_name="Second", images=[picture(2)])
    third = create_study(records, ann, display_name="Third", images=[picture(3)])
    assert row_of(records, ann, study_id).is_mine and not row_of(records, bea, study_id).is_mine
    assert set(readers(records, ann)) == {ann.id, bea.id}

    assign(records, ann, third, reader=bea.id)
    row = row_of(records, bea, third)
    assert (row.assigned_to, row.is_mine, row.is_open) == ("Bea", True, True)
    assert not row_of(records, ann, third).is_mine

    def following(person: Somebody, after: str = "") -> str | None:
        row = next_study(worklist(records, person), after)
        return row.study.id if row else None

    assert following(bea) == third and following(bea, third) == study_id
    assert following(ann) == study_id and following(ann, study_id) == second
    reads.record_first_read(records, ann, second, {"R": CALM})
    assert following(ann) == second  # what was begun comes first
    assert following(ann, second) == study_id
    reads.record_first_read(records, ann, study_id, {"R": CALM})
    assert following(bea, third) is None  # Ann is reading the others

    found = n_open(worklist(records, ann))
    assert (found.n_new, found.n_begun, found.n_to_arbitrate) == (1, 2, 0)
    admin = add_person(records, "Root", "administrator")
    assert next_study(worklist(records, admin)) is None
    with pytest.raises(InvalidInput):
        assign(records, ann, third, reader=admin.id)


def test_two_readers_are_blinded_until_both_are_done_and_a_third_arbitrates(
    records: Database, ann: Somebody, bea: Somebody, study_id: str
) -> None:
    eve, dan = add_person(records, "Eve", "radiologist"), add_person(records, "Dan", "radiologist")
    assign(records, ann, study_id, reader=None, is_double_read=True)
    with pytest.raises(Conflict):
        reads.arbitrate(records, eve, study_id)
    for reader, category in ((ann, "4A"), (bea, "2")):
        assert row_of(records, reader, study_id).is_open
        reads.record_first_read(records, reader, study_id, {"R": Impression(category, 10)})
        assert [read.person_id for read in reads.reads_of(records, reader, study_id)] == [reader.id]
    with pytest.raises(Conflict, match="has its two readers"):
        reads.record_first_read(records, eve, study_id, {"R": CALM})
    with pytest.raises(Conflict, match="the number of its readers stays"):
        assign(records, ann, study_id, reader=None)

    reads.record_final_read(records, ann, study_id, {"R": Impression("4A", 10)})
    with pytest.raises(Conflict, match="first impression"):
        reads.reveal(records, eve, study_id)
    assert row_of(records, bea, study_id).disagreement == {} and len(reads.reads_of(records, bea, study_id)) == 1
    assert not row_of(records, eve, study_id).is_open
    reads.record_final_read(records, bea, study_id, {"R": Impression("2", 10)})
    for reader in (ann, bea):
        assert row_of(records, reader, study_id).disagreement == {"R": ("4A", "2")}
        with pytest.raises(Conflict, match="a third reader arbitrates"):
            reads.arbitrate(records, reader, study_id)

    assert row_of(records, eve, study_id).is_open and n_open(worklist(records, eve)).n_to_arbitrate == 1
    assert reads.reads_of(records, eve, study_id) == []
    with pytest.raises(Conflict, match="first impression"):
        reads.record_final_read(records, eve, study_id, {"R": CALM})
    reads.arbitrate(records, eve, study_id)
    assert len(reads.reads_of(records, eve, study_id)) == 4
    reads.record_final_read(records, eve, study_id, {"R": Impression("4A", 20)})
    assert not row_of(records, dan, study_id).is_open and not row_of(records, dan, study_id).needs_arbitration
    with pytest.raises(Conflict, match="arbitrated, once"):
        reads.arbitrate(records, dan, study_id)


def test_two_readers_who_agree_need_no_third(records: Database, ann: Somebody, bea: Somebody, study_id: str) -> None:
    assign(records, ann, study_id, reader=None, is_double_read=True)
    for reader, category in ((ann, "1"), (bea, "2")):
        reads.record_first_read(records, reader, study_id, {"R": Impression(category, 0)})
        reads.record_final_read(records, reader, study_id, {"R": Impression(category, 0)})
    assert not row_of(records, add_person(records, "Eve", "radiologist"), study_id).needs_arbitration


def test_who_reads_a_study_holds_it_until_somebody_takes_it_over_or_the_lease_ends(
    records: Database, ann: Somebody, bea: Somebody, study_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hold_study(records, ann, study_id) is None and hold_study(records, ann, study_id) is None
    other = hold_study(records, bea, study_id)
    assert other is not None and other.name == "Ann"
    assert row_of(records, bea, study_id).held_by == "Ann" and row_of(records, ann, study_id).held_by == ""
    assert next_study(worklist(records, bea)) is None
    with pytest.raises(Conflict, match="Ann is reading this study now"):
        reads.record_first_read(records, bea, study_id, {"R": CALM})

    assert hold_study(records, bea, study_id, is_take_over=True) is None
    with pytest.raises(Conflict, match="Bea is reading"):
        reads.record_first_read(records, ann, study_id, {"R": CALM})
    reads.record_first_read(records, bea, study_id, {"R": CALM})
    assert hold_study(records, ann, study_id) is not None
    reads.record_final_read(records, bea, study_id, {"R": CALM})  # and lets it go
    assert hold_study(records, ann, study_id) is None

    monkeypatch.setattr(reading_leases, "READING_SECONDS", -1.0)
    assert hold_study(records, ann, study_id) is None
    assert hold_study(records, bea, study_id) is None


def test_a_study_that_a_wrong_clock_held_for_a_day_is_free_once_the_clock_is_right(
    records: Database, ann: Somebody, bea: Somebody, study_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds, is_held in ((READING_SECONDS + tables.CLOCK_STEP.total_seconds() - 2, True), (86_400, False)):
        monkeypatch.setattr(reading_leases, "READING_SECONDS", seconds)
        assert hold_study(records, ann, study_id, is_take_over=True) is None
        monkeypatch.setattr(reading_leases, "READING_SECONDS", READING_SECONDS)
        assert (row_of(records, bea, study_id).held_by == "Ann") == is_held
        assert (hold_study(records, bea, study_id) is not None) == is_held


def test_a_double_reading_is_held_by_nobody(records: Database, ann: Somebody, bea: Somebody, study_id: str) -> None:
    assign(records, ann, study_id, reader=None, is_double_read=True)
    assert hold_study(records, ann, study_id) is None and hold_study(records, bea, study_id) is None
