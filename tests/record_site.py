"""What the tests of the records share: people, pictures, predictions, and a PostgreSQL server of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, text

from core.records import site_settings
from core.records.database import db as db_file
from core.records.database import tables
from core.records.database.db import Database
from core.records.people import sessions
from core.records.people.permissions import ROLES, LocalTerminal, Person, SignedIn
from core.records.reads import predictions, reads, retention, studies, truths
from core.records.reads.reads import Impression
from core.settings import Settings
from core.types import Explanation, Fit, Image, Modality, Prediction

sqlite_only = pytest.mark.parametrize("record_settings", ["sqlite"], indirect=True)
"""For what is decided before the database is asked: the tables of PostgreSQL take a while to make."""

CALM, WORRIED = Impression("2", 5), Impression("4C", 85)


@dataclass(frozen=True, eq=False)
class Somebody(SignedIn):
    """A person with a session of theirs: what acts, and what a test says of them; roles as they were at first."""

    roles: frozenset[str]

    def __eq__(self, other: object) -> bool:
        """The same person, whatever the session."""
        same = ("id", "name", "roles")
        return all(getattr(self, field) == getattr(other, field, None) for field in same)

    def __hash__(self) -> int:
        return hash(self.id)


def signed_in(db: Database, person: Person) -> Somebody:
    """This person at a browser of theirs, without a row in the audit trail."""
    with db.begin() as connection:
        token = sessions.open_session(connection, person.id)
    return Somebody(sessions.digest(token), person.id, person.name, frozenset(person.roles))


@dataclass(frozen=True, eq=False)
class AtTerminal(LocalTerminal):
    """A person who acts at the machine's own terminal, for tests in which time passes or sessions are counted."""

    name: str
    roles: frozenset[str]

    @property
    def id(self) -> int:
        return self.person_id

    def __eq__(self, other: object) -> bool:
        """The same person, signed in or not."""
        same = ("id", "name", "roles")
        return all(getattr(self, field) == getattr(other, field, None) for field in same)

    def __hash__(self) -> int:
        return hash(self.id)


def at_terminal(person: Person | Somebody) -> AtTerminal:
    return AtTerminal(person.id, person.name, frozenset(person.roles))


def add_person(db: Database, name: str, *roles: str) -> Somebody:
    """A person as a row, signed in, without the cost of hashing a password. roles: all where none is named."""
    return _add(db, name, roles or ROLES)


def stranger(db: Database, *roles: str) -> Somebody:
    """Somebody who is signed in and holds exactly these roles."""
    return _add(db, f"Stranger {uuid4().hex}", roles)


def _add(db: Database, name: str, roles: Sequence[str]) -> Somebody:
    with db.begin() as connection:
        person_id = connection.execute(
            insert(tables.person)
            .values(name=name, password_hash="none", roles=list(roles), created_at=tables.now())
            .returning(tables.person.c.id)
        ).scalar_one()
    return signed_in(db, Person(person_id, name, roles))


