"""The queue of imports: what an administrator asked to become a data set, how far it is, and how it is made.

An import is a row, committed before anything runs, with its files in a folder of its own: closing the page, signing out
or restarting the server changes nothing. One that is ended in whatever way leaves neither pictures nor rows; one whose
worker died begins anew. Loads no TensorFlow.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Select, insert, or_, select, update

from core.errors import Conflict, InvalidInput, NotFound
from core.files import undone_by, write_whole
from core.records import data_sets
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, ProcessActor, acting, require_permission, require_permission_now
from core.records.queue import DONE, LOST, OPEN, OVER, QUEUED, RUNNING, Held, Lease, Queue
from core.settings import Settings
from core.types import Modality
from train.datasets import ingest, own_reads
from train.datasets.hospital import link
from train.datasets.hospital.columns import KeyColumns, LinkColumns, LinkSheets
from train.datasets.hospital.link import Sources
from train.datasets.ingest import Ingested
from train.datasets.staging import Progress, folder_below_root

QUEUE = Queue(
    tables.data_import,
    AdvisoryLock.IMPORTS,
    kind="import",
    subject="import",
    begins="Begins.",
    again="Waits for a worker, to begin anew: the last one does not answer any more.",
    cancelled="Cancelled; nothing was added.",
    dead="Nothing was added.",
    failed="Nothing was added.",
    anew={"done": 0.0},
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
            retained["columns"].get("is_by_path", False),
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
        return self.state in OPEN


def enqueue(db: Database, actor: Actor, request: ImportRequest, files: Mapping[str, Path]) -> int:
    """Put an import into the queue; its number. files: uploads, moved into its folder: "archive", "combined", …

    Where it is refused the uploads stay where they are. Raises NotAllowed, InvalidInput, NotFound, Conflict.
    """
    require_permission_now(db, actor, "manage_data")
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
        waiting = connection.execute(select(table).where(table.c.state.in_(OPEN))).all()
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
    """End an import: at once if it waits, within seconds if it runs. Raises NotFound, Conflict."""
    with acting(db.begin(), actor, "manage_data") as (connection, person):
        row = QUEUE.cancel(connection, import_id)
        trail.record(connection, person.id, "cancel import", f"import {import_id}", was=row.state)
    if row.state == QUEUED:
        shutil.rmtree(folder_of(db.settings, import_id), ignore_errors=True)


def list_imports(db: Database, actor: Actor) -> list[ImportRow]:
    """Those that are not over, and those of the last day that nobody has closed; oldest first. Raises NotAllowed."""
    table = tables.data_import
    recent = table.c.ended_at > tables.now() - timedelta(hours=SHOWN_HOURS)
    shown = or_(table.c.state.in_(OPEN), recent & table.c.closed_at.is_(None))
    with acting(db.read(), actor, "manage_data") as (connection, _):
        return [_row(found) for found in connection.execute(_query().where(shown).order_by(table.c.id))]


def load_import(db: Database, actor: Actor, import_id: int) -> ImportRow:
    """Raises NotFound."""
    with acting(db.read(), actor, "manage_data") as (connection, _):
        found = connection.execute(_query().where(tables.data_import.c.id == import_id)).one_or_none()
    if found is None:
        raise NotFound("There is no such import.")
    return _row(found)


def left_out(db: Database, actor: Actor, row: ImportRow) -> list[tuple[str, str]]:
    """(name of the file as it was given, why), of files left out, for who added them alone. Raises NotAllowed."""
    person = require_permission_now(db, actor, "manage_data")
    path = folder_of(db.settings, row.id) / LEFT_OUT
    if person.id != row.created_by or not path.is_file():
        return []
    return [(str(name), str(why)) for name, why in json.loads(path.read_text(encoding="utf-8"))]


def close(db: Database, actor: Actor, import_id: int) -> None:
    """Show the end of an import no more, and forget the names of files that were left out. Raises NotAllowed."""
    table = tables.data_import
    is_over = table.c.state.in_(OVER)
    with acting(db.begin(), actor, "manage_data") as (connection, _):
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


class ImportWork:
    """What a worker does with an import (`train.queue.worker.Work`)."""

    queue = QUEUE

    def __init__(self, db: Database) -> None:
        self.db = db

    def is_ready(self) -> bool:
        """An import needs nothing but this machine."""
        return True

    def run(self, held: Held) -> tuple[str, str, Mapping[str, Any]]:
        """Make the data set. Where it is there already, nothing that happened afterwards denies it."""

        def report(sentence: str, done: float) -> None:
            held.values = lambda: {"message": sentence, "done": min(max(done, 0.0), 1.0)}
            held.require()

        try:
            found = _do_import(self.db, held.lease, report)
        except Exception:  # whatever it is: what an import has made is said
            version_id = None if held.answer == LOST else _made(self.db, held.lease)
            if version_id is None:
                raise
            found = Ingested(version_id, ())
        folder = folder_of(self.db.settings, held.lease.id)
        if found.refused and folder.is_dir():
            write_whole(folder / LEFT_OUT, json.dumps(found.refused))
        return DONE, "The data set was added.", {"version_id": found.version_id, "notes": list(found.notes)}

    def clean(self, import_id: int, ended_at: datetime) -> None:
        """Remove the files of an import that is over; the names of those that were left out stay for a day."""
        folder = folder_of(self.db.settings, import_id)
        if ended_at < tables.now() - timedelta(hours=SHOWN_HOURS):
            shutil.rmtree(folder, ignore_errors=True)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LEFT_OUT:
                path.unlink(missing_ok=True)


def _do_import(db: Database, lease: Lease, progress: Progress) -> Ingested:
    """Make the data set, as the person who asked for it. Raises AppError, and whatever `progress` raises."""
    actor, folder = ProcessActor("worker", lease.row.created_by), folder_of(db.settings, lease.id)
    request = ImportRequest.from_json(lease.row.request)
    what: dict[str, Any] = {
        "name": request.name,
        "modality": request.modality,
        "seed": request.seed,
        "progress": progress,
    }
    if request.way == READS:
        return own_reads.add_own_reads(db, actor, labelling=request.labelling, confirmed=request.is_confirmed, **what)
    if request.way == FOLDER:
        return ingest.add_folder(db, actor, request.folder, **what)
    if request.way == ZIP:
        return ingest.add_zip(db, actor, _there(folder / "archive"), **what)
    assert request.columns is not None
    images = folder_below_root(db.settings, request.folder) if request.folder else _there(folder / "images")
    sources = Sources(_there(folder / "combined"), _there(folder / "validation"), images)
    return link.add_linked(db, actor, sources, request.columns, **what)


def _made(db: Database, lease: Lease) -> int | None:
    """The version that this import has made, in this attempt or in one whose worker died before it could say so.

    Names are taken once, and no two open imports have the same; so a data set of this name that this person made
    since the import was asked for is the import's.
    """
    data_set, version = tables.data_set, tables.data_set_version
    query = (
        select(version.c.id)
        .join_from(version, data_set, version.c.data_set_id == data_set.c.id)
        .where(data_set.c.name == lease.row.request["name"], data_set.c.created_by == lease.row.created_by)
        .where(data_set.c.created_at >= lease.row.created_at, version.c.number == 1)
    )
    with db.read() as connection:
        return connection.execute(query).scalar_one_or_none()


def _there(path: Path) -> Path:
    if not path.exists():
        raise NotFound("The uploaded files of this import are not there any more. Upload them again.")
    return path
