"""Who may come in: people, their passwords and their sessions.

Passwords are kept as Argon2id hashes. A session is 256 random bits in a cookie; the database keeps only their SHA-256,
so that a copy of the database signs nobody in. Whatever goes wrong at sign-in, the person outside reads one and the
same sentence after the same work, so that names cannot be guessed from answers or times.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, insert, select, update

from core.errors import InvalidInput, NotFound
from core.records import audit, tables
from core.records.db import Database
from core.records.permissions import ROLES, Person, demand
from core.settings import Settings

log = logging.getLogger(__name__)

FAILURES_BEFORE_LOCK = 5
LOCK_MINUTES = 15
PASSWORD_LENGTH = 12
PASSWORD_LENGTH_MOST = 256
NAME_LENGTH_MOST = 80
TOUCH_SECONDS = 30
"""`last_seen_at` is written at most this often, so that reading does not mean writing."""

REASONS: Mapping[str, str] = {
    "wrong": (
        "Name and password do not match, or the name is locked. "
        f"After {FAILURES_BEFORE_LOCK} failed attempts in a row a name is locked for {LOCK_MINUTES} minutes."
    ),
    "code": "This is not the setup code that the terminal shows. It is new at each start; copy it from there.",
    "exists": "The first administrator exists already. Sign in, or ask an administrator to add you.",
    "name": f"A name has 1 to {NAME_LENGTH_MOST} visible characters.",
    "taken": "Somebody has this name already. Choose another.",
    "roles": f"Choose at least one role: {', '.join(ROLES)}.",
    "short": f"A password has {PASSWORD_LENGTH} to {PASSWORD_LENGTH_MOST} characters.",
    "same": "The password must not be the name.",
    "simple": "This password repeats too few different characters. Use several words.",
    "repeat": "The two passwords are not the same.",
    "old": "The current password is not right.",
}
"""Why an account function refused: the key may travel in an address, the sentence is what the person reads."""


class AccountRefused(InvalidInput):
    """A sign-in, a set-up or a change of an account was refused; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason])
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PersonRow:
    """One line of the list of people. is_locked: too many failed sign-ins, for some minutes."""

    id: int
    name: str
    roles: tuple[str, ...]
    is_disabled: bool
    is_locked: bool
    created_at: datetime


def setup_code(db: Database) -> str | None:
    """A new one-time code for creating the first administrator, or None once there is an administrator.

    Writes: only its SHA-256 is kept, and the code of an earlier start is no longer good.
    """
    with db.begin() as connection:
        if _administrators(connection):
            return None
        letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # nothing that is mistaken for something else: 5 bits each
        code = "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))
        connection.execute(tables.site.delete().where(tables.site.c.key == "setup_code_sha256"))
        connection.execute(insert(tables.site).values(key="setup_code_sha256", value=_digest(code)))
    return code


def needs_first_administrator(db: Database) -> bool:
    """Whether nobody can administer yet, so that the first visitor with the setup code may."""
    with db.begin() as connection:
        return not _administrators(connection)


def create_first_administrator(db: Database, *, code: str, name: str, password: str) -> Person:
    """The first person, with all roles. Raises AccountRefused; the code is used up on success."""
    name, password_hash = _checked_name(name), _hash(_checked_password(password, name))
    with db.begin() as connection:
        if _administrators(connection):
            raise AccountRefused("exists")
        kept = connection.execute(
            select(tables.site.c.value).where(tables.site.c.key == "setup_code_sha256")
        ).scalar_one_or_none()
        is_right = kept is not None and hmac.compare_digest(kept, _digest(code.strip().upper()))
        if is_right:
            connection.execute(tables.site.delete().where(tables.site.c.key == "setup_code_sha256"))
            person = _insert_person(connection, name, password_hash, ROLES)
            audit.record(connection, person.id, "set up", f"person {person.id}", roles=list(person.roles))
        else:
            audit.record(connection, None, "set-up refused", "setup code")
    if not is_right:
        raise AccountRefused("code")
    return person


