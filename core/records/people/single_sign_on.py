"""Signing in with the site's own identity provider (OpenID Connect): who comes, and as what.

The provider's word is taken for who somebody is and which roles they hold, at each sign-in; the session that follows
is one of ours, as everybody's. A person is known by issuer and subject, which never change hands, not by an e-mail
address or a name, which do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from core.errors import InvalidSettings
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people import accounts, sessions
from core.records.people.accounts import AccountRefused
from core.records.people.passwords import NO_PASSWORD
from core.records.people.permissions import ROLES
from core.settings import Settings

_NAME_CLAIMS = ("name", "preferred_username", "email")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the provider says. name: as it may be shown; roles: ours, possibly none."""

    issuer: str
    subject: str
    name: str
    roles: tuple[str, ...]


def identity_of(claims: Mapping[str, Any], settings: Settings) -> Identity:
    """The claims of a checked identity token (OpenID Connect Core 1.0, section 2) in our words.

    Raises AccountRefused("provider") for claims without issuer or subject.
    """
    issuer, subject = claims.get("iss"), claims.get("sub")
    if not (isinstance(issuer, str) and issuer and isinstance(subject, str) and subject):
        raise AccountRefused("provider")
    return Identity(issuer, subject, _shown_name(claims, subject), _roles(claims, settings))


def roles_by_value(text: str) -> dict[str, tuple[str, ...]]:
    """Our roles for each value of the role claim, from "value=role+role, value=role". Raises InvalidSettings."""
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        value, _, roles = part.rpartition("=")
        names = tuple(role.strip() for role in roles.split("+"))
        if not value.strip() or not set(names) <= set(ROLES):
            raise InvalidSettings(
                f"SECONDREAD_SSO_ROLES has {part!r}; each part is value=role or value=role+role, "
                f"and the roles are {', '.join(ROLES)}."
            )
        found[value.strip()] = names
    return found


def sign_in(db: Database, settings: Settings, claims: Mapping[str, Any]) -> str:
    """The token of a new session; who comes for the first time becomes a person. `claims`: already checked.

    Roles become what the claim says now. Raises AccountRefused: "first" while nobody has set the site up, "provider",
    "no_role" (which also ends the person's sessions), "disabled".
    """
    found = identity_of(claims, settings)
    with db.begin() as connection:
        hold(connection, AdvisoryLock.FIRST_SIGN_IN)  # two first sign-ins at once make one person
        _hold(connection, found)
        trail.lock_trail(connection)
        refusal, token = _admit(connection, settings, found)
    if refusal:
        raise AccountRefused(refusal)
    return token


def _hold(connection: Connection, found: Identity) -> None:
    """The person's row first and the trail after it, as in every act of theirs: neither waits for the other.

    Who stood in line for the trail while the person was being made would come to the row after it; so the line of
    sign-ins is before both.
    """
    person = tables.person.c
    mine = select(person.id).where(person.issuer == found.issuer, person.subject == found.subject)
    connection.execute(mine.with_for_update())


def record_failure(db: Database) -> None:
    """Audits that the provider sent somebody back without a sign-in that could be confirmed."""
    with db.begin() as connection:
        _refused(connection, "identity provider", "provider")


def _admit(connection: Connection, settings: Settings, found: Identity) -> tuple[str, str]:
    """The reason of a refusal or "", and the token of the session or ""."""
    person = tables.person.c
    row = connection.execute(
        select(tables.person).where(person.issuer == found.issuer, person.subject == found.subject)
    ).one_or_none()
    subject = "identity provider" if row is None else f"person {row.id}"
    if not accounts.has_administrator(connection):
        return _refused(connection, subject, "first"), ""
    if row is not None and row.disabled:
        return _refused(connection, subject, "disabled"), ""
    if row is not None and set(row.roles) != set(found.roles):
        accounts.change_row(connection, row.id, roles=list(found.roles))
        trail.record(connection, None, "roles by single sign-on", subject, roles=list(found.roles))
    if not found.roles:
        if row is not None:
            sessions.revoke_all(connection, row.id)
        return _refused(connection, subject, "no_role"), ""
    person_id = row.id if row is not None else _create(connection, found)
    token = sessions.open_session(connection, person_id)
    trail.record(connection, person_id, "sign in", f"person {person_id}", by="single sign-on")
    sessions.drop_old_sessions(connection, settings)
    return "", token


def _create(connection: Connection, found: Identity) -> int:
    name, number = found.name, 1
    while accounts.find_person(connection, name) is not None:  # names are for people: nobody is merged by one
        number += 1
        name = f"{found.name[: accounts.NAME_LENGTH_MOST - 6]} {number}"
    person = accounts.insert_person(connection, name, NO_PASSWORD, found.roles)
    accounts.change_row(connection, person.id, issuer=found.issuer, subject=found.subject)
    trail.record(connection, None, "create by single sign-on", f"person {person.id}", roles=list(found.roles))
    return person.id


def _refused(connection: Connection, subject: str, cause: str) -> str:
    trail.record(connection, None, "sign-in refused", subject, cause=cause, by="single sign-on")
    return cause


def _shown_name(claims: Mapping[str, Any], subject: str) -> str:
    for claim in _NAME_CLAIMS:
        try:
            return accounts.checked_name(str(claims.get(claim) or ""))
        except AccountRefused:
            continue
    return f"Person {hashlib.sha256(subject.encode()).hexdigest()[:8]}"


def _roles(claims: Mapping[str, Any], settings: Settings) -> tuple[str, ...]:
    """Ours for the values of the role claim, which is a word, words between blanks, or a list of them."""
    value: Any = claims
    for step in [settings.sso_role_claim] if settings.sso_role_claim in claims else settings.sso_role_claim.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    given: Iterable[Any] = (
        [value, *value.split()] if isinstance(value, str) else value if isinstance(value, list) else []
    )
    mapping = roles_by_value(settings.sso_roles)
    held = {role for word in given if isinstance(word, str) for role in mapping.get(word, ())}
    return tuple(role for role in ROLES if role in held)
