"""The audit trail: whatever is done to its rows behind the product's back shows."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from datetime import UTC, timedelta

import pytest
from record_site import add_person, picture, sqlite_only, stranger
from sqlalchemy import delete, insert, select, text, update

from core.errors import NotAllowed
from core.records.audit import trail as audit_trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import LocalTerminal
from core.records.reads.reads import record_export
from core.records.reads.studies import create_study
from core.settings import REPOSITORY, Settings

ADMINISTRATOR = LocalTerminal(1)
ROW = tables.audit.c


@pytest.fixture
def trail(records: Database) -> Database:
    """Five rows, and the triggers gone, as somebody with the database's password could have it."""
    add_person(records, "Ada", "administrator")
    for number in range(1, 6):
        with records.begin() as connection:
            audit_trail.record(
                connection, 1 if number % 2 else None, "create study", f"study {number}", number=number, word="né"
            )
    with records.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER audit_refuses_update"))
            connection.execute(text("DROP TRIGGER audit_refuses_delete"))
        else:
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
    return records


def test_a_trail_that_nobody_touched_verifies(trail: Database) -> None:
    assert audit_trail.verify(trail) == audit_trail.Verdict(5, ())
    assert audit_trail.verify(trail).is_intact


def test_what_else_the_site_keeps_is_not_taken_for_the_head(trail: Database) -> None:
    with trail.begin() as connection:
        connection.execute(insert(tables.site), [{"key": key, "value": "other"} for key in ("a", "z")])
        audit_trail.record(connection, 1, "create study", "study 9")
    assert audit_trail.verify(trail) == audit_trail.Verdict(6, ())


@sqlite_only
def test_an_empty_trail_verifies(records: Database) -> None:
    assert audit_trail.verify(records) == audit_trail.Verdict(0, ())


@pytest.mark.parametrize(
    "values",
    [
        {"detail": {"number": 4}},
        {"action": "sign in"},
        {"subject": "study 9"},
        {"person_id": None},
        {"at": tables.now() - timedelta(days=1)},
        {"previous": "0" * 64},
        {"mac": "0" * 64},
    ],
    ids=lambda values: next(iter(values)),
)
def test_an_edited_row_is_found(trail: Database, values: dict[str, object]) -> None:
    with trail.begin() as connection:
        connection.execute(update(tables.audit).where(ROW.id == 3).values(**values))

    assert any("Row 3" in problem for problem in audit_trail.verify(trail).problems)


@sqlite_only
@pytest.mark.parametrize("removed", [1, 3])
def test_a_removed_row_is_found(trail: Database, removed: int) -> None:
    with trail.begin() as connection:
        connection.execute(delete(tables.audit).where(ROW.id == removed))

    assert audit_trail.verify(trail).problems == (f"1 row is missing before row {removed + 1}.",)


@sqlite_only
def test_a_removed_row_is_found_when_the_rest_is_numbered_anew(trail: Database) -> None:
    with trail.begin() as connection:
        connection.execute(delete(tables.audit).where(ROW.id == 3))
        connection.execute(update(tables.audit).where(ROW.id == 4).values(id=3))
        connection.execute(update(tables.audit).where(ROW.id == 5).values(id=4))

    assert any("Row 3 does not follow" in problem for problem in audit_trail.verify(trail).problems)


@sqlite_only
@pytest.mark.parametrize("retained", [4, 1, 0])
def test_a_tail_that_was_cut_off_is_found(trail: Database, retained: int) -> None:
    with trail.begin() as connection:
        connection.execute(delete(tables.audit).where(ROW.id > retained))

    assert "does not end where it was last written" in " ".join(audit_trail.verify(trail).problems)


@sqlite_only
def test_a_cut_tail_is_found_when_the_head_is_removed_too(trail: Database) -> None:
    with trail.begin() as connection:
        connection.execute(delete(tables.audit).where(ROW.id > 3))
        connection.execute(delete(tables.site).where(tables.site.c.key == "audit_head"))

    assert "head of the chain is missing" in " ".join(audit_trail.verify(trail).problems)


@sqlite_only
def test_rows_that_changed_places_are_found(trail: Database) -> None:
    with trail.begin() as connection:
        for now, then in ((2, 99), (3, 2), (99, 3)):
            connection.execute(update(tables.audit).where(ROW.id == now).values(id=then))

    problems = " ".join(audit_trail.verify(trail).problems)
    assert "Row 2" in problems and "Row 3" in problems


@sqlite_only
def test_a_row_made_without_the_sites_key_is_found(trail: Database) -> None:
    with trail.begin() as connection:
        last = connection.execute(select(tables.audit).where(ROW.id == 5)).mappings().one()
        forged = {**last, "id": 6, "previous": last["mac"], "action": "delete study"}
        forged["mac"] = audit_trail._mac(b"another key", forged)
        connection.execute(insert(tables.audit).values(**forged))

    assert any("Row 6 was changed" in problem for problem in audit_trail.verify(trail).problems)