def create_person(db: Database, actor: Person, *, name: str, password: str, roles: Iterable[str]) -> Person:
    """A new person. Raises NotAllowed, AccountRefused."""
    demand(actor, "manage_people")
    name, chosen = _checked_name(name), _checked_roles(roles)
    password_hash = _hash(_checked_password(password, name))
    with db.begin() as connection:
        if _find(connection, name) is not None:
            raise AccountRefused("taken")
        person = _insert_person(connection, name, password_hash, chosen)
        audit.record(connection, actor.id, "create person", f"person {person.id}", roles=list(chosen))
    return person


def list_people(db: Database, actor: Person) -> list[PersonRow]:
    """Everybody who has an account, by name. Raises NotAllowed."""
    demand(actor, "manage_people")
    with db.begin() as connection:
        rows = connection.execute(select(tables.person).order_by(tables.person.c.name)).all()
    return [
        PersonRow(row.id, row.name, tuple(row.roles), row.disabled, _is_locked(row), _aware(row.created_at))
        for row in rows
    ]


def disable_person(db: Database, actor: Person, person_id: int) -> None:
    """Nobody signs in as this person any more; running sessions end now. Raises NotAllowed, NotFound, InvalidInput."""
    demand(actor, "manage_people")
    if person_id == actor.id:
        raise InvalidInput("You cannot disable yourself. Another administrator can.")
    with db.begin() as connection:
        _change(connection, person_id, disabled=True)
        _revoke_all(connection, person_id)
        audit.record(connection, actor.id, "disable person", f"person {person_id}")


def enable_person(db: Database, actor: Person, person_id: int) -> None:
    """Lets a disabled or locked person sign in again. Raises NotAllowed, NotFound."""
    demand(actor, "manage_people")
    with db.begin() as connection:
        _change(connection, person_id, disabled=False, failed_count=0, locked_until=None)
        audit.record(connection, actor.id, "enable person", f"person {person_id}")


def set_roles(db: Database, actor: Person, person_id: int, roles: Iterable[str]) -> None:
    """Gives a person exactly these roles, from their next click on. Raises NotAllowed, NotFound, InvalidInput."""
    demand(actor, "manage_people")
    chosen = _checked_roles(roles)
    if person_id == actor.id and "administrator" not in chosen:
        raise InvalidInput("You cannot take the administrator's role from yourself. Another administrator can.")
    with db.begin() as connection:
        _change(connection, person_id, roles=list(chosen))
        audit.record(connection, actor.id, "set roles", f"person {person_id}", roles=list(chosen))


def reset_password(db: Database, actor: Person, person_id: int, password: str) -> None:
    """A new password for somebody who lost theirs; their sessions end. Raises NotAllowed, NotFound, AccountRefused."""
    demand(actor, "manage_people")
    with db.begin() as connection:
        row = _row(connection, person_id)
    password_hash = _hash(_checked_password(password, row.name))
    with db.begin() as connection:
        _change(connection, person_id, password_hash=password_hash, failed_count=0, locked_until=None)
        _revoke_all(connection, person_id)
        audit.record(connection, actor.id, "reset password", f"person {person_id}")


def change_password(db: Database, person: Person, *, old: str, new: str) -> None:
    """One's own password; all sessions of the person end, this one too. Raises AccountRefused.

    A wrong `old` counts towards the lock like a failed sign-in.
    """
    new_hash = _hash(_checked_password(new, person.name))
    row = _count_attempt(db, person.name)
    if row is None or not _verify(row.password_hash, old) or _is_locked(row):
        _record_failure(db, row)
        raise AccountRefused("old")
    with db.begin() as connection:
        _change(connection, person.id, password_hash=new_hash, failed_count=0, locked_until=None)
        _revoke_all(connection, person.id)
        audit.record(connection, person.id, "change password", f"person {person.id}")


