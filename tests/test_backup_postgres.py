"""A site on PostgreSQL is told which tool makes its backup, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import Conflict
from core.records import backup
from core.records.db import Database


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgresql"], indirect=True)
def test_backup_and_restore_name_the_tool_of_the_database(records: Database, tmp_path: Path) -> None:
    target = tmp_path / "site.backup"
    with pytest.raises(Conflict, match="pg_dump"):
        backup.back_up(records, target)
    assert not target.exists()
    with pytest.raises(Conflict, match="SECONDREAD_DATABASE_URL"):
        backup.restore(records.settings, target)