def test_an_act_that_fails_leaves_no_row_and_no_gap(records: Database) -> None:
    with pytest.raises(RuntimeError), records.begin() as connection:
        audit_trail.record(connection, None, "create study", "study 1")
        raise RuntimeError("the act failed")
    with records.begin() as connection:
        audit_trail.record(connection, None, "create study", "study 2")

    assert audit_trail.verify(records) == audit_trail.Verdict(1, ())


@sqlite_only
def test_several_rows_of_one_act_follow_each_other(records: Database) -> None:
    with records.begin() as connection:
        for number in range(3):
            audit_trail.record(connection, None, "create study", f"study {number}")

    assert audit_trail.verify(records) == audit_trail.Verdict(3, ())


def test_what_many_threads_record_at_once_is_one_chain(records: Database) -> None:
    def work(thread: int) -> None:
        for number in range(10):
            with records.begin() as connection:
                audit_trail.record(connection, None, "create study", f"study {thread} {number}")

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert audit_trail.verify(records) == audit_trail.Verdict(60, ())


def test_what_several_processes_record_at_once_is_one_chain(records: Database, record_settings: Settings) -> None:
    program = """
        import sys
        from pathlib import Path
        from core.records.audit import trail
        from core.records.database.db import open_database
        from core.settings import Settings
        db = open_database(Settings(state_dir=Path(sys.argv[1]), database_url=sys.argv[2]))
        for number in range(15):
            with db.begin() as connection:
                trail.record(connection, None, "create study", f"study {number}")
    """
    command = [
        sys.executable, "-c", textwrap.dedent(program), str(record_settings.state_dir), record_settings.database_url
    ]  # fmt: skip
    running = [subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) for _ in range(3)]

    assert [(process.communicate(timeout=120)[1], process.returncode) for process in running] == [("", 0)] * 3
    assert audit_trail.verify(records) == audit_trail.Verdict(45, ())


def test_detail_that_would_come_back_otherwise_is_refused_or_made_plain(records: Database) -> None:
    with records.begin() as connection:
        audit_trail.record(connection, None, "create study", "study 1", sides=("R", "L"), share=0.1, nothing=None)
    with pytest.raises(ValueError), records.begin() as connection:
        audit_trail.record(connection, None, "create study", "study 2", share=float("nan"))
    with pytest.raises(TypeError), records.begin() as connection:
        audit_trail.record(connection, None, "create study", "study 3", thing=object())

    assert audit_trail.verify(records) == audit_trail.Verdict(1, ())
    add_person(records, "Ada", "administrator")
    assert audit_trail.entries(records, ADMINISTRATOR)[0].detail == {"sides": ["R", "L"], "share": 0.1, "nothing": None}


def test_the_trail_is_read_newest_first_with_names_and_utc_times(trail: Database) -> None:
    entries = audit_trail.entries(trail, ADMINISTRATOR)

    assert [entry.subject for entry in entries] == [f"study {number}" for number in (5, 4, 3, 2, 1)]
    assert [entry.person_name for entry in entries[:2]] == ["Ada", None]
    assert entries[0].detail == {"number": 5, "word": "né"}
    assert all(entry.at.tzinfo is UTC for entry in entries)


def test_the_trail_can_be_filtered_and_cut(trail: Database) -> None:
    with trail.begin() as connection:
        audit_trail.record(connection, 1, "sign in", "person 1")
    third = audit_trail.entries(trail, ADMINISTRATOR)[3]

    assert [entry.action for entry in audit_trail.entries(trail, ADMINISTRATOR, action="sign in")] == ["sign in"]
    assert [entry.id for entry in audit_trail.entries(trail, ADMINISTRATOR, limit=2)] == [6, 5]
    assert [entry.id for entry in audit_trail.entries(trail, ADMINISTRATOR, since=third.at)] == [6, 5, 4, 3]
    assert len(audit_trail.entries(trail, ADMINISTRATOR, limit=None)) == 6


@sqlite_only
@pytest.mark.parametrize("roles", [(), ("radiologist",), ("researcher",), ("radiologist", "researcher")])
def test_only_an_administrator_reads_the_trail(records: Database, roles: tuple[str, ...]) -> None:
    with pytest.raises(NotAllowed):
        audit_trail.entries(records, stranger(records, *roles))


@sqlite_only
def test_an_export_of_a_report_is_in_the_trail(records: Database) -> None:
    ann = add_person(records, "Ann", "radiologist")
    study_id = create_study(records, ann, display_name="x", images=[picture()])
    record_export(records, ann, study_id, what="pdf")

    (entry,) = audit_trail.entries(records, ADMINISTRATOR, action="export report")
    assert (entry.person_name, entry.subject, entry.detail) == ("Ann", f"study {study_id}", {"what": "pdf"})
