"""Who acts is read again in each act: a session that ended, a role or an account that is gone ends what it could do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from record_site import CALM, Somebody, add_person, picture, signed_in, sqlite_only
from sqlalchemy import update

from core.errors import NotAllowed, SignedOut
from core.records import site_settings
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people import accounts, invitations, sessions
from core.records.people.permissions import (
    LocalTerminal,
    Person,
    ProcessActor,
    SessionActor,
    person_now,
    require_permission,
)
from core.records.reads import reads, studies

ACTS: dict[str, Callable[[Database, Somebody, int], object]] = {
    "disable": lambda db, who, other: accounts.disable_person(db, who, other),
    "enable": lambda db, who, other: accounts.enable_person(db, who, other),
    "give roles": lambda db, who, other: accounts.set_roles(db, who, other, ["administrator"]),
    "own role back": lambda db, who, _: accounts.set_roles(db, who, who.id, ["administrator"]),
    "reset by link": lambda db, who, other: invitations.reset_by_link(db, who, other),
    "invite": lambda db, who, _: invitations.invite_person(db, who, name="Eve", roles=["administrator"]),
    "sign out": lambda db, who, other: accounts.sign_out_everywhere(db, who, other),
    "list": lambda db, who, _: accounts.list_people(db, who),
}
ENDS: dict[str, tuple[Callable[[Database, Somebody, Somebody], object], type[NotAllowed]]] = {
    "signed out everywhere": (lambda db, chief, who: accounts.sign_out_everywhere(db, chief, who.id), SignedOut),
    "disabled": (lambda db, chief, who: accounts.disable_person(db, chief, who.id), SignedOut),
    "demoted": (lambda db, chief, who: accounts.set_roles(db, chief, who.id, ["radiologist"]), NotAllowed),
}


@sqlite_only
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("end", ENDS)
def test_an_administrator_who_is_none_any_more_does_nothing_from_an_open_dialog(
    records: Database, act: str, end: str
) -> None:
    chief, who = add_person(records, "Chief", "administrator"), add_person(records, "Ada", "administrator")
    other = add_person(records, "Otto", "administrator")
    ended, refusal = ENDS[end]
    ended(records, chief, who)
    before = trail.verify(records).n

    with pytest.raises(refusal) as refused:
        ACTS[act](records, who, other.id)

    assert type(refused.value) is refusal and trail.verify(records).n == before
    row = next(row for row in accounts.list_people(records, chief) if row.id == other.id)
    assert not row.is_disabled and row.roles == ("administrator",)


def test_a_session_acts_until_one_of_its_limits_and_the_site_may_shorten_them(records: Database) -> None:
    ada = add_person(records, "Ada", "administrator")
    minutes, hours = records.settings.session_idle_minutes, records.settings.session_hours

    def last_seen(ago: timedelta, begun: timedelta = timedelta(0)) -> None:
        moment = tables.now()
        values = {"last_seen_at": moment - ago, "created_at": moment - max(ago, begun)}
        with records.begin() as connection:
            connection.execute(update(tables.session).values(**values))

    def acts() -> bool:
        with records.read() as connection:
            try:
                return require_permission(connection, ada, "see_audit") == Person(ada.id, "Ada", ["administrator"])
            except SignedOut:
                return False

    last_seen(timedelta(minutes=minutes, seconds=-5))
    assert acts()
    last_seen(timedelta(minutes=minutes, seconds=1))
    assert not acts()
    last_seen(timedelta(0), timedelta(hours=hours, seconds=-5))
    assert acts()
    last_seen(timedelta(0), timedelta(hours=hours, seconds=1))
    assert not acts()
    site_settings.choose(records, LocalTerminal(ada.id), "session_idle_minutes", 2)
    last_seen(timedelta(minutes=2, seconds=-5))
    assert acts()
    last_seen(timedelta(minutes=2, seconds=1))
    assert not acts()


@sqlite_only
def test_a_token_that_nobody_was_given_acts_for_nobody(records: Database) -> None:
    add_person(records, "Ada")
    with records.read() as connection:
        for actor in (SessionActor("0" * 64), SessionActor(""), sessions.actor_of("")):
            with pytest.raises(SignedOut):
                person_now(connection, actor)


@sqlite_only
def test_a_signed_out_browser_does_nothing_while_another_of_the_same_person_goes_on(records: Database) -> None:
    ann = add_person(records, "Ann", "radiologist")
    token = sessions.start_session(records, Person(ann.id, ann.name, ann.roles))
    study_id = studies.create_study(records, ann, display_name="x", images=[picture()])
    sessions.sign_out(records, token)
    with pytest.raises(SignedOut, match="sign in"):
        reads.record_first_read(records, sessions.actor_of(token), study_id, {"R": CALM})
    assert reads.record_first_read(records, ann, study_id, {"R": CALM})


@sqlite_only
def test_the_worker_does_what_was_asked_as_long_as_whoever_asked_may(records: Database) -> None:
    ada = add_person(records, "Ada", "administrator")
    worker = ProcessActor("worker", ada.id)
    with records.begin() as connection:
        assert require_permission(connection, worker, "manage_data").id == ada.id
        for action in ("manage_people", "manage_training", "see_worklist"):
            with pytest.raises(NotAllowed, match="worker may not"):
                require_permission(connection, worker, action)
        with pytest.raises(KeyError):
            require_permission(connection, ProcessActor("stranger", ada.id), "manage_data")
    for values, words in (({"roles": ["researcher"]}, "administrator"), ({"disabled": True}, "disabled")):
        with records.begin() as connection:
            connection.execute(update(tables.person).values(**values))
        with records.read() as connection, pytest.raises(NotAllowed, match=words):
            require_permission(connection, worker, "manage_data")


@sqlite_only
def test_the_terminal_of_the_machine_may_everything_in_the_name_of_somebody_who_exists(records: Database) -> None:
    ben = add_person(records, "Ben", "researcher")
    assert [row.name for row in accounts.list_people(records, LocalTerminal(ben.id))] == ["Ben"]
    with pytest.raises(NotAllowed, match="does not exist"):
        accounts.list_people(records, LocalTerminal(99))


@pytest.mark.parametrize("end", ENDS)
def test_who_takes_a_role_or_a_session_away_waits_for_the_act_that_stands_on_it(records: Database, end: str) -> None:
    """An act that was begun with the role is committed with the role, or is refused."""
    chief, who = add_person(records, "Chief", "administrator"), add_person(records, "Ada", "administrator")
    order: list[str] = []

    def take_away() -> None:
        ENDS[end][0](records, chief, who)
        order.append("taken away")

    thread = threading.Thread(target=take_away)
    with records.begin() as connection:
        require_permission(connection, who, "manage_people")
        thread.start()
        thread.join(0.7)
        assert thread.is_alive()
        trail.record(connection, who.id, "sign out person", "person 1")
        order.append("acted")
    thread.join(30)
    assert order == ["acted", "taken away"]
    with pytest.raises(NotAllowed):
        accounts.list_people(records, who)
    assert trail.verify(records).is_intact


@sqlite_only
def test_an_actor_says_nothing_about_roles(records: Database) -> None:
    ada = signed_in(records, Person(add_person(records, "Ada", "researcher").id, "Ada", ["administrator"]))
    with pytest.raises(NotAllowed):
        accounts.list_people(records, ada)
    assert set(SessionActor.__dataclass_fields__) == {"token_sha256"}
