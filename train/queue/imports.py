"""The queue of imports: what an administrator asked to become a data set, and how far it is. Loads no TensorFlow.

An import is a row, committed before anything runs, with its files in a folder of its own: closing the page, signing out
or restarting the server changes nothing. `train.queue.import_worker` is the other side of the same rows.

What a worker does to the queue of imports: claim one under a lease, keep the lease alive, say how it ended.

As `train.queue.trainings` for trainings: what is written by a worker whose lease ran out is refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, or_, select, update

from core.errors import Conflict, InvalidInput, NotFound
from core.records import data_sets
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.files import undone_by
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, require_permission
from core.settings import Settings
from core.types import Modality
from train.datasets.hospital.columns import KeyColumns, LinkColumns, LinkSheets
from train.datasets.staging import folder_below_root
from train.queue.trainings import (
    ATTEMPTS,
    CANCELLED,
    DEAD,
    DONE,
    FAILED,
    GO_ON,
    LEASE_SECONDS,
    LOST,
    QUEUED,
    RUNNING,
    STOP,
)

ZIP, FOLDER, WORKBOOKS, READS = "zip", "folder", "workbooks", "own reads"
WAITING_MOST = 10
SHOWN_HOURS = 24
LEFT_OUT = "left_out.json"


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """way: where the pictures come from. folder: below the site's folder for data, where they are not uploaded.

    seed: of the first split. columns: of workbooks. labelling, is_confirmed: of own reads (`train.datasets.own_reads`).
    """

    way: str
    name: str
    modality: Modality
    seed: int = 0
    folder: str = ""
    columns: LinkColumns | None = None
    labelling: str = ""
    is_confirmed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "modality": self.modality.value}

    @classmethod
    def from_json(cls, retained: Mapping[str, Any]) -> ImportRequest:
        columns = retained["columns"] and LinkColumns(
            KeyColumns(**retained["columns"]["combined"]),
            KeyColumns(**retained["columns"]["validation"]),
            retained["columns"]["path"],
            LinkSheets(**retained["columns"]["sheets"]),
        )
        return cls(**{**retained, "modality": Modality(retained["modality"]), "columns": columns})


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One import as it is now. message: a sentence. done: 0 to 1. version_id, notes: what it made, what was left out.

    is_stopping: a cancel was asked for and the worker has not said yet that it stopped.
    """

    id: int
    state: str
    request: ImportRequest
    message: str
    done: float
    is_stopping: bool
    version_id: int | None
    notes: tuple[str, ...]
    created_by: int
    created_by_name: str
    created_at: datetime

    @property
    def is_open(self) -> bool:
        return self.state in (QUEUED, RUNNING)


def enqueue(db: Database, actor: Actor, request: ImportRequest, files: Mapping[str, Path]) -> int:
    """Put an import into the queue; its number. files: uploads, moved into its folder: "archive", "combined", …

    Where it is refused the uploads stay where they are. Raises NotAllowed, InvalidInput, NotFound, Conflict.
    """
    with db.read() as connection:
        require_permission(connection, actor, "manage_data")
    name = data_sets.require_free_name(db, actor, request.name)
    if request.folder:
        folder_below_root(db.settings, request.folder)
    if request.way == READS and not request.is_confirmed:
        raise InvalidInput("Confirm first that this site may use these studies for training.")
    table = tables.data_import
    moved: list[tuple[Path, Path]] = []

    def move_back() -> None:
        for source, target in moved:
            target.replace(source)

    with undone_by(move_back), db.begin() as connection:
        person = require_permission(connection, actor, "manage_data")
        hold(connection, AdvisoryLock.IMPORTS)
        waiting = connection.execute(select(table).where(table.c.state.in_((QUEUED, RUNNING)))).all()
        if any(row.request["name"] == name for row in waiting):
            raise Conflict(f"A data set called {name!r} is being imported already. Choose another name.")
        if len(waiting) >= WAITING_MOST:
            raise Conflict(f"{len(waiting)} imports are waiting already. Cancel some, or start this one later.")
        values = {"request": {**request.to_json(), "name": name}, "state": QUEUED, "attempts": 0, "done": 0.0}
        values |= {"message": "Waits for a worker.", "created_by": person.id, "created_at": tables.now()}
        import_id = int(connection.execute(insert(table).values(**values).returning(table.c.id)).scalar_one())
        trail.record(
            connection, person.id, "start import", f"import {import_id}", way=request.way,
            modality=request.modality.value, seed=request.seed,
        )  # fmt: skip
        folder = folder_of(db.settings, import_id)
        shutil.rmtree(folder, ignore_errors=True)  # of a server that died before it had committed this number
        folder.mkdir(mode=0o700, parents=True)
        for called, path in files.items():
            path.replace(folder / called)
            moved.append((path, folder / called))
    return import_id


