"""One-time links: what they open, once, and when they do not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from record_site import add_person, stranger
from sqlalchemy import select

from core.errors import Conflict, NotAllowed, NotFound
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people import accounts, invitations, passwords, sessions
from core.records.people.accounts import AccountRefused
from core.records.people.permissions import Person

PASSWORD = "a long enough password for tests"


@pytest.fixture
def ada(records: Database, quick_hashes: None) -> Person:
    return add_person(records, "Ada", "administrator")


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(AccountRefused) as caught:
        call()
    return caught.value.reason


def test_a_new_person_signs_in_with_the_password_they_chose(records: Database, ada: Person) -> None:
    ben, token = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    assert refused(lambda: accounts.sign_in(records, records.settings, "Ben", passwords.NO_PASSWORD)) == "wrong"

    assert invitations.is_open(records, token)
    assert invitations.use_link(records, token, PASSWORD) == ben
    assert accounts.sign_in(records, records.settings, "Ben", PASSWORD)
    assert [entry.action for entry in trail.entries(records, ada)][1:3] == ["set password by link", "sign-in refused"]


def test_who_has_not_used_their_link_is_invited_and_gets_it_again(
    records: Database, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ben, first = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])

    def row() -> accounts.PersonRow:
        return next(one for one in accounts.list_people(records, ada) if one.name == "Ben")

    assert row().is_invited and row().has_link
    again = invitations.reset_by_link(records, ada, ben.id)
    assert not invitations.is_open(records, first) and invitations.is_open(records, again)
    late = tables.now() + timedelta(hours=invitations.VALID_HOURS)
    monkeypatch.setattr(accounts, "now", lambda: late)
    assert row().is_invited and not row().has_link
    monkeypatch.undo()
    invitations.use_link(records, again, PASSWORD)
    assert not row().is_invited and not row().has_link


def test_a_link_works_once(records: Database, ada: Person) -> None:
    _, token = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    invitations.use_link(records, token, PASSWORD)
    assert not invitations.is_open(records, token)
    assert refused(lambda: invitations.use_link(records, token, "another long password")) == "link"
    assert trail.entries(records, ada)[0].action == "link refused"


def test_a_link_that_is_used_up_leaves_those_of_others_open(records: Database, ada: Person) -> None:
    tokens = [
        invitations.invite_person(records, ada, name=f"Ben {number}", roles=["radiologist"])[1] for number in range(3)
    ]
    first, used, last = sorted(tokens, key=sessions.digest)
    invitations.use_link(records, used, PASSWORD)
    assert not invitations.is_open(records, used)
    assert invitations.is_open(records, first) and invitations.is_open(records, last)


def test_a_refused_password_leaves_the_link_open(records: Database, ada: Person) -> None:
    _, token = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    assert refused(lambda: invitations.use_link(records, token, "short")) == "short"
    assert invitations.is_open(records, token)


def test_an_old_link_opens_nothing(records: Database, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    later = tables.now() + timedelta(hours=invitations.VALID_HOURS)
    monkeypatch.setattr(invitations, "now", lambda: later)
    assert not invitations.is_open(records, token)
    assert refused(lambda: invitations.use_link(records, token, PASSWORD)) == "link"


def test_the_database_holds_the_hash_of_a_link_only(records: Database, ada: Person) -> None:
    _, token = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    with records.read() as connection:
        row = connection.execute(select(tables.invitation)).one()
    assert row.token_sha256 == sessions.digest(token) and token not in map(str, row)


def test_a_reset_ends_password_sessions_and_earlier_links(records: Database, ada: Person) -> None:
    ben, first = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    invitations.use_link(records, first, PASSWORD)
    cookie = accounts.sign_in(records, records.settings, "Ben", PASSWORD)
    second = invitations.reset_by_link(records, ada, ben.id)
    third = invitations.reset_by_link(records, ada, ben.id)

    assert sessions.person_of(records, records.settings, cookie) is None
    assert refused(lambda: accounts.sign_in(records, records.settings, "Ben", PASSWORD)) == "wrong"
    assert [invitations.is_open(records, token) for token in (first, second, third)] == [False, False, True]


def test_disabling_closes_the_link_and_nobody_resets_themselves(records: Database, ada: Person) -> None:
    ben, token = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    accounts.disable_person(records, ada, ben.id)
    assert not invitations.is_open(records, token)
    for person_id in (ben.id, ada.id):
        with pytest.raises(Conflict):
            invitations.reset_by_link(records, ada, person_id)
    with pytest.raises(NotFound):
        invitations.reset_by_link(records, ada, 99)


def test_a_new_password_closes_the_link_of_its_person_and_no_other(records: Database, ada: Person) -> None:
    ben, bens = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    _, cleos = invitations.invite_person(records, ada, name="Cleo", roles=["radiologist"])
    accounts.reset_password(records, ada, ben.id, PASSWORD)
    assert not invitations.is_open(records, bens) and invitations.is_open(records, cleos)


def test_signing_somebody_out_ends_their_sessions_and_nothing_else(records: Database, ada: Person) -> None:
    ben = accounts.create_person(records, ada, name="Ben", password=PASSWORD, roles=["radiologist"])
    cookies = [accounts.sign_in(records, records.settings, "Ben", PASSWORD) for _ in range(2)]
    accounts.sign_out_everywhere(records, ada, ben.id)
    assert [sessions.person_of(records, records.settings, cookie) for cookie in cookies] == [None, None]
    assert trail.entries(records, ada)[0].action == "sign out person"
    assert accounts.sign_in(records, records.settings, "Ben", PASSWORD)
    with pytest.raises(NotFound):
        accounts.sign_out_everywhere(records, ada, 99)


@pytest.mark.parametrize("roles", [(), ("radiologist", "researcher")])
def test_only_administrators_invite_reset_and_sign_others_out(
    records: Database, ada: Person, roles: tuple[str, ...]
) -> None:
    who = stranger(records, *roles)
    calls: tuple[Callable[[], object], ...] = (
        lambda: invitations.invite_person(records, who, name="X", roles=["radiologist"]),
        lambda: invitations.reset_by_link(records, who, ada.id),
        lambda: accounts.sign_out_everywhere(records, who, ada.id),
    )
    for call in calls:
        with pytest.raises(NotAllowed):
            call()
    assert trail.verify(records).n == 0
