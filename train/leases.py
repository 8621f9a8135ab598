"""What a worker does to the queue: claim a job under a lease, keep the lease alive, add epochs, finish. No TensorFlow.

A worker owns a job as long as it renews its lease in time. What it writes is refused once another attempt has the job,
so that a worker that was only slow cannot spoil what its successor does. On one machine one training runs at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from core.records import audit, tables
from core.records.db import Database
from core.records.locks import Line, hold
from train.fit_request import FitRequest
from train.jobs import CANCELLED, DEAD, DONE, FAILED, QUEUED, RUNNING, note

LEASE_SECONDS = 30
DEVICE_LENGTH_MOST = 200
ATTEMPTS = 3
"""A job whose worker died this often is not tried again."""
GO_ON, STOP, LOST = "go on", "stop", "lost"
CANDIDATE_READY = "Done: the candidate is ready to be compared on the page Releases."
_NOT_COMPARED = "The worker ended before it had scored the live model; a button there does it."
_SENTENCES = {
    FAILED: "training failed",
    DONE: "training done",
    CANCELLED: "training cancelled",
    DEAD: "training dead",
}


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in one worker's hands. attempt: from 1; it tells this claim from any earlier or later one."""

    job_id: int
    attempt: int
    worker: str
    version_id: int
    request: FitRequest


def claim(db: Database, *, worker: str, machine: str, lease_seconds: float = LEASE_SECONDS) -> Claim | None:
    """The oldest waiting job, now running here; None when there is none or this machine trains already.

    Jobs whose worker died are put back into the queue first (or buried, after `ATTEMPTS`). Two workers that ask at once
    are put in line: SQLite's writers already are, PostgreSQL's take a lock until the transaction ends.
    """
    job = tables.job
    with db.begin() as connection:
        hold(connection, Line.QUEUE)
        _put_back_expired(connection)
        busy = select(job.c.id).where(job.c.state == RUNNING, job.c.machine == machine)
        if connection.execute(busy).first() is not None:
            return None
        oldest = select(job.c.id).where(job.c.state == QUEUED).order_by(job.c.id).limit(1).scalar_subquery()
        now = tables.now()
        found = connection.execute(
            update(job)
            .where(job.c.id == oldest, job.c.state == QUEUED)
            .values(
                state=RUNNING,
                worker=worker,
                machine=machine,
                attempts=job.c.attempts + 1,
                lease_until=now + timedelta(seconds=lease_seconds),
                message="Reads the cases and prepares the network.",
            )
            .returning(job)
        ).one_or_none()
        if found is None:
            return None
        if found.started_at is None:
            connection.execute(update(job).where(job.c.id == found.id).values(started_at=now))
        again = "" if found.attempts == 1 else f", attempt {found.attempts} of {ATTEMPTS}"
        note(connection, found.id, found.attempts, f"Taken by a worker on {machine}{again}.")
        return Claim(found.id, found.attempts, worker, found.version_id, FitRequest.from_json(found.request))


def heartbeat(
    db: Database,
    held: Claim,
    *,
    lease_seconds: float = LEASE_SECONDS,
    memory_mib: int | None = None,
    device: str = "",
    message: str = "",
    progress: Mapping[str, Any] | None = None,
) -> str:
    """Renew the lease: GO_ON; STOP when somebody cancelled; LOST when the job is not this claim's any more."""
    job = tables.job
    values: dict[str, Any] = {
        "lease_until": tables.now() + timedelta(seconds=lease_seconds),
        "memory_mib": memory_mib,
    }
    if progress is not None:
        values["progress"] = dict(progress)
    if message:
        values["message"] = message
    if device:
        values["device"] = device[:DEVICE_LENGTH_MOST]
    with db.begin() as connection:
        query = update(job).where(*_is_held(held)).values(**values).returning(job.c.cancel_asked_at)
        found = connection.execute(query).one_or_none()
    if found is None:
        return LOST
    return GO_ON if found.cancel_asked_at is None else STOP


