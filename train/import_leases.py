"""What a worker does to the queue of imports: claim one under a lease, keep the lease alive, say how it ended.

As `train.leases` for trainings: what is written by a worker whose lease ran out is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update

from core.records import audit, tables
from core.records.db import Database
from core.records.locks import Line, hold
from train.import_queue import ImportRequest
from train.jobs import CANCELLED, DEAD, QUEUED, RUNNING
from train.leases import ATTEMPTS, GO_ON, LEASE_SECONDS, LOST, STOP


@dataclass(frozen=True, slots=True)
class Claim:
    """An import in one worker's hands. attempt: from 1."""

    id: int
    attempt: int
    worker: str
    person_id: int
    request: ImportRequest


def claim(db: Database, *, worker: str, machine: str, lease_seconds: float = LEASE_SECONDS) -> Claim | None:
    """The oldest waiting import, now running here; None when there is none or this machine imports already.

    Those whose worker died are put back first, or buried after `ATTEMPTS`.
    """
    table = tables.data_import
    with db.begin() as connection:
        hold(connection, Line.IMPORTS)
        _put_back_expired(connection)
        busy = select(table.c.id).where(table.c.state == RUNNING, table.c.machine == machine)
        if connection.execute(busy).first() is not None:
            return None
        oldest = select(table.c.id).where(table.c.state == QUEUED).order_by(table.c.id).limit(1).scalar_subquery()
        values: dict[str, Any] = {"state": RUNNING, "worker": worker, "machine": machine, "message": "Begins."}
        values |= {"lease_until": tables.now() + timedelta(seconds=lease_seconds), "attempts": table.c.attempts + 1}
        query = update(table).where(table.c.id == oldest, table.c.state == QUEUED).values(**values).returning(table)
        found = connection.execute(query).one_or_none()
    if found is None:
        return None
    return Claim(found.id, found.attempts, worker, found.created_by, ImportRequest.from_json(found.request))


def heartbeat(db: Database, held: Claim, said: tuple[str, float], *, lease_seconds: float = LEASE_SECONDS) -> str:
    """Renew the lease and say how far it is: GO_ON; STOP when somebody cancelled; LOST when it is not ours any more."""
    table = tables.data_import
    values: dict[str, Any] = {"lease_until": tables.now() + timedelta(seconds=lease_seconds)}
    values |= {"message": said[0], "done": said[1]}
    with db.begin() as connection:
        query = update(table).where(*_is_held(held)).values(**values).returning(table.c.cancel_asked_at)
        found = connection.execute(query).one_or_none()
    if found is None:
        return LOST
    return GO_ON if found.cancel_asked_at is None else STOP


def finish(db: Database, held: Claim, state: str, message: str, *, result: Mapping[str, Any] | None = None) -> bool:
    """End the import with its sentence; False when it is not this claim's any more."""
    with db.begin() as connection:
        hold(connection, Line.IMPORTS)
        query = select(tables.data_import.c.id).where(*_is_held(held)).with_for_update()
        if connection.execute(query).one_or_none() is None:
            return False
        _end(connection, held.id, held.attempt, state, message, result)
    return True


def hand_back(db: Database, held: Claim) -> None:
    """Put the import back into the queue when the worker is told to end: that is no failed attempt."""
    table = tables.data_import
    values = {"state": QUEUED, "lease_until": None, "worker": None, "attempts": table.c.attempts - 1, "done": 0.0}
    with db.begin() as connection:
        connection.execute(
            update(table).where(*_is_held(held)).values(**values, message="Waits: its worker was stopped.")
        )


def _put_back_expired(connection: Connection) -> None:
    table = tables.data_import
    gone = select(table).where(table.c.state == RUNNING, table.c.lease_until < tables.now()).order_by(table.c.id)
    for row in connection.execute(gone.with_for_update()).all():
        _put_back(connection, row)


def _put_back(connection: Connection, row: Row[Any]) -> None:
    if row.cancel_asked_at is not None:
        _end(connection, row.id, row.attempts, CANCELLED, "Cancelled; nothing was added.", None)
    elif row.attempts >= ATTEMPTS:
        words = f"Its worker died {row.attempts} times, so it is not tried again. Nothing was added."
        _end(connection, row.id, row.attempts, DEAD, words, None)
    else:
        back = {"state": QUEUED, "lease_until": None, "worker": None, "done": 0.0}
        back |= {"message": "Waits for a worker, to begin anew: the last one does not answer any more."}
        connection.execute(update(tables.data_import).where(tables.data_import.c.id == row.id).values(**back))


def _end(
    connection: Connection, import_id: int, attempt: int, state: str, message: str, result: Mapping[str, Any] | None
) -> None:
    values = {"state": state, "message": message, "ended_at": tables.now(), "lease_until": None, "worker": None}
    values |= {"result": dict(result) if result else None}
    connection.execute(update(tables.data_import).where(tables.data_import.c.id == import_id).values(**values))
    audit.record(connection, None, f"import {state}", f"import {import_id}", attempt=attempt)


def _is_held(held: Claim) -> tuple[Any, ...]:
    table = tables.data_import
    return (
        table.c.id == held.id,
        table.c.state == RUNNING,
        table.c.worker == held.worker,
        table.c.attempts == held.attempt,
    )