def sign_in(db: Database, settings: Settings, name: str, password: str) -> str:
    """The token of a new session. Raises AccountRefused("wrong") whatever the cause.

    The attempt is counted before the password is looked at: many guesses at the same moment cannot slip past the lock.
    """
    row = _count_attempt(db, name)
    is_right = _verify(row.password_hash if row else _dummy_hash(), password)
    if row is None or not is_right or row.disabled or _is_locked(row):
        _record_failure(db, row)
        raise AccountRefused("wrong")
    values: dict[str, Any] = {"failed_count": 0, "locked_until": None}
    if _hasher().check_needs_rehash(row.password_hash):
        values["password_hash"] = _hash(password)
    with db.begin() as connection:
        _change(connection, row.id, **values)
        token = _insert_session(connection, row.id)
        audit.record(connection, row.id, "sign in", f"person {row.id}")
        _drop_old_sessions(connection, settings)
    return token


def start_session(db: Database, person: Person) -> str:
    """The token of a session for somebody who has just proved who they are in another way (the setup code)."""
    with db.begin() as connection:
        token = _insert_session(connection, person.id)
        audit.record(connection, person.id, "sign in", f"person {person.id}")
    return token


def person_of(db: Database, settings: Settings, token: str, *, is_activity: bool = True) -> Person | None:
    """Who this session belongs to, or None: unknown, signed out, idle too long, too old, or the person is disabled.

    is_activity: False only looks; True keeps the session awake.
    """
    if not token:
        return None
    now = _now()
    session, person = tables.session.c, tables.person.c
    with db.begin() as connection:
        row = connection.execute(
            select(
                person.id, person.name, person.roles, person.disabled,
                session.created_at, session.last_seen_at, session.revoked_at,
            )
            .join_from(tables.session, tables.person, session.person_id == person.id)
            .where(session.token_sha256 == _digest(token))
        ).one_or_none()  # fmt: skip
        if row is None or row.revoked_at is not None or row.disabled:
            return None
        last_seen = _aware(row.last_seen_at)
        if now - last_seen > timedelta(minutes=settings.session_idle_minutes):
            return None
        if now - _aware(row.created_at) > timedelta(hours=settings.session_hours):
            return None
        if is_activity and now - last_seen > timedelta(seconds=TOUCH_SECONDS):
            connection.execute(
                update(tables.session).where(session.token_sha256 == _digest(token)).values(last_seen_at=now)
            )
    return Person(row.id, row.name, tuple(row.roles))


def sign_out(db: Database, token: str) -> None:
    """Ends the session for good; an unknown or ended token changes nothing."""
    session = tables.session.c
    with db.begin() as connection:
        person_id = connection.execute(
            update(tables.session)
            .where(session.token_sha256 == _digest(token), session.revoked_at.is_(None))
            .values(revoked_at=_now())
            .returning(session.person_id)
        ).scalar_one_or_none()
        if person_id is not None:
            audit.record(connection, person_id, "sign out", f"person {person_id}")


def _count_attempt(db: Database, name: str) -> Any | None:
    """Counts one attempt for this name and gives the row as it was before; None for an unknown name."""
    with db.begin() as connection:
        found = _find(connection, name)
        if found is None:
            return None
        row = connection.execute(select(tables.person).where(tables.person.c.id == found).with_for_update()).one()
        if _is_locked(row):
            return row
        is_lock_over = row.locked_until is not None
        count = 1 if is_lock_over else row.failed_count + 1
        until = _now() + timedelta(minutes=LOCK_MINUTES) if count >= FAILURES_BEFORE_LOCK else None
        _change(connection, row.id, failed_count=count, locked_until=until)
        return row


def _record_failure(db: Database, row: Any | None) -> None:
    """Audits a refused attempt. An unknown name is not written down: people type passwords into the wrong box."""
    with db.begin() as connection:
        if row is None:
            audit.record(connection, None, "sign-in refused", "unknown name")
            return
        cause = "disabled" if row.disabled else "locked" if _is_locked(row) else "password"
        audit.record(connection, None, "sign-in refused", f"person {row.id}", cause=cause)
        is_last = row.failed_count + 1 == FAILURES_BEFORE_LOCK and row.locked_until is None
        if is_last:
            audit.record(connection, None, "lock person", f"person {row.id}", minutes=LOCK_MINUTES)
    log.warning("A sign-in was refused (%s)", "unknown name" if row is None else f"person {row.id}, {cause}")


