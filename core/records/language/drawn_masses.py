"""The masses that readers drew on ultrasound pictures, and which of them a language model is asked about.

Each mark of such a mass gets a row in the queue (`core.records.language.answers`), once the network's outlines of the
study have theirs. It waits to be asked where nothing that was asked about lies there; else it says so, and is asked
about when its reader wants that (`answers.ask_again`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from core.findings.marks import Mark, has_pixels, lies_over
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.language.answers import DRAWN_FROM, ENQUEUED_AT_ONCE, drawn_finding, drawn_number, insert_row
from core.records.language.endpoint import Endpoint, require_permitted
from core.records.queue import CANCELLED, OPEN, QUEUED
from core.types import Modality

NO_REGION = "A point, or a mark on another frame than the models read, is not asked about."
THERE_ALREADY = "This lesion was asked about within another outline."


def enqueue_drawn(db: Database, endpoint: Endpoint) -> int:
    """Rows for the masses that readers drew since this was permitted; how many of them wait to be asked."""
    if endpoint.permitted_at is None:
        return 0
    query = _without_row(endpoint)
    with db.read() as connection:
        if connection.execute(query.limit(1)).first() is None:
            return 0
    n_waiting = 0
    with db.begin() as connection:
        hold(connection, AdvisoryLock.LANGUAGE)
        require_permitted(connection, db.settings, endpoint.id)
        for finding in connection.execute(query).all():
            for values in _rows_of(connection, endpoint.id, finding):
                insert_row(connection, endpoint.id, finding.study_id, **values)
                n_waiting += values["state"] == QUEUED
    return n_waiting


def _without_row(endpoint: Endpoint) -> Any:
    """The masses of reads since the permission whose first mark has no row yet, of studies whose network's outlines
    were all looked at: until then nobody knows what lies where."""
    read, study, row, image = tables.read.c, tables.study.c, tables.language_answer.c, tables.image.c
    finding: Any = tables.finding.c
    has_row = exists().where(row.endpoint_id == endpoint.id, row.number == drawn_number(finding.id, 0))
    of_network = (row.endpoint_id == endpoint.id, row.number < DRAWN_FROM)
    is_awaited = exists().where(row.study_id == study.id, *of_network, row.state.in_(OPEN), row.tries == 0)
    is_due = exists().where(
        image.study_id == study.id, image.modality == Modality.ULTRASOUND.value, image.pixels_removed_at.is_(None),
        ~exists().where(row.image_id == image.id, *of_network),
    )  # fmt: skip
    return (
        select(tables.finding, read.person_id)
        .join_from(tables.finding, tables.read, finding.read_id == read.id)
        .join(tables.study, finding.study_id == study.id)
        .where(
            finding.type == "mass", finding.detail["modality"].as_string() == Modality.ULTRASOUND.value,
            read.created_at >= endpoint.permitted_at, study.deleted_at.is_(None),
            study.is_reader_study_case.is_(False), ~has_row, ~is_awaited, ~is_due,
        )
        .order_by(finding.id)
        .limit(ENQUEUED_AT_ONCE)
    )  # fmt: skip


def _rows_of(connection: Connection, endpoint_id: int, finding: Row[Any]) -> Iterator[Mapping[str, Any]]:
    """The columns of a row for each mark of a mass. The first has one in any case: it says that the mass was seen."""
    image = tables.image
    images = connection.execute(select(image).where(image.c.study_id == finding.study_id)).all()
    by_file = {(one.sha256, one.frame): one.id for one in images}
    any_of_file = {one.sha256: one.id for one in images}
    for place, stored in enumerate(finding.marks):
        mark = Mark.from_json(stored)
        image_id = by_file.get((mark.image_sha256, mark.frame))
        is_region = mark.kind in ("ellipse", "outline") and has_pixels(mark) and image_id is not None
        if not is_region and place > 0:
            continue
        image_id = image_id or any_of_file.get(mark.image_sha256, images[0].id)
        values = {"image_id": image_id, "number": drawn_number(finding.id, place), "mark": mark.to_json()}
        if is_region and not _is_there_already(connection, endpoint_id, image_id, finding, mark):
            yield {**values, "state": QUEUED}
        else:
            message = THERE_ALREADY if is_region else NO_REGION
            yield {**values, "state": CANCELLED, "message": message, "ended_at": tables.now()}


def _is_there_already(connection: Connection, endpoint_id: int, image_id: str, drawn: Row[Any], mark: Mark) -> bool:
    """Whether an outline of the network, or one that the same person drew, lies there and was asked about. Of another
    reader's it must not be said: who forms an impression of their own does not learn where others saw something."""
    row, finding, read = tables.language_answer.c, tables.finding.c, tables.read.c
    of_person = (
        select(finding.id)
        .join_from(tables.finding, tables.read, finding.read_id == read.id)
        .where(finding.study_id == drawn.study_id, read.person_id == drawn.person_id)
    )
    own = set(connection.execute(of_person).scalars())
    query = select(row.number, row.mark).where(
        row.endpoint_id == endpoint_id, row.image_id == image_id, row.state != CANCELLED
    )
    return any(
        stored is not None
        and (number < DRAWN_FROM or drawn_finding(number) in own)
        and lies_over(Mark.from_json(stored), mark)
        for number, stored in connection.execute(query)
    )
