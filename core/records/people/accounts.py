"""Who may come in: people, the first of them, and signing in.

Whatever goes wrong at sign-in, the person outside reads one and the same sentence after the same work, so that names
cannot be guessed from answers or times.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from core.errors import CHANGED_BY_ANOTHER, Conflict, InvalidInput, NotFound
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database, put_site_value, site_value
from core.records.database.tables import now
from core.records.people import passwords, sessions, throttle, totp
from core.records.people.permissions import (
    ROLES,
    Actor,
    Person,
    acting,
    person_now,
    require_permission_now,
)
from core.records.people.throttle import FAILURES_BEFORE_LOCK, LOCK_MINUTES, Attempt, Origin
from core.settings import Settings

log = logging.getLogger(__name__)

NAME_LENGTH_MOST = 80
ON_THIS_MACHINE = Origin()
TERMINAL = "local terminal"
"""Who acted, in the audit trail, when it was somebody at the server's own terminal."""
REASONS: Mapping[str, str] = {
    "wrong": (
        "Name and password do not match, or the name is locked here. "
        f"After {FAILURES_BEFORE_LOCK} failed attempts in a row a name is locked for {LOCK_MINUTES} minutes where they "
        "came from."
    ),
    "code": "This is not the setup code that the terminal shows. It is new at each start; copy it from there.",
    "exists": "The first administrator exists already. Sign in, or ask an administrator to add you.",
    "name": f"A name has 1 to {NAME_LENGTH_MOST} visible characters.",
    "taken": "Somebody has this name already. Choose another.",
    "roles": f"Choose at least one role: {', '.join(ROLES)}.",
    "short": f"A password has {passwords.LENGTH} to {passwords.LENGTH_MOST} characters.",
    "same": "The password must not be the name.",
    "simple": "This password repeats too few different characters. Use several words.",
    "repeat": "The two passwords are not the same.",
    "second": "This code is not right, was used already, or too many were tried. Wait for the next one.",
    "late": "The sign-in took too long. Begin again with your name and password.",
    "old": "The current password is not right.",
    "provider": "The identity provider did not confirm your sign-in. Try again; if it stays so, tell an administrator.",
    "first": "Nobody administers this site yet. The first administrator signs in with the setup code.",
    "no_role": (
        "You are known to the identity provider, but it gives you no role in SecondRead. "
        "Ask those who keep its groups, and sign in again afterwards."
    ),
    "disabled": "Your account in SecondRead is disabled. Ask an administrator of your site.",
    "link": "This link was used already, is too old or was replaced by another. Ask an administrator for a new one.",
}
"""Why an account function refused: the key may travel in an address, the sentence is what the person reads."""


