"""Whether the site can work, its numbers, and what stands in the trail of starts."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from datetime import timedelta

import pytest
from record_site import CALM, add_person, picture
from sqlalchemy import insert, text

from core.errors import Conflict
from core.records import site_settings
from core.records.audit import trail
from core.records.backup import copies
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.tables import now
from core.records.monitoring import health
from core.records.reads import reads, studies
from core.settings import MIB
from core.version import version, versions

Usage = namedtuple("Usage", "total used free")


def problems(db: Database) -> dict[str, str]:
    return {part.name: part.problem for part in health.readiness(db) if not part.is_ready}


def numbers(db: Database) -> dict[str, float]:
    lines = health.exposition(health.metrics(db)).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 10**12))


def test_a_site_that_works_is_ready(records: Database) -> None:
    assert [part.name for part in health.readiness(records)] == ["database", "store", "disk", "models"]
    assert set(problems(records)) <= {"models"}


def test_the_disk_is_full_below_the_largest_upload(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    least = records.settings.upload_mib * MIB
    for free, is_full in ((least + 1, False), (least, False), (least - 1, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(0, 0, free))
        assert ("disk" in problems(records)) is is_full


def test_a_state_folder_that_was_moved_away_is_noticed(records: Database) -> None:
    folder = records.settings.state_dir
    moved = folder.rename(folder.with_name("elsewhere"))
    try:
        assert "not where it was" in problems(records)["store"]
    finally:
        moved.rename(folder)


def test_a_database_that_is_gone_is_noticed(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "text", lambda _: text("SELECT nothing FROM nowhere"))
    assert problems(records)["database"] == "The database does not answer."


def test_without_weights_no_model_answers(records: Database, tmp_path: object) -> None:
    records.settings = replace(records.settings, weights_dir=records.settings.state_dir / "none")
    assert "No model can answer" in problems(records)["models"]
    (records.settings.state_dir / "live.json").write_text("{", encoding="utf-8")
    assert "cannot be read" in problems(records)["models"]


def test_the_numbers_are_those_of_the_database(records: Database) -> None:
    reader = add_person(records, "Reader", "radiologist")
    study = studies.create_study(records, reader, display_name="Jane Doe", images=[picture()])
    reads.record_first_read(records, reader, study, {"R": CALM})
    old = now() - timedelta(seconds=90)
    with records.begin() as connection:
        for state, at in (("queued", old), ("queued", now()), ("running", old - timedelta(days=1))):
            connection.execute(
                insert(tables.data_import).values(
                    request={}, state=state, message="", done=0.0, attempts=0, created_by=reader.id, created_at=at
                )
            )
        connection.execute(insert(tables.intake).values(at=now(), n_read=1, n_refused=2))
        trail.record(connection, None, "sign-in refused", "unknown name")
    found = numbers(records)
    assert found['secondread_queue_length{queue="imports"}'] == 2
    assert 90 <= found['secondread_queue_oldest_seconds{queue="imports"}'] < 150
    assert found['secondread_queue_length{queue="trainings"}'] == 0
    assert found['secondread_queue_oldest_seconds{queue="trainings"}'] == 0
    assert found['secondread_reads_total{kind="first"}'] == 1
    assert found['secondread_reads_total{kind="final"}'] == 0
    assert found['secondread_refusals_total{what="sign_ins"}'] == 1
    assert found['secondread_refusals_total{what="files"}'] >= 2
    assert found["secondread_free_disk_bytes"] == 10**12
    printed = health.exposition(health.metrics(records))
    assert f'secondread="{version()}"' in printed and "Jane" not in printed and "Reader" not in printed
    assert printed.count("# TYPE secondread_queue_length gauge") == 1


def test_label_values_cannot_break_a_line() -> None:
    metric = health.Metric("x", "gauge", "X.", 1, (("a", 'q"\\\n'),))
    assert health.exposition(iter([metric])).splitlines()[2] == 'secondread_x{a="q\\"\\\\\\n"} 1'


def starts_of(db: Database) -> list[tuple[str, dict[str, object]]]:
    admin = add_person(db, "Admin", "administrator")
    found = trail.entries(db, admin)
    return [(one.action, dict(one.detail)) for one in reversed(found) if one.action in ("start", "upgrade")]


def test_a_new_site_starts_without_an_upgrade(records: Database) -> None:
    trail.record_start(records)
    trail.record_start(records)
    assert starts_of(records) == [("start", dict(versions()))] * 2
    assert trail.verify(records).is_intact


def test_another_version_than_last_time_is_an_upgrade(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    trail.record_start(records)
    monkeypatch.setattr(trail, "version", lambda: "9.9.9")
    trail.record_start(records)
    trail.record_start(records)
    found = starts_of(records)
    assert [action for action, _ in found] == ["start", "upgrade", "start", "start"]
    assert found[1][1] == {"before": version(), "after": "9.9.9"}


def test_a_site_of_the_first_version_did_not_note_it(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with records.begin() as connection:
        trail.record(connection, None, "set-up refused", "setup code")
    monkeypatch.setattr(trail, "version", lambda: "9.9.9")
    trail.record_start(records)
    assert starts_of(records)[0] == ("upgrade", {"before": "0.1.0", "after": "9.9.9"})


def test_the_numbers_say_when_a_scheduled_backup_is_late(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [name for name in numbers(records) if "backup" in name], "no schedule"
    site_settings.choose(records, add_person(records, "Eve", "administrator"), "backup_days", 1)
    assert numbers(records)["secondread_backup_overdue"] == 1
    assert copies.make_due(records) is not None
    found = numbers(records)
    assert found["secondread_backup_overdue"] == 0 and 0 <= found["secondread_backup_age_seconds"] < 60
    real = tables.now
    monkeypatch.setattr(copies, "now", lambda: real() + timedelta(hours=31))
    assert numbers(records)["secondread_backup_overdue"] == 1

    def unreadable(_: Database) -> None:
        raise Conflict("The folder for backups cannot be read.")

    monkeypatch.setattr(copies, "schedule", unreadable)
    assert numbers(records)["secondread_backup_overdue"] == 1