def cancel(db: Database, actor: Actor, import_id: int) -> None:
    """End an import: at once if it waits, within seconds if it runs. Raises NotAllowed, NotFound, Conflict."""
    table = tables.data_import
    with db.begin() as connection:
        person = require_permission(connection, actor, "manage_data")
        row = connection.execute(select(table).where(table.c.id == import_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFound("There is no such import.")
        if row.state not in (QUEUED, RUNNING):
            raise Conflict(f"This import is {row.state} already.")
        if row.cancel_asked_at is not None:
            raise Conflict("This import is being cancelled already.")
        asked: dict[str, Any] = {"cancel_asked_at": tables.now()}
        if row.state == QUEUED:
            asked |= {"state": CANCELLED, "ended_at": tables.now(), "message": "Cancelled before it began."}
        connection.execute(update(table).where(table.c.id == import_id).values(**asked))
        trail.record(connection, person.id, "cancel import", f"import {import_id}", was=row.state)
    if row.state == QUEUED:
        shutil.rmtree(folder_of(db.settings, import_id), ignore_errors=True)


def list_imports(db: Database, actor: Actor) -> list[ImportRow]:
    """Those that are not over, and those of the last day that nobody has closed; oldest first. Raises NotAllowed."""
    table = tables.data_import
    recent = table.c.ended_at > tables.now() - timedelta(hours=SHOWN_HOURS)
    shown = or_(table.c.state.in_((QUEUED, RUNNING)), recent & table.c.closed_at.is_(None))
    with db.read() as connection:
        require_permission(connection, actor, "manage_data")
        return [_row(found) for found in connection.execute(_query().where(shown).order_by(table.c.id))]


def load_import(db: Database, actor: Actor, import_id: int) -> ImportRow:
    """Raises NotAllowed, NotFound."""
    with db.read() as connection:
        require_permission(connection, actor, "manage_data")
        found = connection.execute(_query().where(tables.data_import.c.id == import_id)).one_or_none()
    if found is None:
        raise NotFound("There is no such import.")
    return _row(found)


def left_out(db: Database, actor: Actor, row: ImportRow) -> list[tuple[str, str]]:
    """(name of the file as it was given, why), of files left out, for who added them alone. Raises NotAllowed."""
    with db.read() as connection:
        person = require_permission(connection, actor, "manage_data")
    path = folder_of(db.settings, row.id) / LEFT_OUT
    if person.id != row.created_by or not path.is_file():
        return []
    return [(str(name), str(why)) for name, why in json.loads(path.read_text(encoding="utf-8"))]


def close(db: Database, actor: Actor, import_id: int) -> None:
    """Show the end of an import no more, and forget the names of files that were left out. Raises NotAllowed."""
    table = tables.data_import
    is_over = table.c.state.in_((DONE, FAILED, CANCELLED, DEAD))
    with db.begin() as connection:
        require_permission(connection, actor, "manage_data")
        connection.execute(update(table).where(table.c.id == import_id, is_over).values(closed_at=tables.now()))
    row = load_import(db, actor, import_id)
    if not row.is_open:
        shutil.rmtree(folder_of(db.settings, import_id), ignore_errors=True)


def folder_of(settings: Settings, import_id: int) -> Path:
    """Where the files of an import lie until it is over."""
    return settings.state_dir / "imports" / str(int(import_id))


def _query() -> Select[Any]:
    table, person = tables.data_import, tables.person
    return select(table, person.c.name.label("created_by_name")).join_from(
        table, person, table.c.created_by == person.c.id
    )


def _row(found: Row[Any]) -> ImportRow:
    result = found.result or {}
    return ImportRow(
        id=found.id,
        state=found.state,
        request=ImportRequest.from_json(found.request),
        message=found.message,
        done=found.done,
        is_stopping=found.state == RUNNING and found.cancel_asked_at is not None,
        version_id=result.get("version_id"),
        notes=tuple(result.get("notes", ())),
        created_by=found.created_by,
        created_by_name=found.created_by_name,
        created_at=found.created_at,
    )


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
        hold(connection, AdvisoryLock.IMPORTS)
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
        hold(connection, AdvisoryLock.IMPORTS)
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
    trail.record(connection, None, f"import {state}", f"import {import_id}", attempt=attempt)


def _is_held(held: Claim) -> tuple[Any, ...]:
    table = tables.data_import
    return (
        table.c.id == held.id,
        table.c.state == RUNNING,
        table.c.worker == held.worker,
        table.c.attempts == held.attempt,
    )