class AccountRefused(InvalidInput):
    """A sign-in, a set-up or a change of an account was refused; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason])
        self.reason = reason


class SecondFactorNeeded(AccountRefused):
    """Name and password are right, and a code is asked for. pending: what says so for five minutes."""

    def __init__(self, pending: str) -> None:
        super().__init__("second")
        self.pending = pending


@dataclass(frozen=True, slots=True)
class PersonRow:
    """One line of the list of people.

    is_locked: too many failed sign-ins, for some minutes. is_sso: comes by single sign-on, and roles with it.
    is_invited: nobody has set a password with their link yet. has_link: the link can still be used.
    """

    id: int
    name: str
    roles: tuple[str, ...]
    is_disabled: bool
    is_locked: bool
    is_sso: bool
    has_second_factor: bool
    is_invited: bool
    has_link: bool
    created_at: datetime


def setup_code(db: Database) -> str | None:
    """A new one-time code for creating the first administrator, or None once there is an administrator.

    Writes: only its SHA-256 is kept, and the code of an earlier start is no longer good.
    """
    with db.begin() as connection:
        trail.lock_trail(connection)
        if has_administrator(connection):
            return None
        letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # nothing that is mistaken for something else: 5 bits each
        code = "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))
        put_site_value(connection, "setup_code_sha256", _digest_of_setup(code))
    return code


def _digest_of_setup(code: str) -> str:
    """Of its letters and digits alone: a terminal wraps it, and who copies it takes blanks or another dash along."""
    return sessions.digest("".join(sign for sign in code.upper() if sign.isalnum()))


def needs_first_administrator(db: Database) -> bool:
    """Whether nobody can administer yet, so that the first visitor with the setup code may."""
    with db.read() as connection:
        return not has_administrator(connection)


def create_first_administrator(db: Database, *, code: str, name: str, password: str) -> Person:
    """The first person, with all roles. Raises AccountRefused; the code is used up on success."""
    name, password_hash = checked_name(name), passwords.hash_password(checked_password(password, name))
    with db.begin() as connection:
        trail.lock_trail(connection)
        if has_administrator(connection):
            raise AccountRefused("exists")
        retained = site_value(connection, "setup_code_sha256")
        is_right = retained is not None and hmac.compare_digest(retained, _digest_of_setup(code))
        if is_right:
            put_site_value(connection, "setup_code_sha256", None)
            person = insert_person(connection, name, password_hash, ROLES)
            trail.record(connection, person.id, "set up", f"person {person.id}", roles=list(ROLES))
        else:
            trail.record(connection, None, "set-up refused", "setup code")
    if not is_right:
        raise AccountRefused("code")
    return person


def create_person(db: Database, actor: Actor, *, name: str, password: str, roles: Iterable[str]) -> Person:
    """A new person. Raises NotAllowed, AccountRefused."""
    require_permission_now(db, actor, "manage_people")
    name, chosen = checked_name(name), checked_roles(roles)
    password_hash = passwords.hash_password(checked_password(password, name))
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        trail.lock_trail(connection)
        if find_person(connection, name) is not None:
            raise AccountRefused("taken")
        person = insert_person(connection, name, password_hash, chosen)
        trail.record(connection, administrator.id, "create person", f"person {person.id}", roles=list(chosen))
    return person


def list_people(db: Database, actor: Actor) -> list[PersonRow]:
    """Everybody who has an account, by name. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_people") as (connection, _):
        rows = connection.execute(select(tables.person).order_by(tables.person.c.name)).all()
        locked = throttle.locked_people(connection)
        factor = tables.second_factor.c
        with_factor = set(
            connection.execute(select(factor.person_id).where(factor.confirmed_at.is_not(None))).scalars()
        )
        link = tables.invitation.c
        with_link = set(connection.execute(select(link.person_id).where(link.expires_at > now())).scalars())
    return [
        PersonRow(
            row.id, row.name, _in_order(row.roles), row.disabled, row.id in locked, row.issuer is not None,
            row.id in with_factor, row.issuer is None and row.password_hash == passwords.NO_PASSWORD,
            row.id in with_link, row.created_at,
        )
        for row in rows
    ]  # fmt: skip


def disable_person(db: Database, actor: Actor, person_id: int) -> None:
    """Nobody signs in as this person any more; running sessions end now. Raises NotAllowed, NotFound, InvalidInput."""
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        if person_id == administrator.id:
            raise InvalidInput("You cannot disable yourself. Another administrator can.")
        change_row(connection, person_id, disabled=True)
        sessions.revoke_all(connection, person_id)
        connection.execute(tables.invitation.delete().where(tables.invitation.c.person_id == person_id))
        trail.record(connection, administrator.id, "disable person", f"person {person_id}")


def enable_person(db: Database, actor: Actor, person_id: int) -> None:
    """Lets a disabled or locked person sign in again. Raises NotAllowed, NotFound."""
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        change_row(connection, person_id, disabled=False)
        throttle.forget_attempts(connection, person_id)
        trail.record(connection, administrator.id, "enable person", f"person {person_id}")


def sign_out_everywhere(db: Database, actor: Actor, person_id: int) -> None:
    """Ends every session of this person now; they may sign in again. Raises NotAllowed, NotFound."""
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        row_of(connection, person_id)
        sessions.revoke_all(connection, person_id)
        trail.record(connection, administrator.id, "sign out person", f"person {person_id}")


def set_roles(
    db: Database, actor: Actor, person_id: int, roles: Iterable[str], *, seen: Iterable[str] | None = None
) -> None:
    """Gives a person exactly these roles, from their next click on. Raises NotAllowed, NotFound, InvalidInput.

    seen: the roles that whoever decides had before them; Conflict where they are others by now, so that a role which
    somebody took meanwhile is not given back by a form that still shows it.
    """
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        chosen = checked_roles(roles)
        if person_id == administrator.id and "administrator" not in chosen:
            raise InvalidInput("You cannot take the administrator's role from yourself. Another administrator can.")
        row = row_of(connection, person_id, is_for_change=True)
        require_own_password(row)
        if seen is not None and set(seen) != set(row.roles):
            raise Conflict(CHANGED_BY_ANOTHER)
        change_row(connection, person_id, roles=list(chosen))
        trail.record(connection, administrator.id, "set roles", f"person {person_id}", roles=list(chosen))


def reset_password(db: Database, actor: Actor, person_id: int, password: str) -> None:
    """A new password for somebody who lost theirs; their sessions end. Raises NotAllowed, NotFound, AccountRefused."""
    with acting(db.read(), actor, "manage_people") as (connection, _):
        row = row_of(connection, person_id)
    require_own_password(row)
    password_hash = passwords.hash_password(checked_password(password, row.name))
    with acting(db.begin(), actor, "manage_people") as (connection, administrator):
        change_row(connection, person_id, password_hash=password_hash)
        throttle.forget_attempts(connection, person_id)
        sessions.revoke_all(connection, person_id)
        connection.execute(tables.invitation.delete().where(tables.invitation.c.person_id == person_id))
        trail.record(connection, administrator.id, "reset password", f"person {person_id}")


