"""A site of every version before loses nothing: what was stored is there, means the same, and can be worked with.

The stored sites are made by `make_site.py` with the version that wrote them; see README.md beside this file.
"""

from __future__ import annotations

import json
import lzma
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from observed import SECRET_COLUMNS, command_words, files_of, rows_of, seen_in
from record_site import PostgresServer
from sqlalchemy import create_engine

from core.models.cards import live_card, live_cards, read_card
from core.records.audit import heads
from core.records.audit.heads import heads_path
from core.records.backup import site_backup
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.people import accounts, invitations, sessions, single_sign_on
from core.records.people.accounts import AccountRefused
from core.records.people.permissions import LocalTerminal, Person
from core.records.queue import DONE, FAILED
from core.records.releases import decisions, promotion_check
from core.settings import Settings
from train.queue import imports, trainings
from train.queue.imports import ImportWork
from train.queue.worker import Worker
from train.recipe.request import FitRequest

HERE = Path(__file__).resolve().parent
VERSIONS = sorted(path.name.removeprefix("site-").removesuffix(".tar.xz") for path in HERE.glob("site-*.tar.xz"))
CARDS = sorted(HERE.glob("cards-*/*/card.json"))
MODEL, SPARE = "ultrasound-cnn", "ultrasound-spare"
HEADS = "heads.jsonl"


@dataclass(frozen=True)
class Stored:
    """What an earlier version left. expected: what it said of itself. backup: a file that it wrote."""

    settings: Settings
    expected: Mapping[str, Any]
    backup: Path

    @property
    def admin(self) -> LocalTerminal:
        return LocalTerminal(self.expected["admin"]["id"])

    @property
    def seen(self) -> Mapping[str, Any]:
        """What people were told. Whoever is disabled is told nothing any more, which 0.1.0 left to its pages."""
        seen = dict(self.expected["seen"])
        disabled = {row["name"] for row in self.expected["rows"]["person"] if row["disabled"]}
        return seen | {"studies": {name: _without(study, disabled) for name, study in seen["studies"].items()}}


def _without(study: Mapping[str, Any], people: set[str]) -> dict[str, Any]:
    seen_by = {name: seen for name, seen in study["seen_by"].items() if name not in people}
    return {**study, "seen_by": seen_by}


def test_there_is_a_stored_site_of_a_version_before() -> None:
    assert "0.1.0" in VERSIONS and len(CARDS) >= 3


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def stored(request: pytest.FixtureRequest, version: str, tmp_path: Path) -> Stored:
    """A stopped site of that version, once in each kind of database."""
    with lzma.open(HERE / f"site-{version}.tar.xz") as packed, tarfile.open(fileobj=packed) as archive:
        archive.extractall(tmp_path, filter="data")
    state = tmp_path / "state"
    state.chmod(0o700)
    url = ""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.empty_database()
        load(url, HERE / f"site-{version}.sql.xz")
        (state / "secondread.sqlite3").unlink()
    settings = Settings(
        state_dir=state,
        database_url=url,
        weights_dir=tmp_path / "weights",
        data_root=str(tmp_path / "pictures"),
        public_url="https://secondread.example.org",
        sso_discovery_url="https://login.example.org/.well-known/openid-configuration",
        sso_client_id="secondread",
        sso_client_secret="made up",
        sso_roles="readers=radiologist, lab=researcher",
        worker=False,
    )
    expected = json.loads((HERE / f"expected-{version}.json").read_text(encoding="utf-8"))
    return Stored(settings, expected, tmp_path / "site.backup")


def load(url: str, dump: Path) -> None:
    """Statements of a plain dump, in a connection of its own."""
    engine = create_engine(url.replace("postgresql://", "postgresql+pg8000://"))
    connection = engine.raw_connection()
    try:
        connection.cursor().execute(lzma.decompress(dump.read_bytes()).decode("utf-8"))
        connection.commit()
    finally:
        connection.close()
        engine.dispose()


def started(settings: Settings) -> Database:
    """What a start does to what is stored."""
    db = open_database(settings)
    decisions.project(db)
    return db


