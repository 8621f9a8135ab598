"""Backup and restore of a site: one file that holds everything a state folder needs to live again.

In it: the database as it was at one moment (SQLite's own online backup), the image store, the site's key, the second
file of audit heads, data sets, trained and released weights with the list of what is live, and a list with the
SHA-256 of each. Not in it: uploads that no study was made of, logs, older copies of the database, work folders of
jobs, caches. The file is as secret as the state folder: it holds the key and the pictures.
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
import tempfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4

from core.errors import Conflict, InvalidInput
from core.records import audit, audit_heads, store, tables
from core.records.db import Database, open_database
from core.settings import Settings

FORMAT = 1
DATABASE = "secondread.sqlite3"
LIST = "backup.json"
FILES = ("site.key", "audit_heads.jsonl", "live.json")
FOLDERS = ("store", "data_sets", "candidates", "releases")
_CHUNK = 1 << 20
_BROKEN = "This file is not a whole backup of SecondRead. Nothing was restored; take another copy of it."


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a backup. n_files: with the database. n_audit: rows of the audit trail."""

    n_files: int
    n_bytes: int
    n_audit: int


def back_up(db: Database, target: Path) -> Summary:
    """Write a backup while the site goes on working. Raises Conflict: the file exists, or this is PostgreSQL."""
    if db.engine.dialect.name != "sqlite":
        raise Conflict(
            "This site's database is PostgreSQL, which has its own tool: run `pg_dump --format=custom`, and right "
            "after it copy the state folder, where pictures and the key lie. Keep the two together."
        )
    if target.exists():
        raise Conflict("There is a file of this name already. Choose another name.")
    if not target.parent.is_dir():
        raise InvalidInput("The folder for the backup does not exist. Make it first.")
    half = target.with_name(f"{target.name}.{uuid4().hex}.half")
    try:
        with tempfile.TemporaryDirectory(dir=db.settings.state_dir, prefix="backup-") as folder:
            staged = Path(folder)
            _stage(db, staged)
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                summary = _write(staged, file)
                file.flush()
                os.fsync(file.fileno())
        half.replace(target)
    except OSError as error:
        raise Conflict(f"The backup could not be written ({error.strerror or type(error).__name__}).") from error
    finally:
        half.unlink(missing_ok=True)
    return summary


def restore(settings: Settings, source: Path) -> Summary:
    """Make an empty or missing state folder of a backup; what was restored is opened and its audit trail verified.

    Raises Conflict when there is something in the state folder; InvalidInput for a broken file, and then nothing
    has changed.
    """
    if settings.database_url:
        raise Conflict("A backup is restored into the state folder. Unset SECONDREAD_DATABASE_URL for it.")
    state = settings.state_dir
    if state.exists() and (not state.is_dir() or any(state.iterdir())):
        raise Conflict("The state folder is not empty. Name an empty or new one in SECONDREAD_STATE_DIR.")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(dir=state, prefix=".restore-"))  # within: the folder may be a volume of its own
    try:
        summary = _unpack(source, half)
        _check_and_sign_out(half, summary)
        for path in sorted(half.iterdir(), key=lambda path: path.name == DATABASE):  # the database last
            path.replace(state / path.name)
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(_BROKEN) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return summary


def _check_and_sign_out(folder: Path, summary: Summary) -> None:
    """Opens what was unpacked, verifies its trail, and ends the sessions that were alive when it was made."""
    db = open_database(Settings(state_dir=folder))
    try:
        verdict = audit_heads.verify(db)
        if not verdict.is_intact or verdict.n != summary.n_audit:
            raise InvalidInput("The audit trail in this backup is not as it was written. Nothing was restored.")
        with db.begin() as connection:
            connection.execute(tables.session.delete())
            audit.record(connection, None, "restore", "site", rows=summary.n_audit)
    finally:
        db.close()


def _stage(db: Database, staged: Path) -> None:
    """A copy of the database and links to the files, all of one moment: nobody writes meanwhile, and it is short."""
    state = db.settings.state_dir
    with db.begin() as connection:
        store.lock(connection)
        with closing(_opened(db)) as source, closing(sqlite3.connect(staged / DATABASE)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        for path in _kept_files(state):
            there = staged / path.relative_to(state)
            there.parent.mkdir(parents=True, exist_ok=True)
            if path.name in FILES:
                shutil.copyfile(path, there)  # these grow in place
                continue
            try:
                os.link(path, there)
            except OSError:  # a file system without links
                shutil.copyfile(path, there)


def _opened(db: Database) -> sqlite3.Connection:
    return sqlite3.connect(str(db.engine.url.database))


def _kept_files(state: Path) -> list[Path]:
    files = [state / name for name in FILES if (state / name).is_file()]
    for folder in FOLDERS:
        files += [path for path in (state / folder).rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if path.suffix not in (".half", ".part")]


def _write(staged: Path, file: IO[bytes]) -> Summary:
    paths = sorted(path for path in staged.rglob("*") if path.is_file())
    listed = {path.relative_to(staged).as_posix(): _sha256(path) for path in paths}
    with closing(sqlite3.connect(staged / DATABASE)) as connection:
        n_audit = connection.execute("SELECT count(*) FROM audit").fetchone()[0]
    content = json.dumps({"format": FORMAT, "n_audit": n_audit, "files": listed}).encode()
    # Without compression: pictures and weights are compressed already.
    with tarfile.open(fileobj=file, mode="w") as archive:
        head = tarfile.TarInfo(LIST)
        head.size = len(content)
        archive.addfile(head, io.BytesIO(content))
        for path in paths:
            entry = tarfile.TarInfo(path.relative_to(staged).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as one:
                archive.addfile(entry, one)
    return Summary(len(paths), sum(path.stat().st_size for path in paths), n_audit)


def _unpack(source: Path, folder: Path) -> Summary:
    """Every listed file, no other, each with its hash. Names are checked before anything is written."""
    n_bytes = 0
    with tarfile.open(source, mode="r:") as archive:
        head = archive.next()
        if head is None or head.name != LIST or not head.isreg():
            raise ValueError("no list")
        stream = archive.extractfile(head)
        listing = json.loads(stream.read() if stream else b"")
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
            path = folder / entry.name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("xb") as file:
                shutil.copyfileobj(stream, file, _CHUNK)
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            n_bytes += entry.size
            if _sha256(path) != wanted:
                raise ValueError("damaged")
        if expected:
            raise ValueError("cut off")
    return Summary(len(listing["files"]), n_bytes, int(listing["n_audit"]))


def _is_ours(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if ".." in parts or "\\" in name or name.startswith("/"):
        return False
    return name in (*FILES, DATABASE) or (len(parts) > 1 and parts[0] in FOLDERS)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
