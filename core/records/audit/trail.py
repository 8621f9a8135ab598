"""The audit trail: who did what, when, in a chain that shows when a row was edited, removed or moved.

Each row carries an HMAC-SHA256, under the site's key, of its own content and of the row before. The head of the
chain is kept, under the same key, in the table `site`, so that a tail that was cut off shows too. Whoever can write
the database but cannot read the key file cannot make a chain that verifies.

Actions and subjects are words of this product ("first read", "study 3f2a…"); detail never identifies a patient.

The words of the audit trail: every action that can be recorded, by the kind of act that a page can ask for.

`core.records.audit.trail.record` refuses any other word, so that nothing is kept that the page Audit cannot name and
filter.

The audit trail as a table for a spreadsheet.

What left the house besides studies' reports: numbers of a comparison, audited.

Starts and upgrades of the product in the audit trail: which version did what stands between two of these rows.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Text, cast, insert, or_, select

from core.records.database.db import Database, put_site_value, site_value
from core.records.database.locks import AdvisoryLock, hold
from core.records.database.tables import audit, now
from core.records.database.tables import person as person_table
from core.records.people.permissions import Actor, acting
from core.version import version, versions

KINDS: Mapping[str, tuple[str, ...]] = {
    "Sign-ins": ("sign in", "sign out"),
    "Failed attempts": ("sign-in refused", "lock person", "link refused", "set-up refused"),
    "Uploads and studies": (
        "create study", "open study", "correct image", "delete study", "remove pixels", "assign study",
        "take over study",
    ),
    "First reads": ("first read",),
    "Reveals": ("reveal", "arbitrate", "see answer", "see reader scores", "see case scores"),
    "Final reads": ("final read",),
    "Truth": ("enter truth",),
    "Reader studies": (
        "design reader study", "lock reader study", "discard reader study", "close reader study",
        "read in reader study",
    ),
    "Exports": ("export report", "export comparison", "export audit", "export de-identified"),
    "Archives": (
        "name archive", "change archive", "remove archive", "watch archive", "end watch", "query archive",
        "fetch study", "show identity",
        "remove identity", "arrival done", "arrival failed", "arrival dead", "send again",
        "result done", "result failed", "result cancelled", "result dead",
    ),
    "Language model": (
        "name language model", "remove language model", "permit language model", "end permission",
        "test language model", "ask language model", "look for text", "ask again", "language model done",
        "language model failed", "language model dead",
    ),
    "Back-reads": ("start back-read", "stop back-read", "go on with back-read", "export back-read"),
    "Data sets": (
        "start import", "cancel import", "import done", "import failed", "import cancelled", "import dead",
        "add data set", "add data set version", "remove data set",
    ),
    "Training": (
        "start training", "cancel training", "training done", "training failed", "training cancelled", "training dead",
    ),
    "Releases": (
        "promote model", "roll back model", "retire model", "shadow model", "end shadow model", "allow chance model",
        "withhold model", "name lead",
    ),
    "People": (
        "set up", "create person", "invite person", "create by single sign-on", "set password by link", "set roles",
        "roles by single sign-on", "change password", "reset password", "reset by link", "sign out person",
        "disable person", "enable person", "set up second factor", "remove second factor",
    ),
    "Settings": ("change setting", "change threshold"),
    "Backups": (
        "backup", "verify backup", "download backup", "delete backup", "restore", "restore beside",
        "repair audit heads",
    ),
    "Software": ("start", "upgrade"),
}  # fmt: skip
"""Kind of act -> its actions, as they stand in the rows."""

WORDS = frozenset(word for words in KINDS.values() for word in words)
"""Every action; each belongs to one kind."""


STUDY_DIGITS = 8
"""So much of a study's id is looked for among the studies that one row names; less would find words of the row."""
FIRST_PREVIOUS = "0" * 64
"""What the first row of a chain names as the row before it."""
_HEAD = "audit_head"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the trail. person_id, person_name: None when nobody was signed in. at: UTC."""

    id: int
    at: datetime
    person_id: int | None
    person_name: str | None
    action: str
    subject: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying the chain found. n: rows that were read. problems: one sentence each, in order of the rows.

    lost: those of them that contradict nothing: lines of the second file of heads that are torn or not there.
    """

    n: int
    problems: tuple[str, ...]
    lost: tuple[str, ...] = ()

    @property
    def is_intact(self) -> bool:
        return not self.problems


