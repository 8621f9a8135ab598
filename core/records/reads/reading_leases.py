"""Who is reading a study now: a lease that the open page renews, so that two readers do not do the same work unawares.

It is no right to see anything. It ends by itself soon after the page is gone, with a final read, or when another reader
takes the study over, which is audited. Double reading has none: there two are to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from core.errors import Conflict
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting
from core.records.reads.rows import find_study

READING_SECONDS = 180.0
"""Longer than a page takes to renew it three times; whoever waits for an abandoned study takes it over."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who reads a study now. since: when they opened it."""

    person_id: int
    name: str
    since: datetime


def hold_study(db: Database, actor: Actor, study_id: str, *, is_take_over: bool = False) -> Reader | None:
    """Say that the person reads this study now; who else does, and then nothing changes, or None.

    is_take_over: take it from whoever reads it; they are told at their next click. Raises NotAllowed, NotFound.
    """
    lease = tables.reading_lease
    with acting(db.begin(), actor, "record_first_read") as (connection, person):
        find_study(connection, study_id, is_for_change=True)
        if is_double_read(connection, study_id):
            return None
        other = other_reader(connection, study_id, person.id)
        if other is not None and not is_take_over:
            return other
        if other is not None:
            trail.record(connection, person.id, "take over study", f"study {study_id}", reader=other.person_id)
        until = tables.now() + timedelta(seconds=READING_SECONDS)
        mine = (lease.c.study_id == study_id, lease.c.person_id == person.id)
        if connection.execute(update(lease).where(*mine).values(lease_until=until)).rowcount:
            return None
        end_lease(connection, study_id)
        connection.execute(
            insert(lease).values(study_id=study_id, person_id=person.id, begun_at=tables.now(), lease_until=until)
        )
    return None


def other_reader(connection: Connection, study_id: str, person_id: int) -> Reader | None:
    """Who else holds a living lease of the study."""
    lease, author = tables.reading_lease.c, tables.person.c
    row = connection.execute(
        select(lease.person_id, author.name, lease.begun_at)
        .join_from(tables.reading_lease, tables.person, lease.person_id == author.id)
        .where(lease.study_id == study_id, lease.person_id != person_id, is_alive())
    ).one_or_none()
    return Reader(row.person_id, row.name, row.begun_at) if row else None


def is_alive() -> ColumnElement[bool]:
    """Whether a lease has not ended, nor was written by a clock that was wrong."""
    return tables.is_ahead(tables.reading_lease.c.lease_until, timedelta(seconds=READING_SECONDS))


def require_free(connection: Connection, study_id: str, person_id: int) -> None:
    """Raises Conflict while somebody else is reading the study."""
    other = other_reader(connection, study_id, person_id)
    if other is not None:
        raise Conflict(f"{other.name} is reading this study now. Take it over first; what you filled in is kept.")


def end_lease(connection: Connection, study_id: str) -> None:
    """The study is free."""
    connection.execute(delete(tables.reading_lease).where(tables.reading_lease.c.study_id == study_id))


def is_double_read(connection: Connection, study_id: str) -> bool:
    """Whether two readers, blinded to each other, read the study."""
    plan = tables.assignment.c
    return bool(connection.execute(select(plan.is_double_read).where(plan.study_id == study_id)).scalar_one_or_none())
