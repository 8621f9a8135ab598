"""The head of the audit chain, kept a second time, outside the database.

`state_dir/audit_heads.jsonl` gets one line a day, whichever of several applications is first, and one at every start:
number and code of the last row then, sealed with the site's key. Who puts an older copy of the whole database in
place cuts the tail off together with the head that the database holds; this file still knows how far the chain had
come. Send it to another machine now and then, and whoever holds this one cannot shorten both.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, select

from core.files import sync_folder, write_whole
from core.periodic import repeated
from core.records.audit import trail
from core.records.database.db import Database, put_site_value, site_value
from core.records.database.tables import audit as rows
from core.records.database.tables import now
from core.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 600
FIRST_LOOK_SECONDS = 5
"""Until there is a first line: on a new site the first row comes with the first administrator."""
NAME = "audit_heads.jsonl"
_REMEMBERED = "audit_heads"
"""In the table `site`: how many lines were written, with a seal."""


def heads_path(settings: Settings) -> Path:
    return settings.state_dir / NAME


def write_head(db: Database, *, only_once_a_day: bool = False) -> None:
    """One more line: where the chain ends now. An empty chain writes nothing. Raises OSError, Conflict.

    only_once_a_day: nothing where another application of the site has written one today.

    The line is on the disk before the database remembers that there is one more, so the file is never behind what the
    database remembers unless somebody took lines away. A last line that a crash tore apart is cut off first.
    """
    with db.begin() as connection:
        trail.lock_trail(connection)
        last = connection.execute(select(rows.c.id, rows.c.mac).order_by(rows.c.id.desc()).limit(1)).one_or_none()
        if last is None:
            return
        if only_once_a_day and _is_written_today(db):
            return
        at = now().isoformat(timespec="seconds")
        line = {"at": at, "id": last.id, "mac": last.mac, "seal": _seal(db.site_key, at, last.id, last.mac)}
        path = heads_path(db.settings)
        _cut_torn_line(path)
        _append(path, json.dumps(line) + "\n")
        remembered = _remembered(connection, db.site_key)
        if remembered != _FORGED:  # which stays, and goes on failing
            _remember(connection, db.site_key, len(_lines(path)) if remembered is None else remembered + 1)


def repair(db: Database) -> int:
    """Begin the second file anew with the lines that are whole and the site's own; how many lines were lost.

    That and how many is a row of the audit trail, so nobody can lose a line unseen; the damaged file stays beside the
    new one. Lines that contradict the chain are not lost but evidence: they stay, and go on failing. Raises OSError.
    """
    with db.begin() as connection:
        trail.lock_trail(connection)
        path = heads_path(db.settings)
        lines = _lines(path)
        whole = [line for line in lines if _parsed(line) is not None]
        lost = max(len(lines), _remembered(connection, db.site_key) or 0) - len(whole)
        if lost <= 0:
            return 0
        trail.record(connection, None, "repair audit heads", "site", lost=lost)
        if path.is_file():
            stamp = now().strftime("%Y%m%dT%H%M%SZ")
            write_whole(path.with_name(f"{NAME}.damaged-{stamp}"), path.read_bytes(), mode=0o600)
        write_whole(path, "".join(line + "\n" for line in whole), mode=0o600)
        _remember(connection, db.site_key, len(whole))
    return lost


def stage_for(copy: Path, own: Path, staged: Path) -> None:
    """For a backup: as many lines as the copy of the database remembers, where `staged` has fewer of them."""
    with closing(sqlite3.connect(copy)) as database:
        found = database.execute("SELECT value FROM site WHERE key = ?", (_REMEMBERED,)).fetchone()
    n = int(str(found[0]).partition(" ")[0]) if found else 0
    if n > len(_lines(staged)) and own.is_file():
        write_whole(staged, "".join(line + "\n" for line in _lines(own)[:n]), mode=0o600)


def verify(db: Database) -> trail.Verdict:
    """The chain itself, and that it still holds every row that the second file knows. Asks for no role."""
    found = trail.verify(db)
    problems, lost = _problems(db)
    return trail.Verdict(found.n, (*found.problems, *problems, *lost), tuple(lost))


def last_written(db: Database) -> datetime | None:
    """When the newest line of the second file was written; None without one that can be read."""
    for line in reversed(_lines(heads_path(db.settings))):
        try:
            return datetime.fromisoformat(json.loads(line)["at"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


def _is_written_today(db: Database) -> bool:
    found = last_written(db)
    return found is not None and found.date() >= now().date()


@contextmanager
def written_daily(db: Database) -> Iterator[None]:
    """Writes the head now, then once a day until the block ends."""
    last: datetime | None = None

    def write() -> None:
        nonlocal last
        if last is None or last.date() < now().date():
            try:
                write_head(db, only_once_a_day=last is not None)
            finally:
                last = last_written(db)

    with repeated("audit heads", write, lambda: LOOK_SECONDS if last else FIRST_LOOK_SECONDS):
        yield


def _problems(db: Database) -> tuple[list[str], list[str]]:
    """What contradicts the chain, and what only is lost: lines that cannot be read or are not there any more."""
    # In this order, because others write meanwhile: a row is there before its line, a line before it is remembered.
    with db.read() as connection:
        remembered = _remembered(connection, db.site_key)
    lines = _lines(heads_path(db.settings))
    with db.read() as connection:
        macs = {row.id: row.mac for row in connection.execute(select(rows.c.id, rows.c.mac))}
    problems, lost = [], []
    if remembered == _FORGED:
        problems.append(f"How many lines {NAME} has was changed in the database after it was written.")
    if not lines and macs:
        lost.append(f"The file {NAME}, which keeps the head of the chain a second time, is missing or empty.")
    elif remembered is not None and len(lines) < remembered:
        n = remembered - len(lines)
        lost.append(f"{n} {'line is' if n == 1 else 'lines are'} missing from {NAME}: {remembered} were written.")
    for number, line in enumerate(lines, 1):
        parsed = _parsed(line)
        if parsed is None:
            lost.append(f"Line {number} of {NAME} cannot be read.")
            continue
        at, row_id, mac, seal = parsed
        if not hmac.compare_digest(seal.encode(), _seal(db.site_key, at, row_id, mac).encode()):
            problems.append(f"Line {number} of {NAME} was changed after it was written.")
        elif row_id not in macs:
            problems.append(
                f"On {at[:10]} the chain reached row {row_id}, which is not there: rows were removed at the end."
            )
        elif macs[row_id] != mac:
            problems.append(
                f"Row {row_id} is another one than on {at[:10]}: the chain was replaced from there or before."
            )
    return problems, lost


def _parsed(line: str) -> tuple[str, int, str, str] | None:
    """Time, row, code and seal of a line; None for one that cannot be read."""
    try:
        told = json.loads(line)
        return str(told["at"]), int(told["id"]), str(told["mac"]), str(told["seal"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _lines(path: Path) -> list[str]:
    """The whole lines; a last one without its end that cannot be read was torn by a crash and was never promised."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    *whole, last = text.split("\n")
    if last.strip() and (_parsed(last) is not None or not whole):
        whole.append(last)
    return [line for line in whole if line.strip()]