def _insert_person(connection: Connection, name: str, password_hash: str, roles: Iterable[str]) -> Person:
    chosen = tuple(roles)
    person_id = connection.execute(
        insert(tables.person)
        .values(
            name=name, password_hash=password_hash, roles=list(chosen), disabled=False,
            failed_count=0, locked_until=None, created_at=_now(),
        )
        .returning(tables.person.c.id)
    ).scalar_one()  # fmt: skip
    return Person(person_id, name, chosen)


def _insert_session(connection: Connection, person_id: int) -> str:
    token, now = secrets.token_urlsafe(32), _now()
    connection.execute(
        insert(tables.session).values(
            token_sha256=_digest(token), person_id=person_id, created_at=now, last_seen_at=now, revoked_at=None
        )
    )
    return token


def _drop_old_sessions(connection: Connection, settings: Settings) -> None:
    """Rows that can never be alive again; who signed in when stays in the audit trail."""
    oldest = _now() - timedelta(hours=settings.session_hours)
    connection.execute(tables.session.delete().where(tables.session.c.created_at < oldest))


def _revoke_all(connection: Connection, person_id: int) -> None:
    session = tables.session.c
    connection.execute(
        update(tables.session)
        .where(session.person_id == person_id, session.revoked_at.is_(None))
        .values(revoked_at=_now())
    )


def _change(connection: Connection, person_id: int, **values: Any) -> None:
    done = connection.execute(update(tables.person).where(tables.person.c.id == person_id).values(**values))
    if done.rowcount != 1:
        raise NotFound("This person is not in the list any more.")


def _row(connection: Connection, person_id: int) -> Any:
    row = connection.execute(select(tables.person).where(tables.person.c.id == person_id)).one_or_none()
    if row is None:
        raise NotFound("This person is not in the list any more.")
    return row


def _find(connection: Connection, name: str) -> int | None:
    """The id of the person with this name, whatever the case it is typed in (databases differ beyond ASCII)."""
    wanted = _folded(name)
    for person_id, known in connection.execute(select(tables.person.c.id, tables.person.c.name)):
        if _folded(known) == wanted:
            return person_id
    return None


def _administrators(connection: Connection) -> int:
    """How many people can administer, disabled ones included: disabling never opens the set-up again."""
    rows = connection.execute(select(tables.person.c.roles)).scalars()
    return sum("administrator" in roles for roles in rows)


def _checked_name(name: str) -> str:
    tidy = " ".join(unicodedata.normalize("NFC", name).split())
    if not 0 < len(tidy) <= NAME_LENGTH_MOST or not tidy.isprintable():
        raise AccountRefused("name")
    return tidy


def _checked_password(password: str, name: str) -> str:
    if not PASSWORD_LENGTH <= len(password) <= PASSWORD_LENGTH_MOST:
        raise AccountRefused("short")
    if _folded(password) == _folded(name):
        raise AccountRefused("same")
    if len(set(password)) < 5:
        raise AccountRefused("simple")
    return password


def _checked_roles(roles: Iterable[str]) -> tuple[str, ...]:
    given = set(roles)
    if not given or given - set(ROLES):
        raise AccountRefused("roles")
    return tuple(role for role in ROLES if role in given)


def _is_locked(row: Any) -> bool:
    return row.locked_until is not None and _aware(row.locked_until) > _now()


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    return PasswordHasher()  # Argon2id with RFC 9106's low-memory profile: 64 MiB, 3 passes, 4 lanes


@lru_cache(maxsize=1)
def _dummy_hash() -> str:
    """What the password of an unknown name is compared with, so that it takes as long as a known one."""
    return _hasher().hash(secrets.token_urlsafe(32))


def _hash(password: str) -> str:
    return _hasher().hash(unicodedata.normalize("NFKC", password))


def _verify(password_hash: str, password: str) -> bool:
    if len(password) > PASSWORD_LENGTH_MOST:
        password = ""  # nobody's password, and not worth hashing
    try:
        return _hasher().verify(password_hash, unicodedata.normalize("NFKC", password))
    except (VerificationError, InvalidHashError):
        return False


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _now() -> datetime:
    return datetime.now(UTC)


def _aware(moment: datetime) -> datetime:
    """SQLite gives times back without their zone; all of ours are UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
