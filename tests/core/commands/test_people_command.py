"""The server's own terminal lets people in again, whatever was done to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.__main__ import main
from core.records.audit import trail
from core.records.database.db import Database
from core.records.people import accounts, invitations, sessions
from core.records.people.accounts import FAILURES_BEFORE_LOCK, TERMINAL, AccountRefused
from core.records.people.permissions import LocalTerminal, Person
from core.settings import Settings

PASSWORD = "correct horse battery"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "state"))
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def anna(db: Database) -> Person:
    code = str(accounts.setup_code(db))
    return accounts.create_first_administrator(db, code=code, name="Anna Berg", password=PASSWORD)


def last_entry(db: Database, anna: Person) -> tuple[str, int | None, object]:
    entry = trail.entries(db, LocalTerminal(anna.id))[0]
    return entry.action, entry.person_id, entry.detail.get("by")


def test_unlock_opens_the_door_to_the_only_administrator(db: Database, settings: Settings, anna: Person) -> None:
    for _ in range(FAILURES_BEFORE_LOCK):
        with pytest.raises(AccountRefused):
            accounts.sign_in(db, settings, "Anna Berg", "wrong password")
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    assert main(["people", "unlock", "anna berg"]) == 0
    assert last_entry(db, anna) == ("enable person", None, TERMINAL)
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD)


def test_unlock_lets_a_disabled_person_in_and_make_administrator_adds_a_role(
    db: Database, settings: Settings, anna: Person
) -> None:
    ben = accounts.create_person(db, LocalTerminal(anna.id), name="Ben", password=PASSWORD, roles=["radiologist"])
    accounts.disable_person(db, LocalTerminal(anna.id), ben.id)
    assert main(["people", "unlock", "Ben"]) == 0
    assert main(["people", "make-administrator", "Ben"]) == 0
    assert last_entry(db, anna) == ("set roles", None, TERMINAL)
    person = sessions.person_of(db, settings, accounts.sign_in(db, settings, "Ben", PASSWORD))
    assert person is not None and person.roles == {"radiologist", "administrator"}
    assert trail.verify(db).is_intact


def test_a_link_sets_a_lost_password_of_the_only_administrator(
    db: Database, settings: Settings, anna: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    assert main(["people", "link", "Anna Berg"]) == 0
    assert sessions.person_of(db, settings, token) is None
    link = capsys.readouterr().out.strip().partition("/invitation?link=")[2]
    invitations.use_link(db, link, "another long sentence")
    assert accounts.sign_in(db, settings, "Anna Berg", "another long sentence")
    assert trail.verify(db).is_intact


@pytest.mark.parametrize("verb", ["unlock", "make-administrator", "remove-second-factor", "link"])
def test_an_unknown_name_changes_nothing(
    db: Database, anna: Person, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = trail.verify(db).n
    assert main(["people", verb, "Nobody"]) == 1
    assert "Nobody has this name" in capsys.readouterr().err and trail.verify(db).n == before


def test_a_mistyped_folder_is_not_made_a_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "nowhere"))
    assert main(["people", "unlock", "Anna"]) == 1
    assert "no SecondRead" in capsys.readouterr().err and not (tmp_path / "nowhere").exists()
