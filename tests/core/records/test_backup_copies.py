"""Backups as the page has them: made by hand and by the schedule, verified, taken home, restored beside the site."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from record_site import add_person, picture, sqlite_only
from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.records import site_settings
from core.records.audit import trail
from core.records.backup import copies
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.people import sessions
from core.records.people.permissions import LocalTerminal
from core.records.reads.studies import create_study, list_studies
from core.server.guards import SESSION_COOKIE
from core.server.routes import backup_routes
from core.settings import Settings

pytestmark = sqlite_only


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Hours that the clock is ahead."""
    ahead = [0.0]
    real = tables.now
    monkeypatch.setattr(copies, "now", lambda: real() + timedelta(hours=ahead[0]))
    return ahead


def acts(db: Database) -> list[str]:
    with db.read() as connection:
        rows = connection.execute(tables.audit.select().order_by(tables.audit.c.id)).all()
    return [row.action for row in rows if row.action in trail.KINDS["Backups"]]


def test_a_backup_is_made_verified_and_restored_beside_the_site(records: Database) -> None:
    eve = add_person(records, "Eve", "administrator")
    create_study(records, add_person(records, "Ann", "radiologist"), display_name="x", images=[picture()])
    summary = copies.make_backup(records, eve)
    (row,) = copies.list_backups(records, eve)
    assert row.n_bytes >= summary.n_bytes and not row.is_scheduled
    copies.verify_backup(records, eve, row.name)
    with pytest.raises(InvalidInput, match="letters, digits"):
        copies.restore_into(records, eve, row.name, "../elsewhere")
    folder = copies.restore_into(records, eve, row.name, "again")
    assert folder == records.settings.state_dir / "backups" / "again"
    again = open_database(Settings(state_dir=folder))
    ann = next(row.id for row in again.engine.connect().execute(tables.person.select()) if row.name == "Ann")
    assert [one.display_name for one in list_studies(again, LocalTerminal(ann))] == ["x"]
    again.close()
    with pytest.raises(Conflict, match="already"):
        copies.restore_into(records, eve, row.name, "again")
    copies.delete_backup(records, eve, row.name)
    assert copies.list_backups(records, eve) == []
    assert acts(records) == ["backup", "verify backup", "restore beside", "delete backup"]


def test_a_damaged_backup_is_found_when_it_is_verified_and_said_so_in_the_trail(records: Database) -> None:
    eve = add_person(records, "Eve", "administrator")
    copies.make_backup(records, eve)
    (row,) = copies.list_backups(records, eve)
    path = copies.backups_dir(records.settings) / row.name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Conflict, match="cannot be restored"):
        copies.verify_backup(records, eve, row.name)
    with records.read() as connection:
        last = connection.execute(tables.audit.select().order_by(tables.audit.c.id.desc()).limit(1)).one()
    assert last.detail["is_whole"] is False


def test_names_that_are_no_backup_reach_no_file(records: Database, tmp_path: Path) -> None:
    eve = add_person(records, "Eve", "administrator")
    folder = copies.backups_dir(records.settings)
    folder.mkdir(parents=True)
    (folder / "secondread-20260101T000000Z.backup").symlink_to(records.settings.state_dir / "site.key")
    for name in ("../site.key", "site.key", "secondread-20260101T000000Z.backup", "secondread-20250101T000000Z.backup"):
        with pytest.raises(NotFound):
            copies.backup_to_send(records, eve, name)
    assert copies.list_backups(records, eve) == []


def test_the_schedule_makes_one_when_it_is_due_and_keeps_so_many_of_its_own(
    records: Database, moments: list[float]
) -> None:
    eve = add_person(records, "Eve", "administrator")
    assert copies.make_due(records) is None, "no schedule yet"
    copies.make_backup(records, eve)
    site_settings.choose(records, eve, "backup_days", 1)
    site_settings.choose(records, eve, "backups_most", 2)
    assert copies.make_due(records) is not None and copies.make_due(records) is None
    moments[0] = 22.9
    assert copies.make_due(records) is None
    moments[0] = 23.1
    assert copies.make_due(records) is not None
    moments[0] = 50
    assert copies.make_due(records) is not None
    rows = copies.list_backups(records, eve)
    assert [row.is_scheduled for row in rows] == [True, True, False], "the first scheduled one went, the other stayed"


def test_a_folder_that_cannot_be_made_is_said_and_tried_again_at_the_next_look(
    records: Database, moments: list[float]
) -> None:
    eve = add_person(records, "Eve", "administrator")
    site_settings.choose(records, eve, "backup_days", 1)
    in_the_way = copies.backups_dir(records.settings)
    in_the_way.write_text("no folder")
    for _ in range(2):
        with pytest.raises(Conflict, match="cannot be made"):
            copies.make_due(records)
    with pytest.raises(Conflict, match="SECONDREAD_BACKUP_DIR"):
        copies.make_backup(records, eve)
    found = copies.schedule(records)
    assert found.is_overdue and found.last_at is None and "cannot be made" in found.failed
    in_the_way.unlink()
    moments[0] = 1
    assert copies.make_due(records) is not None
    found = copies.schedule(records)
    assert not found.is_overdue and found.failed == "" and found.days == 1 and found.last_at is not None
    moments[0] = 1 + 24 + 5.9
    assert not copies.schedule(records).is_overdue
    moments[0] = 1 + 24 + 6.1
    assert copies.schedule(records).is_overdue


def test_a_backup_of_a_clock_that_was_a_year_ahead_stops_none_and_does_not_push_out_the_new_ones(
    records: Database, moments: list[float]
) -> None:
    eve = add_person(records, "Eve", "administrator")
    site_settings.choose(records, eve, "backup_days", 1)
    site_settings.choose(records, eve, "backups_most", 1)
    moments[0] = 365 * 24
    assert copies.make_due(records) is not None
    (ahead,) = copies.list_backups(records, eve)
    moments[0] = 0
    assert copies.make_due(records) is not None and copies.make_due(records) is None
    (row,) = copies.list_backups(records, eve)
    assert row.made_at < ahead.made_at and not copies.schedule(records).is_overdue


def test_only_an_administrator_downloads_one_and_it_is_recorded(records: Database) -> None:
    eve, ann = add_person(records, "Eve", "administrator"), add_person(records, "Ann", "researcher")
    copies.make_backup(records, eve)
    (row,) = copies.list_backups(records, eve)
    client = TestClient(Starlette(routes=backup_routes(lambda: records)))
    assert client.get(f"/backup/{row.name}").status_code == 401
    client.cookies.set(SESSION_COOKIE, sessions.start_session(records, ann))
    refused = client.get(f"/backup/{row.name}")
    assert refused.status_code == 403 and "administrator" in refused.text
    client.cookies.set(SESSION_COOKIE, sessions.start_session(records, eve))
    sent = client.get(f"/backup/{row.name}")
    assert sent.content == (copies.backups_dir(records.settings) / row.name).read_bytes()
    assert row.name in sent.headers["content-disposition"] and sent.headers["cache-control"] == "no-store"
    assert client.get("/backup/site.key").status_code == 404
    assert acts(records) == ["backup", "download backup"]
    with pytest.raises(NotAllowed):
        copies.list_backups(records, ann)
