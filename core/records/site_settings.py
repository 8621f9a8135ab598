"""What an administrator chooses for the site, kept in the table `site` and read anew each time it matters.

`current` gives the settings as they are now: those of the environment, with the site's choices in their place. Where a
number protects the machine, the environment's value stays the most that can be chosen.

A site's own threshold for a model: a value that belongs to certain weights, with who set it when.

Other weights give other scores, so a value never outlives the weights it was chosen for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from core.errors import Conflict, InvalidInput
from core.models.cards import Card
from core.models.operating_point import OperatingPoint
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import PREFIX, Database, put_site_value, site_objects, stored_choices
from core.records.people import accounts
from core.records.people.permissions import (
    Actor,
    acting,
    person_now,
    require_permission_now,
)
from core.settings import READING_MODES, SECOND_FACTORS, THRESHOLD_POLICIES, TRIAGE, WORKLIST_IDENTITIES, Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing a site may choose. key: a field of `Settings`. is_cap: the environment's value is the most.

    least, most: of a number that is no cap. is_switch: neither a number nor one of several options, but on or off.
    """

    key: str
    title: str
    sentence: str
    options: tuple[str, ...] = ()
    is_cap: bool = False
    least: int = 1
    most: int = 0
    is_switch: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """What counts now. default: what the environment says. by_name, at: who changed it last, None when nobody did."""

    choice: Choice
    value: str | int
    default: str | int
    by_name: str | None
    at: datetime | None


CHOICES = (
    Choice(
        "reading_mode",
        "Reading mode of new studies",
        "read_first hides everything of the AI until a first impression is saved; concurrent does not. "
        "Studies keep the mode they were made with.",
        options=READING_MODES,
    ),
    Choice(
        "worklist_triage",
        "Order of the worklist by the models",
        "on lets readers order the worklist by what the leading models say of studies that nobody has read, and has "
        "them read such studies as they come. It tells something of the AI before the first impression: worklist and "
        "reports say so. Numbers stay hidden as before.",
        options=TRIAGE,
    ),
    Choice(
        "worklist_identity",
        "Whose study it is, in the worklist",
        "accession number or name stands in the rows of studies that came from an archive; what each reader is shown "
        "of it is recorded once a day. Of uploaded studies it is not known, nor once the pictures are removed.",
        options=WORKLIST_IDENTITIES,
    ),
    Choice(
        "compute_ahead",
        "The second read is computed while the first impression is formed",
        "It is there at the click then. What the models say stays sealed until a reader may see it, in the memory of "
        "what computes and nowhere else. Off: the models are asked after the click.",
        is_switch=True,
    ),
    Choice(
        "thresholds",
        "Thresholds",
        "card holds a score against the threshold on the model's card; sensitivity against the one that finds a fixed "
        "share of the model's positive validation cases; site against the site's own value, where one is set below. "
        "Answers keep the threshold they were given with, and reports state it.",
        options=THRESHOLD_POLICIES,
    ),
    Choice(
        "threshold_sensitivity",
        "Share of positive cases found (%)",
        "For the thresholds by sensitivity. Counted on validation cases, which the model was chosen on: elsewhere the "
        "share is likely to be lower.",
        least=50,
        most=100,
    ),
    Choice(
        "keep_pixels_days",
        "Days until pictures are removed (0: never)",
        "Counted from the last read of a study that has a final read; never before a reader study of it is closed. "
        "Reads, numbers, heat maps, reports and the audit trail stay, and say that the pictures were removed. It "
        "cannot be undone; older backups still hold them.",
        least=0,
        most=36500,
    ),
    Choice(
        "backup_days",
        "Days between backups that are made by themselves (0: never)",
        "They are written where the page Backups says. Copy them to another machine.",
        least=0,
        most=365,
    ),
    Choice(
        "backups_most",
        "Backups by the schedule that stay",
        "After a new one the oldest of them go; those that somebody made stay.",
        least=1,
        most=1000,
    ),
    Choice(
        "language_model",
        "A language model describes ultrasound lesions",
        "on shows below where it is named and where pictures are permitted to go to it; until both are done nothing "
        "leaves this machine. Its words stand beside the measured ones, marked as unverified, and count for nothing.",
        is_switch=True,
    ),
    Choice(
        "language_model_in_report",
        "The language model's words in reports",
        "In a part of their own that says that nobody verified them; never among the measured words or the reader's.",
        is_switch=True,
    ),
    Choice("upload_mib", "Largest file (MiB)", "What one uploaded file may have.", is_cap=True),
    Choice("study_mib", "Largest study (MiB)", "What all files of a study may have, unpacked.", is_cap=True),
    Choice("study_files", "Files of a study", "How many files one study may have.", is_cap=True),
    Choice(
        "second_factor",
        "Second factor",
        "administrators: the administrator's role of somebody with a password counts only once they have set up a "
        "second factor on the page Account. optional: everybody decides for themselves.",
        options=SECOND_FACTORS,
    ),
    Choice("session_idle_minutes", "Minutes without work", "After these a sign-in ends.", is_cap=True),
    Choice("session_hours", "Hours of a sign-in", "After these a sign-in ends, whatever happens.", is_cap=True),
    Choice(
        "sensitivity_margin_percent",
        "Margin of sensitivity (percentage points)",
        "A candidate whose sensitivity lies further below that of the live model needs a written reason.",
        is_cap=True,
    ),
)
_BY_KEY: Mapping[str, Choice] = {choice.key: choice for choice in CHOICES}