def _cut_torn_line(path: Path) -> None:
    if not path.is_file():
        return
    content = path.read_bytes()
    kept, _, last = content.rpartition(b"\n")
    if not last.strip():
        return
    if _parsed(last.decode("utf-8", "replace")) is not None:
        write_whole(path, content + b"\n", mode=0o600)
        return
    log.warning("The last line of %s was torn when a process or the machine stopped; it was cut off", NAME)
    write_whole(path, kept + b"\n" if kept else b"", mode=0o600)


def _append(path: Path, line: str) -> None:
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


_FORGED = -1


def _remembered(connection: Connection, key: bytes) -> int | None:
    """How many lines were written; None before the first (or under version 0.1), `_FORGED` for a wrong seal."""
    value = site_value(connection, _REMEMBERED)
    if value is None:
        return None
    n, _, seal = value.partition(" ")
    is_number = n.isascii() and n.isdigit() and len(n) < 19
    is_ours = is_number and hmac.compare_digest(seal.encode(), _seal_of_number(key, int(n)).encode())
    return int(n) if is_ours else _FORGED


def _remember(connection: Connection, key: bytes, n: int) -> None:
    put_site_value(connection, _REMEMBERED, f"{n} {_seal_of_number(key, n)}")


def _seal_of_number(key: bytes, n: int) -> str:
    return hmac.new(key, f"audit head lines\n{n}".encode(), hashlib.sha256).hexdigest()


def _seal(key: bytes, at: str, row_id: int, mac: str) -> str:
    return hmac.new(key, f"audit head file\n{at}\n{row_id}\n{mac}".encode(), hashlib.sha256).hexdigest()
