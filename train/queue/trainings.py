"""The queue of training jobs: what an administrator asks, and what everybody who may look sees. No TensorFlow.

A job is a row, committed before anything runs; nothing but the database knows about it. `QUEUE` is the other side of
the same rows: what a worker takes, keeps alive and finishes (`core.records.queue`). On one machine one training runs at
a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from core.errors import Conflict, InvalidInput, NotFound
from core.models.live import candidate_dir, outline_candidate_dir
from core.models.registry import OUTLINE
from core.records import data_sets
from core.records.audit import trail
from core.records.data_sets import VersionRow
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, Person, acting, require_permission_now
from core.records.queue import OPEN, OVER, QUEUED, RUNNING, Lease, Queue
from core.settings import Settings
from train.recipe.outline import OutlineRequest, Request
from train.recipe.request import FitRequest

WAITING_MOST = 50
LOG_BYTES = 64 * 1024
CANDIDATE_READY = "Done: the candidate is ready to be compared on the page Releases."


def request_of(stored: Mapping[str, Any]) -> Request:
    """What a row asks for, whichever kind of training it is. Raises InvalidInput."""
    return (OutlineRequest if stored.get("architecture") == OUTLINE else FitRequest).from_json(stored)


def note(connection: Connection, job_id: int, attempt: int, sentence: str) -> None:
    """Add to a job's history, in the transaction of what happened."""
    values = {"job_id": job_id, "at": tables.now(), "attempt": attempt, "sentence": sentence}
    connection.execute(insert(tables.job_event).values(**values))


