"""Starts and upgrades of the product in the audit trail: which version did what stands between two of these rows."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.version import version, versions

_KEY = "software_version"


def record_start(db: Database) -> None:
    """Records that the product starts, and before it the upgrade when another version started last.

    A site that has rows and no version was made by version 0.1.0, which did not note its own.
    """
    site = tables.site
    with db.begin() as connection:
        trail.lock_trail(connection)
        before = connection.execute(select(site.c.value).where(site.c.key == _KEY)).scalar_one_or_none()
        if before is None and connection.execute(select(tables.audit.c.id).limit(1)).first() is not None:
            before = "0.1.0"
            connection.execute(insert(site).values(key=_KEY, value=before))
        if before is None:
            connection.execute(insert(site).values(key=_KEY, value=version()))
        elif before != version():
            trail.record(connection, None, "upgrade", "SecondRead", before=before, after=version())
            connection.execute(update(site).where(site.c.key == _KEY).values(value=version()))
        trail.record(connection, None, "start", "SecondRead", **versions())
