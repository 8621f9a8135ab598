"""How many files were read and how many refused: a number at a time, and nothing of the files or of who chose them."""

from __future__ import annotations

from sqlalchemy import insert

from core.records import tables
from core.records.db import Database
from core.records.permissions import Person, demand


def record_intake(db: Database, person: Person, *, n_read: int, n_refused: int) -> None:
    """Counts files that were just opened. Raises NotAllowed."""
    demand(person, "create_study")
    with db.begin() as connection:
        connection.execute(insert(tables.intake).values(at=tables.now(), n_read=n_read, n_refused=n_refused))