@pytest.fixture
def db(stored: Stored) -> Iterator[Database]:
    db = started(stored.settings)
    yield db
    db.close()


def missing(there: Any, was: Any, where: str = "") -> list[str]:
    """Where something is not any more what it was. Objects may have more keys than they had.

    The title of a model that was trained here says site and weights behind what it said.
    """
    if isinstance(was, dict) and isinstance(there, dict):
        gone = [f"{where}/{key} is gone" for key in was if key not in there]
        return gone + [line for key in was if key in there for line in missing(there[key], was[key], f"{where}/{key}")]
    if isinstance(was, list) and isinstance(there, list) and len(was) == len(there):
        return [
            line
            for number, (one, other) in enumerate(zip(there, was, strict=True))
            for line in missing(one, other, f"{where}/{number}")
        ]
    if where.endswith("/title") and str(there).startswith(f"{was}, this site, weights "):
        return []
    return [] if there == was else [f"{where} was {was!r} and is {there!r}"]


def lost_rows(db: Database, was: Mapping[str, list[dict[str, Any]]], *, but: tuple[str, ...] = ()) -> list[str]:
    """Rows that are not there as they were; `but` names tables that are not asked about."""
    there = rows_of(db.engine)
    lost = []
    for table, rows in was.items():
        for row in rows if table not in but else ():
            if (table, row.get("key")) == ("site", "audit_head"):
                continue  # moves with the trail, and is verified with it
            if not any(not missing(one, row) for one in there.get(table, ())):
                alike = [one for one in there.get(table, ()) if next(iter(one.items())) in row.items()]
                lost.append(f"{table}: {missing(alike[0], row) if alike else row}")
    return lost


def test_every_row_and_every_file_is_still_there(stored: Stored, db: Database) -> None:
    assert all(stored.expected["rows"].values()), "the stored site has an empty table, which proves nothing"
    assert lost_rows(db, stored.expected["rows"]) == []
    files = files_of(stored.settings.state_dir)
    assert missing({**files, HEADS: ""}, {**stored.expected["files"], HEADS: ""}) == []


def test_what_people_are_told_is_what_they_were_told(stored: Stored, db: Database) -> None:
    was, there = stored.seen, seen_in(db, stored.admin)
    for kind, entries in was["audit"].items():  # newest first; a start may be written down by now
        assert there["audit"][kind][-len(entries) :] == entries
    assert missing({**there, "audit": {}}, {**was, "audit": {}}) == []


def test_the_audit_trail_and_its_second_file_verify(stored: Stored, db: Database) -> None:
    found = heads.verify(db)
    assert found.problems == () and found.n >= len(stored.expected["rows"]["audit"])
    assert len(heads_path(stored.settings).read_text(encoding="utf-8").splitlines()) >= 4
    macs = {row["id"]: row["mac"] for row in rows_of(db.engine)["audit"]}
    assert missing(macs, {row["id"]: row["mac"] for row in stored.expected["rows"]["audit"]}) == []


def test_a_second_start_changes_nothing(stored: Stored) -> None:
    seen = []
    for _ in range(2):
        db = started(stored.settings)
        seen.append((rows_of(db.engine), files_of(stored.settings.state_dir)))
        db.close()
    assert seen[0] == seen[1]


def test_people_sign_in_with_the_passwords_they_had(stored: Stored, db: Database) -> None:
    settings, password = stored.settings, stored.expected["password"]
    known = {row["id"]: row for row in stored.expected["rows"]["person"]}
    for person_id in (1, 2, 3, 4, 5, 7):  # a lock of 15 minutes is over by now
        row = known[person_id]
        who = sessions.person_of(db, settings, accounts.sign_in(db, settings, row["name"], password))
        assert who == Person(person_id, row["name"], row["roles"])
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, known[1]["name"], password + " not")
    for row in known.values():
        if row["disabled"] or row["issuer"] or row["name"].startswith(("Ines", "Nora")):
            with pytest.raises(AccountRefused):
                accounts.sign_in(db, settings, row["name"], password)