def add_epochs(db: Database, held: Claim, part: str, rows: Sequence[Mapping[str, float]]) -> int:
    """Keep the epochs that are not known yet; how many that were. A resumed run may tell of one a second time."""
    table = tables.job_epoch
    with db.begin() as connection:
        if not _lock_held(connection, held):
            return 0
        known = set(
            connection.execute(
                select(table.c.epoch).where(table.c.job_id == held.job_id, table.c.part == part)
            ).scalars()
        )
        new = [row for row in rows if int(row["epoch"]) not in known]
        for row in new:
            measures = {name: float(value) for name, value in row.items() if name != "epoch"}
            values = {"job_id": held.job_id, "part": part, "epoch": int(row["epoch"]), "attempt": held.attempt}
            connection.execute(insert(table).values(**values, at=tables.now(), measures=measures))
    return len(new)


def keep_result(db: Database, held: Claim, result: Mapping[str, Any]) -> bool:
    """Note that the job has what it is for: from here on it ends as done, also when its worker dies.

    False when it is not this claim's any more.
    """
    with db.begin() as connection:
        if not _lock_held(connection, held):
            return False
        connection.execute(update(tables.job).where(tables.job.c.id == held.job_id).values(result=dict(result)))
    return True


def finish(db: Database, held: Claim, state: str, message: str, *, result: Mapping[str, Any] | None = None) -> bool:
    """End the job as done, failed or cancelled, with its sentence; False when it is not this claim's any more."""
    if state not in (DONE, FAILED, CANCELLED):
        raise ValueError(f"a worker cannot end a job as {state!r}")
    with db.begin() as connection:
        hold(connection, Line.QUEUE)
        if not _lock_held(connection, held):
            return False
        _end(connection, held.job_id, held.attempt, state, message, result)
    return True


def hand_back(db: Database, held: Claim) -> None:
    """Put the job back into the queue when the worker is told to end: that is no failed attempt."""
    job = tables.job
    with db.begin() as connection:
        if not _lock_held(connection, held):
            return
        back = {"state": QUEUED, "lease_until": None, "worker": None, "message": "Waits: its worker was stopped."}
        connection.execute(update(job).where(job.c.id == held.job_id).values(**back, attempts=job.c.attempts - 1))
        note(connection, held.job_id, held.attempt, "Its worker was stopped; back in the queue.")


def _put_back_expired(connection: Connection) -> None:
    job = tables.job
    gone = select(job).where(job.c.state == RUNNING, job.c.lease_until < tables.now()).order_by(job.c.id)
    for row in connection.execute(gone.with_for_update()).all():
        note(connection, row.id, row.attempts, "Its worker does not answer any more.")
        if row.result is not None:
            _end(connection, row.id, row.attempts, DONE, f"{CANDIDATE_READY} {_NOT_COMPARED}", row.result)
        elif row.cancel_asked_at is not None:
            _end(connection, row.id, row.attempts, CANCELLED, "Cancelled.", None)
        elif row.attempts >= ATTEMPTS:
            words = f"Its worker died {row.attempts} times, so it is not tried again. The log may tell why."
            _end(connection, row.id, row.attempts, DEAD, words, None)
        else:
            words = "Waits for a worker, to go on after its last epoch."
            back = {"state": QUEUED, "lease_until": None, "worker": None, "message": words}
            connection.execute(update(job).where(job.c.id == row.id).values(**back))


def _end(
    connection: Connection, job_id: int, attempt: int, state: str, message: str, result: Mapping[str, Any] | None
) -> None:
    values = {"state": state, "message": message, "ended_at": tables.now(), "lease_until": None, "worker": None}
    connection.execute(
        update(tables.job).where(tables.job.c.id == job_id).values(**values, result=dict(result) if result else None)
    )
    note(connection, job_id, attempt, message)
    audit.record(connection, None, _SENTENCES[state], f"job {job_id}", attempt=attempt, **(result or {}))


def _is_held(held: Claim) -> tuple[Any, ...]:
    job = tables.job
    return (
        job.c.id == held.job_id,
        job.c.state == RUNNING,
        job.c.worker == held.worker,
        job.c.attempts == held.attempt,
    )


def _lock_held(connection: Connection, held: Claim) -> Row[Any] | None:
    return connection.execute(select(tables.job.c.id).where(*_is_held(held)).with_for_update()).one_or_none()
