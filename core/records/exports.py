"""What left the house besides studies' reports: numbers of a comparison, audited."""

from __future__ import annotations

from core.records import audit
from core.records.db import Database
from core.records.permissions import Person, demand


def record_comparison_export(db: Database, person: Person, *, what: str, data_sha256: str = "") -> None:
    """Audit that numbers of a comparison were downloaded. what: the file's name. data_sha256: of the cases,
    empty where they are of several data sets.

    Raises NotAllowed.
    """
    demand(person, "compare_models")
    with db.begin() as connection:
        audit.record(
            connection,
            person.id,
            "export comparison",
            f"data {data_sha256[:16]}" if data_sha256 else "several data sets",
            what=what,
        )
