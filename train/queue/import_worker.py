"""The lane of imports in a worker: takes one after the other, keeps its lease, and says how it ended.

It runs beside the trainings, in a thread: an import of minutes does not wait for a training of hours. One that is ended
in whatever way leaves neither pictures nor rows; one whose worker died begins anew.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from core.errors import AppError, NotFound
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import ProcessActor
from train.datasets import ingest, own_reads
from train.datasets.hospital import link
from train.datasets.hospital.link import Sources
from train.datasets.ingest import Ingested
from train.datasets.staging import Progress, folder_below_root
from train.queue.imports import (
    FOLDER,
    LEFT_OUT,
    READS,
    SHOWN_HOURS,
    ZIP,
    Claim,
    claim,
    finish,
    folder_of,
    hand_back,
    heartbeat,
)
from train.queue.trainings import CANCELLED, DEAD, DONE, FAILED, GO_ON, LEASE_SECONDS, LOST

log = logging.getLogger(__name__)

IDLE_SECONDS = 2.0
BEAT_SECONDS = 1.0
SWEEP_SECONDS = 600.0
ENDING = "ending"
_OVER = (DONE, FAILED, CANCELLED, DEAD)


class _Ended(Exception):
    """Raised out of an import that is to end, by the answer of the last heartbeat."""


@dataclass(slots=True)
class _Lease:
    """What an import tells of itself, and what it is told. said: sentence and share done."""

    answer: str = GO_ON
    said: tuple[str, float] = ("Begins.", 0.0)
    over: threading.Event = field(default_factory=threading.Event)

    def report(self, sentence: str, done: float) -> None:
        """The `Progress` of the import; ends it where it is not wanted any more."""
        self.said = (sentence, min(max(done, 0.0), 1.0))
        if self.answer != GO_ON:
            raise _Ended


class ImportWorker:
    """Runs imports until `is_ending` says so; told to end, it hands the one in hand back."""

    def __init__(
        self,
        db: Database,
        *,
        is_ending: Callable[[], bool] = lambda: False,
        should_end: Callable[[], bool] = lambda: False,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.db = db
        self.is_ending, self.should_end = is_ending, should_end
        self.lease_seconds = lease_seconds
        self.machine = platform.node()[:80] or "unnamed"
        self.name = f"{self.machine}:{os.getpid()}:{uuid4().hex[:8]}"
        self._swept = -SWEEP_SECONDS

    def work(self) -> None:
        """Until it is time to end; an error of the database is waited out."""
        while not self.is_ending() and not self.should_end():
            try:
                if self.work_once():
                    continue
            except Exception as error:
                log.error("imports: %s", type(error).__name__)
            time.sleep(IDLE_SECONDS)

    def work_once(self) -> bool:
        """Take and run one import; False when there is none."""
        held = claim(self.db, worker=self.name, machine=self.machine, lease_seconds=self.lease_seconds)
        if held is None:
            if time.monotonic() - self._swept > SWEEP_SECONDS:
                self._swept = time.monotonic()
                sweep(self.db)
            return False
        log.info("import %d, attempt %d", held.id, held.attempt)
        with self._renewed(held) as lease:
            state, message, found = self._run(held, lease)
        if lease.answer == LOST:
            log.warning("import %d is another worker's now", held.id)
            return True
        made = _made(self.db, held)
        if made is None and state == "":
            hand_back(self.db, held)
            return True
        if made is not None:
            found = found or Ingested(made, ())
            _write_left_out(folder_of(self.db.settings, held.id), found)
            state, message = DONE, "The data set was added."
        result = {"version_id": found.version_id, "notes": list(found.notes)} if found is not None else None
        if finish(self.db, held, state, message, result=result):
            remove_files(folder_of(self.db.settings, held.id))
        return True

    def _run(self, held: Claim, lease: _Lease) -> tuple[str, str, Ingested | None]:
        """State, sentence and what was made; state "" for an import that is to be handed back."""
        try:
            return DONE, "", do_import(self.db, held, lease.report)
        except _Ended:
            return ("", "", None) if lease.answer == ENDING else (CANCELLED, "Cancelled; nothing was added.", None)
        except AppError as refused:
            return FAILED, str(refused), None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return (
                    FAILED,
                    "The disk is full, so nothing was added. Make room in the state folder, and try again.",
                    None,
                )
            return FAILED, _our_fault(held, error), None
        except Exception as error:  # the outermost loop: whatever it is, the import must not be "running" for ever
            return FAILED, _our_fault(held, error), None

    @contextmanager
    def _renewed(self, held: Claim) -> Iterator[_Lease]:
        """The lease is renewed in a thread of its own, so that a long step does not lose it."""
        lease = _Lease()

        def beat() -> None:
            while not lease.over.wait(BEAT_SECONDS):
                try:
                    answer = heartbeat(self.db, held, lease.said, lease_seconds=self.lease_seconds)
                except Exception as error:
                    log.error("import %d: %s", held.id, type(error).__name__)
                    continue
                lease.answer = ENDING if answer == GO_ON and self.should_end() else answer

        thread = threading.Thread(target=beat, name="import lease", daemon=True)
        thread.start()
        try:
            yield lease
        finally:
            lease.over.set()
            thread.join()


def do_import(db: Database, held: Claim, progress: Progress) -> Ingested:
    """Make the data set, as the person who asked for it. Raises AppError, and whatever `progress` raises."""
    actor, request, folder = ProcessActor("worker", held.person_id), held.request, folder_of(db.settings, held.id)
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


def remove_files(folder: Path) -> None:
    """The files of an import that is over; the list of what was left out stays for a while."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LEFT_OUT:
            path.unlink(missing_ok=True)


def sweep(db: Database) -> None:
    """Remove what imports that are over left behind, also the names of files that were left out a day ago."""
    table = tables.data_import
    with db.read() as connection:
        over = connection.execute(select(table.c.id, table.c.ended_at).where(table.c.state.in_(_OVER))).all()
    for row in over:
        folder = folder_of(db.settings, row.id)
        if row.ended_at < tables.now() - timedelta(hours=SHOWN_HOURS):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            remove_files(folder)


def _made(db: Database, held: Claim) -> int | None:
    """The version that this import has made, in this attempt or in one whose worker died before it could say so.

    Names are taken once, and no two open imports have the same; so a data set of this name that this person made
    since the import was asked for is the import's.
    """
    data_set, version, row = tables.data_set, tables.data_set_version, tables.data_import
    asked = select(row.c.created_at).where(row.c.id == held.id).scalar_subquery()
    query = (
        select(version.c.id)
        .join_from(version, data_set, version.c.data_set_id == data_set.c.id)
        .where(data_set.c.name == held.request.name, data_set.c.created_by == held.person_id)
        .where(data_set.c.created_at >= asked, version.c.number == 1)
    )
    with db.read() as connection:
        return connection.execute(query).scalar_one_or_none()


def _write_left_out(folder: Path, found: Ingested) -> None:
    if found.refused and folder.is_dir():
        (folder / LEFT_OUT).write_text(json.dumps(found.refused), encoding="utf-8")


def _there(path: Path) -> Path:
    if not path.exists():
        raise NotFound("The uploaded files of this import are not there any more. Upload them again.")
    return path


def _our_fault(held: Claim, error: Exception) -> str:
    """The log gets type and place: the words of an error may hold names of files."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else "?"
    log.error("import %d: %s at %s", held.id, type(error).__name__, where)
    return "The import stopped with an error that is our fault; nothing was added. The log tells where."