def record(connection: Connection, person_id: int | None, action: str, subject: str, **detail: Any) -> None:
    """Append one row in the transaction of the act itself: both are kept, or neither.

    action: one of `audit_words.WORDS`, else ValueError. The connection must come from `Database.begin`. Writers are
    put in line here: on SQLite they already are, because `begin` takes the write lock; PostgreSQL takes a lock that
    lasts until the transaction ends.
    """
    if action not in WORDS:
        raise ValueError(f"{action!r} is no word of the audit trail; give it a kind in core.records.audit.trail")
    lock_trail(connection)
    key = _key(connection)
    last = connection.execute(select(audit.c.id, audit.c.mac).order_by(audit.c.id.desc()).limit(1)).one_or_none()
    values: dict[str, Any] = {
        "id": last.id + 1 if last else 1,
        "at": now(),
        "person_id": person_id,
        "action": action,
        "subject": subject,
        "detail": json.loads(json.dumps(detail, allow_nan=False)),  # as it will come back, so that it verifies
        "previous": last.mac if last else FIRST_PREVIOUS,
    }
    values["mac"] = _mac(key, values)
    connection.execute(insert(audit).values(**values))
    put_site_value(connection, _HEAD, _head_value(key, values["id"], values["mac"]))


def lock_trail(connection: Connection) -> None:
    """Waits until no other transaction is about to write the trail; the line lasts until this transaction ends.

    An act that looks before it writes ("is this name taken?") begins with it, or two of them would both see nothing.
    """
    hold(connection, AdvisoryLock.AUDIT)


def verify(db: Database) -> Verdict:
    """Recompute the whole chain. Asks for no role: it is also run from the command line."""
    with db.read() as connection:
        return verify_rows(connection, db.site_key)


def verify_rows(connection: Connection, key: bytes) -> Verdict:
    """As `verify`, in the caller's transaction. key: the site's."""
    problems: list[str] = []
    n, expected_id, previous = 0, 1, FIRST_PREVIOUS
    last_id, last_mac = 0, FIRST_PREVIOUS
    head = site_value(connection, _HEAD)
    for row in connection.execution_options(yield_per=1000).execute(select(audit).order_by(audit.c.id)).mappings():
        n += 1
        problems += _problems_of(dict(row), key, expected_id, previous)
        expected_id, previous = row["id"] + 1, row["mac"]
        last_id, last_mac = row["id"], row["mac"]
    if head is None and n:
        problems.append("The head of the chain is missing: rows may have been removed at the end.")
    elif head is not None and not hmac.compare_digest(head, _head_value(key, last_id, last_mac)):
        problems.append("The chain does not end where it was last written: rows were removed or added at the end.")
    return Verdict(n, tuple(problems))


def entries(
    db: Database,
    actor: Actor,
    *,
    kind: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    before: datetime | None = None,
    person_id: int | None = None,
    subject: str = "",
    limit: int | None = 500,
) -> list[Entry]:
    """The trail, newest first. since, before: with their zone; the first inclusive. subject: a part of it.

    kind: one of `audit_words.KINDS`. limit: None for all. Raises NotAllowed.
    """
    with acting(db.read(), actor, "see_audit") as (connection, _):
        query = (
            select(audit, person_table.c.name.label("person_name"))
            .join_from(audit, person_table, audit.c.person_id == person_table.c.id, isouter=True)
            .order_by(audit.c.id.desc())
        )
        if kind is not None:
            query = query.where(audit.c.action.in_(KINDS[kind]))
        if action is not None:
            query = query.where(audit.c.action == action)
        if since is not None:
            query = query.where(audit.c.at >= since)
        if before is not None:
            query = query.where(audit.c.at < before)
        if person_id is not None:
            query = query.where(audit.c.person_id == person_id)
        if subject.strip():
            wanted = subject.strip()
            in_detail = wanted.removeprefix("study ").strip()
            # Who was shown a study's name in the worklist is found by the study, though one row names several.
            is_among = (audit.c.action == "show identity") & cast(audit.c.detail, Text).contains(
                in_detail, autoescape=True
            )
            by_subject = audit.c.subject.contains(wanted, autoescape=True)
            query = query.where(or_(by_subject, is_among) if len(in_detail) >= STUDY_DIGITS else by_subject)
        if limit is not None:
            query = query.limit(limit)
        return [
            Entry(row.id, row.at, row.person_id, row.person_name, row.action, row.subject, row.detail)
            for row in connection.execute(query)
        ]


