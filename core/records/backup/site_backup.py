"""Backup and restore of a site: one file that holds everything a site needs to live again.

In it: the database as it was at one moment, the image store, the site's key, the second file of audit heads, data
sets, trained and released weights with the list of what is live, and a list with the SHA-256 of each. Not in it:
uploads that no study or data set was made of, logs, older copies of the database, work folders of jobs, caches. The
file is as secret as the state folder: it holds the key and the pictures.

The database is always an SQLite file there, whichever kind the site uses: see `database_copy`. A site can change the
kind by a backup and a restore.

The file of a backup: a tar without compression that begins with a list of all other entries and their SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from core.errors import AppError, Conflict, InvalidInput, InvalidSettings, NotFound
from core.files import (
    is_disk_full,
    is_temporary,
    sweep,
    sweep_folder,
    sync_folder,
    temporary_folder,
    temporary_parent,
    undone_by,
    whole_file,
)
from core.records.audit import heads, trail
from core.records.backup import database_copy
from core.records.backup.database_copy import Report
from core.records.database import image_store, tables
from core.records.database.blobs import BlobStore, FolderBlobs
from core.records.database.db import RESTORED, Database, open_database, put_site_value, reachable_engine
from core.records.database.locks import AdvisoryLock, hold
from core.settings import MIB, Settings
from core.wording import how_many

_BROKEN = "This file is not a whole backup of SecondRead. Nothing was restored; take another copy of it."
_NO_SPACE = "There is no space left for the backup, there or in the state folder. No backup was made; make room first."
_NOT_EMPTY = (
    "The database that SECONDREAD_DATABASE_URL names is not empty, so nothing was restored. Name a new, empty one."
)


def back_up(db: Database, target: Path, report: Report = lambda _: None) -> Summary:
    """Write a backup while the site goes on working. Raises Conflict (the file exists, no space), InvalidInput."""
    if target.exists():
        raise Conflict("There is a file of this name already. Choose another name.")
    if not target.parent.is_dir():
        raise InvalidInput("The folder for the backup does not exist. Make it first.")
    sweep_folder(target.parent)
    parent = temporary_parent(db.settings.state_dir)
    try:
        with whole_file(target, mode=0o600, replaces=False, full=_NO_SPACE) as half:
            with temporary_folder(parent) as staged:
                _stage(db, staged, report)
                with closing(sqlite3.connect(staged / DATABASE)) as copy:
                    n_audit = copy.execute("SELECT count(*) FROM audit").fetchone()[0]
                with half.open("wb") as file:
                    summary = write_archive(staged, file, n_audit, report)
            with temporary_folder(parent) as again:
                check_backup(half, again, report)
    except FileExistsError:
        raise Conflict("There is a file of this name already. Choose another name.") from None
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        words = (error.strerror or "") if isinstance(error, OSError) else str(getattr(error, "orig", None) or error)
        if "full" in words.lower():
            raise Conflict(_NO_SPACE) from error
        raise Conflict(f"The backup could not be written ({words or type(error).__name__}).") from error
    return summary


def check_backup(source: Path, folder: Path, report: Report = lambda _: None) -> None:
    """Whether `restore` would take this file: read again whole, each file's hash, its database opened and verified.

    Only what is small is unpacked, into `folder`: database, key and heads. Says through `report` what is restored but
    not whole: heads that were lost, pictures that the store had lost before. Raises Conflict where it would refuse.
    """
    try:
        summary = unpack_archive(source, folder, lambda _: None, only=(DATABASE, *FILES))
        db = open_database(Settings(state_dir=folder))
        try:
            _require_verified(heads.verify(db), summary, report)
            with db.read() as connection:
                named = image_store.all_referred(connection)
        finally:
            db.close()
    except (InvalidInput, InvalidSettings, EOFError, tarfile.TarError, zlib.error, ValueError, KeyError) as error:
        told = str(error) if isinstance(error, AppError) else "it reads otherwise than it was written"
        raise Conflict(f"No backup was made, because it could not be restored: {told}") from error
    lost = len(named - {PurePosixPath(name).name for name in names_in(source)})
    if lost:
        report(f"{lost} stored pictures are missing from the image store, so the backup is without them.")


def _require_verified(verdict: trail.Verdict, summary: Summary, report: Report) -> None:
    """Raises InvalidInput where the trail is not as it was written; what only its second file lost is said."""
    if verdict.n != summary.n_audit or set(verdict.problems) - set(verdict.lost):
        problem = next((one for one in verdict.problems if one not in verdict.lost), "rows are missing.")
        raise InvalidInput(f"The audit trail in this backup is not as it was written. Nothing was restored. {problem}")
    for sentence in verdict.lost:
        report(f"{sentence} The chain of the audit trail itself verifies. See `python -m core audit repair-heads`.")


def restore(settings: Settings, source: Path, report: Report = lambda _: None) -> Summary:
    """Make an empty or missing state folder, and an empty database where the settings name one, of a backup.

    The audit trail is verified first. Raises Conflict when there is something in folder or database, InvalidInput for
    a broken file, InvalidSettings for a database that cannot be reached; nothing has changed then.
    """
    state = settings.state_dir
    if state.is_dir():
        sweep(state)  # of a restore that was killed
    if state.exists() and (not state.is_dir() or any(path != temporary_parent(state) for path in state.iterdir())):
        raise Conflict("The state folder is not empty. Name an empty or new one in SECONDREAD_STATE_DIR.")
    if settings.database_url and settings.resolved_database_url.startswith("sqlite"):
        raise Conflict("A backup restores SQLite into the state folder. Unset SECONDREAD_DATABASE_URL for it.")
    with _empty_database(settings):
        pass  # asked before anything is unpacked
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Within the state folder, which may be a volume of its own.
    with (
        undone_by(lambda: _empty(state)),
        _failures_as_sentences(),
        temporary_folder(temporary_parent(state)) as half,
    ):
        summary = unpack_archive(source, half, report)
        _check_and_sign_out(half, summary, report)
        with _empty_database(settings) as connection:
            if connection is not None:
                _fill(connection, half, report)
            for path in sorted(half.iterdir(), key=lambda path: path.name == DATABASE):  # the database last
                if path.name != temporary_parent(state).name:
                    path.replace(state / path.name)
            sync_folder(state)
    return summary


@contextmanager
def _failures_as_sentences() -> Iterator[None]:
    """What can go wrong with the file, the disk or the database, as sentences."""
    try:
        yield
    except SQLAlchemyError as error:
        raise Conflict("The database did not take the rows of this backup, so nothing was restored.") from error
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise Conflict("There is no space for this backup in the state folder, so nothing was restored.") from error
        raise InvalidInput(_BROKEN) from error


@contextmanager
def _empty_database(settings: Settings) -> Iterator[Connection | None]:
    """A transaction in the database that the settings name; None for SQLite. Raises Conflict, InvalidSettings."""
    if not settings.database_url:
        yield None
        return
    engine = reachable_engine(settings, b"")
    try:
        with engine.begin() as connection:
            hold(connection, AdvisoryLock.START)
            if not database_copy.is_empty(connection):
                raise Conflict(_NOT_EMPTY)
            yield connection
    finally:
        engine.dispose()


def _fill(connection: Connection, half: Path, report: Report) -> None:
    """The restored rows in place of the SQLite file, which is not kept."""
    database_copy.from_sqlite(half / DATABASE, connection, report)
    if not trail.verify_rows(connection, (half / "site.key").read_bytes()).is_intact:
        raise Conflict("The audit trail did not arrive as it was written, so nothing was restored.")
    (half / DATABASE).unlink()


def _empty(state: Path) -> None:
    """Removes what was put into a folder that was empty before."""
    for path in state.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _check_and_sign_out(folder: Path, summary: Summary, report: Report) -> None:
    """Opens what was unpacked, verifies its trail, and ends what was alive when it was made: sessions, one-time links,
    what goes to archives and comes by rules, the permission that pictures go to a language model, and the use of a
    bucket."""
    from core.records.archives import outbox
    from core.records.language.endpoint import end_with_restore  # a site that wants none loads nothing of it

    db = open_database(Settings(state_dir=folder))
    try:
        _require_verified(heads.verify(db), summary, report)
        with db.begin() as connection:
            connection.execute(tables.session.delete())
            put_site_value(connection, RESTORED, "")
            # Some were used, replaced or closed after the backup was made; in it they would all open again.
            links = connection.execute(tables.invitation.delete().returning(tables.invitation.c.expires_at)).scalars()
            n_links = sum(expires_at > tables.now() for expires_at in links)
            trail.record(connection, None, "restore", "site", rows=summary.n_audit)
            ended = end_with_restore(connection)
            archives, n_waiting = outbox.end_with_restore(connection)
    finally:
        db.close()
    if n_links:
        report(
            f"{how_many(n_links, 'one-time link')} ended with the restore. Who has set no password with one needs "
            "another: an administrator makes it on the page People."
        )
    if archives:
        report(
            f"Nothing goes to {', '.join(archives)} or comes by rules from there, and {how_many(n_waiting, 'result')} "
            "that waited will not be sent. An administrator chooses it anew on the page Settings."
        )
    if ended is not None:
        report(
            f"The permission that pictures go to the language model {ended.model} at {ended.host} ended with the "
            "restore. An administrator gives it anew on the page Settings."
        )


def _stage(db: Database, staged: Path, report: Report) -> None:
    """A copy of the database and links to the files, all of one moment.

    Files are written before the rows that name them and removed after, so what is copied while nobody removes any has
    every file that its rows name. The heads come first: they must not know rows that the copy has not. Where a head
    was written meanwhile, and the copy knows of it, they are taken again.
    """
    state = db.settings.state_dir
    for name in FILES:
        if name != "live.json" and (state / name).is_file():
            shutil.copyfile(state / name, staged / name)
    with db.begin() as connection:
        for line in (AdvisoryLock.STORE, AdvisoryLock.DATA_SETS, AdvisoryLock.RELEASES):
            hold(connection, line)
        if db.engine.dialect.name == "sqlite":
            own = str(db.engine.url.database)
            with closing(sqlite3.connect(own)) as source, closing(sqlite3.connect(staged / DATABASE)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        else:
            database_copy.to_sqlite(db.engine, staged / DATABASE, report)
        heads.stage_for(staged / DATABASE, heads.heads_path(db.settings), staged / heads.NAME)
        if (state / "live.json").is_file():
            shutil.copyfile(state / "live.json", staged / "live.json")
        named = image_store.all_referred(connection)
        for path in _files_to_back_up(state):
            there = staged / path.relative_to(state)
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, there)
            except OSError:  # a file system without links
                shutil.copyfile(path, there)
    if not isinstance(db.store.blobs, FolderBlobs):
        _stage_from_bucket(db.store.blobs, named, FolderBlobs(staged / "store"))


def _stage_from_bucket(blobs: BlobStore, named: Collection[str], staged: FolderBlobs) -> None:
    """What lies on other machines, outside the lock: that takes a while. What was deleted meanwhile is left out."""
    for key in sorted(named):
        if not staged.has(key):
            with suppress(NotFound):
                staged.put(key, blobs.get(key))


def _files_to_back_up(state: Path) -> list[Path]:
    files: list[Path] = []
    for folder in FOLDERS:
        files += [path for path in (state / folder).rglob("*") if path.is_file() and not path.is_symlink()]
    arriving = state / "data_sets" / "arriving"
    return [path for path in files if not is_temporary(path.name) and not path.is_relative_to(arriving)]


FORMAT = 1
DATABASE = "secondread.sqlite3"
LIST = "backup.json"
FILES = ("site.key", "audit_heads.jsonl", "live.json")
FOLDERS = ("store", "data_sets", "candidates", "releases")
_CHUNK = 1 << 20
_REPORT_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a backup. n_files: with the database. n_audit: rows of the audit trail."""

    n_files: int
    n_bytes: int
    n_audit: int


