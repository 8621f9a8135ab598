"""What each of three processes does when it is told to (`test_three_processes`)."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import Any

from release_site import SHIPPED
from release_site import promote as promote_as_a_page

from core.models.live import read_live
from core.records.audit import heads
from core.records.backup import copies
from core.records.database import tables
from core.records.database.db import Database
from core.records.people import accounts, sessions
from core.records.people.permissions import LocalTerminal
from core.records.queue import DONE
from core.records.reads import retention
from core.records.reads.back_reads import STUDIES


def fingerprint(db: Database) -> str:
    return hashlib.sha256(db.site_key).hexdigest()


def setup_code(db: Database) -> str | None:
    return accounts.setup_code(db)


def set_up(db: Database, code: str) -> dict[str, Any]:
    person = accounts.create_first_administrator(
        db, code=code, name=f"First {os.getpid()}", password="correct horse battery"
    )
    return {"id": person.id}


def person_of(db: Database, token: str) -> str | None:
    found = sessions.person_of(db, db.settings, token)
    return found.name if found else None


def sign_out(db: Database, token: str) -> bool:
    return sessions.sign_out(db, token)


def write_head(db: Database, only_once_a_day: bool) -> None:
    heads.write_head(db, only_once_a_day=only_once_a_day)


def apply_policy(db: Database, days_later: int) -> int:
    later = tables.now() + timedelta(days=days_later)
    retention.now = lambda: later
    return retention.apply_policy(db)


def make_due(db: Database) -> bool:
    return copies.make_due(db) is not None


def promote(db: Database, person_id: int, job: int) -> dict[str, Any]:
    promote_as_a_page(db, LocalTerminal(person_id), job, live_sha256=SHIPPED.weights_sha256)
    return {"done": True}


def live(db: Database, model_id: str) -> str | None:
    return read_live(db.settings).chosen[model_id]


def take_all(db: Database) -> list[str]:
    found, worker = [], f"test:{os.getpid()}"
    while (lease := STUDIES.claim(db, worker=worker, machine=worker)) is not None:
        found.append(lease.row.study_id)
        STUDIES.finish(db, lease, DONE, "Read.", {"answers": []})
    return found