def picture(number: int = 0, **fields: Any) -> Image:
    """A small grey gradient with one bright spot that no other number has."""
    pixels = np.linspace(0, 0.8, 24 * 20, dtype=np.float32).reshape(24, 20)
    pixels[number % 24, number // 24] = 1
    image = Image(pixels, f"{number:064x}", Modality.ULTRASOUND, "tags", "R", None, (0.1, 0.2))
    return replace(image, **fields)


def answer(image: Image, *, model_id: str = "model", weights: str = "e" * 64, malignant: float = 0.8) -> Prediction:
    return Prediction(
        model_id, weights, image.sha256, ("benign", "malignant"), (1 - malignant, malignant), malignant,
        (malignant - 0.1, malignant + 0.1), 0.5, 0.25, "CPU",
    )  # fmt: skip


def explanation(seed: int = 0) -> Explanation:
    maps = np.random.default_rng(seed).random((2, 7, 7)).astype(np.float32)
    fit = Fit((24, 20), (0, 24, 0, 20), 224, 0, 18, 224, 187)
    return Explanation(("benign", "malignant"), 1, {"fused": maps, "vgg16": maps * 1e6}, fit)


def stored_files(db: Database) -> list[str]:
    """Every file of the image store, whatever it is called."""
    return sorted(path.name for path in (db.settings.state_dir / "store").rglob("*") if path.is_file())


@contextmanager
def tables_made_once() -> Iterator[None]:
    """The migrations of an empty database run once a process and kind of database; after that its statements are
    repeated, in a fifth of the time. Older tables are migrated for real each time.
    """
    made: dict[str, list[tuple[str, Any]]] = {}
    migrate = db_file.make_tables

    def make_tables(connection: Connection) -> None:
        if inspect(connection).has_table("alembic_version"):
            migrate(connection)
        elif (kind := connection.dialect.name) in made:
            cursor = connection.connection.cursor()  # the driver's own: SQLAlchemy would take as long as SQLite
            for statement, parameters in made[kind]:
                cursor.execute(statement, parameters)
        else:
            taken: list[tuple[str, Any]] = []

            def take(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
                if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
                    taken.append((statement, parameters))

            event.listen(connection, "before_cursor_execute", take)
            migrate(connection)
            event.remove(connection, "before_cursor_execute", take)
            made[kind] = taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(db_file, "make_tables", make_tables)
        yield


class PostgresServer:
    """Where test databases are made: the server that `SECONDREAD_TEST_POSTGRES_URL` names, or one started here."""

    def __init__(self, url: str, folder: Path | None = None, programs: Path | None = None) -> None:
        self.url = url
        self._folder = folder
        self._programs = programs
        self._names: dict[str, str] = {}
        self._engine = _engine(url)

    def empty_database(self, which: str = "first") -> str:
        """The URL of this run's own database, emptied: that takes a tenth of the time that a new one takes."""
        if which not in self._names:
            self._names[which] = f"secondread_test_{uuid4().hex}"
            self._run(self.url, f"CREATE DATABASE {self._names[which]}")
        self._run(self._url_of(which), "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        return self._url_of(which)

    def database_with_tables(self) -> str:
        """As `empty_database`, but as the migrations leave it: a copy of one in which they ran once, made in a fifth
        of the time that their statements take.
        """
        if "tables" not in self._names:
            settings = Settings(state_dir=Path("nowhere"), database_url=self.empty_database("tables"))
            engine = db_file.reachable_engine(settings, b"")
            with engine.begin() as connection:
                db_file.make_tables(connection)
            engine.dispose()
        name = self._names.setdefault("first", f"secondread_test_{uuid4().hex}")
        drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
        self._run(self.url, drop, f"CREATE DATABASE {name} TEMPLATE {self._names['tables']}")
        return self._url_of("first")

    def _url_of(self, which: str) -> str:
        return f"{self.url.rsplit('/', 1)[0]}/{self._names[which]}"

    def stop(self) -> None:
        """Leaves nothing behind: the database goes, and the server too if it was started here."""
        if self._folder is not None and self._programs is not None:
            _as_postgres([str(self._programs / "pg_ctl"), "-D", str(self._folder / "data"), "-m", "immediate", "stop"])
            shutil.rmtree(self._folder)
        else:
            self._run(self.url, *(f"DROP DATABASE {name} WITH (FORCE)" for name in self._names.values()))

    def _run(self, url: str, *statements: str) -> None:
        engine = self._engine if url == self.url else _engine(url)
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        if engine is not self._engine:
            engine.dispose()


def _engine(url: str) -> Engine:
    return create_engine(url.replace("postgresql://", "postgresql+pg8000://"), isolation_level="AUTOCOMMIT")


def find_postgres(host: str = "127.0.0.1") -> PostgresServer | str:
    """A running server, or the reason why there is none. host: another address of this machine that it listens on."""
    url = os.environ.get("SECONDREAD_TEST_POSTGRES_URL")
    if url and host == "127.0.0.1":
        return PostgresServer(url)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs = found[-1].parent if found else None
    if programs is None:
        on_path = shutil.which("initdb")
        programs = Path(on_path).resolve().parent if on_path else None
    if programs is None:
        return (
            "PostgreSQL is not installed (Debian: apt-get install postgresql), and SECONDREAD_TEST_POSTGRES_URL unset"
        )
    return _start(programs, host)


def _start(programs: Path, host: str) -> PostgresServer:
    # Not pytest's temporary folder: the server's user could not walk into it.
    folder = Path(tempfile.mkdtemp(prefix="secondread-postgres-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    data, log = folder / "data", folder / "log"
    _as_postgres(
        [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    )
    if host != "127.0.0.1":
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {host}/24 trust\n")
    options = f"-p {port} -c listen_addresses={host} -c unix_socket_directories={folder} -c fsync=off"
    _as_postgres([str(programs / "pg_ctl"), "-D", str(data), "-l", str(log), "-o", options, "-w", "start"])
    return PostgresServer(f"postgresql://postgres@{host}:{port}/postgres", folder, programs)


def _as_postgres(command: list[str]) -> None:
    """The server's programs refuse to be run by root."""
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        command, env={"LC_ALL": "C", "PATH": os.environ["PATH"]}, cwd="/", check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **user,
    )  # type: ignore[call-overload]  # fmt: skip
    assert done.returncode == 0, f"{Path(command[0]).name} ended with {done.returncode}"


def finish(db: Database, reader: Somebody, number: int, pathology: str | None, *, suspicion: reads.Impression) -> str:
    """A study with one breast, read by this person, revealed or not; its id. pathology: None leaves it unfinished."""
    image = picture(number, patient_hash=f"{number:064d}")
    study = studies.create_study(db, reader, display_name=f"Jane Doe {number}", images=[image])
    (stored,) = studies.load_study(db, reader, study).images
    predictions.record_predictions(db, study, stored.id, answer(image, malignant=0.25), explanation())
    reads.record_first_read(db, reader, study, {"R": suspicion})
    if pathology is not None:
        reads.record_final_read(db, reader, study, {"R": CALM}, "")
        truths.record_truth(
            db, reader, study, breast="R", pathology=pathology, happened_on=date(2024, 1, 1), source="core biopsy"
        )
    return study


def remove_by_policy(db: Database, person: Somebody, study_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads this study to its end and lets the month pass after which the site removes its pictures."""
    reads.record_first_read(db, person, study_id, {"R": CALM})
    reads.reveal(db, person, study_id)
    reads.record_final_read(db, person, study_id, {"R": CALM})
    site_settings.choose(db, person, "keep_pixels_days", 30)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=31))
    assert retention.apply_policy(db) == 1
