"""The lines that writers stand in: who holds one is alone with it until the transaction ends.

On SQLite nothing has to be done: `Database.begin` takes the only write lock there is. On PostgreSQL each is an
advisory lock, under a number that no other table or product uses.
"""

from __future__ import annotations

from enum import IntEnum

from sqlalchemy import Connection, text


class AdvisoryLock(IntEnum):
    """What is written by one transaction at a time."""

    START = 0x5EC07D00
    AUDIT = 0x5EC07D01
    STORE = 0x5EC07D02
    QUEUE = 0x5EC07D03
    DATA_SETS = 0x5EC07D04
    RELEASES = 0x5EC07D05
    IMPORTS = 0x5EC07D06
    FIRST_SIGN_IN = 0x5EC07D07
    ARRIVALS = 0x5EC07D08
    RESULTS = 0x5EC07D09
    BACK_READS = 0x5EC07D0A
    BACKUPS = 0x5EC07D0B
    LANGUAGE = 0x5EC07D0C


def hold(connection: Connection, lock: AdvisoryLock) -> None:
    """Waits for its turn; the turn ends with the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": int(lock)})
