"""A machine that fails otherwise than by killing: disk, database, clock, memory, and files that are cut or gone.

A round: a process acts under one such condition; each act is done or refused with a sentence, and nothing else happens;
then the site is judged as after a kill, by the right clock and with the disk as it should be.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import multiprocessing
import os
import random
import resource
import shutil
import sqlite3
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from unittest import mock

from act_rounds import ACTS, Acting, Site, judge
from kill_figures import Figures
from release_site import MODEL, promote
from sqlalchemy import event

from core.errors import AppError
from core.models.cards import live_card
from core.models.live import candidate_dir
from core.models.weights import read_shards
from core.records import data_sets
from core.records.backup import site_backup
from core.records.database import db as database_module
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.settings import MIB, Settings
from core.types import Modality
from train.datasets import ingest

ACTS_EACH = 6
MEMORY_BYTES = 6 * MIB
ENDED_SECONDS = 60
"""Longer than any condition lets so few acts take."""


@contextmanager
def full_disk(site: Site, db: Database) -> Iterator[None]:
    """No file grows beyond the size that the database has now: what a full disk and a quota look like from here."""
    most = (site.settings.state_dir / "secondread.sqlite3").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only_database(site: Site, db: Database) -> Iterator[None]:
    """SQLite refuses every write, as on a disk that was mounted read-only after an error."""

    def refuse(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    db.engine.dispose()
    event.listen(db.engine, "connect", refuse)
    try:
        yield
    finally:
        event.remove(db.engine, "connect", refuse)
        db.engine.dispose()


@contextmanager
def locked_database(site: Site, db: Database) -> Iterator[None]:
    """Somebody else holds the write lock all the time; how long we wait for it is cut short."""
    file = site.settings.state_dir / "secondread.sqlite3"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def short_memory(site: Site, db: Database) -> Iterator[None]:
    """A limit on the address space, less than the stack of a thread above what the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def moved_clock(by: timedelta) -> Callable[[Site, Database], object]:
    """The clock of the process goes wrong by so much."""

    class Moved(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

    right = time.time

    @contextmanager
    def moved(site: Site, db: Database) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(tables, "datetime", Moved))
            stack.enter_context(mock.patch.object(time, "time", lambda: right() + by.total_seconds()))
            yield

    return moved


CONDITIONS: Mapping[str, Callable[[Site, Database], object]] = {
    "full disk": full_disk,
    "read-only database": read_only_database,
    "locked database": locked_database,
    "memory limit": short_memory,
    "clock a day ahead": moved_clock(timedelta(days=1)),
    "clock a day behind": moved_clock(timedelta(days=-1)),
    "clock ten years ahead": moved_clock(timedelta(days=3653)),
    "clock ten years behind": moved_clock(timedelta(days=-3653)),
}
FILES = ("missing shard", "backup cut", "archive cut")


