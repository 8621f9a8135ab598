"""The head of the audit chain, kept a second time, outside the database.

`state_dir/audit_heads.jsonl` gets one line a day and one at every start: number and code of the last row then, sealed
with the site's key. Who puts an older copy of the whole database in place cuts the tail off together with the head
that the database holds; this file still knows how far the chain had come. Send it to another machine now and then,
and whoever holds this one cannot shorten both.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from core.periodic import repeated
from core.records.audit import trail
from core.records.database.db import Database
from core.records.database.tables import audit as rows
from core.records.database.tables import now
from core.settings import Settings

LOOK_SECONDS = 600
FIRST_LOOK_SECONDS = 5
"""Until there is a first line: on a new site the first row comes with the first administrator."""
_NAME = "audit_heads.jsonl"


def heads_path(settings: Settings) -> Path:
    return settings.state_dir / _NAME


def write_head(db: Database) -> None:
    """One more line: where the chain ends now. An empty chain writes nothing. Raises OSError."""
    with db.read() as connection:
        last = connection.execute(select(rows.c.id, rows.c.mac).order_by(rows.c.id.desc()).limit(1)).one_or_none()
    if last is None:
        return
    at = now().isoformat(timespec="seconds")
    line = {"at": at, "id": last.id, "mac": last.mac, "seal": _seal(db.site_key, at, last.id, last.mac)}
    path = heads_path(db.settings)
    is_new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if is_new:
        path.chmod(0o600)


def verify(db: Database) -> trail.Verdict:
    """The chain itself, and that it still holds every row that the second file knows. Asks for no role."""
    found = trail.verify(db)
    return trail.Verdict(found.n, (*found.problems, *_problems(db)))


def last_written(db: Database) -> datetime | None:
    """When the newest line of the second file was written; None without one that can be read."""
    for line in reversed(_lines(db.settings)):
        try:
            return datetime.fromisoformat(json.loads(line)["at"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


@contextmanager
def written_daily(db: Database) -> Iterator[None]:
    """Writes the head now, then once a day until the block ends."""
    last: datetime | None = None

    def write() -> None:
        nonlocal last
        if last is None or last.date() < now().date():
            try:
                write_head(db)
            finally:
                last = last_written(db)

    with repeated("audit heads", write, lambda: LOOK_SECONDS if last else FIRST_LOOK_SECONDS):
        yield


def _problems(db: Database) -> Iterator[str]:
    lines = _lines(db.settings)
    with db.read() as connection:
        macs = {row.id: row.mac for row in connection.execute(select(rows.c.id, rows.c.mac))}
    if not lines and macs:
        yield f"The file {_NAME}, which keeps the head of the chain a second time, is missing or empty."
    for number, line in enumerate(lines, 1):
        try:
            retained = json.loads(line)
            at, row_id, mac, seal = (
                str(retained["at"]),
                int(retained["id"]),
                str(retained["mac"]),
                str(retained["seal"]),
            )
        except (ValueError, KeyError, TypeError):
            yield f"Line {number} of {_NAME} cannot be read."
            continue
        if not hmac.compare_digest(seal.encode(), _seal(db.site_key, at, row_id, mac).encode()):
            yield f"Line {number} of {_NAME} was changed after it was written."
        elif row_id not in macs:
            yield f"On {at[:10]} the chain reached row {row_id}, which is not there: rows were removed at the end."
        elif macs[row_id] != mac:
            yield f"Row {row_id} is another one than on {at[:10]}: the chain was replaced from there or before."


def _lines(settings: Settings) -> list[str]:
    path = heads_path(settings)
    if not path.is_file():
        return []
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def _seal(key: bytes, at: str, row_id: int, mac: str) -> str:
    return hmac.new(key, f"audit head file\n{at}\n{row_id}\n{mac}".encode(), hashlib.sha256).hexdigest()
