"""The audit trail as a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from core.records import audit
from core.records.audit import Entry
from core.records.db import Database
from core.records.permissions import Person, demand

COLUMNS = ("number", "time (UTC)", "person", "person number", "action", "subject", "detail")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def export_csv(db: Database, person: Person, found: Sequence[Entry]) -> bytes:
    """These entries as UTF-8 CSV; that they left is recorded itself. Raises NotAllowed."""
    demand(person, "see_audit")
    with db.begin() as connection:
        audit.record(connection, person.id, "export audit", "audit trail", rows=len(found))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for entry in found:
        detail = json.dumps(dict(entry.detail), ensure_ascii=False, sort_keys=True) if entry.detail else ""
        writer.writerow(
            (
                entry.id,
                entry.at.strftime("%Y-%m-%d %H:%M:%S"),
                plain_cell(entry.person_name or ""),
                "" if entry.person_id is None else entry.person_id,
                plain_cell(entry.action),
                plain_cell(entry.subject),
                plain_cell(detail),
            )
        )
    return text.getvalue().encode("utf-8-sig")  # with its mark, or Excel takes it for another encoding


def plain_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a name may begin with `=`, and somebody may open the file."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text