QUEUE = Queue(
    tables.job,
    AdvisoryLock.QUEUE,
    kind="training",
    subject="job",
    begins="Reads the cases and prepares the network.",
    again="Waits for a worker, to go on after its last epoch.",
    cancelled="Cancelled; nothing of it was kept but the log.",
    dead="The log may tell why.",
    has_result=f"{CANDIDATE_READY} The worker ended before it had scored the live model; a button there does it.",
    recorded=("model_id", "weights_sha256", "folder"),
    note=note,
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as it is now. message: a sentence. result: where its candidate lies, once there is one.

    progress: of a running job "part" ("" or the fold), "epoch", "step" and "steps" of what it does now; else empty.
    trials: of a search, what was tried so far, each with number, settings, state, epochs and validation_auc.
    is_stopping: a cancel was asked for and the worker has not said yet that it stopped. machine: its name; device: what
    the training computes on there, "" before its first step. memory_mib: of its process when it was last looked at.
    """

    id: int
    state: str
    request: Request
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
        return self.state in OPEN

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


def enqueue(db: Database, actor: Actor, request: Request, version_id: int) -> int:
    """Put a training into the queue; its number. Raises NotAllowed, NotFound, InvalidInput, Conflict."""
    return enqueue_all(db, actor, [request], version_id)[0]


def enqueue_all(db: Database, actor: Actor, requests: Sequence[Request], version_id: int) -> list[int]:
    """Put one training after the other into the queue, or none of them; their numbers. Raises as `enqueue`."""
    with acting(db.begin(), actor, "manage_training") as (connection, person):
        if not db.settings.ray_address and any(request.workers > 1 for request in requests):
            raise InvalidInput("Several workers need a cluster, and this site names none (SECONDREAD_RAY_ADDRESS).")
        hold(connection, AdvisoryLock.DATA_SETS)  # nobody removes it meanwhile
        version = data_sets.find_version(connection, version_id)
        if version.removed_at is not None:
            raise Conflict("This data set was removed. Choose another one.")
        waiting = connection.execute(select(tables.job.c.id).where(tables.job.c.state == QUEUED)).all()
        if len(waiting) + len(requests) > WAITING_MOST:
            raise Conflict(f"{len(waiting)} trainings are waiting already. Cancel some, or start this one later.")
        return [_enqueue(connection, person, request, version) for request in requests]


def _enqueue(connection: Connection, person: Person, request: Request, version: VersionRow) -> int:
    if version.modality != request.modality.value:
        raise InvalidInput(
            f"The data set {version.name!r} holds {version.modality}, and the training is for "
            f"{request.modality.value}. Choose the same for both."
        )
    if version.folds and isinstance(request, OutlineRequest):
        raise InvalidInput(
            f"This version is divided into {version.folds} folds, and the outline network is measured on one split. "
            "Choose a version with a split into train, validation and test."
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
    with acting(db.begin(), actor, "manage_training") as (connection, person):
        job = QUEUE.cancel(connection, job_id)
        is_comparing = job.result is not None
        what = "Comparison with the live model cancelled" if is_comparing else "Cancelled"
        note(connection, job_id, job.attempts, f"{what} by {person.name}.")
        was = "comparing" if is_comparing else job.state
        trail.record(connection, person.id, "cancel training", f"job {job_id}", was=was)


def list_jobs(db: Database, actor: Actor, *, limit: int = 50) -> list[JobRow]:
    """The newest first. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_training") as (connection, _):
        return [_row(found) for found in connection.execute(_query().order_by(tables.job.c.id.desc()).limit(limit))]


def load_job(db: Database, actor: Actor, job_id: int) -> JobRow:
    """One job. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "manage_training") as (connection, _):
        found = connection.execute(_query().where(tables.job.c.id == job_id)).one_or_none()
    if found is None:
        raise NotFound(f"There is no training {job_id}.")
    return _row(found)


def epochs_of(db: Database, actor: Actor, job_id: int) -> list[Epoch]:
    """Every epoch in the order of training, each once however often the job was resumed. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_training") as (connection, _):
        table = tables.job_epoch
        query = select(table).where(table.c.job_id == job_id).order_by(table.c.id)
        return [Epoch(row.part, row.epoch, row.attempt, row.measures) for row in connection.execute(query)]


def events_of(db: Database, actor: Actor, job_id: int) -> list[Event]:
    """What happened to a job, oldest first. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_training") as (connection, _):
        table = tables.job_event
        query = select(table).where(table.c.job_id == job_id).order_by(table.c.id)
        return [Event(row.at, row.attempt, row.sentence) for row in connection.execute(query)]


def log_tail(db: Database, actor: Actor, job_id: int, *, lines: int = 30) -> str:
    """The last lines that the training wrote, "" when there are none. Raises NotAllowed."""
    require_permission_now(db, actor, "manage_training")
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
    if found.state not in (*OPEN, *OVER):
        raise ValueError(f"job {found.id} has the unknown state {found.state!r}")
    told = found.progress or {}
    return JobRow(
        id=found.id,
        state=found.state,
        request=request_of(found.request),
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


def add_epochs(db: Database, lease: Lease, part: str, rows: Sequence[Mapping[str, float]]) -> int:
    """Keep the epochs that are not known yet; how many that were. A resumed run may tell of one a second time."""
    table = tables.job_epoch
    with db.begin() as connection:
        if not QUEUE.is_held(connection, lease):
            return 0
        query = select(table.c.epoch).where(table.c.job_id == lease.id, table.c.part == part)
        known = set(connection.execute(query).scalars())
        new = [row for row in rows if int(row["epoch"]) not in known]
        for row in new:
            measures = {name: float(value) for name, value in row.items() if name != "epoch"}
            values = {"job_id": lease.id, "part": part, "epoch": int(row["epoch"]), "attempt": lease.attempt}
            connection.execute(insert(table).values(**values, at=tables.now(), measures=measures))
    return len(new)


def remove_unclaimed(db: Database, job_id: int) -> None:
    """Remove the model of a job that is over without having one: its worker died between the two, and was the last."""
    with db.begin() as connection:
        row = connection.execute(select(tables.job.c.state, tables.job.c.result).where(tables.job.c.id == job_id)).one()
        if row.state in OVER and row.result is None:
            for folder in (candidate_dir(db.settings, job_id), outline_candidate_dir(db.settings, job_id)):
                shutil.rmtree(folder, ignore_errors=True)


def store_result(db: Database, lease: Lease, result: Mapping[str, Any]) -> bool:
    """Note that the job has what it is for: from here on it ends as done, also when its worker dies.

    False when it is not this lease's any more.
    """
    with db.begin() as connection:
        if not QUEUE.is_held(connection, lease):
            return False
        connection.execute(update(tables.job).where(tables.job.c.id == lease.id).values(result=dict(result)))
    return True
