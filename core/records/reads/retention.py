"""How long pictures are kept: where a site says so, pixels go so many days after a study's last read.

Never before a final read nor while a reader study names the study, and only the pixels: reads, numbers, heat maps, sums
and the audit trail stay, and page and report say what became of the pictures. It cannot be undone; backups are the
site's own to thin out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, exists, select, update

from core.errors import NotFound
from core.periodic import repeated
from core.records import site_settings
from core.records.archives.identity import forget_what_is_over, remove_identity
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.tables import now
from core.records.people.permissions import Actor, acting
from core.records.reads.frames import delete_frames
from core.records.reads.rows import find_study
from core.records.reads.studies import delete_files

log = logging.getLogger(__name__)

LOOK_SECONDS = 3600


def n_due(db: Database, actor: Actor, days: int) -> int:
    """How many studies would lose their pixels now if they were kept for `days` days. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_settings") as (connection, _):
        if not days:
            return 0
        return len(_due(connection, days))


def apply_policy(db: Database) -> int:
    """Removes the pixels that are due by the site's choice; of how many studies. A process of the app calls it."""
    days = site_settings.current(db).keep_pixels_days
    if not days:
        return 0
    with db.read() as connection:
        due = _due(connection, days)
    return sum(_remove(db, study_id, days) for study_id in due)


@contextmanager
def applied(db: Database) -> Iterator[None]:
    """Applies the policy now, then every hour until the block ends."""

    def apply() -> None:
        n = apply_policy(db)
        forget_what_is_over(db)
        db.store.blobs.forget_old()
        if n:
            log.info("The pixels of %d studies were removed by the site's policy", n)

    with repeated("retention", apply, lambda: LOOK_SECONDS):
        yield


def _remove(db: Database, study_id: str, days: int) -> bool:
    image = tables.image
    with db.begin() as connection:
        try:
            find_study(connection, study_id, is_for_change=True)
        except NotFound:  # deleted meanwhile
            return False
        if not _is_due(connection, study_id, days):  # read again meanwhile, or done by another process
            return False
        retained = connection.execute(select(image.c.stored, image.c.sha256).where(image.c.study_id == study_id)).all()
        of_frames = delete_frames(connection, study_id)
        connection.execute(update(image).where(image.c.study_id == study_id).values(stored="", pixels_removed_at=now()))
        trail.record(
            connection, None, "remove pixels", f"study {study_id}",
            images=sorted(row.sha256 for row in retained), days=days,
        )  # fmt: skip
        remove_identity(connection, study_id)
    delete_files(db, [*of_frames, *(row.stored for row in retained if row.stored)])
    return True


def _is_due(connection: Connection, study_id: str, days: int) -> bool:
    return bool(_due(connection, days, tables.study.c.id == study_id))


def _due(connection: Connection, days: int, *only: ColumnElement[bool]) -> list[str]:
    study, read, image = tables.study.c, tables.read.c, tables.image.c

    def has(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        return exists().where(read.study_id == study.id, *conditions)

    query = select(study.id).where(
        study.deleted_at.is_(None),
        has(read.kind == "final"),
        ~has(read.created_at > now() - timedelta(days=days)),
        exists().where(image.study_id == study.id, image.pixels_removed_at.is_(None)),
        *only,
    )
    in_use = _cases_of_open_reader_studies(connection)
    return [study_id for study_id in connection.execute(query).scalars() if study_id not in in_use]


def _cases_of_open_reader_studies(connection: Connection) -> set[str]:
    """Studies that are read in a reader study, or will be: such a read is no row of `read` and starts no days anew."""
    reader_study = tables.reader_study.c
    protocols = connection.execute(select(reader_study.protocol).where(reader_study.closed_at.is_(None))).scalars()
    return {case["study_id"] for one in protocols for case in (*one["cases"], *one["training"])}
