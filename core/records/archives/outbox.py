"""Results on their way to archives: a row for each read, kind and archive, written with the read it comes from.

The row is what a result is now. It is done only when the archive has shown that it holds the same content; what an
archive does not take now waits and is tried again, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, insert, select, update

from core.errors import Conflict, NotFound
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, require_permission
from core.records.queue import OPEN, QUEUED, RUNNING, Queue
from core.records.reads.rows import find_study

RESULT_KINDS: Mapping[str, str] = {"sr": "Structured report (TID 1500)", "pdf": "Report as PDF"}
"""What can be sent, with its name on screen."""

RESULTS = Queue(
    tables.outbox, AdvisoryLock.RESULTS, kind="result", subject="result", begins="Is being sent.",
    again="Waits to be sent again: the process that sent it ended.", cancelled="Cancelled.",
    dead="Send it again by hand.", recorded=("archive", "kind", "read"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One result. state: of the queue. tries: how often the archive did not take it. due_at: when it is tried again."""

    id: int
    study_id: str
    archive_name: str
    kind: str
    state: str
    message: str
    tries: int
    created_at: datetime
    due_at: datetime | None
    ended_at: datetime | None


def enqueue_results(connection: Connection, study_id: str, read_id: int) -> int:
    """Put what the study's archive gets of this final read into the outbox, in the transaction of the read; how many.

    None for a study that came from no archive, or whose archive takes no results or is named no more.
    """
    source, archive = tables.source_identity, tables.archive
    query = (
        select(archive.c.id, archive.c.sends)
        .join_from(source, archive, source.c.archive_id == archive.c.id)
        .where(source.c.study_id == study_id, archive.c.removed_at.is_(None))
    )
    row = connection.execute(query).one_or_none()
    kinds = [] if row is None else [kind for kind in RESULT_KINDS if kind in row.sends]
    for kind in kinds:
        assert row is not None
        values = {"study_id": study_id, "read_id": read_id, "archive_id": row.id, "kind": kind, "sop_instance_uid": ""}
        values |= {"state": QUEUED, "message": "Waits to be sent.", "attempts": 0, "tries": 0}
        connection.execute(insert(tables.outbox).values(**values, created_at=tables.now()))
    return len(kinds)


def results_of(db: Database, actor: Actor, study_id: str) -> list[OutboxRow]:
    """What of the study went or goes to its archive, newest first. Raises NotAllowed, NotFound."""
    with db.read() as connection:
        require_permission(connection, actor, "send_result")
        find_study(connection, study_id)
        rows = connection.execute(_rows().where(tables.outbox.c.study_id == study_id)).mappings().all()
    return [OutboxRow(**row) for row in rows]


def recent_results(db: Database, actor: Actor, *, limit: int = 50) -> list[OutboxRow]:
    """The newest results of the site, those on their way first. Raises NotAllowed."""
    with db.read() as connection:
        require_permission(connection, actor, "send_result")
        is_open = tables.outbox.c.state.in_(OPEN)
        waiting = connection.execute(_rows().where(is_open).limit(limit)).mappings().all()
        others = connection.execute(_rows().where(~is_open).limit(limit)).mappings().all()
    return [OutboxRow(**row) for row in [*waiting, *others][:limit]]


def send_again(db: Database, actor: Actor, row_id: int) -> None:
    """Try it now, whatever became of it before: the same object under the same number, so that an archive that holds
    it already does not get another. Raises NotAllowed, NotFound; Conflict while it is being sent.
    """
    outbox = tables.outbox
    with db.begin() as connection:
        person = require_permission(connection, actor, "send_result")
        hold(connection, AdvisoryLock.RESULTS)
        row = connection.execute(select(outbox).where(outbox.c.id == row_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFound("There is no such result. Reload the page.")
        if row.state == RUNNING:
            raise Conflict("This result is being sent already.")
        fresh = {"state": QUEUED, "message": "Waits to be sent.", "attempts": 0, "tries": 0, "due_at": None}
        fresh |= {"cancel_asked_at": None, "ended_at": None, "result": None}
        fresh |= {"commitment": None, "commitment_uid": None}  # whatever was said of it before, it is asked anew
        connection.execute(update(outbox).where(outbox.c.id == row_id).values(**fresh))
        trail.record(connection, person.id, "send again", f"result {row_id}", study=row.study_id, state=row.state)


def _rows() -> Select[tuple[object, ...]]:
    outbox, archive = tables.outbox.c, tables.archive.c
    return (
        select(
            outbox.id, outbox.study_id, archive.name.label("archive_name"), outbox.kind, outbox.state, outbox.message,
            outbox.tries, outbox.created_at, outbox.due_at, outbox.ended_at,
        )
        .join_from(tables.outbox, tables.archive, outbox.archive_id == archive.id)
        .order_by(outbox.id.desc())
    )  # fmt: skip
