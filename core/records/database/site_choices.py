"""What a site has chosen in place of its environment, as rows of the table `site`."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select

from core.records.database import tables

PREFIX = "choice_"


def stored_choices(connection: Connection) -> dict[str, dict[str, Any]]:
    """Key of the choice -> its row: value, by (id of the person) and at (ISO 8601)."""
    site = tables.site.c
    rows = connection.execute(select(site.key, site.value).where(site.key.like(f"{PREFIX}%")))
    return {key.removeprefix(PREFIX): json.loads(value) for key, value in rows}