class ConditionRounds:
    """Rounds over a site in `folder`: one condition each, in turn."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.site = Site(folder)

    def one(self, seed: str, figures: Figures) -> None:
        names = [*CONDITIONS, *FILES]
        name = names[sum(n > 0 for n, _ in figures.conditions.values()) % len(names)]
        if set(names) <= set(figures.conditions):
            name = random.Random(seed).choice(names)
        acts = self._acted(seed, name) if name in CONDITIONS else self._files(seed, name)
        wrong = [what for kind, what in acts if kind == "wrong"]
        n_refused = sum(kind == "refused" for kind, _ in acts)
        figures.half += [f"{seed}: with {name}: {what}" for what in wrong]
        figures.tried(name, sum(kind in ("refused", "done") for kind, _ in acts), n_refused)
        told = [(kind, what) for kind, what in acts if kind not in ("wrong", "refused", "done")]
        judge(self.site, f"{seed}: with {name}", told, figures)

    def close(self) -> None:
        """Nothing runs between rounds."""

    def _acted(self, seed: str, name: str) -> list[tuple[str, str]]:
        reading, writing = os.pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_act_under, args=(self.site, seed, name, reading, writing)
        )
        process.start()
        os.close(writing)
        watch = threading.Timer(ENDED_SECONDS, process.kill)
        watch.start()
        with os.fdopen(reading, encoding="utf-8") as told:
            acts = [tuple(json.loads(line)) for line in told if line.endswith("\n")]
        process.join()
        watch.cancel()
        # Python waits for ever for a thread whose first step finds no memory: as good as killed.
        if process.exitcode != 0 and (name, process.exitcode) != ("memory limit", -9):
            acts.append(("wrong", f"the process ended with {process.exitcode}"))
        return acts

    def _files(self, seed: str, name: str) -> list[tuple[str, str]]:
        """Something that is to be read is cut or gone: refused, and what was there stays."""
        db = open_database(self.site.settings)
        try:
            cut = {"missing shard": _missing_shard, "backup cut": _cut_backup, "archive cut": _cut_archive}[name]
            return [("refused", name) if is_right else ("wrong", what) for is_right, what in cut(self.site, db, seed)]
        finally:
            db.close()


class _Trying(Acting):
    """Acts a few times and says of each whether it was done, refused, or neither."""

    def tried(self, db: Database, name: str, condition: Callable[[Site, Database], object]) -> None:
        with condition(self.site, db):  # type: ignore[attr-defined]
            said: list[tuple[str, str]] = []
            for number in range(ACTS_EACH):
                act = self.draw.choice(ACTS)
                try:
                    getattr(self, act)(db, number)
                    said.append(("done", act))
                except AppError as refused:
                    is_sentence = str(refused).rstrip()[-1:] in ".?!"
                    said.append(("refused", act) if is_sentence else ("wrong", f"{act}: {refused!r}"))
                except Exception as error:  # what no person should meet
                    is_short = name == "memory limit" and _is_out_of_memory(error)
                    words = f"{act}: {type(error).__name__}: {error}"[:600]
                    said.append(("refused", act) if is_short else ("wrong", words))
        for kind, what in said:
            self.told(kind, what)


def _is_out_of_memory(error: Exception) -> bool:
    """However a library says it; nothing may have changed then, as after any refusal."""
    is_said = "out of memory" in str(error) or "start new thread" in str(error)
    return is_said or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _act_under(site: Site, seed: str, name: str, reading: int, writing: int) -> None:
    os.close(reading)
    quiet = os.open(site.out.parent / "stderr", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(quiet, 2)
    faulthandler.dump_traceback_later(ENDED_SECONDS - 10, file=2)
    told: list[str] = []
    with mock.patch.object(database_module, "BUSY_SECONDS", 0.1):
        db = open_database(site.settings)
    try:
        acting = _Trying(site, seed, lambda kind, what: told.append(json.dumps([kind, what]) + "\n"))
        acting.tried(db, name, CONDITIONS[name])
    finally:
        db.close()
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        pipe.writelines(told)


def _missing_shard(site: Site, db: Database, seed: str) -> Iterator[tuple[bool, str]]:
    """One file of a candidate's weights is gone: it is not released. One of the live weights: they are not read."""
    before = live_card(db.settings, MODEL).weights_sha256
    (folder,) = (path.parent for path in candidate_dir(db.settings, 1).glob("*/card.json"))
    shard = next(folder.glob("*.safetensors"))
    with _away(shard):
        try:
            promote(db, site.person, 1, live_sha256=before)
            # Its weights may have been released before, whole, and lie there.
            yield live_card(db.settings, MODEL).weights_sha256 != before, "a candidate without its weights was released"
        except AppError:
            yield live_card(db.settings, MODEL).weights_sha256 == before, "refused, and something else answers"
    card = live_card(db.settings, MODEL)
    if card.folder.is_relative_to(site.settings.state_dir):  # nothing of the checkout is touched
        with _away(card.folder / card.weights_files[0]):
            try:
                read_shards(card.folder, card.weights_files, card.weights_sha256)
                yield False, "weights with a missing file were read"
            except AppError as refused:
                yield "not complete" in str(refused), str(refused)


def _cut_backup(site: Site, db: Database, seed: str) -> Iterator[tuple[bool, str]]:
    whole = site.out / f"{seed}.backup"
    site_backup.back_up(db, whole)
    draw = random.Random(seed)
    try:
        for length in (
            0,
            draw.randrange(whole.stat().st_size),
            whole.stat().st_size - draw.randrange(1, 3 * tarfile.RECORDSIZE),
        ):
            target = site.out / "cut.backup"
            with whole.open("rb") as source, target.open("wb") as file:
                file.write(source.read(length))
            state = site.out.parent / "restored"
            try:
                site_backup.restore(Settings(state_dir=state), target)
                # What fills the last record of a tar is no content: without it nothing is missing.
                yield length >= whole.stat().st_size - tarfile.RECORDSIZE, f"a backup cut at {length} was restored"
            except AppError as refused:
                left = [path.name for path in state.rglob("*")] if state.exists() else []
                yield not left and str(refused).endswith("."), f"{refused} left {left}"
            finally:
                shutil.rmtree(state, ignore_errors=True)
                target.unlink()
    finally:
        whole.unlink()


def _cut_archive(site: Site, db: Database, seed: str) -> Iterator[tuple[bool, str]]:
    whole, draw = site.zip.read_bytes(), random.Random(seed)
    before = len(data_sets.list_versions(db, site.person))
    cut = site.out.parent / "cut.zip"
    try:
        for length in (0, draw.randrange(len(whole)), len(whole) - 1 - draw.randrange(30)):
            cut.write_bytes(whole[:length])
            with suppress(AppError):
                ingest.add_zip(
                    db, site.person, cut, name=f"{seed} {length}", modality=Modality.ULTRASOUND, seed=0,
                    progress=lambda *_: None,
                )  # fmt: skip
            yield len(data_sets.list_versions(db, site.person)) == before, f"an archive cut at {length} was imported"
    finally:
        cut.unlink(missing_ok=True)


@contextmanager
def _away(path: Path) -> Iterator[None]:
    aside = path.with_suffix(".aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)
