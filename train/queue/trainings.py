"""The queue of training jobs: what an administrator asks, and what everybody who may look sees. No TensorFlow.

A job is a row, committed before anything runs; nothing but the database knows about it. `train.queue.trainings` is the
other side of the same rows: what a worker takes, keeps alive and finishes.

What a worker does to the queue: claim a job under a lease, keep the lease alive, add epochs, finish. No TensorFlow.

A worker owns a job as long as it renews its lease in time. What it writes is refused once another attempt has the job,
so that a worker that was only slow cannot spoil what its successor does. On one machine one training runs at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from core.errors import Conflict, InvalidInput, NotFound
from core.records import data_sets
from core.records.audit import trail
from core.records.data_sets import VersionRow
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, Person, require_permission
from core.settings import Settings
from train.recipe.request import INITS, FitRequest, with_seeds

__all__ = ["INITS", "FitRequest", "with_seeds"]

QUEUED, RUNNING, DONE, FAILED, CANCELLED, DEAD = "queued", "running", "done", "failed", "cancelled", "dead"
STATES = (QUEUED, RUNNING, DONE, FAILED, CANCELLED, DEAD)
WAITING_MOST = 50
LOG_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as it is now. message: a sentence. result: where its candidate lies, once there is one (see `leases`).

    progress: of a running job "part" ("" or the fold), "epoch", "step" and "steps" of what it does now; else empty.
    trials: of a search, what was tried so far, each with number, settings, state, epochs and validation_auc.
    is_stopping: a cancel was asked for and the worker has not said yet that it stopped. machine: its name; device: what
    the training computes on there, "" before its first step. memory_mib: of its process when it was last looked at.
    """

    id: int
    state: str
    request: FitRequest
    version_id: int
    data_set: str
    version: int
    message: str
    attempts: int
    machine: str
    device: str
    memory_mib: int | None
    progress: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    is_stopping: bool
    result: Mapping[str, Any] | None
    created_by_name: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether something can still happen to it."""
        return self.state in (QUEUED, RUNNING)

    @property
    def is_comparing(self) -> bool:
        """Whether its candidate is made and the live model is being scored on the same test cases."""
        return self.state == RUNNING and self.result is not None


@dataclass(frozen=True, slots=True)
class Epoch:
    """part: "" or the fold. measures: loss, validation_loss, validation_auc, validation_accuracy, seconds."""

    part: str
    epoch: int
    attempt: int
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job, as a sentence."""

    at: datetime
    attempt: int
    sentence: str


def enqueue(db: Database, actor: Actor, request: FitRequest, version_id: int) -> int:
    """Put a training into the queue; its number. Raises NotAllowed, NotFound, InvalidInput, Conflict."""
    return enqueue_all(db, actor, [request], version_id)[0]


def enqueue_all(db: Database, actor: Actor, requests: Sequence[FitRequest], version_id: int) -> list[int]:
    """Put one training after the other into the queue, or none of them; their numbers. Raises as `enqueue`."""
    with db.begin() as connection:
        person = require_permission(connection, actor, "manage_training")
        hold(connection, AdvisoryLock.DATA_SETS)  # nobody removes it meanwhile
        version = data_sets.find_version(connection, version_id)
        if version.removed_at is not None:
            raise Conflict("This data set was removed. Choose another one.")
        waiting = connection.execute(select(tables.job.c.id).where(tables.job.c.state == QUEUED)).all()
        if len(waiting) + len(requests) > WAITING_MOST:
            raise Conflict(f"{len(waiting)} trainings are waiting already. Cancel some, or start this one later.")
        return [_enqueue(connection, person, request, version) for request in requests]


def _enqueue(connection: Connection, person: Person, request: FitRequest, version: VersionRow) -> int:
    if version.modality != request.modality.value:
        raise InvalidInput(
            f"The data set {version.name!r} holds {version.modality}, and the training is for "
            f"{request.modality.value}. Choose the same for both."
        )
    if version.folds and request.folds != version.folds:
        raise InvalidInput(
            f"This version is divided into {version.folds} folds, so the training needs {version.folds} folds too. "
            "Set them, or choose a version with a split into train, validation and test."
        )
    job_id: int = connection.execute(
        insert(tables.job)
        .values(
            kind="search" if request.trials else "fit",
            version_id=version.id,
            request=request.to_json(),
            state=QUEUED,
            message="Waits for a worker.",
            attempts=0,
            created_by=person.id,
            created_at=tables.now(),
        )
        .returning(tables.job.c.id)
    ).scalar_one()
    note(connection, job_id, 0, f"Put into the queue by {person.name}.")
    trail.record(
        connection, person.id, "start training", f"job {job_id}",
        request=request.to_json(), version=version.id, manifest_sha256=version.manifest_sha256,
    )  # fmt: skip
    return job_id


def cancel(db: Database, actor: Actor, job_id: int) -> None:
    """End a job: at once if it waits, within seconds if it runs. Raises NotAllowed, NotFound, Conflict.

    Once its candidate is made, only the comparison with the live model ends, and the candidate stays.
    """
    table = tables.job
    with db.begin() as connection:
        person = require_permission(connection, actor, "manage_training")
        job = connection.execute(select(table).where(table.c.id == job_id).with_for_update()).one_or_none()
        if job is None:
            raise NotFound(f"There is no training {job_id}.")
        if job.state not in (QUEUED, RUNNING):
            raise Conflict(f"Training {job_id} is {job.state} already.")
        if job.cancel_asked_at is not None:
            raise Conflict(f"Training {job_id} is being cancelled already.")
        asked: dict[str, Any] = {"cancel_asked_at": tables.now()}
        if job.state == QUEUED:
            asked |= {"state": CANCELLED, "ended_at": tables.now(), "message": "Cancelled before it began."}
        connection.execute(update(table).where(table.c.id == job_id).values(**asked))
        is_comparing = job.result is not None
        what = "Comparison with the live model cancelled" if is_comparing else "Cancelled"
        note(connection, job_id, job.attempts, f"{what} by {person.name}.")
        was = "comparing" if is_comparing else job.state
        trail.record(connection, person.id, "cancel training", f"job {job_id}", was=was)


