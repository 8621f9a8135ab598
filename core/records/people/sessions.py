"""Sessions: who sits at which browser, from signing in to signing out or to one of the two time limits.

A session is 256 random bits in a cookie; the database keeps only their SHA-256.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import Connection, insert, select, update

from core.errors import Conflict
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.tables import now
from core.records.people.permissions import Person, SessionActor, counted_roles, is_living, session_query
from core.settings import Settings

TOUCH_SECONDS = 30
"""`last_seen_at` is written at most this often, so that reading does not mean writing."""
TOUCH_PATIENCE = 0.2
"""Seconds that it waits for another process that writes."""


def start_session(db: Database, person: Person) -> str:
    """The token of a session for somebody who has just proved who they are in another way (the setup code)."""
    with db.begin() as connection:
        token = open_session(connection, person.id)
        trail.record(connection, person.id, "sign in", f"person {person.id}")
    return token


def person_of(db: Database, settings: Settings, token: str, *, is_activity: bool = True) -> Person | None:
    """Who this session belongs to, or None: unknown, signed out, idle too long, too old, or the person is disabled.

    is_activity: False only looks; True keeps the session awake.
    """
    if not token:
        return None
    token_sha256, moment = digest(token), now()
    with db.read() as connection:
        row = connection.execute(session_query(token_sha256)).one_or_none()
    limits = {"idle_minutes": settings.session_idle_minutes, "hours": settings.session_hours}
    if row is None or not is_living(row, moment, **limits):
        return None
    if is_activity and moment - row.last_seen_at > timedelta(seconds=TOUCH_SECONDS):
        # A full disk or a lock may not take from people what they look at, nor keep them waiting for it; the next step
        # tries again, and the session ends the sooner by it.
        with suppress(Conflict), db.begin(patience=TOUCH_PATIENCE) as connection:
            touched = tables.session.c.token_sha256 == token_sha256
            connection.execute(update(tables.session).where(touched).values(last_seen_at=moment))
    return Person(row.id, row.name, counted_roles(row, settings.second_factor))


def seconds_until_idle_end(db: Database, settings: Settings, token: str) -> float | None:
    """How long this session lives on if nothing is done; None where it has ended already."""
    with db.read() as connection:
        row = connection.execute(session_query(digest(token))).one_or_none()
    limits = {"idle_minutes": settings.session_idle_minutes, "hours": settings.session_hours}
    if row is None or not is_living(row, now(), **limits):
        return None
    idle: timedelta = now() - row.last_seen_at
    return 60 * settings.session_idle_minutes - idle.total_seconds()


def actor_of(token: str) -> SessionActor:
    """What acts with this session token."""
    return SessionActor(digest(token))


def sign_out(db: Database, token: str) -> bool:
    """Ends the session for good; an unknown or ended token changes nothing.

    Whether it was of somebody who comes by single sign-on.
    """
    session, person = tables.session.c, tables.person.c
    with db.begin() as connection:
        person_id = connection.execute(
            update(tables.session)
            .where(session.token_sha256 == digest(token), session.revoked_at.is_(None))
            .values(revoked_at=now())
            .returning(session.person_id)
        ).scalar_one_or_none()
        if person_id is None:
            return False
        trail.record(connection, person_id, "sign out", f"person {person_id}")
        issuer = connection.execute(select(person.issuer).where(person.id == person_id)).scalar_one()
    return issuer is not None


def open_session(connection: Connection, person_id: int) -> str:
    """Writes the row of a new session and gives its token, which is kept nowhere else."""
    token, moment = secrets.token_urlsafe(32), now()
    connection.execute(
        insert(tables.session).values(
            token_sha256=digest(token), person_id=person_id, created_at=moment, last_seen_at=moment, revoked_at=None
        )
    )
    return token


def drop_old_sessions(connection: Connection, settings: Settings) -> None:
    """Rows that can never be alive again; who signed in when stays in the audit trail."""
    oldest = now() - timedelta(hours=settings.session_hours)
    connection.execute(tables.session.delete().where(tables.session.c.created_at < oldest))


def revoke_all(connection: Connection, person_id: int) -> None:
    """Ends every session of this person, at every browser."""
    session = tables.session.c
    connection.execute(
        update(tables.session)
        .where(session.person_id == person_id, session.revoked_at.is_(None))
        .values(revoked_at=now())
    )


def digest(secret: str) -> str:
    """What is kept of a random secret, so that a copy of the database lets nobody in."""
    return hashlib.sha256(secret.encode()).hexdigest()