def actions_and_people(db: Database, actor: Actor) -> tuple[list[str], dict[int, str]]:
    """What the trail can be filtered by: its actions, and who appears in it by number. Raises NotAllowed."""
    with acting(db.read(), actor, "see_audit") as (connection, _):
        actions = connection.execute(select(audit.c.action).distinct().order_by(audit.c.action)).scalars().all()
        people = connection.execute(
            select(person_table.c.id, person_table.c.name)
            .where(person_table.c.id.in_(select(audit.c.person_id).distinct()))
            .order_by(person_table.c.name)
        ).all()
    return list(actions), {row.id: row.name for row in people}


def _problems_of(row: Mapping[str, Any], key: bytes, expected_id: int, previous: str) -> list[str]:
    problems = []
    if row["id"] != expected_id:
        missing = row["id"] - expected_id
        problems.append(f"{missing} {'row is' if missing == 1 else 'rows are'} missing before row {row['id']}.")
    elif row["previous"] != previous:
        problems.append(f"Row {row['id']} does not follow the row before it: rows were moved or replaced.")
    if not hmac.compare_digest(row["mac"], _mac(key, row)):
        problems.append(f"Row {row['id']} was changed after it was written.")
    return problems


def _mac(key: bytes, row: Mapping[str, Any]) -> str:
    content = {
        "id": row["id"],
        "at": row["at"].astimezone(UTC).isoformat(timespec="microseconds"),
        "person_id": row["person_id"],
        "action": row["action"],
        "subject": row["subject"],
        "detail": row["detail"],
        "previous": row["previous"],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.new(key, b"audit row\n" + canonical.encode(), hashlib.sha256).hexdigest()


def _head_value(key: bytes, last_id: int, last_mac: str) -> str:
    return hmac.new(key, f"audit head\n{last_id}\n{last_mac}".encode(), hashlib.sha256).hexdigest()


def _key(connection: Connection) -> bytes:
    """The site's key travels with the connection, so that no act can be recorded under another one."""
    key: bytes = connection.info["site_key"]
    return key


COLUMNS = ("number", "time (UTC)", "person", "person number", "action", "subject", "detail")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def export_csv(db: Database, actor: Actor, found: Sequence[Entry]) -> bytes:
    """These entries as UTF-8 CSV; that they left is recorded itself. Raises NotAllowed."""
    with acting(db.begin(), actor, "see_audit") as (connection, person):
        record(connection, person.id, "export audit", "audit trail", rows=len(found))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for entry in found:
        detail = json.dumps(dict(entry.detail), ensure_ascii=False, sort_keys=True) if entry.detail else ""
        writer.writerow(
            (
                entry.id,
                entry.at.strftime("%Y-%m-%d %H:%M:%S"),
                plain_cell(entry.person_name or ""),
                "" if entry.person_id is None else entry.person_id,
                plain_cell(entry.action),
                plain_cell(entry.subject),
                plain_cell(detail),
            )
        )
    return text.getvalue().encode("utf-8-sig")  # with its mark, or Excel takes it for another encoding


def plain_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a name may begin with `=`, and somebody may open the file."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text


def record_comparison_export(db: Database, actor: Actor, *, what: str, data_sha256: str = "") -> None:
    """Audit that numbers of a comparison were downloaded. what: the file's name. data_sha256: of the cases,
    empty where they are of several data sets.

    Raises NotAllowed.
    """
    with acting(db.begin(), actor, "compare_models") as (connection, person):
        record(
            connection,
            person.id,
            "export comparison",
            f"data {data_sha256[:16]}" if data_sha256 else "several data sets",
            what=what,
        )


_VERSION_KEY = "software_version"


def record_start(db: Database) -> None:
    """Records that the product starts, and before it the upgrade when another version started last.

    A site that has rows and no version was made by version 0.1.0, which did not note its own.
    """
    with db.begin() as connection:
        lock_trail(connection)
        before = site_value(connection, _VERSION_KEY)
        if before is None and connection.execute(select(audit.c.id).limit(1)).first() is not None:
            before = "0.1.0"
        if before not in (None, version()):
            record(connection, None, "upgrade", "SecondRead", before=before, after=version())
        put_site_value(connection, _VERSION_KEY, version())
        record(connection, None, "start", "SecondRead", **versions())