def write_archive(folder: Path, file: IO[bytes], n_audit: int, report: Report) -> Summary:
    """Everything below `folder`. Pictures and weights are compressed already, so nothing is a second time."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}
    content = json.dumps({"format": FORMAT, "n_audit": n_audit, "files": listed}).encode()
    n_bytes, reported = 0, 0
    with tarfile.open(fileobj=file, mode="w") as archive:
        head = tarfile.TarInfo(LIST)
        head.size = len(content)
        archive.addfile(head, io.BytesIO(content))
        for path in paths:
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as one:
                archive.addfile(entry, one)
            n_bytes += entry.size
            reported = _report_progress(report, "Written", n_bytes, reported)
    return Summary(len(paths), n_bytes, n_audit)


def names_in(source: Path) -> set[str]:
    """The names of all files that a backup lists."""
    with tarfile.open(source, mode="r:") as archive:
        return set(_listing(archive)["files"])


def _listing(archive: tarfile.TarFile) -> dict[str, Any]:
    head = archive.next()
    if head is None or head.name != LIST or not head.isreg():
        raise ValueError("no list")
    stream = archive.extractfile(head)
    return dict(json.loads(stream.read() if stream else b""))


def unpack_archive(source: Path, folder: Path, report: Report, only: Collection[str] | None = None) -> Summary:
    """Every listed file, no other, each with its hash. Names are checked before anything is written.

    only: the files that are written; all are read and their hashes compared nevertheless. None writes all.

    Raises InvalidInput for another format; ValueError, KeyError, TypeError, EOFError, OSError, tarfile.TarError or
    zlib.error for a file that is broken or none of ours.
    """
    n_bytes, reported = 0, 0
    with tarfile.open(source, mode="r:") as archive:
        listing = _listing(archive)
        if listing["format"] != FORMAT:
            raise InvalidInput("This backup was made by another version of SecondRead. Restore it with that one.")
        expected = dict(listing["files"])
        if DATABASE not in expected or "site.key" not in expected:
            raise ValueError("no database")
        while (entry := archive.next()) is not None:
            wanted = expected.pop(entry.name)
            stream = archive.extractfile(entry) if entry.isreg() and _is_ours(entry.name) else None
            if stream is None:
                raise ValueError("not a name of ours")
            path = folder / entry.name if only is None or entry.name in only else None
            if _unpacked(stream, path) != wanted:
                raise ValueError("damaged")
            n_bytes += entry.size
            reported = _report_progress(report, "Unpacked", n_bytes, reported)
        if expected:
            raise ValueError("cut off")
    return Summary(len(listing["files"]), n_bytes, int(listing["n_audit"]))


def _unpacked(stream: IO[bytes], path: Path | None) -> str:
    """The SHA-256 of an entry, which is written, on the disk and readable by its owner only, if it has a path."""
    digest = hashlib.sha256()
    with ExitStack() as stack:
        file = None
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = stack.enter_context(path.open("xb"))
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            if file is not None:
                file.write(chunk)
        if file is not None:
            file.flush()
            os.fsync(file.fileno())
    return digest.hexdigest()


def _report_progress(report: Report, word: str, n_bytes: int, reported: int) -> int:
    if n_bytes - reported < _REPORT_BYTES:
        return reported
    report(f"{word} so far: {n_bytes / MIB:.0f} MiB.")
    return n_bytes


def _is_ours(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if ".." in parts or "\\" in name or name.startswith("/"):
        return False
    return name in (*FILES, DATABASE) or (len(parts) > 1 and parts[0] in FOLDERS)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