def change_password(db: Database, actor: Actor, *, old: str, new: str, origin: Origin = ON_THIS_MACHINE) -> None:
    """One's own password; all sessions of the person end, this one too. Raises AccountRefused.

    A wrong `old` counts towards the lock like a failed sign-in. Raises SignedOut.
    """
    with db.read() as connection:
        person = person_now(connection, actor)
    new_hash = passwords.hash_password(checked_password(new, person.name))
    row, attempt = _count_attempt(db, person.name, origin)
    if row is None or not passwords.matches(row.password_hash, old) or attempt.is_locked:
        _record_failure(db, row, attempt)
        raise AccountRefused("old")
    with db.begin() as connection:
        person = person_now(connection, actor)
        change_row(connection, person.id, password_hash=new_hash)
        throttle.forget_attempts(connection, person.id, origin)
        sessions.revoke_all(connection, person.id)
        trail.record(connection, person.id, "change password", f"person {person.id}")


def sign_in(db: Database, settings: Settings, name: str, password: str, *, origin: Origin = ON_THIS_MACHINE) -> str:
    """The token of a new session. Raises AccountRefused("wrong") whatever the cause, SecondFactorNeeded.

    The attempt is counted before the password is looked at: many guesses at the same moment cannot slip past the lock.
    Comparing takes its time, so the row is read again before the session begins: who was given another password or
    disabled meanwhile does not come in.
    """
    row, attempt = _count_attempt(db, name, origin)
    is_right = passwords.matches(row.password_hash if row else passwords.nobodys_hash(), password)
    if row is None or not is_right or row.disabled or attempt.is_locked:
        _record_failure(db, row, attempt)
        raise AccountRefused("wrong")
    new_hash = passwords.hash_password(password) if passwords.needs_rehash(row.password_hash) else row.password_hash
    token, needs_code = "", False
    with db.begin() as connection:
        now = row_of(connection, row.id, is_for_change=True)
        is_the_same = not now.disabled and now.password_hash == row.password_hash
        if is_the_same:
            if new_hash != row.password_hash:
                change_row(connection, row.id, password_hash=new_hash)
            needs_code = has_second_factor(connection, row.id)
        if needs_code and attempt.is_last:
            throttle.leave_one_attempt(connection, row.id, origin)
        if is_the_same and not needs_code:
            throttle.forget_attempts(connection, row.id, origin)
            token = sessions.open_session(connection, row.id)
            trail.record(connection, row.id, "sign in", f"person {row.id}")
            sessions.drop_old_sessions(connection, settings)
    if not is_the_same:
        _record_failure(db, now, attempt)
        raise AccountRefused("wrong")
    if needs_code:  # the attempt stays counted until the code is right, or codes could be guessed without end
        raise SecondFactorNeeded(totp.pending_token(db.site_key, row.id, new_hash))
    return token


def _count_attempt(db: Database, name: str, origin: Origin) -> tuple[Any | None, Attempt]:
    """Counts one attempt for this name from there, and gives the person's row; None for an unknown name."""
    with db.begin() as connection:
        found = find_person(connection, name)
        if found is None:
            return None, Attempt(is_locked=False)
        row = connection.execute(select(tables.person).where(tables.person.c.id == found).with_for_update()).one()
        return row, throttle.count_attempt(connection, row.id, origin)


def has_second_factor(connection: Connection, person_id: int) -> bool:
    """Whether a code is asked for after this person's password."""
    table = tables.second_factor.c
    found = select(table.person_id).where(table.person_id == person_id, table.confirmed_at.is_not(None))
    return connection.execute(found).first() is not None


def enter(db: Database, person: Person) -> str:
    """The token of a session for who has just set a password with a link or the setup code.

    Raises SecondFactorNeeded: a link replaces the password, not the second factor.
    """
    with db.read() as connection:
        needs_code = has_second_factor(connection, person.id)
        password_hash = row_of(connection, person.id).password_hash
    if needs_code:
        raise SecondFactorNeeded(totp.pending_token(db.site_key, person.id, password_hash))
    return sessions.start_session(db, person)


def record_refused(connection: Connection, person_id: int, cause: str, attempt: Attempt) -> None:
    """Audits an attempt of a known person that was refused."""
    cause = "locked" if attempt.is_locked else cause
    trail.record(connection, None, "sign-in refused", f"person {person_id}", cause=cause)
    if attempt.is_last:
        trail.record(connection, None, "lock person", f"person {person_id}", minutes=LOCK_MINUTES)
    log.warning("A sign-in was refused: person %d, %s", person_id, cause)