def current(db: Database) -> Settings:
    """The settings as they count now. A choice beyond today's environment counts as the environment's value."""
    with db.read() as connection:
        retained = _stored(connection)
    found = {key: _within(_BY_KEY[key], row["value"], db.settings) for key, row in retained.items()}
    return replace(db.settings, **found)


def chosen(db: Database, actor: Actor) -> list[Chosen]:
    """Every choice with its default and who changed it when. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_settings") as (connection, _):
        retained = _stored(connection)
        people = connection.execute(select(tables.person.c.id, tables.person.c.name)).all()
    names = {row.id: row.name for row in people}
    rows = []
    for choice in CHOICES:
        default = getattr(db.settings, choice.key)
        row = retained.get(choice.key)
        if row is None:
            rows.append(Chosen(choice, default, default, None, None))
        else:
            at = datetime.fromisoformat(row["at"])
            value = _within(choice, row["value"], db.settings)
            rows.append(Chosen(choice, value, default, names.get(row["by"]), at))
    return rows


def choose(db: Database, actor: Actor, key: str, value: str | int) -> None:
    """Sets one choice, from the next act on. Raises NotAllowed, InvalidInput."""
    require_permission_now(db, actor, "manage_settings")
    _check(_choice(key), value, db.settings)
    if key == "second_factor" and value == "administrators":
        _require_own_second_factor(db, actor)
    _change(db, actor, key, value)


def back_to_default(db: Database, actor: Actor, key: str) -> None:
    """Lets the environment decide again. Raises NotAllowed, InvalidInput."""
    require_permission_now(db, actor, "manage_settings")
    _choice(key)
    _change(db, actor, key, None)


def _choice(key: str) -> Choice:
    if key not in _BY_KEY:
        raise InvalidInput("There is no such setting.")
    return _BY_KEY[key]


def _change(db: Database, actor: Actor, key: str, value: str | int | None) -> None:
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        trail.lock_trail(connection)
        before = _stored(connection).get(key, {}).get("value")
        content = {"value": value, "by": person.id, "at": tables.now().isoformat()}
        put_site_value(connection, PREFIX + key, json.dumps(content) if value is not None else None)
        trail.record(connection, person.id, "change setting", f"setting {key}", before=before, after=value)


def _require_own_second_factor(db: Database, actor: Actor) -> None:
    """Who demands it would lose their own role at once without it. Raises Conflict."""
    with db.read() as connection:
        person = person_now(connection, actor)
        row = accounts.row_of(connection, person.id)
        if row.issuer is None and not accounts.has_second_factor(connection, person.id):
            raise Conflict("Set up your own second factor on the page Account first: your role would end now.")


def _check(choice: Choice, value: str | int, settings: Settings) -> None:
    if choice.is_switch:
        if not isinstance(value, bool):
            raise InvalidInput(f"{choice.title}: it can be on or off.")
        return
    if choice.options:
        if value not in choice.options:
            raise InvalidInput(f"{choice.title} can be {' or '.join(choice.options)}.")
        return
    least, most = bounds(choice, settings)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        why = f" The most is set by SECONDREAD_{choice.key.upper()} where SecondRead is started."
        raise InvalidInput(f"{choice.title} can be {least} to {most}.{why if choice.is_cap else ''}")


def bounds(choice: Choice, settings: Settings) -> tuple[int, int]:
    """The least and the most of a choice that is a number; what the environment says is always among them."""
    default = getattr(settings, choice.key)
    return min(choice.least, default), default if choice.is_cap else max(choice.most, default)


def _within(choice: Choice, value: Any, settings: Settings) -> Any:
    """The kept value as far as today's environment permits it."""
    if choice.is_switch or choice.options:
        return value
    least, most = bounds(choice, settings)
    return min(max(int(value), least), most)