def list_jobs(db: Database, actor: Actor, *, limit: int = 50) -> list[JobRow]:
    """The newest first. Raises NotAllowed."""
    with db.read() as connection:
        require_permission(connection, actor, "manage_training")
        return [_row(found) for found in connection.execute(_query().order_by(tables.job.c.id.desc()).limit(limit))]


def load_job(db: Database, actor: Actor, job_id: int) -> JobRow:
    """One job. Raises NotAllowed, NotFound."""
    with db.read() as connection:
        require_permission(connection, actor, "manage_training")
        found = connection.execute(_query().where(tables.job.c.id == job_id)).one_or_none()
    if found is None:
        raise NotFound(f"There is no training {job_id}.")
    return _row(found)


def epochs_of(db: Database, actor: Actor, job_id: int) -> list[Epoch]:
    """Every epoch in the order of training, each once however often the job was resumed. Raises NotAllowed."""
    with db.read() as connection:
        require_permission(connection, actor, "manage_training")
        table = tables.job_epoch
        query = select(table).where(table.c.job_id == job_id).order_by(table.c.id)
        return [Epoch(row.part, row.epoch, row.attempt, row.measures) for row in connection.execute(query)]


def events_of(db: Database, actor: Actor, job_id: int) -> list[Event]:
    """What happened to a job, oldest first. Raises NotAllowed."""
    with db.read() as connection:
        require_permission(connection, actor, "manage_training")
        table = tables.job_event
        query = select(table).where(table.c.job_id == job_id).order_by(table.c.id)
        return [Event(row.at, row.attempt, row.sentence) for row in connection.execute(query)]


def log_tail(db: Database, actor: Actor, job_id: int, *, lines: int = 30) -> str:
    """The last lines that the training wrote, "" when there are none. Raises NotAllowed."""
    with db.read() as connection:
        require_permission(connection, actor, "manage_training")
    path = folder_of(db.settings, job_id) / "log.txt"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def seconds_left(job: JobRow, epochs: list[Epoch]) -> float | None:
    """How long a running job takes at most from here, by its own last epochs; None before the first one."""
    if job.state != RUNNING or job.is_comparing or not epochs:
        return None
    last = [epoch.measures["seconds"] for epoch in epochs[-5:]]
    return sum(last) / len(last) * max(0, job.request.n_epochs * job.request.runs - len(epochs))


def share_done(job: JobRow, epochs: list[Epoch]) -> float:
    """Of all epochs that a job may take, how many are over, with the steps of the one that runs: 0 to 1."""
    now = job.progress
    is_new = bool(now) and (now["part"], now["epoch"]) not in {(one.part, one.epoch) for one in epochs}
    within = now["step"] / max(1, now["steps"]) if is_new else 0.0
    return min((len(epochs) + within) / max(1, job.request.n_epochs * job.request.runs), 1.0)


def folder_of(settings: Settings, job_id: int) -> Path:
    """Where a job's log and working files lie."""
    return settings.state_dir / "jobs" / str(int(job_id))


def note(connection: Connection, job_id: int, attempt: int, sentence: str) -> None:
    """Add to a job's history, in the transaction of what happened."""
    values = {"job_id": job_id, "at": tables.now(), "attempt": attempt, "sentence": sentence}
    connection.execute(insert(tables.job_event).values(**values))


def _query() -> Select[Any]:
    job, version, data_set = tables.job, tables.data_set_version, tables.data_set
    return (
        select(
            job,
            version.c.number.label("version_number"),
            data_set.c.name.label("data_set_name"),
            tables.person.c.name.label("created_by_name"),
        )
        .join_from(job, version, job.c.version_id == version.c.id)
        .join(data_set, version.c.data_set_id == data_set.c.id)
        .join(tables.person, job.c.created_by == tables.person.c.id)
    )


def _row(found: Row[Any]) -> JobRow:
    if found.state not in STATES:
        raise ValueError(f"job {found.id} has the unknown state {found.state!r}")
    told = found.progress or {}
    return JobRow(
        id=found.id,
        state=found.state,
        request=FitRequest.from_json(found.request),
        version_id=found.version_id,
        data_set=found.data_set_name,
        version=found.version_number,
        message=found.message,
        attempts=found.attempts,
        machine=found.machine or "",
        device=found.device or "",
        memory_mib=found.memory_mib,
        progress=told if "step" in told and found.state == RUNNING and found.result is None else {},
        trials=told.get("trials", ()),
        is_stopping=found.state == RUNNING and found.cancel_asked_at is not None,
        result=found.result,
        created_by_name=found.created_by_name,
        created_at=found.created_at,
        started_at=found.started_at,
        ended_at=found.ended_at,
    )


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
        hold(connection, AdvisoryLock.QUEUE)
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


def store_result(db: Database, held: Claim, result: Mapping[str, Any]) -> bool:
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
        hold(connection, AdvisoryLock.QUEUE)
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
    trail.record(connection, None, _SENTENCES[state], f"job {job_id}", attempt=attempt, **(result or {}))


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
