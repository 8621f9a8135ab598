"""What a database refuses because somebody else was faster, told apart from what is a bug of ours.

The drivers call it by different names: SQLite's by the name of its error code, pg8000's by SQLSTATE, under an exception
that depends on its version. https://www.postgresql.org/docs/current/errcodes-appendix.html,
https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError

SENTENCE = "Somebody else changed this at the same moment, so nothing was saved. Reload the page and try again."
_SQLSTATES = {"23505", "23503", "40001", "40P01", "55P03"}
"""Unique and foreign key violation, serialization failure, deadlock, lock not available."""
_SQLITE = {
    "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_BUSY",
    "SQLITE_BUSY_SNAPSHOT",
}  # fmt: skip


def is_meanwhile(error: DBAPIError) -> bool:
    """Whether the same act, begun anew, would see what the other one did and succeed or refuse with its own words."""
    driver = error.orig
    name = getattr(driver, "sqlite_errorname", None)
    if name is not None:
        return name in _SQLITE
    told = driver.args[0] if driver is not None and driver.args else None
    return isinstance(told, Mapping) and told.get("C") in _SQLSTATES
