"""Drafts of reads: each reader's own, back until they are saved, and nothing to anybody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from record_site import CALM, Somebody, add_person, picture
from sqlalchemy import select, text

from core.errors import InvalidInput, NotAllowed, NotFound
from core.findings.marks import Mark
from core.findings.proposals import Proposal
from core.records.database import tables
from core.records.database.db import Database
from core.records.reads import reads
from core.records.reads.drafts import DamagedDraft, ReadDraft, draft_of, store_draft
from core.records.reads.studies import create_study, delete_study

HALF = ReadDraft({"R": ("4A", 7), "L": (None, 0)}, "a mass, or\ntwo ")


@pytest.fixture
def ann(records: Database) -> Somebody:
    return add_person(records, "Ann", "radiologist")


@pytest.fixture
def study_id(records: Database, ann: Somebody) -> str:
    return create_study(records, ann, display_name="Case", images=[picture()])


def n_drafts(db: Database) -> int:
    with db.read() as connection:
        return len(connection.execute(select(tables.read_draft.c.kind)).all())


def test_a_draft_comes_back_to_its_reader_alone_and_the_last_one_counts(
    records: Database, ann: Somebody, study_id: str
) -> None:
    bea = add_person(records, "Bea", "radiologist")
    store_draft(records, ann, study_id, "first", ReadDraft({"R": ("2", 1)}))
    store_draft(records, ann, study_id, "first", HALF)

    assert draft_of(records, ann, study_id, "first") == HALF
    assert draft_of(records, ann, study_id, "final") is None
    assert draft_of(records, bea, study_id, "first") is None
    store_draft(records, ann, study_id, "first", ReadDraft({"R": (None, 0)}, " "))
    assert draft_of(records, ann, study_id, "first") is None and n_drafts(records) == 0


def test_a_draft_of_a_form_that_is_behind_the_last_read_is_not_kept_and_replaces_none(
    records: Database, ann: Somebody, study_id: str
) -> None:
    store_draft(records, ann, study_id, "first", replace(HALF, start=1))
    assert n_drafts(records) == 0, "there is no read yet"
    store_draft(records, ann, study_id, "first", replace(HALF, start=0, sides={"picture": "R"}))
    kept = draft_of(records, ann, study_id, "first")
    assert kept == replace(HALF, start=0, sides={"picture": "R"})
    reads.record_first_read(records, ann, study_id, {"R": CALM})
    first = reads.reads_of(records, ann, study_id)[-1].id
    store_draft(records, ann, study_id, "final", replace(HALF, start=0))
    assert n_drafts(records) == 0
    for start in (first, None):  # a draft of an earlier version says nothing of it
        store_draft(records, ann, study_id, "final", replace(HALF, start=start))
        assert draft_of(records, ann, study_id, "final") == replace(HALF, start=start)
    bea = add_person(records, "Bea", "radiologist")
    store_draft(records, bea, study_id, "first", replace(HALF, start=0))
    assert draft_of(records, bea, study_id, "first") == replace(HALF, start=0), "another's read is none of hers"


def test_a_saved_read_ends_its_draft_and_no_other(records: Database, ann: Somebody, study_id: str) -> None:
    bea = add_person(records, "Bea", "radiologist")
    for reader in (ann, bea):
        store_draft(records, reader, study_id, "first", HALF)
    store_draft(records, ann, study_id, "final", HALF)
    reads.record_first_read(records, ann, study_id, {"R": CALM})

    assert draft_of(records, ann, study_id, "first") is None
    assert draft_of(records, ann, study_id, "final") == draft_of(records, bea, study_id, "first") == HALF
    reads.record_final_read(records, ann, study_id, {"R": CALM})
    assert draft_of(records, ann, study_id, "final") is None and n_drafts(records) == 1


def test_a_deleted_study_has_no_drafts(records: Database, ann: Somebody, study_id: str) -> None:
    store_draft(records, ann, study_id, "first", HALF)
    delete_study(records, ann, study_id, reason="wrong upload")
    assert n_drafts(records) == 0
    with pytest.raises(NotFound):
        store_draft(records, ann, study_id, "first", HALF)


def test_what_no_form_gives_is_refused_and_who_reads_nothing_has_no_draft(
    records: Database, ann: Somebody, study_id: str
) -> None:
    for draft in (ReadDraft({"X": ("2", 0)}), ReadDraft({"R": ("7", 0)}), ReadDraft({"R": ("2", 101)})):
        with pytest.raises(InvalidInput):
            store_draft(records, ann, study_id, "first", draft)
    with pytest.raises(InvalidInput):
        store_draft(records, ann, study_id, "second", HALF)
    with pytest.raises(InvalidInput):
        store_draft(records, ann, study_id, "first", ReadDraft({}, "x" * 20_001))
    with pytest.raises(NotAllowed):
        store_draft(records, add_person(records, "Root", "administrator"), study_id, "first", HALF)
    assert n_drafts(records) == 0


def test_a_draft_brings_back_the_proposals_that_were_answered_in_it(
    records: Database, ann: Somebody, study_id: str
) -> None:
    mark = Mark("c" * 64, 2, "point", ((3.5, 4.25),))
    whole = ReadDraft(
        {"L": ("4A", 7)}, rejected=("b",), proposals={"b": Proposal(mark, "one", "d" * 64, 0.1 + 0.2, 0.7)}
    )
    store_draft(records, ann, study_id, "final", whole)
    assert draft_of(records, ann, study_id, "final") == whole


def test_the_text_for_the_report_and_the_density_come_back_and_an_older_draft_has_neither(
    records: Database, ann: Somebody, study_id: str
) -> None:
    whole = ReadDraft({"R": ("4A", 7)}, "a mass", "My words.", "C")
    store_draft(records, ann, study_id, "final", whole)
    assert draft_of(records, ann, study_id, "final") == whole
    store_draft(records, ann, study_id, "final", ReadDraft(density="A"))
    assert n_drafts(records) == 1
    with pytest.raises(InvalidInput, match="density"):
        store_draft(records, ann, study_id, "final", ReadDraft(density="E"))
    with records.begin() as connection:
        connection.execute(tables.read_draft.update().values(content={"breasts": {"R": ["2", 1]}, "comment": "x"}))
    assert draft_of(records, ann, study_id, "final") == ReadDraft({"R": ("2", 1)}, "x")


HALF_WRITTEN = '{"breasts": {"R": ["2", 1]'


@pytest.mark.parametrize(
    "stored",
    [
        HALF_WRITTEN,
        "[]",
        "3",
        "{}",
        '{"breasts": {"R": []}, "comment": ""}',
        '{"breasts": {"R": ["7", 1]}, "comment": ""}',
        '{"breasts": {}, "comment": null}',
        '{"breasts": {}, "comment": "", "sketches": [{"marks": []}]}',
        '{"breasts": {}, "comment": "", "rejected": 3}',
        '{"breasts": {}, "comment": "", "proposals": {"a": 3}}',
        '{"breasts": {}, "comment": "", "proposals": []}',
    ],
)
def test_a_damaged_draft_says_so_and_the_next_one_takes_its_place(
    records: Database, ann: Somebody, study_id: str, stored: str
) -> None:
    store_draft(records, ann, study_id, "first", HALF)
    if records.engine.dialect.name == "postgresql" and stored == HALF_WRITTEN:
        stored = "3"  # a row that is no JSON at all cannot be there
    with records.begin() as connection:
        value = "CAST(:stored AS JSON)" if connection.dialect.name == "postgresql" else ":stored"
        connection.execute(text(f"UPDATE read_draft SET content = {value}").bindparams(stored=stored))
    with pytest.raises(DamagedDraft, match="form begins anew"):
        draft_of(records, ann, study_id, "first")
    assert n_drafts(records) == 1
    store_draft(records, ann, study_id, "first", HALF)
    assert draft_of(records, ann, study_id, "first") == HALF
