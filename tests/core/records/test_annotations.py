"""Findings and measurements of reads: saved with them, unchangeable, seen by who sees the read, gone with the study."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from record_site import CALM, WORRIED, Somebody, add_person, picture, sqlite_only
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from core.errors import Conflict, InvalidInput
from core.findings.finding import Annotations, Finding, Measurement
from core.findings.marks import Mark, Measured
from core.findings.proposals import Proposal
from core.findings.sketches import Sketch
from core.records.audit import trail
from core.records.backup import site_backup
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.reads import reads, retention
from core.records.reads.annotations import measured_here, proposal_answers
from core.records.reads.drafts import ReadDraft, draft_of, store_draft
from core.records.reads.studies import create_study, delete_study
from core.settings import Settings
from core.types import Modality

IMAGE = picture()
"""24 rows and 20 columns, rows 0.1 mm apart and columns 0.2."""


def mark(kind: str, *points: tuple[float, float], **more: Any) -> Mark:
    return Mark(**{"image_sha256": IMAGE.sha256, "frame": 0, "kind": kind, "points": points, **more})


def mass(*marks: Mark, **more: Any) -> Finding:
    marks = marks or (mark("ellipse", (2, 2), (12, 12)),)
    return Finding("R", Modality.ULTRASOUND, "mass", marks, {"shape": "oval"}, "upper outer", 10, **more)


NOTHING = Measured(is_mm=False)
GIVEN = Annotations((mass(comment="a\x00 <b>"),), (Measurement(mark("distance", (0, 0), (3, 8)), NOTHING),))


@pytest.fixture
def ann(records: Database) -> Somebody:
    return add_person(records, "Ann", "radiologist")


@pytest.fixture
def study_id(records: Database, ann: Somebody) -> str:
    return create_study(records, ann, display_name="Case", images=[IMAGE])


def n_rows(db: Database) -> tuple[int, int]:
    with db.read() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (tables.finding, tables.measurement)
        ]
    return counts[0], counts[1]


def test_findings_are_saved_with_their_read_and_a_correction_leaves_the_earlier_ones(
    records: Database, ann: Somebody, study_id: str
) -> None:
    reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=GIVEN)
    reads.record_final_read(records, ann, study_id, {"R": CALM})
    reads.record_final_read(
        records, ann, study_id, {"R": WORRIED}, annotations=Annotations((mass(), mass(clock_free())))
    )
    first, final, corrected = reads.reads_of(records, ann, study_id)
    (finding,) = first.annotations.findings
    assert (finding.type, finding.descriptors, finding.quadrant, finding.clock) == (
        "mass",
        {"shape": "oval"},
        "upper outer",
        10,
    )
    assert finding.marks == GIVEN.findings[0].marks and finding.comment == "a <b>"
    assert finding.size is not None and (finding.size.length, finding.size.across) == (
        pytest.approx(2),
        pytest.approx(1),
    )
    (measurement,) = first.annotations.measurements
    assert measurement.measured.length == pytest.approx(1.0)
    assert final.annotations == Annotations()
    assert len(corrected.annotations.findings) == 2
    with records.read() as connection:
        rows = connection.execute(
            select(tables.audit.c.action, tables.audit.c.detail).order_by(tables.audit.c.id)
        ).all()
    detail = {row.action: row.detail for row in rows}
    assert (detail["first read"]["findings"], detail["first read"]["measurements"]) == (1, 1)
    assert detail["final read"]["findings"] == 2 and "measurements" not in detail["final read"]
    assert trail.verify(records).is_intact


def clock_free() -> Mark:
    return mark("point", (20, 24))


def test_the_mean_grey_is_that_of_the_stored_pixels(records: Database, ann: Somebody, study_id: str) -> None:
    given = Annotations((), (Measurement(mark("outline", (4, 5), (8, 5), (8, 9), (4, 9)), NOTHING),))
    reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=given)
    ((measurement,),) = [read.annotations.measurements for read in reads.reads_of(records, ann, study_id)]
    assert measurement.measured.n_pixels == 16
    assert measurement.measured.mean_grey == pytest.approx(float(IMAGE.pixels[5:9, 4:8].mean()), abs=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        Annotations((mass(mark("point", (20.1, 1))),)),
        Annotations((mass(mark("point", (1, 24.1))),)),
        Annotations((mass(mark("point", (1, 1), frame=1)),)),
        Annotations((mass(mark("point", (1, 1), image_sha256="f" * 64)),)),
        Annotations((), (Measurement(mark("point", (1, 1), frame=1), NOTHING),)),
        Annotations((mass(),) * 51),
        Annotations((Finding("L", Modality.ULTRASOUND, "mass", (mark("point", (1, 1)),)),)),
        Annotations((Finding("R", Modality.MAMMOGRAPHY, "mass", (mark("point", (1, 1)),)),)),
    ],
)
@sqlite_only
def test_a_mark_that_is_on_no_picture_of_the_study_saves_nothing(
    records: Database, ann: Somebody, study_id: str, wrong: Annotations
) -> None:
    with pytest.raises(InvalidInput):
        reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=wrong)
    assert reads.reads_of(records, ann, study_id) == [] and n_rows(records) == (0, 0)


def test_another_reader_sees_them_with_the_read_and_not_before(records: Database, ann: Somebody, study_id: str) -> None:
    bea = add_person(records, "Bea", "radiologist")
    reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=GIVEN)
    assert reads.reads_of(records, bea, study_id) == []
    reads.record_first_read(records, bea, study_id, {"R": CALM})
    assert [len(read.annotations.findings) for read in reads.reads_of(records, bea, study_id)] == [1, 0]


@pytest.mark.parametrize("table", ["finding", "measurement"])
@pytest.mark.parametrize("change", ["UPDATE {} SET number = number + 1", "DELETE FROM {}"])
def test_the_database_itself_refuses_to_change_them(
    records: Database, ann: Somebody, study_id: str, table: str, change: str
) -> None:
    reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=GIVEN)
    with pytest.raises(DBAPIError, match=f"rows of {table} stay"), records.begin() as connection:
        connection.execute(text(change.format(table)))
    assert n_rows(records) == (1, 1)


def test_they_go_with_their_study_when_it_is_deleted(records: Database, ann: Somebody, study_id: str) -> None:
    other = create_study(records, ann, display_name="Other", images=[IMAGE])
    for one in (study_id, other):
        reads.record_first_read(records, ann, one, {"R": CALM}, annotations=GIVEN)
    delete_study(records, ann, study_id, reason="wrong upload")
    assert n_rows(records) == (1, 1)
    assert [len(read.annotations.findings) for read in reads.reads_of(records, ann, other)] == [1]


@sqlite_only
def test_they_are_in_the_backup_and_stay_when_the_pixels_go(
    records: Database, ann: Somebody, study_id: str, tmp_path: Path
) -> None:
    reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=GIVEN)
    reads.record_final_read(records, ann, study_id, {"R": CALM}, annotations=GIVEN)
    assert retention._remove(records, study_id, 0)
    saved = [read.annotations for read in reads.reads_of(records, ann, study_id)]
    assert [len(one.findings) for one in saved] == [1, 1]
    area = Annotations((), (Measurement(mark("ellipse", (2, 2), (12, 12)), NOTHING),))
    reads.record_final_read(
        records, ann, study_id, {"R": CALM}, annotations=area
    )  # without a picture, without its grey
    site_backup.back_up(records, tmp_path / "site.backup")
    new = Settings(state_dir=tmp_path / "new")
    site_backup.restore(new, tmp_path / "site.backup")
    restored = open_database(new)
    with restored.read() as connection:
        rows = connection.execute(select(tables.finding).order_by(tables.finding.c.id)).all()
        measured = connection.execute(select(tables.measurement).order_by(tables.measurement.c.id)).all()
    restored.close()
    assert [row.marks for row in rows] == [[GIVEN.findings[0].marks[0].to_json()]] * 2
    assert (measured[-1].measured["mean_grey"], measured[-1].measured["area"]) == (
        None,
        pytest.approx(1.5708, abs=1e-3),
    )


def test_what_encloses_no_pixel_is_not_saved_and_a_single_pixel_is(
    records: Database, ann: Somebody, study_id: str
) -> None:
    def with_mark(one: Mark, *, as_finding: bool) -> Annotations:
        if as_finding:
            return Annotations((replace(GIVEN.findings[0], marks=(one,)),))
        return Annotations((), (Measurement(one, NOTHING),))

    flat = (
        mark("outline", (1, 1), (3, 3), (5, 5)), mark("outline", *[(2, 2)] * 3), mark("ellipse", (2, 3), (8, 3)),
        mark("outline", (1, 1.1), (5, 1.2), (5, 1.3)), mark("ellipse", (2.6, 2.6), (2.9, 2.9)),
    )  # fmt: skip
    for one, as_finding in product(flat, (True, False)):
        with pytest.raises(InvalidInput, match=f"An {one.kind} encloses no pixel"):
            given = with_mark(one, as_finding=as_finding)
            reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=given)
    assert n_rows(records) == (0, 0)
    for one in (mark("outline", (2, 2), (3, 2), (3, 3), (2, 3)), mark("ellipse", (2, 2), (3, 3))):
        assert measured_here(records, study_id, with_mark(one, as_finding=True)).findings[0].sizes[0].area


def test_a_draft_holds_the_marks_until_the_read_is_saved(records: Database, ann: Somebody, study_id: str) -> None:
    sketches = (
        Sketch((("a", mark("point", (1, 1))),), "mass", {"shape": "oval"}, clock=3),
        Sketch((("b", clock_free()),)),
    )
    draft = ReadDraft(sketches=sketches)
    store_draft(records, ann, study_id, "first", draft)
    assert draft_of(records, ann, study_id, "first") == draft
    with pytest.raises(InvalidInput, match="at most 200"):
        many = tuple(Sketch(((f"m{n}", clock_free()),)) for n in range(201))
        store_draft(records, ann, study_id, "first", ReadDraft(sketches=many))
    reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=GIVEN)
    assert draft_of(records, ann, study_id, "first") is None


PROPOSED = Annotations(
    proposals=tuple(
        Proposal(mark("point", (n, n)), "model", "e" * 64, 0.9, 0.5, answer)
        for n, answer in enumerate(("accepted", "rejected", "open"), start=1)
    )
)


def test_proposals_are_saved_only_by_who_may_see_the_answer_and_counted_by_model(
    records: Database, ann: Somebody, study_id: str
) -> None:
    with pytest.raises(Conflict, match="proposes findings only to who may see"):
        reads.record_first_read(records, ann, study_id, {"R": CALM}, annotations=PROPOSED)
    assert reads.reads_of(records, ann, study_id) == []
    reads.record_first_read(records, ann, study_id, {"R": CALM})
    with pytest.raises(Conflict):
        reads.record_final_read(records, ann, study_id, {"R": CALM}, annotations=PROPOSED)
    reads.reveal(records, ann, study_id)
    reads.record_final_read(records, ann, study_id, {"R": CALM}, annotations=PROPOSED)
    assert reads.reads_of(records, ann, study_id)[-1].annotations == PROPOSED
    assert proposal_answers(records, ann) == {"model": {"accepted": 1, "edited": 0, "rejected": 1, "open": 1}}
