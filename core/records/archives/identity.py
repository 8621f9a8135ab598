"""What a study is called in the archive it came from: sealed under the site's key, apart from everything else.

Results need it to find their way back. It is in no other table, in no log and on no page unless somebody asks for it,
which is recorded; it goes with the pictures when the site's policy removes them, and with the study.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import Connection, insert, select, update

from core.errors import NotFound
from core.records import sealed
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission
from core.records.queue import OVER
from core.records.reads.rows import find_study, undeleted

PURPOSE = "source identity"
FAILED_ARRIVAL_DAYS = 30
"""How long a study that could not be fetched can be asked for again from its row."""


@dataclass(frozen=True, slots=True, repr=False)
class SourceIdentity:
    """study: DICOM keyword -> value, patient and study level (`core.imaging.dicom.source.OF_STUDY`). instances: sha256
    of the file -> the same of the object (`OF_INSTANCE`). Its `repr` shows nothing.
    """

    study: Mapping[str, str]
    instances: Mapping[str, Mapping[str, str]]


def record_identity(
    connection: Connection, site_key: bytes, study_id: str, *, archive_id: int, exam_hash: str, identity: SourceIdentity
) -> None:
    """Seal and store it with a study that has none yet."""
    content = sealed.seal(site_key, PURPOSE, json.dumps(asdict(identity)).encode())
    connection.execute(
        insert(tables.source_identity).values(
            study_id=study_id, archive_id=archive_id, exam_hash=exam_hash, sealed=content
        )
    )


def identity_of(connection: Connection, site_key: bytes, study_id: str) -> SourceIdentity | None:
    """For a process that sends results; None where there is none, or not under this key. People: `show_identity`."""
    source = tables.source_identity.c
    content = connection.execute(select(source.sealed).where(source.study_id == study_id)).scalar_one_or_none()
    opened = None if not content else sealed.unseal(site_key, PURPOSE, content)
    return None if opened is None else SourceIdentity(**json.loads(opened))


def has_identity(db: Database, actor: Actor, study_id: str) -> bool:
    """Whether there is something that `show_identity` would show. Raises NotAllowed, NotFound."""
    source = tables.source_identity.c
    with db.read() as connection:
        require_permission(connection, actor, "see_identity")
        find_study(connection, study_id)
        query = select(source.study_id).where(source.study_id == study_id, source.sealed != "")
        return connection.execute(query).first() is not None


def show_identity(db: Database, actor: Actor, study_id: str) -> SourceIdentity:
    """Who the study is of, recorded in the audit trail. Raises NotAllowed; NotFound also where nothing is known."""
    with db.begin() as connection:
        person = require_permission(connection, actor, "see_identity")
        find_study(connection, study_id)
        found = identity_of(connection, db.site_key, study_id)
        if found is None:
            raise NotFound("Nothing is known here of where this study came from.")
        trail.record(connection, person.id, "show identity", f"study {study_id}")
    return found


def study_of_exam(connection: Connection, exam_hash: str) -> str | None:
    """The undeleted study that came from an archive as this exam; None where there is none."""
    source = tables.source_identity
    query = (
        select(source.c.study_id)
        .join_from(source, tables.study, source.c.study_id == tables.study.c.id)
        .where(source.c.exam_hash == exam_hash, undeleted())
    )
    return connection.execute(query.limit(1)).scalar_one_or_none()


def remove_identity(connection: Connection, study_id: str) -> None:
    """Forget what the study is called elsewhere, and the results that say it, once none of them is on its way.

    That the exam is here stays known, by its keyed hash: fetched again it is no second study.
    """
    source, outbox = tables.source_identity, tables.outbox
    gone = connection.execute(
        update(source).where(source.c.study_id == study_id, source.c.sealed != "").values(sealed="")
    )
    is_over = outbox.c.ended_at.is_not(None)
    connection.execute(update(outbox).where(outbox.c.study_id == study_id, is_over).values(payload=None))
    if gone.rowcount:
        trail.record(connection, None, "remove identity", f"study {study_id}")


def forget_what_is_over(db: Database) -> None:
    """Remove what names a patient and serves nothing any more: results that are over, of studies whose identity was
    removed while they were on their way, and studies that could not be fetched for `FAILED_ARRIVAL_DAYS`.
    """
    source, outbox, arrival = tables.source_identity, tables.outbox, tables.arrival
    known = select(source.c.study_id).where(source.c.sealed != "")
    since = tables.now() - timedelta(days=FAILED_ARRIVAL_DAYS)
    with db.begin() as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.state.in_(OVER), outbox.c.payload.is_not(None), outbox.c.study_id.not_in(known))
            .values(payload=None)
        )
        connection.execute(
            update(arrival)
            .where(arrival.c.state.in_(OVER), arrival.c.sealed != "", arrival.c.ended_at < since)
            .values(sealed="")
        )