def _stored(connection: Connection) -> dict[str, dict[str, Any]]:
    return {key: value for key, value in stored_choices(connection).items() if key in _BY_KEY}


_THRESHOLD_PREFIX = "threshold_"


@dataclass(frozen=True, slots=True)
class OwnThreshold:
    """value: on the probability of the positive class, 0 to 1. by_name: None when that person is gone."""

    value: float
    by_name: str | None
    at: datetime


def points_here(db: Database, cards: tuple[Card, ...]) -> dict[str, OperatingPoint]:
    """For each weights sha256 of `cards` the threshold that counts here now, by the site's policy."""
    from core.evaluation.tables.of_cards import site_operating_point

    site = current(db)
    with db.read() as connection:
        retained = _stored_threshold(connection)
    return {
        card.weights_sha256: site_operating_point(card, site, retained.get(card.weights_sha256, {}).get("value"))
        for card in cards
    }


def own_thresholds(db: Database, actor: Actor) -> dict[str, OwnThreshold]:
    """The site's own values by weights sha256. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_settings") as (connection, _):
        retained = _stored_threshold(connection)
        names = {row.id: row.name for row in connection.execute(select(tables.person.c.id, tables.person.c.name))}
    return {
        sha256: OwnThreshold(row["value"], names.get(row["by"]), datetime.fromisoformat(row["at"]))
        for sha256, row in retained.items()
    }


def set_own(db: Database, actor: Actor, card: Card, value: float) -> None:
    """Sets the site's threshold for these weights, from the next answer on. Raises NotAllowed, InvalidInput."""
    require_permission_now(db, actor, "manage_settings")
    value = round(float(value), 5)
    if not 0 < value < 1:
        raise InvalidInput("A threshold lies between 0 and 100 %, without the ends.")
    _change_threshold(db, actor, card, value)


def forget_own(db: Database, actor: Actor, card: Card) -> None:
    """Lets the card's threshold count for these weights again. Raises NotAllowed."""
    require_permission_now(db, actor, "manage_settings")
    _change_threshold(db, actor, card, None)


def _change_threshold(db: Database, actor: Actor, card: Card, value: float | None) -> None:
    key = _THRESHOLD_PREFIX + card.weights_sha256[:32]
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        trail.lock_trail(connection)
        before = _stored_threshold(connection).get(card.weights_sha256, {}).get("value")
        content = {"weights": card.weights_sha256, "value": value, "by": person.id, "at": tables.now().isoformat()}
        put_site_value(connection, key, json.dumps(content) if value is not None else None)
        trail.record(
            connection, person.id, "change threshold", f"model {card.model_id}",
            weights_sha256=card.weights_sha256, before=before, after=value,
        )  # fmt: skip


def _stored_threshold(connection: Connection) -> dict[str, dict[str, Any]]:
    return {content["weights"]: content for content in site_objects(connection, _THRESHOLD_PREFIX).values()}
