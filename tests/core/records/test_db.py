"""Opening the database: what is made, what is migrated, what is refused, and what two processes do at once."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from record_site import CALM, add_person, picture, sqlite_only
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, StatementError

from core.errors import Conflict, DatabaseAway, InvalidInput, InvalidSettings, NotSaved
from core.records.audit import trail
from core.records.database import db, tables
from core.records.database.db import Database, open_database
from core.records.database.tables import metadata
from core.records.reads import reads, studies, truths
from core.settings import REPOSITORY, Settings

NEWEST = max(path.name[:4] for path in (db.MIGRATIONS / "versions").glob("[0-9]*.py"))
posix = pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of POSIX systems")


@pytest.fixture
def with_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Adds one more migration with this body, as a later version of the product would."""
    folder = tmp_path / "migrations of later"
    shutil.copytree(db.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def add(body: str) -> None:
        source = f"""
            from alembic import op
            import sqlalchemy as sa
            revision, down_revision = "9999", "{NEWEST}"

            def upgrade():
                {body}
        """
        (folder / "versions" / "9999_later.py").write_text(textwrap.dedent(source))
        monkeypatch.setattr(db, "MIGRATIONS", folder)

    return add


@posix
def test_a_new_state_folder_and_what_is_secret_in_it_is_for_this_user_only(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    open_database(Settings(state_dir=state)).close()

    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "site.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((state / "store").stat().st_mode) == 0o700


@posix
def test_a_state_folder_that_others_can_look_into_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    with caplog.at_level(logging.WARNING):
        open_database(Settings(state_dir=tmp_path)).close()

    assert "chmod 700" in caplog.text


def test_the_sites_key_is_made_once_and_has_32_bytes(record_settings: Settings) -> None:
    first = open_database(record_settings)
    second = open_database(record_settings)

    assert len(first.site_key) == 32
    assert first.site_key == second.site_key == (record_settings.state_dir / "site.key").read_bytes()
    assert [path.name for path in record_settings.state_dir.glob("site.key*")] == ["site.key"]
    first.close()
    second.close()


def test_a_key_that_does_not_belong_to_the_database_is_refused(record_settings: Settings) -> None:
    open_database(record_settings).close()
    (record_settings.state_dir / "site.key").write_bytes(os.urandom(32))

    with pytest.raises(InvalidSettings, match="does not belong"):
        open_database(record_settings)


def test_a_damaged_key_is_refused(record_settings: Settings) -> None:
    open_database(record_settings).close()
    (record_settings.state_dir / "site.key").write_bytes(b"short")

    with pytest.raises(InvalidSettings, match="damaged"):
        open_database(record_settings)


def test_the_migrations_make_exactly_the_tables_that_the_code_names(
    tmp_path: Path, record_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened = open_database(record_settings)
    scripts = ScriptDirectory(str(db.MIGRATIONS))
    in_order = [script.revision for script in scripts.walk_revisions()]
    assert in_order[::-1] == db.revisions(), "files are numbered in the order in which they are applied"
    with opened.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    opened.close()


def test_opening_again_keeps_what_is_there_and_copies_nothing(record_settings: Settings) -> None:
    first = open_database(record_settings)
    reader = add_person(first, "Reader", "radiologist")
    study_id = studies.create_study(first, reader, display_name="Case 1", images=[picture()])
    first.close()

    second = open_database(record_settings)

    assert studies.load_study(second, reader, study_id).row.display_name == "Case 1"
    assert not (record_settings.state_dir / "backups").exists()
    second.close()


@sqlite_only
def test_files_are_looked_through_at_the_start_without_keeping_anybody_from_writing(
    records: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def others_write(_: object) -> set[str]:
        database = records.settings.state_dir / "secondread.sqlite3"
        with closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        looked.append(_)
        return set()

    monkeypatch.setattr(db, "sweep", others_write)
    monkeypatch.setattr(db, "old_keys", others_write)
    open_database(records.settings).close()
    assert len(looked) == 2


def test_sqlite_writes_ahead_and_checks_foreign_keys(tmp_path: Path) -> None:
    opened = open_database(Settings(state_dir=tmp_path))
    with opened.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() >= 10_000
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    opened.close()


def test_a_row_that_refers_to_nothing_is_refused(records: Database) -> None:
    values = {"id": "0" * 32, "display_name": "x", "created_by": 999, "created_at": tables.now()}
    with pytest.raises(Conflict, match="at the same moment") as refused, records.begin() as connection:
        connection.execute(insert(tables.study).values(reading_mode="read_first", is_synthetic=False, **values))
    assert not isinstance(refused.value, NotSaved), "it would be refused again later"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("23505", Conflict, "at the same moment"),
        ("40P01", NotSaved, "at the same moment"),
        ("55P03", NotSaved, "at the same moment"),
        ("53100", NotSaved, "disk with the database is full"),
        ("53300", DatabaseAway, "cannot be reached"),
        ("53200", DatabaseAway, "cannot be reached"),
        ("57P01", DatabaseAway, "cannot be reached"),
        ("42601", DBAPIError, None),
    ],
)
def test_what_postgresql_refuses_tells_whether_trying_again_may_help(
    records: Database, code: str, kind: type[Exception], words: str | None
) -> None:
    """Its error as pg8000 raises it: SQLSTATE under "C"."""
    error = DBAPIError("INSERT", {}, Exception({"C": code}), hide_parameters=True)
    with pytest.raises(kind, match=words) as refused, records.begin():
        raise error
    assert type(refused.value) is kind
    with pytest.raises(DatabaseAway if kind is DatabaseAway else DBAPIError), records.read():
        raise error


def test_a_block_that_raises_leaves_everything_as_it_was(records: Database) -> None:
    with pytest.raises(RuntimeError), records.begin() as connection:
        trail.record(connection, None, "sign in", "nothing")
        connection.execute(insert(tables.site).values(key="a", value="b"))
        raise RuntimeError("stop")

    with records.read() as connection:
        assert connection.execute(select(tables.site.c.key).where(tables.site.c.key == "a")).all() == []
    assert trail.verify(records).n == 0


def test_readers_do_not_wait_for_a_writer(records: Database) -> None:
    add_person(records, "Ann", "radiologist")
    with records.begin() as writer:
        writer.execute(tables.person.update().values(name="Bea"))
        with records.read() as reader:
            assert reader.execute(select(tables.person.c.name)).scalar_one() == "Ann"


@pytest.mark.parametrize("table", tables.APPEND_ONLY)
@pytest.mark.parametrize("change", ["UPDATE {} SET id = id + 100", "DELETE FROM {}"])
def test_the_database_itself_refuses_to_change_what_is_append_only(records: Database, table: str, change: str) -> None:
    _fill(records)
    with pytest.raises(DBAPIError, match=f"rows of {table} can only be added"), records.begin() as connection:
        connection.execute(text(change.format(f'"{table}"')))


def test_replacing_an_append_only_row_is_refused_as_well(tmp_path: Path) -> None:
    opened = open_database(Settings(state_dir=tmp_path))
    _fill(opened)
    for table in tables.APPEND_ONLY:
        with pytest.raises(DBAPIError, match="can only be added"), opened.begin() as connection:
            connection.execute(text(f'INSERT OR REPLACE INTO "{table}" SELECT * FROM "{table}"'))
    opened.close()


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgresql"], indirect=True)
def test_emptying_an_append_only_table_is_refused(records: Database) -> None:
    _fill(records)
    for table in tables.APPEND_ONLY:
        with pytest.raises(DBAPIError, match="can only be added"), records.begin() as connection:
            connection.execute(text(f'TRUNCATE "{table}" CASCADE'))


def test_times_come_back_in_utc_and_without_a_zone_they_are_refused(records: Database) -> None:
    at = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=timezone(timedelta(hours=-7)))
    person = add_person(records, "Ann", "radiologist")
    with records.begin() as connection:
        connection.execute(tables.person.update().values(locked_until=at))
    with records.read() as connection:
        retained = connection.execute(select(tables.person.c.locked_until)).scalar_one()

    assert retained == at and retained.tzinfo is UTC
    with pytest.raises(StatementError, match="without its zone"), records.begin() as connection:
        where = tables.person.c.id == person.id
        connection.execute(tables.person.update().where(where).values(locked_until=datetime(2026, 1, 1)))


def test_a_copy_of_the_sqlite_file_is_kept_before_a_migration(
    tmp_path: Path, with_migration: Callable[[str], None]
) -> None:
    state = tmp_path / "state"
    opened = open_database(Settings(state_dir=state))
    add_person(opened, "Ann", "radiologist")
    with_migration('op.add_column("person", sa.Column("title", sa.String(20)))')

    migrated = open_database(Settings(state_dir=state))

    (copy,) = (state / "backups").iterdir()
    assert copy.name.startswith(f"secondread-{NEWEST}-") and copy.suffix == ".sqlite3"
    retained = sqlite3.connect(copy)
    assert retained.execute("SELECT name FROM person").fetchall() == [("Ann",)]
    assert "title" not in [column[1] for column in retained.execute("PRAGMA table_info(person)")]
    retained.close()
    assert "title" in [column["name"] for column in inspect(migrated.engine).get_columns("person")]
    opened.close()
    migrated.close()


def test_a_migration_that_fails_half_way_changes_nothing(
    record_settings: Settings, with_migration: Callable[[str], None]
) -> None:
    open_database(record_settings).close()
    with_migration('op.create_table("half", sa.Column("id", sa.Integer)); op.execute("nonsense")')

    with pytest.raises(DBAPIError):
        open_database(record_settings)

    engine = db._engine(record_settings, b"")
    assert "half" not in inspect(engine).get_table_names()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == NEWEST
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(record_settings: Settings) -> None:
    opened = open_database(record_settings)
    with opened.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    opened.close()

    with pytest.raises(InvalidSettings, match="newer SecondRead"):
        open_database(record_settings)


def test_processes_that_start_at_once_all_find_a_finished_database(record_settings: Settings) -> None:
    program = """
        import sys
        from pathlib import Path
        from core.records.audit import trail
        from core.records.database.db import open_database
        from core.settings import Settings
        db = open_database(Settings(state_dir=Path(sys.argv[1]), database_url=sys.argv[2]))
        with db.begin() as connection:
            trail.record(connection, None, "backup", "process")
        sys.stdout.write(db.site_key.hex())
    """
    command = [
        sys.executable, "-c", textwrap.dedent(program), str(record_settings.state_dir), record_settings.database_url
    ]  # fmt: skip
    running = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    results = [(*process.communicate(timeout=120), process.returncode) for process in running]

    assert [code for *_, code in results] == [0] * 4, results
    assert len({key for key, *_ in results}) == 1
    opened = open_database(record_settings)
    assert trail.verify(opened).n == 4 and trail.verify(opened).is_intact
    opened.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://user:hunter2@localhost/x", "must begin with postgresql://"),
        ("postgresql://user:hunter2@127.0.0.1:9/x", "cannot be reached"),
        ("no address", "is not a database URL"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_sentence_without_the_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, words: str
) -> None:
    with pytest.raises(InvalidSettings, match=words) as refused:
        open_database(Settings(state_dir=tmp_path, database_url=url))

    assert "hunter2" not in str(refused.value) + caplog.text


def test_an_error_of_the_database_does_not_carry_what_was_to_be_written(records: Database) -> None:
    values = {"id": "0" * 32, "created_by": 999, "created_at": tables.now(), "reading_mode": "read_first"}
    values |= {"display_name": "Jane Roe"}
    with pytest.raises(DBAPIError) as failed, records.begin() as connection:
        connection.execute(insert(tables.study).values(is_synthetic=None, **values))

    assert "Jane Roe" not in "".join(traceback.format_exception(failed.value))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secondread.sqlite3").write_bytes(b"this is a text file, and a long one at that" * 100)

    with pytest.raises(InvalidSettings, match="cannot be opened"):
        open_database(Settings(state_dir=tmp_path))


def _fill(opened: Database) -> None:
    """One row in each append-only table."""
    reader = add_person(opened, "Reader", "radiologist")
    study_id = studies.create_study(opened, reader, display_name="x", images=[picture()])
    reads.record_first_read(opened, reader, study_id, {"R": CALM})
    today = tables.now().date()
    truths.record_truth(opened, reader, study_id, breast="R", pathology="benign", happened_on=today, source="biopsy")
    moment = tables.now()
    made = {"created_by": reader.id, "created_at": moment}
    with opened.begin() as connection:
        connection.execute(insert(tables.data_set).values(id="d" * 32, name="d", modality="ultrasound", **made))
        version = {"data_set_id": "d" * 32, "number": 1, "manifest_sha256": "e" * 64, "split": {}, "counts": {}}
        connection.execute(insert(tables.data_set_version).values(id=1, audit={}, **version, **made))
        job = {"kind": "fit", "version_id": 1, "request": {}, "state": "queued", "message": "", "attempts": 0}
        connection.execute(insert(tables.job).values(id=1, **job, **made))
        connection.execute(insert(tables.reader_study).values(id="a" * 32, protocol={}, **made))
        said = {"reader_study_id": "a" * 32, "person_id": reader.id, "study_id": study_id, "modality": "unaided"}
        noted = {"seconds": 1.0, "interruptions": 0, "is_training": False, "had_seen_answer": False, "answers": []}
        impression = {"breast": "R", "birads": "2", "suspicion": 1, "created_at": moment}
        connection.execute(insert(tables.reader_study_read).values(**said, **noted, **impression))
        connection.execute(insert(tables.job_event).values(job_id=1, at=moment, attempt=0, sentence="x"))
        connection.execute(
            insert(tables.job_epoch).values(job_id=1, part="", epoch=1, attempt=1, at=moment, measures={})
        )
        decided = {"decision": "retire", "model_id": "m", "weights_sha256": "f" * 64, "reason": "r", "passed": {}}
        connection.execute(
            insert(tables.release).values(evidence={}, person_id=reader.id, created_at=moment, **decided)
        )


@sqlite_only
@pytest.mark.parametrize("what", ["moved", "replaced", "other key"])
def test_nothing_is_acknowledged_that_is_not_in_the_state_folder(records: Database, tmp_path: Path, what: str) -> None:
    """SQLite's open file would go on taking reads, into a folder that nobody opens again."""
    state, elsewhere = records.settings.state_dir, tmp_path / "elsewhere"
    ann = add_person(records, "Ann", "radiologist")
    shutil.move(state, elsewhere)
    if what != "moved":
        shutil.copytree(elsewhere, state)
    if what == "other key":
        (state / "site.key").write_bytes(bytes(32))
    for act in (
        lambda: add_person(records, "Bob"),
        lambda: studies.create_study(records, ann, display_name="x", images=[picture()]),
    ):
        with pytest.raises(NotSaved, match="state folder is not where it was"):
            act()
    with pytest.raises(NotSaved), records.read():
        pass
    if what != "moved":
        shutil.rmtree(state)
    assert not state.exists()
    shutil.move(elsewhere, state)
    assert add_person(records, "Bob").id == ann.id + 1


@sqlite_only
def test_what_was_begun_before_the_folder_went_is_not_committed(records: Database, tmp_path: Path) -> None:
    state = records.settings.state_dir
    with pytest.raises(Conflict), records.begin() as connection:
        trail.record(connection, None, "sign in", "person 1")
        shutil.move(state, tmp_path / "elsewhere")
    shutil.move(tmp_path / "elsewhere", state)
    assert trail.verify(records).n == 0


def test_a_text_with_nul_is_a_sentence_in_both_kinds_of_database(records: Database) -> None:
    """As it comes in an address, `?study=%00`: PostgreSQL failed, SQLite looked for it."""
    ann = add_person(records, "Ann", "radiologist")
    with pytest.raises(InvalidInput, match="NUL"):
        studies.load_study(records, ann, "\x00")
    with pytest.raises(InvalidInput, match="NUL"), records.begin() as connection:
        connection.execute(insert(tables.site), [{"key": "a", "value": "b"}, {"key": "c", "value": "\x00"}])
    with records.read() as connection:
        assert connection.execute(select(tables.site.c.key).where(tables.site.c.key.in_(["a", "c"]))).all() == []


@sqlite_only
def test_a_full_disk_is_a_sentence_and_nothing_is_saved(records: Database) -> None:
    with records.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises(NotSaved, match="disk with the database is full"), records.begin() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        for number in range(1000):
            connection.execute(insert(tables.site).values(key=f"key {number}", value="x" * 4000))
    with records.read() as connection:
        assert connection.execute(select(tables.site.c.key).where(tables.site.c.key == "key 0")).all() == []


@sqlite_only
def test_a_database_that_may_not_be_written_is_a_sentence(records: Database) -> None:
    with pytest.raises(NotSaved, match="cannot be written to"), records.begin() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.execute(insert(tables.site).values(key="a", value="b"))


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgresql"], indirect=True)
def test_a_restarted_server_is_a_sentence_and_the_next_act_works(records: Database) -> None:
    with pytest.raises(Conflict, match="restarted"), records.begin() as connection:
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with records.engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({own})")
        connection.execute(insert(tables.site).values(key="a", value="b"))
    with pytest.raises(Conflict, match="restarted"), records.read() as connection:
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with records.engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({own})")
        connection.execute(select(tables.site)).all()
    assert add_person(records, "Ann").id


@sqlite_only
def test_a_database_that_stays_locked_is_a_sentence(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.1)
    again = open_database(records.settings)
    with closing(sqlite3.connect(records.settings.state_dir / "secondread.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotSaved, match="at the same moment"):
            add_person(again, "Ann")
    assert add_person(again, "Bob").id
    again.close()


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgresql"], indirect=True)
def test_an_answer_that_does_not_come_in_time_is_a_database_that_is_away_and_nobody_reads_it_later(
    record_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_SECONDS", 1)
    opened = open_database(record_settings)
    for ways in (opened.begin, opened.read):
        with pytest.raises(DatabaseAway, match="cannot be reached"), ways() as connection:
            connection.execute(text("SELECT 1, pg_sleep(3)"))
        with opened.read() as connection:
            assert connection.execute(text("SELECT 2")).scalar_one() == 2
    opened.close()


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgresql"], indirect=True)
def test_the_server_finds_out_that_a_machine_is_gone_before_others_give_up_waiting(records: Database) -> None:
    with records.read() as connection:
        idle, interval, count, unsent = (
            connection.execute(text(f"SELECT current_setting('{name}')")).scalar_one()
            for name in (
                "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout",
            )
        )  # fmt: skip
    assert int(idle) + int(interval) * int(count) < db.BUSY_SECONDS
    assert 0 < int(unsent) / 1000 < db.BUSY_SECONDS
