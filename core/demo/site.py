"""A demonstration site: three people, three synthetic studies, new passwords at every start."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from core.errors import InvalidSettings
from core.records.database.db import Database
from core.records.people import accounts
from core.records.people.permissions import LocalTerminal
from core.records.reads.studies import create_study, list_studies

PEOPLE = (
    ("demo administrator", ("radiologist", "researcher", "administrator")),
    ("demo radiologist", ("radiologist",)),
    ("demo researcher", ("researcher",)),
)


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Somebody who can sign in to the demonstration; the password is new at every start and kept nowhere."""

    name: str
    password: str
    roles: tuple[str, ...]


def prepare(db: Database) -> tuple[DemoPerson, ...]:
    """Make people and studies where they are missing, give everybody a new password, and say them.

    Raises InvalidSettings where the state folder is that of a real site: its people would get strangers beside them.
    """
    passwords = {name: secrets.token_urlsafe(12) for name, _ in PEOPLE}
    administrator = _administrator(db, passwords)
    known = {row.name: row.id for row in accounts.list_people(db, administrator)}
    for name, roles in PEOPLE:
        if name in known:
            accounts.reset_password(db, administrator, known[name], passwords[name])
        else:
            accounts.create_person(db, administrator, name=name, password=passwords[name], roles=roles)
    _studies(db, administrator)
    return tuple(DemoPerson(name, passwords[name], roles) for name, roles in PEOPLE)


def _administrator(db: Database, passwords: dict[str, str]) -> LocalTerminal:
    name = PEOPLE[0][0]
    code = accounts.setup_code(db)
    if code is not None:
        person = accounts.create_first_administrator(db, code=code, name=name, password=passwords[name])
        return LocalTerminal(person.id)
    first = LocalTerminal(1)
    if not any(row.id == first.person_id and row.name == name for row in accounts.list_people(db, first)):
        raise InvalidSettings(
            "SECONDREAD_DEMO is 1, but this state folder belongs to a real site. "
            "Start with `make demo`, or set SECONDREAD_STATE_DIR to an empty folder."
        )
    return first


def _studies(db: Database, actor: LocalTerminal) -> None:
    from core.demo.phantoms import LABEL, histology_tile, mammogram_exam, ultrasound_image

    present = {row.display_name for row in list_studies(db, actor)}
    for title, images in (
        ("mammogram, four views", mammogram_exam),
        ("ultrasound", lambda: (ultrasound_image(),)),
        ("histology tile", lambda: (histology_tile(),)),
    ):
        name = f"{LABEL} {title}"
        if name not in present:
            create_study(db, actor, display_name=name, images=images(), is_synthetic=True)
