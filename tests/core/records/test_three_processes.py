"""Three processes of one site, on one PostgreSQL and one state folder: what may happen once happens once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from record_site import CALM, PostgresServer, add_person, at_terminal, picture
from release_site import MODEL, SHIPPED, add_candidate
from sqlalchemy import func, select

from core.models.live import read_live
from core.records import site_settings
from core.records.audit import heads, trail
from core.records.backup import copies
from core.records.database import tables  # fmt: skip
from core.records.database.db import Database, open_database
from core.records.people import sessions
from core.records.reads import back_reads, reads, studies
from core.settings import REPOSITORY, Settings

pytestmark = pytest.mark.postgres
N = 3
PROCESS = """
import json, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from core.settings import Settings
from core.records.database.db import open_database
from core.errors import AppError
import three_acts
settings = Settings.from_environment()
sys.stdin.readline()  # all of them are imported; now at once
db = open_database(settings)
for line in sys.stdin:
    name, arguments = json.loads(line)
    try:
        said = getattr(three_acts, name)(db, *arguments)
    except AppError as refused:
        said = {"refused": str(refused)}
    print(json.dumps(said), flush=True)
"""


class Three:
    """Three processes that do the same at the same moment."""

    def __init__(self, settings: Settings) -> None:
        environment = {
            **os.environ, "SECONDREAD_STATE_DIR": str(settings.state_dir),
            "SECONDREAD_DATABASE_URL": settings.database_url,
        }  # fmt: skip
        paths = [str(REPOSITORY), str(Path(__file__).parent), str(REPOSITORY / "tests")]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROCESS, "-", *paths], env=environment, text=True, cwd=REPOSITORY,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for _ in range(N)
        ]  # fmt: skip
        for process in self.processes:
            self._send(process, "go")

    def do(self, act: str, *arguments: Any) -> list[Any]:
        """What each gave back, or {"refused": why}."""
        for process in self.processes:
            self._send(process, json.dumps([act, arguments]))
        return [json.loads(process.stdout.readline()) for process in self.processes if process.stdout]

    def stop(self) -> None:
        for process in self.processes:
            if process.stdin:
                process.stdin.close()
            process.wait(60)
            if process.stdout:
                process.stdout.close()

    @staticmethod
    def _send(process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()


@pytest.fixture(scope="module")
def settings(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("three") / "state", database_url=postgres.empty_database("three"))


@pytest.fixture(scope="module")
def three(settings: Settings) -> Iterator[Three]:
    """They find an empty database and no state folder."""
    started = Three(settings)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def db(three: Three, settings: Settings) -> Iterator[Database]:
    assert three.do("fingerprint") == [three.do("fingerprint")[0]] * N
    opened = open_database(settings)
    yield opened
    opened.close()


def count(db: Database, action: str) -> int:
    with db.read() as connection:
        query = select(func.count()).select_from(tables.audit).where(tables.audit.c.action == action)
        return int(connection.execute(query).scalar_one())


def test_one_setup_code_of_three_is_good_and_makes_one_administrator(three: Three, db: Database) -> None:
    codes = three.do("setup_code")
    made = [answer for code in codes for answer in three.do("set_up", code) if "id" in answer]
    assert len(made) == 1 and count(db, "set up") == 1
    assert three.do("setup_code") == [None] * N


def test_a_session_of_one_is_known_to_all_and_ended_for_all(three: Three, db: Database) -> None:
    ann = add_person(db, "Ann", "radiologist")
    with db.begin() as connection:
        token = sessions.open_session(connection, ann.id)
    assert three.do("person_of", token) == ["Ann"] * N
    three.do("sign_out", token)
    assert count(db, "sign out") == 1
    assert three.do("person_of", token) == [None] * N


def test_a_day_has_one_head_however_many_processes_look(
    three: Three, db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = heads.heads_path(settings)
    three.do("write_head", False)
    n = len(path.read_text().splitlines())
    three.do("write_head", True)
    assert len(path.read_text().splitlines()) == n  # there is one of today
    yesterday = tables.now() - timedelta(days=1)
    monkeypatch.setattr(heads, "now", lambda: yesterday)
    path_lines = len(path.read_text().splitlines())
    heads.write_head(db)
    monkeypatch.undo()
    assert len(path.read_text().splitlines()) == path_lines + 1
    three.do("write_head", True)
    assert len(path.read_text().splitlines()) == path_lines + 2
    assert heads.verify(db).is_intact


def test_pixels_that_are_due_are_removed_once_and_by_one(three: Three, db: Database) -> None:
    reader = at_terminal(add_person(db, "Rita"))
    due = []
    for number in range(6):
        study = studies.create_study(db, reader, display_name="x", images=[picture(number)])
        reads.record_first_read(db, reader, study, {"R": CALM})
        reads.record_final_read(db, reader, study, {"R": CALM}, "")
        due.append(study)
    site_settings.choose(db, reader, "keep_pixels_days", 30)
    removed = three.do("apply_policy", 31)
    assert sum(removed) == len(due) == count(db, "remove pixels")
    assert db.store.blobs.keys() == []


def test_weights_become_live_once_and_all_processes_see_them(three: Three, db: Database, settings: Settings) -> None:
    ada = at_terminal(add_person(db, "Ada", "administrator"))
    job = add_candidate(db, ada, 7)  # type: ignore[arg-type]
    answers = three.do("promote", ada.id, job)
    assert sorted("refused" in answer for answer in answers) == [False, True, True]
    assert count(db, "promote model") == 1
    chosen = read_live(settings).chosen[MODEL]
    assert three.do("live", MODEL) == [chosen] * N


def test_each_study_of_a_back_read_is_taken_by_one(three: Three, db: Database) -> None:
    reader = at_terminal(add_person(db, "Nora"))
    for number in range(20, 29):
        studies.create_study(db, reader, display_name="x", images=[picture(number)])
    number = back_reads.start(db, reader, [SHIPPED])
    taken = [study for found in three.do("take_all") for study in found]
    assert len(taken) == len(set(taken)) == 9
    assert back_reads.load(db, reader, number).counts == {"done": 9}


def test_a_backup_that_is_due_is_made_by_one(three: Three, db: Database) -> None:
    ada = at_terminal(add_person(db, "Amy", "administrator"))
    site_settings.choose(db, ada, "backup_days", 1)
    assert sorted(three.do("make_due")) == [False, False, True]
    assert three.do("make_due") == [False] * N
    assert len(list(copies.backups_dir(db.settings).iterdir())) == 1


def test_the_trail_of_all_of_it_is_whole(three: Three, db: Database) -> None:
    assert trail.verify(db).is_intact