def test_who_comes_by_single_sign_on_is_the_person_they_were(stored: Stored, db: Database) -> None:
    (was,) = [row for row in stored.expected["rows"]["person"] if row["issuer"]]
    claims = {"iss": was["issuer"], "sub": was["subject"], "name": "Another Name", "roles": ["lab"]}
    who = sessions.person_of(db, stored.settings, single_sign_on.sign_in(db, stored.settings, claims))
    assert who == Person(was["id"], was["name"], ["researcher"])


def test_sessions_and_one_time_links_of_the_last_minutes_still_count(stored: Stored, db: Database) -> None:
    secrets, moment = stored.expected["secrets"], tables.now()
    links = {"reset link": "Nora New-Password", "invitation": "Ines Invited"}
    assert sessions.person_of(db, stored.settings, secrets["session"]) is None  # of months ago
    assert not any(invitations.is_open(db, secrets[link]) for link in links)
    with db.begin() as connection:  # as if they were of a minute ago
        connection.execute(tables.session.update().values(created_at=moment, last_seen_at=moment))
        connection.execute(tables.invitation.update().values(expires_at=moment + timedelta(hours=1)))
    who = sessions.person_of(db, stored.settings, secrets["session"])
    assert who is not None and who.name == "Rita Reader"
    for link, name in links.items():
        assert invitations.use_link(db, secrets[link], "another made up password").name == name
        assert sessions.person_of(
            db, stored.settings, accounts.sign_in(db, stored.settings, name, "another made up password")
        )


def test_waiting_trainings_are_taken_up_with_the_commands_they_had(stored: Stored, db: Database) -> None:
    waiting = [job for job in stored.expected["seen"]["jobs"] if job["state"] in ("queued", "running")]
    assert len(waiting) >= 12
    for number, was in enumerate(waiting):
        held = trainings.QUEUE.claim(db, worker=f"w{number}", machine=f"m{number}")
        assert held is not None and (held.id, held.row.version_id) == (was["id"], was["version_id"])
        request = FitRequest.from_json(held.row.request)
        assert command_words(request) == was["command"]
        assert held.attempt == was["attempts"] + 1
        assert trainings.add_epochs(db, held, "", [{"epoch": 1, "loss": 0.5}]) == (0 if was["epochs"] else 1)
        assert trainings.QUEUE.finish(db, held, FAILED, "Ended by the test.")
        new_job = trainings.enqueue(db, stored.admin, request, held.row.version_id)
        assert new_job == len(stored.expected["rows"]["job"]) + 1 + number
        trainings.cancel(db, stored.admin, new_job)
    assert trainings.QUEUE.claim(db, worker="w", machine="m") is None


def test_waiting_imports_are_taken_up_with_their_files_and_done(stored: Stored, db: Database) -> None:
    waiting = [one for one in stored.expected["seen"]["imports"] if one["state"] in ("queued", "running")]
    assert {one["request"]["way"] for one in waiting} == {"zip", "folder", "workbooks", "own reads"}
    for number, was in enumerate(waiting):
        held = imports.QUEUE.claim(db, worker=f"w{number}", machine=f"m{number}")
        assert held is not None and (held.id, held.row.created_by) == (was["id"], stored.admin.person_id)
        assert held.attempt == (2 if was["state"] == "running" else 1)
        folder = imports.folder_of(db.settings, held.id)
        assert sorted(path.name for path in folder.glob("*")) == was["files"]
        imports.QUEUE.hand_back(db, held)
        assert Worker(db, ImportWork(db)).work_once()
        row = imports.load_import(db, stored.admin, held.id)
        if was["request"]["way"] == "workbooks":  # what was put there is no workbook
            assert row.state == FAILED and "our fault" not in row.message
        else:
            assert row.state == DONE, row.message
    assert not Worker(db, ImportWork(db)).work_once()


