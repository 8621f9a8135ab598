"""Findings and measurements of a read as rows, and back. Whoever may see the read sees them, nobody else.

They are saved in the transaction of their read and never change; a correction is another read with its own. What is
measured on a mark is measured here, on the stored picture, and not by the browser that it was drawn in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from core.errors import InvalidInput
from core.findings.finding import COMMENT_MOST, Annotations, Finding, Measurement, detail_of
from core.findings.marks import NO_PIXELS, Mark, Measured, has_pixels, measured, sizes
from core.findings.proposals import ANSWERS, Proposal
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting
from core.records.reads.frames import rows_of_frames
from core.records.reads.rows import image_of
from core.types import SIDE_NOT_STATED, Modality
from core.wording import tidy_text


def measured_here(db: Database, study_id: str, annotations: Annotations) -> Annotations:
    """The same with what is measured on every mark, by the stored pictures.

    Raises InvalidInput for a mark on no picture of this study or outside of one, for one that encloses no pixel, and
    for a finding whose marks lie on pictures of another breast or kind than its own.
    """
    if not annotations.marks:
        return annotations
    annotations.require_few()
    image = tables.image.c
    with db.read() as connection:
        rows = {
            (row.sha256, row.frame): row
            for row in [
                *rows_of_frames(connection, study_id),
                *connection.execute(select(tables.image).where(image.study_id == study_id)),
            ]
        }
    found = [_sized(finding, rows) for finding in annotations.findings]
    taken = []
    for one in annotations.measurements:
        row = _row_of(one.mark, rows)
        has_grey = one.mark.kind in ("ellipse", "outline") and row.pixels_removed_at is None
        given = measured(one.mark, image_of(row, db, None)) if has_grey else _size_on(one.mark, row)
        taken.append(Measurement(one.mark, given))
    for proposal in annotations.proposals:
        _row_of(proposal.mark, rows)
    return Annotations(tuple(found), tuple(taken), annotations.proposals)


def insert_annotations(connection: Connection, study_id: str, read_id: int, annotations: Annotations) -> dict[str, int]:
    """Save what `measured_here` gave; how many there are, for the audit trail, without what there is none of."""
    of_read = {"study_id": study_id, "read_id": read_id}
    findings = [
        {
            **of_read,
            "number": number,
            "breast": finding.breast,
            "type": finding.type,
            "detail": {
                **detail_of(finding),
                "comment": tidy_text(finding.comment, COMMENT_MOST, "comment on a finding"),
            },
            "marks": [mark.to_json() for mark in finding.marks],
            "sizes": [asdict(one) for one in finding.sizes],
        }
        for number, finding in enumerate(annotations.findings, start=1)
    ]
    measurements = [
        {**of_read, "number": number, "mark": one.mark.to_json(), "measured": asdict(one.measured)}
        for number, one in enumerate(annotations.measurements, start=1)
    ]
    proposals = [
        {
            **of_read,
            "number": number,
            "model_id": one.model_id,
            "weights_sha256": one.weights_sha256,
            "mark": one.mark.to_json(),
            "strength": one.strength,
            "level": one.level,
            "answer": one.answer,
        }
        for number, one in enumerate(annotations.proposals, start=1)
    ]
    if proposals:
        connection.execute(insert(tables.proposal), proposals)
    if findings:
        connection.execute(insert(tables.finding), findings)
    if measurements:
        connection.execute(insert(tables.measurement), measurements)
    counts = {"findings": len(findings), "measurements": len(measurements), "proposals": len(proposals)}
    return {name: n for name, n in counts.items() if n}


def annotations_of(connection: Connection, read_ids: Sequence[int]) -> dict[int, Annotations]:
    """Id of a read -> what it has on its pictures, of those that have any."""
    finding, measurement, proposal = tables.finding, tables.measurement, tables.proposal
    found: dict[int, list[Finding]] = {}
    for row in connection.execute(
        select(finding).where(finding.c.read_id.in_(read_ids)).order_by(finding.c.read_id, finding.c.number)
    ):
        found.setdefault(row.read_id, []).append(_finding_of(row))
    taken: dict[int, list[Measurement]] = {}
    for row in connection.execute(
        select(measurement)
        .where(measurement.c.read_id.in_(read_ids))
        .order_by(measurement.c.read_id, measurement.c.number)
    ):
        one = Measurement(Mark.from_json(row.mark), Measured(**row.measured))
        taken.setdefault(row.read_id, []).append(one)
    made: dict[int, list[Proposal]] = {}
    for row in connection.execute(
        select(proposal).where(proposal.c.read_id.in_(read_ids)).order_by(proposal.c.read_id, proposal.c.number)
    ):
        mark = Mark.from_json(row.mark)
        one_made = Proposal(mark, row.model_id, row.weights_sha256, row.strength, row.level, row.answer)
        made.setdefault(row.read_id, []).append(one_made)
    return {
        read_id: Annotations(tuple(found.get(read_id, ())), tuple(taken.get(read_id, ())), tuple(made.get(read_id, ())))
        for read_id in found.keys() | taken.keys() | made.keys()
    }


def proposal_answers(db: Database, actor: Actor) -> dict[str, dict[str, int]]:
    """Model id -> how many of its proposals were accepted, edited, rejected and left open.

    Of each reader's reads of a study the last one counts that has any: a correction repeats those of the read that it
    corrects. Raises NotAllowed.
    """
    proposal, read = tables.proposal.c, tables.read.c
    joined = tables.proposal.join(tables.read, read.id == proposal.read_id)
    last = select(func.max(proposal.read_id)).select_from(joined).group_by(read.study_id, read.person_id)
    with acting(db.read(), actor, "see_models") as (connection, _):
        rows = connection.execute(
            select(proposal.model_id, proposal.answer, func.count())
            .where(proposal.read_id.in_(last))
            .group_by(proposal.model_id, proposal.answer)
        ).all()
    counts: dict[str, dict[str, int]] = {}
    for model_id, answer, n in rows:
        counts.setdefault(model_id, dict.fromkeys(ANSWERS, 0))[answer] = n
    return counts


def delete_annotations(connection: Connection, study_id: str) -> None:
    """With their study, which must be marked as deleted before: the database refuses it otherwise."""
    for table in (tables.finding, tables.measurement, tables.proposal):
        connection.execute(delete(table).where(table.c.study_id == study_id))


def _row_of(mark: Mark, rows: dict[tuple[str, int], Row[Any]]) -> Row[Any]:
    row = rows.get((mark.image_sha256, mark.frame))
    if row is None:
        raise InvalidInput("A mark lies on a picture that is not in this study. Reload the page.")
    if row.n_rows is not None and not mark.is_inside(row.n_rows, row.n_columns):
        raise InvalidInput("A mark lies outside of its picture. Draw it again.")
    if not has_pixels(mark):
        raise InvalidInput(NO_PIXELS.format(kind=mark.kind))
    return row


def _size_on(mark: Mark, row: Row[Any]) -> Measured:
    spacing = None if row.spacing_row_mm is None else (row.spacing_row_mm, row.spacing_column_mm)
    return sizes(mark, spacing, row.meta.get("pixel_aspect", 1.0))


def _sized(finding: Finding, rows: dict[tuple[str, int], Row[Any]]) -> Finding:
    on = [_row_of(mark, rows) for mark in finding.marks]
    if any((row.laterality or SIDE_NOT_STATED) != finding.breast for row in on):
        raise InvalidInput("The marks of one finding lie in one breast. Make a finding of its own for the other one.")
    if any(row.modality != finding.modality.value for row in on):
        raise InvalidInput("The marks of one finding lie on pictures of one kind.")
    return replace(finding, sizes=tuple(_size_on(mark, row) for mark, row in zip(finding.marks, on, strict=True)))


def _finding_of(row: Row[Any]) -> Finding:
    detail = dict(row.detail)
    return Finding(
        row.breast,
        Modality(detail.pop("modality")),
        row.type,
        tuple(Mark.from_json(mark) for mark in row.marks),
        **detail,
        sizes=tuple(Measured(**one) for one in row.sizes),
    )
