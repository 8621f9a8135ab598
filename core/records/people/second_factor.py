"""A second factor beside the password: a code of an authenticator, or one of ten recovery codes.

Who comes by single sign-on has the identity provider's. A site may demand it of administrators: until they have set it
up, their administrator's role does not count (`core.records.people.permissions.counted_roles`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from core.errors import Conflict
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people import accounts, sessions, throttle, totp
from core.records.people.accounts import ON_THIS_MACHINE, TERMINAL, AccountRefused
from core.records.people.permissions import Actor, acting, person_now
from core.records.people.throttle import Origin
from core.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator is set up with: as text to type, and as the address in the QR code. Shown once."""

    secret: str
    address: str


def is_set_up(db: Database, actor: Actor) -> bool:
    """Whether one's own second factor is asked for at sign-in."""
    with db.read() as connection:
        row = _row(connection, person_now(connection, actor).id)
    return row is not None and row.confirmed_at is not None


def begin(db: Database, actor: Actor) -> Enrolment:
    """A new secret for oneself, which counts once `confirm` has seen a code of it. Raises Conflict, SignedOut."""
    with db.begin() as connection:
        person = person_now(connection, actor)
        accounts.require_own_password(accounts.row_of(connection, person.id))
        row = _row(connection, person.id)
        if row is not None and row.confirmed_at is not None:
            raise Conflict("Your second factor is set up already. Remove it first, with a code of it.")
        secret = totp.new_secret()
        _delete(connection, person.id)
        connection.execute(
            insert(tables.second_factor).values(
                person_id=person.id, secret=totp.seal(db.site_key, secret), confirmed_at=None, last_step=0, recovery=[]
            )
        )
    return Enrolment(totp.secret_text(secret), totp.address_of(secret, person.name, db.settings.site_name))


def confirm(db: Database, actor: Actor, code: str) -> list[str]:
    """Switches it on, once the authenticator shows the right code; the recovery codes, which nobody sees again.

    Raises AccountRefused("second"), SignedOut.
    """
    with db.begin() as connection:
        person = person_now(connection, actor)
        row = _row(connection, person.id)
        step = _step(db, row, code) if row is not None and row.confirmed_at is None else None
        if step is None:
            raise AccountRefused("second")
        codes = totp.new_recovery_codes()
        _change(
            connection, person.id, confirmed_at=tables.now(), last_step=step,
            recovery=[totp.recovery_digest(db.site_key, one) for one in codes],
        )  # fmt: skip
        trail.record(connection, person.id, "set up second factor", f"person {person.id}")
    return codes


def remove(db: Database, actor: Actor, code: str) -> None:
    """Switches one's own off, with a code of it or a recovery code. Raises AccountRefused("second"), SignedOut."""
    with db.begin() as connection:
        person = person_now(connection, actor)
        attempt = throttle.count_attempt(connection, person.id, ON_THIS_MACHINE)
        row = _row(connection, person.id)
        is_right = not attempt.is_locked and row is not None and bool(_used(db, connection, row, code))
        if is_right:
            throttle.forget_attempts(connection, person.id, ON_THIS_MACHINE)
            _delete(connection, person.id)
            trail.record(connection, person.id, "remove second factor", f"person {person.id}")
        else:
            accounts.record_refused(connection, person.id, "second factor", attempt)
    if not is_right:
        raise AccountRefused("second")


def remove_of(db: Database, actor: Actor, person_id: int) -> None:
    """Switches it off for somebody who lost the authenticator. Raises NotAllowed, NotFound, Conflict for oneself."""
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        if person_id == administrator.id:
            raise Conflict("Remove your own second factor on the page Account.")
        accounts.row_of(connection, person_id)
        _delete(connection, person_id)
        trail.record(connection, administrator.id, "remove second factor", f"person {person_id}")


def remove_at_terminal(db: Database, name: str) -> None:
    """The same from the server's own terminal, also for the only administrator. Raises NotFound."""
    with db.begin() as connection:
        person_id = accounts.person_named(connection, name)
        _delete(connection, person_id)
        trail.record(connection, None, "remove second factor", f"person {person_id}", by=TERMINAL)


def sign_in(db: Database, settings: Settings, pending: str, code: str, *, origin: Origin = ON_THIS_MACHINE) -> str:
    """The token of a new session, for who has given the right password before (`pending`).

    Attempts count like those of a password. Raises AccountRefused: "late" when that was too long ago, "second".
    """
    with db.begin() as connection:
        row = _pending_row(db, connection, pending)
        if row is None:
            raise AccountRefused("late")
        attempt = throttle.count_attempt(connection, row.id, origin)
        factor = _row(connection, row.id)
        way = "" if attempt.is_locked or factor is None else _used(db, connection, factor, code)
        if way:
            throttle.forget_attempts(connection, row.id, origin)
            token = sessions.open_session(connection, row.id)
            trail.record(connection, row.id, "sign in", f"person {row.id}", by=way)
            sessions.drop_old_sessions(connection, settings)
        else:
            accounts.record_refused(connection, row.id, "second factor", attempt)
    if not way:
        raise AccountRefused("second")
    return token


def _pending_row(db: Database, connection: Connection, pending: str) -> Any | None:
    person_id = totp.pending_person(pending)
    person = tables.person
    row = connection.execute(select(person).where(person.c.id == person_id).with_for_update()).one_or_none()
    if row is None or row.disabled or not totp.is_pending(db.site_key, pending, row.id, row.password_hash):
        return None
    return row


def _used(db: Database, connection: Connection, row: Any, code: str) -> str:
    """How this code is right, "" when it is not; it is used up by that."""
    if row.confirmed_at is None:
        return ""
    step = _step(db, row, code)
    if step is not None:
        _change(connection, row.person_id, last_step=step)
        return "second factor"
    digest = totp.recovery_digest(db.site_key, code)
    if digest in row.recovery:
        _change(connection, row.person_id, recovery=[one for one in row.recovery if one != digest])
        return "recovery code"
    return ""


def _step(db: Database, row: Any, code: str) -> int | None:
    secret = totp.unseal(db.site_key, row.secret)
    return None if secret is None else totp.matching_step(secret, code, at=time.time(), after=row.last_step)


def _row(connection: Connection, person_id: int) -> Any | None:
    table = tables.second_factor
    return connection.execute(select(table).where(table.c.person_id == person_id)).one_or_none()


def _change(connection: Connection, person_id: int, **values: Any) -> None:
    table = tables.second_factor
    connection.execute(update(table).where(table.c.person_id == person_id).values(**values))


def _delete(connection: Connection, person_id: int) -> None:
    connection.execute(tables.second_factor.delete().where(tables.second_factor.c.person_id == person_id))