def _record_failure(db: Database, row: Any | None, attempt: Attempt) -> None:
    """Audits a refused attempt. An unknown name is not written down: people type passwords into the wrong box."""
    with db.begin() as connection:
        if row is not None:
            record_refused(connection, row.id, "disabled" if row.disabled else "password", attempt)
            return
        trail.record(connection, None, "sign-in refused", "unknown name", cause="unknown")
    log.warning("A sign-in was refused: unknown name")


def insert_person(connection: Connection, name: str, password_hash: str, roles: Iterable[str]) -> Person:
    chosen = tuple(roles)
    person_id = connection.execute(
        insert(tables.person)
        .values(
            name=name, password_hash=password_hash, roles=list(chosen), disabled=False, created_at=now(),
        )
        .returning(tables.person.c.id)
    ).scalar_one()  # fmt: skip
    return Person(person_id, name, chosen)


def change_row(connection: Connection, person_id: int, **values: Any) -> None:
    done = connection.execute(update(tables.person).where(tables.person.c.id == person_id).values(**values))
    if done.rowcount != 1:
        raise NotFound("This person is not in the list any more.")


def row_of(connection: Connection, person_id: int, *, is_for_change: bool = False) -> Any:
    query = select(tables.person).where(tables.person.c.id == person_id)
    row = connection.execute(query.with_for_update() if is_for_change else query).one_or_none()
    if row is None:
        raise NotFound("This person is not in the list any more.")
    return row


def require_own_password(row: Any) -> None:
    """Raises Conflict for somebody whom the identity provider vouches for: roles and proof come from there alone."""
    if row.issuer is not None:
        raise Conflict("This person comes by single sign-on: roles and password are kept by the identity provider.")


def has_password(db: Database, actor: Actor) -> bool:
    """Whether this person signs in with a password of ours, and not by single sign-on."""
    with db.read() as connection:
        return row_of(connection, person_now(connection, actor).id).issuer is None


def find_person(connection: Connection, name: str) -> int | None:
    """The id of the person with this name, whatever the case it is typed in (databases differ beyond ASCII)."""
    wanted = passwords.folded(name)
    for person_id, known in connection.execute(select(tables.person.c.id, tables.person.c.name)):
        if passwords.folded(known) == wanted:
            return int(person_id)
    return None


def has_administrator(connection: Connection) -> bool:
    """Whether anybody can administer, disabled people included: disabling never opens the set-up again."""
    rows = connection.execute(select(tables.person.c.roles)).scalars()
    return any("administrator" in roles for roles in rows)


def checked_name(name: str) -> str:
    tidy = " ".join(unicodedata.normalize("NFC", name).split())
    if not 0 < len(tidy) <= NAME_LENGTH_MOST or not tidy.isprintable():
        raise AccountRefused("name")
    return tidy


def checked_password(password: str, name: str) -> str:
    problem = passwords.problem_with(password, name)
    if problem is not None:
        raise AccountRefused(problem)
    return password


def checked_roles(roles: Iterable[str]) -> tuple[str, ...]:
    given = set(roles)
    if not given or given - set(ROLES):
        raise AccountRefused("roles")
    return _in_order(given)


def _in_order(roles: Iterable[str]) -> tuple[str, ...]:
    return tuple(role for role in ROLES if role in set(roles))


def unlock_at_terminal(db: Database, name: str) -> None:
    """Lets this person sign in again, locked or disabled. For the server's own terminal. Raises NotFound."""
    with db.begin() as connection:
        person_id = person_named(connection, name)
        change_row(connection, person_id, disabled=False)
        throttle.forget_attempts(connection, person_id)
        trail.record(connection, None, "enable person", f"person {person_id}", by=TERMINAL)


def make_administrator_at_terminal(db: Database, name: str) -> None:
    """Adds the administrator's role to this person's. For the server's own terminal. Raises NotFound, Conflict."""
    with db.begin() as connection:
        person_id = person_named(connection, name)
        row = row_of(connection, person_id)
        require_own_password(row)
        roles = _in_order({*row.roles, "administrator"})
        change_row(connection, person_id, roles=list(roles))
        trail.record(connection, None, "set roles", f"person {person_id}", roles=list(roles), by=TERMINAL)


def person_named(connection: Connection, name: str) -> int:
    """As `find_person`. Raises NotFound."""
    person_id = find_person(connection, name)
    if person_id is None:
        raise NotFound("Nobody has this name. Type it as the page People shows it, in quotation marks.")
    return person_id
