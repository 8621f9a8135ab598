"""One-time links: a person sets their own first password, or a new one, and no administrator ever knows it.

A link holds 256 random bits; the database keeps their SHA-256, until the link is used, replaced or too old.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, and_, insert, select

from core.errors import Conflict
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.tables import now
from core.records.people import accounts, passwords, sessions, throttle
from core.records.people.accounts import AccountRefused
from core.records.people.permissions import Actor, Person, acting

VALID_HOURS = 48


def invite_person(db: Database, actor: Actor, *, name: str, roles: Iterable[str]) -> tuple[Person, str]:
    """A new person without a password, and the token of the link that sets it. Raises NotAllowed, AccountRefused."""
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        name, chosen = accounts.checked_name(name), accounts.checked_roles(roles)
        trail.lock_trail(connection)
        if accounts.find_person(connection, name) is not None:
            raise AccountRefused("taken")
        person = accounts.insert_person(connection, name, passwords.NO_PASSWORD, chosen)
        token = _new_link(connection, person.id, created_by=administrator.id)
        trail.record(connection, administrator.id, "invite person", f"person {person.id}", roles=list(chosen))
    return person, token


def reset_by_link(db: Database, actor: Actor, person_id: int) -> str:
    """The token of a link that sets a new password. The old password and all sessions end now, earlier links too.

    Raises NotAllowed, NotFound; Conflict for oneself, for somebody who is disabled and for single sign-on.
    """
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        if person_id == administrator.id:
            raise Conflict("You would lock yourself out. Change your own password on the page Account.")
        token = _reset(connection, person_id, created_by=administrator.id)
        trail.record(connection, administrator.id, "reset by link", f"person {person_id}")
    return token


def link_at_terminal(db: Database, name: str) -> str:
    """As `reset_by_link`, for the server's own terminal: also for the only administrator, and for oneself.

    Raises NotFound; Conflict for somebody who is disabled and for single sign-on.
    """
    with db.begin() as connection:
        person_id = accounts.person_named(connection, name)
        token = _reset(connection, person_id, created_by=person_id)
        trail.record(connection, None, "reset by link", f"person {person_id}", by=accounts.TERMINAL)
    return token


def is_open(db: Database, token: str) -> bool:
    """Whether this link can still be used."""
    with db.read() as connection:
        return _person_of(connection, token) is not None


def use_link(db: Database, token: str, password: str) -> Person:
    """Sets the password and uses the link up. Raises AccountRefused; a refused password leaves the link open."""
    with db.read() as connection:
        person_id = _person_of(connection, token)
        name = accounts.row_of(connection, person_id).name if person_id is not None else ""
    if person_id is None:
        with db.begin() as connection:
            trail.record(connection, None, "link refused", "one-time link")
        raise AccountRefused("link")
    password_hash = passwords.hash_password(accounts.checked_password(password, name))
    with db.begin() as connection:
        used = connection.execute(
            tables.invitation.delete().where(tables.invitation.c.token_sha256 == sessions.digest(token), _is_valid())
        )
        if used.rowcount != 1:  # somebody else was faster with the same link
            raise AccountRefused("link")
        accounts.change_row(connection, person_id, password_hash=password_hash)
        throttle.forget_attempts(connection, person_id)
        sessions.revoke_all(connection, person_id)
        row = accounts.row_of(connection, person_id)
        trail.record(connection, person_id, "set password by link", f"person {person_id}")
    return Person(row.id, row.name, row.roles)


def _reset(connection: Connection, person_id: int, *, created_by: int) -> str:
    """Ends password, sessions and earlier links of this person; the token of the new link. Raises Conflict."""
    row = accounts.row_of(connection, person_id)
    accounts.require_own_password(row)
    if row.disabled:
        raise Conflict("This person is disabled. Let them sign in again first.")
    accounts.change_row(connection, person_id, password_hash=passwords.NO_PASSWORD)
    throttle.forget_attempts(connection, person_id)
    sessions.revoke_all(connection, person_id)
    return _new_link(connection, person_id, created_by=created_by)


def _new_link(connection: Connection, person_id: int, *, created_by: int) -> str:
    token, moment = secrets.token_urlsafe(32), now()
    connection.execute(tables.invitation.delete().where(tables.invitation.c.person_id == person_id))
    connection.execute(
        insert(tables.invitation).values(
            token_sha256=sessions.digest(token),
            person_id=person_id,
            created_by=created_by,
            created_at=moment,
            expires_at=moment + timedelta(hours=VALID_HOURS),
        )
    )
    return token


def _person_of(connection: Connection, token: str) -> int | None:
    link, person = tables.invitation.c, tables.person.c
    return connection.execute(
        select(link.person_id)
        .join_from(tables.invitation, tables.person, link.person_id == person.id)
        .where(link.token_sha256 == sessions.digest(token), _is_valid(), person.disabled.is_(False))
    ).scalar_one_or_none()


def _is_valid() -> ColumnElement[bool]:
    """Whether a link is not too old, nor of a clock that was ahead: it would be valid for longer than any."""
    moment, expires = now(), tables.invitation.c.expires_at
    return and_(expires > moment, expires <= moment + timedelta(hours=VALID_HOURS) + tables.CLOCK_STEP)
