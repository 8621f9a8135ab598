"""Backup and restore between the kinds of database: everything arrives, nothing else changes, and life goes on."""

from __future__ import annotations

import threading
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from record_site import CALM, PostgresServer, add_person, answer, at_terminal, explanation, picture, stored_files
from release_site import MODEL, SHIPPED, add_candidate, candidate, promote
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from core import __main__ as program
from core.errors import Conflict, InvalidSettings
from core.models.cards import live_card
from core.records.audit import heads, trail
from core.records.backup import database_copy, site_backup
from core.records.database import tables
from core.records.database.db import Database, open_database, reachable_engine
from core.records.people.permissions import LocalTerminal, Person
from core.records.reads import predictions, reads, studies, truths
from core.settings import Settings
from train.queue import trainings
from train.recipe.request import FitRequest

pytestmark = pytest.mark.postgres
FROM_POSTGRES = pytest.mark.parametrize("record_settings", ["postgresql"], indirect=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_settings(request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer) -> Settings:
    """An empty state folder and an empty database of either kind, for what is restored."""
    url = postgres.empty_database("second") if request.param == "postgresql" else ""
    return Settings(state_dir=tmp_path / "new state", database_url=url)


@pytest.fixture
def site(records: Database) -> tuple[Person, str]:
    """A study read to its end, a data set, a training that runs, and a released model; rows in nearly all tables."""
    ann = add_person(records, "Ann", "radiologist", "administrator")
    study_id = studies.create_study(records, ann, display_name="Fäll 1", images=[picture(1), picture(2)])
    stored = studies.load_study(records, ann, study_id).images[0]
    reads.record_first_read(records, ann, study_id, {"R": CALM}, "zuerst: ½ sicher")
    reads.reveal(records, ann, study_id)
    predictions.record_predictions(records, study_id, stored.id, answer(stored.image), explanation())
    reads.record_final_read(records, ann, study_id, {"R": CALM})
    truths.record_truth(
        records, ann, study_id, breast="R", pathology="benign", happened_on=date(2024, 1, 1), source="biopsy"
    )  # fmt: skip
    done = add_candidate(records, ann, 1)
    promote(
        records, ann, done, live_sha256=SHIPPED.weights_sha256, reason="More."
    )  # fmt: skip
    version = trainings.load_job(records, ann, done).version_id
    trainings.enqueue(records, ann, FitRequest("cnn", SHIPPED.modality, init="random", epochs=3, side=64), version)
    held = trainings.QUEUE.claim(records, worker="w", machine="m")
    assert held is not None
    trainings.add_epochs(records, held, "", [{"epoch": 1, "loss": 0.1 + 0.2, "seconds": 1.0}])
    moment = tables.now()
    made = {"id": "a" * 32, "protocol": {}, "created_by": ann.id, "created_at": moment, "locked_at": moment}
    said = {"reader_study_id": "a" * 32, "person_id": ann.id, "study_id": study_id, "modality": "unaided"}
    noted = {"seconds": 1.5, "interruptions": 0, "is_training": False, "had_seen_answer": False, "answers": []}
    impression = {"breast": "R", "birads": "2", "suspicion": 1, "created_at": moment}
    with records.begin() as connection:
        connection.execute(insert(tables.reader_study).values(protocol_sha256="b" * 64, **made))
        connection.execute(insert(tables.reader_study_read).values(**said, **noted, **impression))
    heads.write_head(records)
    return ann, study_id


def rows(db: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that a restore leaves as it was."""
    retained = [table for table in tables.metadata.sorted_tables if table.name not in ("audit", "session", "site")]
    with db.read() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in retained
        }


def test_everything_arrives_in_either_kind_of_database_and_new_rows_follow_the_old(
    records: Database, site: tuple[Person, str], new_settings: Settings, tmp_path: Path
) -> None:
    ann, study_id = site
    told: list[str] = []
    summary = site_backup.back_up(records, tmp_path / "site.backup", told.append)
    assert site_backup.restore(new_settings, tmp_path / "site.backup", told.append) == summary

    db = open_database(new_settings)
    before, after = rows(records), rows(db)
    assert before == after and sum(map(bool, before.values())) >= 11
    assert heads.verify(db) == trail.Verdict(summary.n_audit + 1, ())
    first, again = (studies.load_study(one, LocalTerminal(ann.id), study_id) for one in (records, db))
    for one, other in zip(first.images, again.images, strict=True):
        np.testing.assert_array_equal(one.image.pixels, other.image.pixels)
    assert stored_files(db) == stored_files(records)
    assert live_card(db.settings, MODEL).weights_sha256 == live_card(records.settings, MODEL).weights_sha256
    for table in tables.APPEND_ONLY:
        with pytest.raises(DBAPIError, match="can only be added"), db.begin() as connection:
            connection.execute(text(f'DELETE FROM "{table}"'))

    bea = add_person(db, "Bea", "radiologist")  # numbered after those that came along
    second = studies.create_study(db, bea, display_name="Fall 2", images=[picture(3)])
    reads.record_first_read(db, bea, second, {"R": CALM})
    held = trainings.QUEUE.claim(db, worker="w", machine="another")
    assert held is None  # the one that ran goes on here only when its lease is over
    made = candidate(db, add_candidate(db, at_terminal(ann), 2))
    assert made.weights_sha256 != SHIPPED.weights_sha256
    assert trail.verify(db).is_intact
    has_file = (new_settings.state_dir / "secondread.sqlite3").exists()
    assert has_file == (not new_settings.database_url)
    db.close()


@FROM_POSTGRES
def test_what_is_written_meanwhile_is_in_it_whole_or_not_at_all(
    records: Database, site: tuple[Person, str], tmp_path: Path
) -> None:
    ann, study_id = site
    is_over, made = threading.Event(), []

    def write() -> None:
        while not is_over.is_set():
            made.append(studies.create_study(records, ann, display_name="x", images=[picture(100 + len(made))]))
            heads.write_head(records)

    def act(_: str) -> None:
        """In the middle of the copy, between two tables."""
        with records.begin() as connection:
            trail.record(connection, ann.id, "open study", f"study {study_id}")
        heads.write_head(records)

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(3):
        site_backup.back_up(records, tmp_path / f"{number}.backup", act)
    is_over.set()
    writer.join(60)
    for number in range(3):
        new = Settings(state_dir=tmp_path / f"new {number}")
        site_backup.restore(new, tmp_path / f"{number}.backup")
        db = open_database(new)
        assert heads.verify(db).is_intact
        for row in studies.list_studies(db, LocalTerminal(ann.id)):
            studies.load_study(db, LocalTerminal(ann.id), row.id)  # raises where a picture is missing
        db.close()
    assert len(made) > 3


def test_a_database_with_something_in_it_is_left_alone(
    records: Database, site: tuple[Person, str], tmp_path: Path, postgres: PostgresServer
) -> None:
    site_backup.back_up(records, tmp_path / "site.backup")
    url = postgres.empty_database("second")
    new = Settings(state_dir=tmp_path / "new", database_url=url)
    engine = reachable_engine(new, b"")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (id integer)"))
    with pytest.raises(Conflict, match="not empty"):
        site_backup.restore(new, tmp_path / "site.backup")
    assert inspect(engine).get_table_names() == ["mine"] and not new.state_dir.exists()
    engine.dispose()


@pytest.mark.parametrize("record_settings", ["sqlite"], indirect=True)
def test_a_database_that_refuses_half_way_is_empty_again_and_so_is_the_folder(
    records: Database,
    site: tuple[Person, str],
    tmp_path: Path,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site_backup.back_up(records, tmp_path / "site.backup")
    new = Settings(state_dir=tmp_path / "new", database_url=postgres.empty_database("second"))
    with monkeypatch.context() as broken:
        broken.setattr(database_copy, "_number_on", lambda connection, _: connection.execute(text("SELECT nonsense")))
        with pytest.raises(Conflict, match="nothing was restored"):
            site_backup.restore(new, tmp_path / "site.backup")
    engine = reachable_engine(new, b"")
    assert inspect(engine).get_table_names() == [] and not list(new.state_dir.iterdir())
    engine.dispose()
    site_backup.restore(new, tmp_path / "site.backup")
    with pytest.raises(InvalidSettings):
        site_backup.restore(
            Settings(state_dir=tmp_path / "third", database_url="postgresql://nobody@127.0.0.1:1/none"),
            tmp_path / "site.backup",
        )


@FROM_POSTGRES
def test_both_commands_work_and_are_recorded(
    records: Database,
    site: tuple[Person, str],
    tmp_path: Path,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(records.settings.state_dir))
    monkeypatch.setenv("SECONDREAD_DATABASE_URL", records.settings.database_url)
    assert program.main(["backup", str(tmp_path / "site.backup")]) == 0
    new = Settings(state_dir=tmp_path / "new", database_url=postgres.empty_database("second"))
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(new.state_dir))
    monkeypatch.setenv("SECONDREAD_DATABASE_URL", new.database_url)
    assert program.main(["restore", str(tmp_path / "site.backup")]) == 0
    said = capsys.readouterr()
    assert "rows of audit" in said.err and "verifies" in said.out
    ada = LocalTerminal(1)
    assert trail.entries(records, ada, kind="Backups")[0].action == "backup"
    db = open_database(new)
    assert trail.entries(db, ada, kind="Backups")[0].action == "restore"
    db.close()
