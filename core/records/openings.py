"""That somebody opened a study, for the audit trail."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from core.records import audit, tables
from core.records.db import Database
from core.records.permissions import Person, demand
from core.records.study_rows import find_study

ONCE_IN = timedelta(minutes=15)
"""A page is drawn anew at every click; one visit is one row."""


def record_opening(db: Database, person: Person, study_id: str) -> None:
    """Writes that this person looks at this study, unless it was written a moment ago. Raises NotAllowed, NotFound."""
    demand(person, "see_worklist")
    row = tables.audit.c
    recent = (
        select(row.id)
        .where(row.subject == f"study {study_id}", row.action == "open study")
        .where(row.person_id == person.id, row.at >= tables.now() - ONCE_IN)
        .limit(1)
    )
    with db.read() as connection:
        find_study(connection, study_id)
        if connection.execute(recent).first() is not None:
            return
    with db.begin() as connection:
        audit.stand_in_line(connection)
        if connection.execute(recent).first() is None:  # another tab of this person may have been faster
            audit.record(connection, person.id, "open study", f"study {study_id}")
