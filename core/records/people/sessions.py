"""Sessions: who sits at which browser, from signing in to signing out or to one of the two time limits.

A session is 256 random bits in a cookie; the database keeps only their SHA-256.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import Connection, insert, select, update

from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.tables import now
from core.records.people.permissions import Person
from core.settings import Settings

TOUCH_SECONDS = 30
"""`last_seen_at` is written at most this often, so that reading does not mean writing."""


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
    moment = now()
    session, person = tables.session.c, tables.person.c
    with db.read() as connection:
        row = connection.execute(
            select(
                person.id, person.name, person.roles, person.disabled,
                session.created_at, session.last_seen_at, session.revoked_at,
            )
            .join_from(tables.session, tables.person, session.person_id == person.id)
            .where(session.token_sha256 == digest(token))
        ).one_or_none()  # fmt: skip
    if row is None or row.revoked_at is not None or row.disabled:
        return None
    idle, age = moment - row.last_seen_at, moment - row.created_at
    if idle > timedelta(minutes=settings.session_idle_minutes) or age > timedelta(hours=settings.session_hours):
        return None
    if is_activity and idle > timedelta(seconds=TOUCH_SECONDS):
        with db.begin() as connection:
            connection.execute(
                update(tables.session).where(session.token_sha256 == digest(token)).values(last_seen_at=moment)
            )
    return Person(row.id, row.name, row.roles)


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
