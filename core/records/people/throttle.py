"""How often a password may be guessed: counted for a name together with where the guess comes from.

Somebody who fails on purpose closes the name for their own address alone, for some minutes. A browser in which a
person has signed in before carries a device token, and counts by itself: whoever guesses from the same address, or
from very many, does not close the door to it. No name is ever closed for good, and `python -m core people unlock`
opens it at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from core.records.database import tables
from core.records.database.tables import now

FAILURES_BEFORE_LOCK = 5
LOCK_MINUTES = 15
NAME_FAILURES = 100
"""Failures of one name within `LOCK_MINUTES`, from all addresses; then only known browsers may try."""
DEVICES_MOST = 8
"""People of whom one browser may be known to be used: more than share a reading room's screen in a day."""
FORGOTTEN_DAYS = 30
_LOCKED_MOST = timedelta(minutes=LOCK_MINUTES) + tables.CLOCK_STEP
"""A lock that ends later was made by a clock that was wrong, and is none."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an attempt comes from. address: as `core.server.addresses.client_address` counts it, "" on this machine.

    devices: the device tokens of the browser, which may be made up.
    """

    address: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """What counting found. is_locked: refused whatever the password is. is_last: the one that closes the door."""

    is_locked: bool
    is_last: bool = False


def count_attempt(connection: Connection, person_id: int, origin: Origin) -> Attempt:
    """Counts one attempt before its password is looked at, in the caller's transaction.

    The caller holds the person's row, or two guesses at once would count as one.
    """
    table, moment = tables.sign_in_attempt, now()
    key, is_known = _key_of(connection, person_id, origin)
    row = connection.execute(select(table).where(table.c.person_id == person_id, table.c.origin == key)).one_or_none()
    if row is not None and row.locked_until is not None and moment < row.locked_until <= moment + _LOCKED_MOST:
        return Attempt(is_locked=True)
    if not is_known and _recent_failures(connection, person_id) >= NAME_FAILURES:
        return Attempt(is_locked=True)
    n_failed = 1 if row is None or row.locked_until is not None else row.n_failed + 1
    is_last = n_failed >= FAILURES_BEFORE_LOCK
    values = {
        "n_failed": n_failed,
        "last_at": moment,
        "locked_until": moment + timedelta(minutes=LOCK_MINUTES) if is_last else None,
    }
    if row is None:
        connection.execute(insert(table).values(person_id=person_id, origin=key, **values))
    else:
        connection.execute(update(table).where(table.c.person_id == person_id, table.c.origin == key).values(**values))
    return Attempt(is_locked=False, is_last=is_last)


def leave_one_attempt(connection: Connection, person_id: int, origin: Origin) -> None:
    """Opens the door that a right password has closed as the last attempt, for one code: a wrong one closes it."""
    table, key = tables.sign_in_attempt, _key_of(connection, person_id, origin)[0]
    counted = (table.c.person_id == person_id, table.c.origin == key, table.c.n_failed >= FAILURES_BEFORE_LOCK)
    values = {"n_failed": FAILURES_BEFORE_LOCK - 1, "locked_until": None}
    connection.execute(update(table).where(*counted).values(**values))


def forget_attempts(connection: Connection, person_id: int, origin: Origin | None = None) -> None:
    """Opens the door again: for this origin after it was right, or for all of them. Drops what is long past, too."""
    table = tables.sign_in_attempt
    of_person = table.delete().where(table.c.person_id == person_id)
    if origin is not None:
        of_person = of_person.where(table.c.origin == _key_of(connection, person_id, origin)[0])
    connection.execute(of_person)
    connection.execute(table.delete().where(table.c.last_at < now() - timedelta(days=FORGOTTEN_DAYS)))


def locked_people(connection: Connection) -> frozenset[int]:
    """Who is refused at some address at this moment, or at every new one."""
    table, moment = tables.sign_in_attempt, now()
    until = table.c.locked_until
    is_locked = (until > moment, until <= moment + _LOCKED_MOST)
    locked = connection.execute(select(table.c.person_id).where(*is_locked)).scalars()
    crowded = connection.execute(
        select(table.c.person_id)
        .where(_is_recent(moment))
        .group_by(table.c.person_id)
        .having(func.sum(table.c.n_failed) >= NAME_FAILURES)
    ).scalars()
    return frozenset(locked) | frozenset(crowded)


def device_token(site_key: bytes, person_id: int) -> str:
    """What a browser keeps in which this person has just signed in. It opens nothing by itself."""
    nonce = secrets.token_urlsafe(18)
    return f"{person_id}.{nonce}.{_device_mac(site_key, person_id, nonce)}"


def _recent_failures(connection: Connection, person_id: int) -> int:
    table = tables.sign_in_attempt
    query = select(func.sum(table.c.n_failed)).where(table.c.person_id == person_id, _is_recent(now()))
    return int(connection.execute(query).scalar_one() or 0)


def _is_recent(moment: datetime) -> ColumnElement[bool]:
    """Whether an attempt counts towards `NAME_FAILURES`."""
    last = tables.sign_in_attempt.c.last_at
    return and_(last > moment - timedelta(minutes=LOCK_MINUTES), last <= moment + tables.CLOCK_STEP)


def _key_of(connection: Connection, person_id: int, origin: Origin) -> tuple[str, bool]:
    """Under what the attempts are counted, and whether it is a browser in which this person has signed in before."""
    site_key: bytes = connection.info["site_key"]
    for device in origin.devices[:DEVICES_MOST]:
        who, _, rest = device.partition(".")
        nonce, _, mac = rest.partition(".")
        if who == str(person_id) and hmac.compare_digest(
            mac.encode(), _device_mac(site_key, person_id, nonce).encode()
        ):
            return _digest(site_key, f"device\n{nonce}"), True
    return _digest(site_key, f"address\n{origin.address}"), False


def _device_mac(site_key: bytes, person_id: int, nonce: str) -> str:
    return _digest(site_key, f"device token\n{person_id}\n{nonce}")


def _digest(site_key: bytes, text: str) -> str:
    """Under the site's key: a copy of the database does not say from where anybody works."""
    return hmac.new(site_key, b"sign-in attempt\n" + text.encode(), hashlib.sha256).hexdigest()
