"""Earlier exams: when a study came from an archive, that is asked for others of its patient, and they are fetched.

As many as the archive's settings allow, the newest first, by the same queue, behind what waits in it already. An exam
is of the patient when number and birth date are the same; names are not compared. They are there to be compared with:
nobody has to read them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, select, update

from core.archive.archives import archive_of, credentials_of
from core.archive.arrivals import TRIES_MOST, fetch_prior, wait_seconds
from core.archive.dicomweb import Criteria, DicomWeb, FoundStudy
from core.errors import AppError, ArchiveAway, NotSaved, SiteFault
from core.records.archives.identity import identity_of
from core.records.database import tables
from core.records.database.db import Database

log = logging.getLogger(__name__)

MODALITIES = {"MG", "US"}
LEASE_SECONDS = 300.0
"""Another process asks again after so long, should this one die while it asks."""


def look_for_next(db: Database) -> bool:
    """Ask for the earlier exams of the next study that came; False when there is none."""
    arrival = tables.arrival
    now = tables.now()
    with db.begin() as connection:
        is_due = arrival.c.priors_due_at <= now
        query = select(arrival).where(is_due).order_by(arrival.c.priors_due_at).limit(1).with_for_update()
        row = connection.execute(query).one_or_none()
        if row is None:
            return False
        _set_due(connection, row.id, now + timedelta(seconds=LEASE_SECONDS))
    due_at = None
    tries = row.tries
    try:
        _look(db, row)
    except NotSaved:
        raise  # asked for again once `LEASE_SECONDS` are over
    except (ArchiveAway, SiteFault):
        tries += 1
        if tries < TRIES_MOST:
            due_at = now + timedelta(seconds=wait_seconds(tries))
    except AppError as refused:  # removed, or it does not take the question: there is nobody who could be told
        log.warning("Earlier exams of arrival %s were not asked for: %s", row.id, type(refused).__name__)
    with db.begin() as connection:
        _set_due(connection, row.id, due_at, tries=tries)
    return True


def choose(found: Sequence[FoundStudy], who: Mapping[str, str], *, most: int) -> list[FoundStudy]:
    """The newest `most` of the studies that are earlier exams of this patient, other than the one that came.

    who: as in `core.imaging.dicom.source.OF_STUDY`.
    """
    earlier = [
        one for one in found
        if one.uid != who["StudyInstanceUID"]
        and one.patient_id.strip() == who["PatientID"].strip()
        and one.birth_date in ("", who["PatientBirthDate"] or one.birth_date)
        and set(one.modalities) & MODALITIES
        and (not who["StudyDate"] or (one.day and one.day < who["StudyDate"]))
    ]  # fmt: skip
    return sorted(earlier, key=lambda one: (one.day, one.time), reverse=True)[:most]


def _look(db: Database, row: Row[Any]) -> None:
    with db.read() as connection:
        archive = archive_of(connection, row.archive_id)
        identity = identity_of(connection, db.site_key, row.study_id)
    if not archive.priors or identity is None or not identity.study["PatientID"].strip():
        return
    web = DicomWeb(archive, credentials_of(db.settings, archive.name))
    found = web.search(Criteria(patient_id=identity.study["PatientID"]))
    for study in choose(found, identity.study, most=archive.priors):
        fetch_prior(db, row, study.uid)


def _set_due(connection: Any, row_id: int, due_at: Any, **more: Any) -> None:
    arrival = tables.arrival
    connection.execute(update(arrival).where(arrival.c.id == row_id).values(priors_due_at=due_at, **more))
