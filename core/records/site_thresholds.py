"""A site's own threshold for a model: a value that belongs to certain weights, with who set it when.

Other weights give other scores, so a value never outlives the weights it was chosen for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from core.errors import InvalidInput
from core.models.cards import Card
from core.models.operating_point import OperatingPoint, site_operating_point
from core.records import audit, site_settings, tables
from core.records.db import Database
from core.records.permissions import Person, demand

_PREFIX = "threshold_"


@dataclass(frozen=True, slots=True)
class OwnThreshold:
    """value: on the probability of the positive class, 0 to 1. by_name: None when that person is gone."""

    value: float
    by_name: str | None
    at: datetime


def points_here(db: Database, cards: tuple[Card, ...]) -> dict[str, OperatingPoint]:
    """For each weights sha256 of `cards` the threshold that counts here now, by the site's policy."""
    site = site_settings.current(db)
    with db.read() as connection:
        kept = _kept(connection)
    return {
        card.weights_sha256: site_operating_point(card, site, kept.get(card.weights_sha256, {}).get("value"))
        for card in cards
    }


def own_thresholds(db: Database, actor: Person) -> dict[str, OwnThreshold]:
    """The site's own values by weights sha256. Raises NotAllowed."""
    demand(actor, "manage_settings")
    with db.read() as connection:
        kept = _kept(connection)
        names = {row.id: row.name for row in connection.execute(select(tables.person.c.id, tables.person.c.name))}
    return {
        sha256: OwnThreshold(row["value"], names.get(row["by"]), datetime.fromisoformat(row["at"]))
        for sha256, row in kept.items()
    }


def set_own(db: Database, actor: Person, card: Card, value: float) -> None:
    """Sets the site's threshold for these weights, from the next answer on. Raises NotAllowed, InvalidInput."""
    demand(actor, "manage_settings")
    if not 0 < value < 1:
        raise InvalidInput("A threshold lies between 0 and 100 %, without the ends.")
    _change(db, actor, card, round(float(value), 5))


def forget_own(db: Database, actor: Person, card: Card) -> None:
    """Lets the card's threshold count for these weights again. Raises NotAllowed."""
    demand(actor, "manage_settings")
    _change(db, actor, card, None)


def _change(db: Database, actor: Person, card: Card, value: float | None) -> None:
    key = _PREFIX + card.weights_sha256[:32]
    with db.begin() as connection:
        audit.stand_in_line(connection)
        before = _kept(connection).get(card.weights_sha256, {}).get("value")
        connection.execute(tables.site.delete().where(tables.site.c.key == key))
        if value is not None:
            content = {"weights": card.weights_sha256, "value": value, "by": actor.id, "at": tables.now().isoformat()}
            connection.execute(insert(tables.site).values(key=key, value=json.dumps(content)))
        audit.record(
            connection, actor.id, "change threshold", f"model {card.model_id}",
            weights_sha256=card.weights_sha256, before=before, after=value,
        )  # fmt: skip


def _kept(connection: Connection) -> dict[str, dict[str, Any]]:
    rows = connection.execute(select(tables.site.c.value).where(tables.site.c.key.like(f"{_PREFIX}%")))
    return {content["weights"]: content for content in map(json.loads, rows.scalars())}