def test_a_candidate_is_promoted_and_everything_can_be_rolled_back_to(stored: Stored, db: Database) -> None:
    admin, settings = stored.admin, stored.settings
    live, shadow = (stored.expected["seen"]["releases"]["live"][name][MODEL] for name in ("chosen", "shadows"))
    assert live_card(settings, MODEL).weights_sha256 == live
    found = promotion_check.examine(db, admin, 3)
    assert (found.live_sha256, found.candidate.weights_sha256, found.is_scored) == (live, shadow, True)
    passed = {line.key: "Looked at." for line in found.lines}
    promotion_check.promote(db, admin, 3, live_sha256=live, reason="After the upgrade.", passed=passed)
    assert live_card(settings, MODEL).weights_sha256 == shadow
    before = shadow
    for sha256 in stored.expected["seen"]["releases"]["to_roll_back_to"][MODEL]:
        if sha256 != before:
            decisions.roll_back(db, admin, MODEL, sha256, live_sha256=before, reason="Back.")
            assert live_card(settings, MODEL).weights_sha256 == sha256
            before = sha256
    (spare,) = stored.expected["seen"]["releases"]["to_roll_back_to"][SPARE]
    assert SPARE not in {card.model_id for card in live_cards(settings)}
    decisions.roll_back(db, admin, SPARE, spare, live_sha256=None, reason="Wanted again.")
    assert live_card(settings, SPARE).weights_sha256 == spare
    assert lost_rows(db, stored.expected["rows"]) == []


def test_released_weights_outlive_another_set_of_shipped_ones(stored: Stored) -> None:
    """The next version may ship other models, or none."""
    shutil.rmtree(stored.settings.weights_dir / MODEL)
    db = started(stored.settings)
    live = stored.expected["seen"]["releases"]["live"]["chosen"][MODEL]
    assert live_card(stored.settings, MODEL).weights_sha256 == live
    was = stored.expected["seen"]["releases"]["to_roll_back_to"][MODEL]
    assert sorted(card.weights_sha256 for card in decisions.releases_of(db, stored.admin, MODEL)) == was
    db.close()


def test_a_backup_of_the_version_before_is_restored(stored: Stored, tmp_path: Path) -> None:
    url = stored.settings.database_url
    if url:
        empty(url)
    settings = replace(stored.settings, state_dir=tmp_path / "restored", database_url=url)
    summary = site_backup.restore(settings, stored.backup)
    db = started(settings)
    was = dict(stored.expected["rows"])
    *trail, made = was["audit"]
    assert made["action"] == "backup" and summary.n_audit == len(trail)
    assert lost_rows(db, {**was, "audit": trail}, but=("session", "invitation")) == []
    assert heads.verify(db).problems == ()
    folders = ("store/", "data_sets/", "candidates/", "releases/", "site.key", "live.json")
    kept = {name: sha256 for name, sha256 in stored.expected["files"].items() if name.startswith(folders)}
    assert len(kept) > 100 and missing(files_of(settings.state_dir), kept) == []
    seen = seen_in(db, stored.admin)
    for part in ("people", "studies", "data_sets", "releases", "settings", "thresholds", "drift"):
        assert missing(seen[part], stored.seen[part]) == []
    db.close()


def empty(url: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+pg8000://"))
    connection = engine.raw_connection()
    connection.cursor().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    connection.commit()
    connection.close()
    engine.dispose()


@pytest.mark.parametrize("path", CARDS, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}")
def test_cards_of_versions_before_can_be_read(path: Path) -> None:
    raw = json.loads(path.read_text(encoding="utf-8"))
    card = read_card(path.parent)
    assert (card.model_id, card.modality.value, card.architecture) == (
        raw["model_id"], raw["modality"], raw["architecture"],
    )  # fmt: skip
    assert (list(card.classes), card.positive, card.threshold.value) == (
        raw["classes"], raw["positive"], raw["threshold"]["value"],
    )  # fmt: skip
    assert (card.weights_sha256, list(card.weights_files)) == (raw["weights"]["sha256"], raw["weights"]["files"])
    assert (card.side, card.channels) == (raw["input"]["side"], raw["input"]["channels"])
    assert len(card.calibration.samples) == len(raw["calibration"]["samples"])


def test_secrets_are_not_among_what_is_expected() -> None:
    for version in VERSIONS:
        rows = json.loads((HERE / f"expected-{version}.json").read_text(encoding="utf-8"))["rows"]
        found = [row[name] for table in rows.values() for row in table for name in SECRET_COLUMNS if name in row]
        assert found and all(len(value) == 64 for value in found)
