"""People, passwords and sessions: who gets in, and who does not."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from record_site import at_terminal, signed_in
from sqlalchemy import delete, event, insert, select, update

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import BUSY_SECONDS, Database
from core.records.people import accounts, invitations, passwords, sessions, throttle
from core.records.people.accounts import FAILURES_BEFORE_LOCK, LOCK_MINUTES, AccountRefused
from core.records.people.permissions import ROLES, Person
from core.records.people.throttle import NAME_FAILURES, Origin, device_token
from core.settings import Settings

PASSWORD = "correct horse battery"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def anna(db: Database) -> Person:
    code = accounts.setup_code(db)
    assert code is not None
    return at_terminal(accounts.create_first_administrator(db, code=code, name="Anna Berg", password=PASSWORD))


class Clock:
    """Moves the present of the account functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        for module in (accounts, sessions, throttle):
            monkeypatch.setattr(module, "now", lambda: tables.now() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def actions(db: Database, anna: Person) -> list[tuple[str, dict[str, object]]]:
    return [(entry.action, dict(entry.detail)) for entry in trail.entries(db, anna)]


def refused(db: Database, settings: Settings, name: str, password: str) -> str:
    with pytest.raises(AccountRefused) as caught:
        accounts.sign_in(db, settings, name, password)
    return str(caught.value)


def test_the_setup_code_makes_one_administrator_with_all_roles(db: Database, anna: Person) -> None:
    assert anna.roles == set(ROLES)
    assert accounts.setup_code(db) is None
    assert not accounts.needs_first_administrator(db)


@pytest.mark.parametrize(
    "copied",
    [
        str.lower,
        lambda code: f"  {code}\n",
        lambda code: code.replace("-", " - "),
        lambda code: f"{code[:9]}\n {code[9:]}",
        lambda code: code.replace("-", "\u2011"),
        lambda code: code.replace("-", ""),
    ],
)
def test_a_wrong_setup_code_makes_nobody_and_is_audited_and_a_right_one_counts_however_it_was_copied(
    db: Database, copied: Callable[[str], str]
) -> None:
    code = accounts.setup_code(db)
    with pytest.raises(AccountRefused, match="not the setup code"):
        accounts.create_first_administrator(db, code="AAAAA-AAAAA-AAAAA-AAAAA", name="Eve", password=PASSWORD)
    assert accounts.needs_first_administrator(db)
    anna = at_terminal(
        accounts.create_first_administrator(db, code=copied(str(code)), name="Anna Berg", password=PASSWORD)
    )
    assert [action for action, _ in actions(db, anna)] == ["set up", "set-up refused"]


def test_the_setup_code_is_new_at_each_start_and_kept_only_as_a_hash(db: Database) -> None:
    first, second = accounts.setup_code(db), accounts.setup_code(db)
    assert first != second
    with pytest.raises(AccountRefused, match="not the setup code"):
        accounts.create_first_administrator(db, code=str(first), name="Anna Berg", password=PASSWORD)
    with db.read() as connection:
        retained = " ".join(connection.execute(select(tables.site.c.value)).scalars())
    assert str(second) not in retained


def test_a_new_setup_code_takes_nothing_else_of_the_site_away(db: Database) -> None:
    with db.begin() as connection:
        connection.execute(insert(tables.site), [{"key": key, "value": "kept"} for key in ("a", "z")])
    accounts.setup_code(db)
    code = str(accounts.setup_code(db))
    with db.read() as connection:
        kept = connection.execute(select(tables.site.c.key).where(tables.site.c.value == "kept")).scalars().all()
    assert sorted(kept) == ["a", "z"]
    accounts.create_first_administrator(db, code=code, name="Anna Berg", password=PASSWORD)


@pytest.mark.parametrize("decided", ["reset", "disabled"])
def test_a_sign_in_in_flight_does_not_undo_what_is_decided_meanwhile(
    db: Database, settings: Settings, anna: Person, monkeypatch: pytest.MonkeyPatch, decided: str
) -> None:
    bob = accounts.create_person(db, anna, name="Bob", password=PASSWORD, roles=["radiologist"])
    right = passwords.matches

    def slow(password_hash: str, password: str) -> bool:
        """Comparing takes its time; an administrator decides meanwhile."""
        monkeypatch.setattr(passwords, "matches", right)
        if decided == "reset":
            accounts.reset_password(db, anna, bob.id, "another long password")
        else:
            accounts.disable_person(db, anna, bob.id)
        return right(password_hash, password)

    monkeypatch.setattr(passwords, "matches", slow)
    with pytest.raises(AccountRefused) as refused:
        accounts.sign_in(db, settings, "Bob", PASSWORD)
    assert refused.value.reason == "wrong"
    with db.read() as connection:
        assert not connection.execute(select(tables.session).where(tables.session.c.person_id == bob.id)).all()
    if decided == "disabled":
        accounts.enable_person(db, anna, bob.id)
        assert accounts.sign_in(db, settings, "Bob", PASSWORD)
        return
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, "Bob", PASSWORD)
    assert accounts.sign_in(db, settings, "Bob", "another long password")


def test_the_setup_code_works_once(db: Database) -> None:
    code = str(accounts.setup_code(db))
    accounts.create_first_administrator(db, code=code, name="Anna Berg", password=PASSWORD)
    with pytest.raises(AccountRefused, match="exists already"):
        accounts.create_first_administrator(db, code=code, name="Eve", password=PASSWORD)


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ("elevenchars", "12 to 256"),
        ("x" * 300, "12 to 256"),
        ("DR. ANNA BERG-LUND", "must not be the name"),
        ("abababababababab", "too few different"),
    ],
)
def test_passwords_that_are_too_easy_are_refused_with_a_sentence(
    db: Database, anna: Person, password: str, sentence: str
) -> None:
    with pytest.raises(AccountRefused, match=sentence):
        accounts.create_person(db, anna, name="Dr. Anna Berg-Lund", password=password, roles=["researcher"])


def test_passwords_are_kept_as_argon2id(db: Database, anna: Person) -> None:
    with db.read() as connection:
        retained = connection.execute(select(tables.person.c.password_hash)).scalar_one()
    assert retained.startswith("$argon2id$") and PASSWORD not in retained


def test_a_person_signs_in_whatever_the_case_of_the_name(db: Database, settings: Settings, anna: Person) -> None:
    token = accounts.sign_in(db, settings, "  anna   BERG ", PASSWORD)
    assert sessions.person_of(db, settings, token) == anna


def test_the_database_never_holds_the_token_itself(db: Database, settings: Settings, anna: Person) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    with db.read() as connection:
        retained = connection.execute(select(tables.session.c.token_sha256)).scalar_one()
    assert retained == sessions.digest(token) and len(token) >= 43  # 256 bits in base64
    assert sessions.person_of(db, settings, retained) is None


def test_wrong_password_unknown_name_locked_and_disabled_read_the_same(
    db: Database, settings: Settings, anna: Person
) -> None:
    ben = accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=["radiologist"])
    said = {refused(db, settings, "Nobody", PASSWORD), refused(db, settings, "Anna Berg", "wrong password")}
    accounts.disable_person(db, anna, ben.id)
    said.add(refused(db, settings, "Ben Okoye", PASSWORD))
    for _ in range(FAILURES_BEFORE_LOCK):
        said.add(refused(db, settings, "Anna Berg", "wrong password"))
    said.add(refused(db, settings, "Anna Berg", PASSWORD))
    assert len(said) == 1


def test_an_unknown_name_costs_as_much_work_as_a_known_one(
    db: Database, settings: Settings, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    monkeypatch.setattr(passwords, "matches", lambda retained, _: bool(compared.append(retained)))
    for name in ("Anna Berg", "Nobody"):
        refused(db, settings, name, "whatever it is")
    assert len(compared) == 2 and compared[1].startswith("$argon2id$")


def test_repeated_failures_lock_the_name_for_some_minutes(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    for _ in range(FAILURES_BEFORE_LOCK):
        refused(db, settings, "Anna Berg", "wrong password")
    refused(db, settings, "Anna Berg", PASSWORD)
    assert actions(db, anna)[1] == ("lock person", {"minutes": LOCK_MINUTES})
    clock.ahead = timedelta(minutes=LOCK_MINUTES + 1)
    assert sessions.person_of(db, settings, accounts.sign_in(db, settings, "Anna Berg", PASSWORD)) == anna


def test_a_lock_of_a_clock_that_was_a_day_ahead_is_over_once_the_clock_is_right(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    """Or a wrong clock would close a name for as long as it was wrong."""
    clock.ahead = timedelta(days=1)
    for _ in range(FAILURES_BEFORE_LOCK):
        refused(db, settings, "Anna Berg", "wrong password")
    clock.ahead = timedelta(days=1) - tables.CLOCK_STEP  # set a little: it still is locked
    refused(db, settings, "Anna Berg", PASSWORD)
    assert any(row.is_locked for row in accounts.list_people(db, anna))
    clock.ahead = timedelta()
    assert not any(row.is_locked for row in accounts.list_people(db, anna))
    assert sessions.person_of(db, settings, accounts.sign_in(db, settings, "Anna Berg", PASSWORD)) == anna


@pytest.mark.parametrize(("back", "lives"), [(timedelta(minutes=4), True), (timedelta(hours=1), False)])
def test_a_session_from_the_future_does_not_live_until_then(
    db: Database, settings: Settings, anna: Person, clock: Clock, back: timedelta, lives: bool
) -> None:
    """Made by a clock that was ahead, it would have no end for as long: neither the idle one nor the other."""
    clock.ahead = back
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    clock.ahead = timedelta()
    assert (sessions.person_of(db, settings, token) is not None) == lives


def test_a_link_from_the_future_is_not_longer_valid_than_any(
    db: Database, settings: Settings, anna: Person, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "now", lambda: tables.now() + clock.ahead)
    clock.ahead = timedelta(days=1)
    _, link = invitations.invite_person(db, anna, name="Ben", roles=["radiologist"])
    assert invitations.is_open(db, link)
    clock.ahead = timedelta()
    assert not invitations.is_open(db, link)


def test_a_lock_that_is_over_gives_all_attempts_back(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    for _ in range(FAILURES_BEFORE_LOCK):
        refused(db, settings, "Anna Berg", "wrong password")
    clock.ahead = timedelta(minutes=LOCK_MINUTES + 1)
    for _ in range(FAILURES_BEFORE_LOCK - 1):
        refused(db, settings, "Anna Berg", "wrong password")
    accounts.sign_in(db, settings, "Anna Berg", PASSWORD)


def test_guesses_at_the_same_moment_do_not_slip_past_the_lock(
    db: Database, settings: Settings, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every guess waits until all have begun: the password is looked at for at most as many as the lock allows."""
    n_guesses = 12
    begun = threading.Barrier(n_guesses)
    count = accounts._count_attempt
    allowed: list[bool] = []

    def counted(db: Database, name: str, origin: Origin) -> object:
        begun.wait(10)
        row, attempt = count(db, name, origin)
        allowed.append(not attempt.is_locked)
        return row, attempt

    monkeypatch.setattr(accounts, "_count_attempt", counted)
    guesses = [
        threading.Thread(target=refused, args=(db, settings, "Anna Berg", f"guess number {n}"))
        for n in range(n_guesses)
    ]
    for guess in guesses:
        guess.start()
    for guess in guesses:
        guess.join()
    assert sum(allowed) == FAILURES_BEFORE_LOCK and len(allowed) == n_guesses


HERE, THERE = Origin("192.0.2.1"), Origin("198.51.100.7")


def fail(db: Database, settings: Settings, origin: Origin, times: int = FAILURES_BEFORE_LOCK) -> None:
    for _ in range(times):
        with pytest.raises(AccountRefused):
            accounts.sign_in(db, settings, "Anna Berg", "wrong password", origin=origin)


def test_whoever_fails_on_purpose_locks_the_name_for_themselves_alone(
    db: Database, settings: Settings, anna: Person
) -> None:
    fail(db, settings, THERE, FAILURES_BEFORE_LOCK + 3)
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=THERE)
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=HERE)


def test_who_fails_at_an_address_locks_nobody_else_there(db: Database, settings: Settings, anna: Person) -> None:
    token = invitations.invite_person(db, anna, name="Ben Holm", roles=["radiologist"])[1]
    invitations.use_link(db, token, PASSWORD)
    fail(db, settings, HERE, FAILURES_BEFORE_LOCK - 1)
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, "Ben Holm", "wrong password", origin=HERE)
    fail(db, settings, HERE, 1)
    assert accounts.sign_in(db, settings, "Ben Holm", PASSWORD, origin=HERE)
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=HERE)


def test_of_the_longest_password_every_character_counts_and_none_may_follow() -> None:
    longest = "ab" * (passwords.LENGTH_MOST // 2)
    kept = passwords.hash_password(longest)
    assert len(longest) == passwords.LENGTH_MOST and passwords.matches(kept, longest)
    for other in (longest + "a", longest[:-1], longest[:-1] + "c", longest * 2):
        assert not passwords.matches(kept, other)


def test_one_failure_fewer_locks_nothing(db: Database, settings: Settings, anna: Person) -> None:
    fail(db, settings, HERE, FAILURES_BEFORE_LOCK - 1)
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=HERE)


@pytest.mark.parametrize(("after", "is_noted"), [(10.0, False), (30.0, False), (30.000001, True), (90.0, True)])
def test_that_somebody_is_active_is_noted_twice_a_minute_at_most(
    db: Database, settings: Settings, anna: Person, monkeypatch: pytest.MonkeyPatch, after: float, is_noted: bool
) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)

    def seen_at() -> datetime:
        with db.read() as connection:
            return connection.execute(select(tables.session.c.last_seen_at)).scalar_one()

    before = seen_at()
    monkeypatch.setattr(sessions, "now", lambda: before + timedelta(seconds=after))
    assert sessions.person_of(db, settings, token, is_activity=False) and seen_at() == before
    assert sessions.person_of(db, settings, token)
    assert seen_at() == (before + timedelta(seconds=after) if is_noted else before)


def test_whoever_looks_does_not_wait_for_another_process_that_writes_and_is_noted_at_the_next_step(
    db: Database, settings: Settings, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    later = sessions.now() + timedelta(seconds=60)
    monkeypatch.setattr(sessions, "now", lambda: later)

    def seen_at() -> datetime:
        with db.read() as connection:
            return connection.execute(select(tables.session.c.last_seen_at)).scalar_one()

    with closing(sqlite3.connect(settings.state_dir / "secondread.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        found = sessions.person_of(db, settings, token)
        assert found is not None and found.id == anna.id and time.monotonic() - began < 5
        assert seen_at() < later
    assert sessions.person_of(db, settings, token) and seen_at() == later
    with db.begin() as connection:  # whoever writes for good waits as before
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 1000 * BUSY_SECONDS


def test_a_lock_ends_to_the_second_and_is_never_renewed_by_attempts_within_it(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    fail(db, settings, HERE)
    clock.ahead = timedelta(minutes=LOCK_MINUTES, seconds=-30)
    fail(db, settings, HERE)
    clock.ahead = timedelta(minutes=LOCK_MINUTES)
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=HERE)


@pytest.mark.parametrize(("beyond", "is_locked"), [(timedelta(0), True), (timedelta(microseconds=1), False)])
def test_a_lock_longer_than_any_lock_can_be_is_none(
    db: Database, settings: Settings, anna: Person, monkeypatch: pytest.MonkeyPatch, beyond: timedelta, is_locked: bool
) -> None:
    fail(db, settings, HERE)
    moment = tables.now()
    monkeypatch.setattr(throttle, "now", lambda: moment)
    until = moment + timedelta(minutes=LOCK_MINUTES) + tables.CLOCK_STEP + beyond
    with db.begin() as connection:
        connection.execute(update(tables.sign_in_attempt).values(locked_until=until))
    with db.begin() as connection:
        assert throttle.count_attempt(connection, anna.id, HERE).is_locked is is_locked
    assert (anna.id in locked_now(db)) is is_locked


def test_failures_from_everywhere_close_the_name_that_they_were_of(
    db: Database, settings: Settings, anna: Person
) -> None:
    token = invitations.invite_person(db, anna, name="Ben Holm", roles=["radiologist"])[1]
    invitations.use_link(db, token, PASSWORD)
    fail(db, settings, THERE, 1)
    for n_failed, is_locked in ((NAME_FAILURES - 1, False), (NAME_FAILURES, True)):
        with db.begin() as connection:
            connection.execute(update(tables.sign_in_attempt).values(n_failed=n_failed))
            assert throttle.count_attempt(connection, anna.id, Origin(f"10.0.0.{n_failed}")).is_locked is is_locked
            connection.execute(delete(tables.sign_in_attempt).where(tables.sign_in_attempt.c.n_failed == 1))
    assert accounts.sign_in(db, settings, "Ben Holm", PASSWORD, origin=HERE)
    assert locked_now(db) == {anna.id}


def locked_now(db: Database) -> frozenset[int]:
    with db.read() as connection:
        return throttle.locked_people(connection)


def test_a_browser_that_is_known_counts_by_itself(db: Database, settings: Settings, anna: Person) -> None:
    known = Origin(HERE.address, (device_token(db.site_key, anna.id + 1), device_token(db.site_key, anna.id)))
    fail(db, settings, HERE)
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=known)
    fail(db, settings, known)
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=known)


@pytest.mark.parametrize("device", ["", "1", "1.x.", "1.nonce.00", "other", "1.é.ü"])
def test_a_browser_cannot_say_itself_that_it_is_known(
    db: Database, settings: Settings, anna: Person, device: str
) -> None:
    fail(db, settings, HERE)
    others = device_token(db.site_key, anna.id + 1).replace(f"{anna.id + 1}.", f"{anna.id}.", 1)
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=Origin(HERE.address, (device, others)))


def test_guessing_from_very_many_addresses_leaves_known_browsers_in_and_ends(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    known = Origin("203.0.113.9", (device_token(db.site_key, anna.id),))
    for number in range(NAME_FAILURES - 1):
        fail(db, settings, Origin(f"10.0.{number // 250}.{number % 250}"), 1)
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=HERE)
    fail(db, settings, Origin("10.9.9.9"), 1)
    with pytest.raises(AccountRefused):
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=THERE)
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=known)
    clock.ahead = timedelta(minutes=LOCK_MINUTES, seconds=1)
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD, origin=THERE)


def test_the_database_does_not_say_from_where_anybody_works(db: Database, settings: Settings, anna: Person) -> None:
    fail(db, settings, HERE, 1)
    with db.read() as connection:
        rows = connection.execute(select(tables.sign_in_attempt)).all()
    assert len(rows) == 1 and HERE.address not in str(rows)


def test_success_forgets_earlier_failures(db: Database, settings: Settings, anna: Person) -> None:
    for _ in range(3):
        for _ in range(FAILURES_BEFORE_LOCK - 1):
            refused(db, settings, "Anna Berg", "wrong password")
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD)


def test_an_unknown_name_is_not_written_down(db: Database, settings: Settings, anna: Person) -> None:
    refused(db, settings, "my secret password", "Anna Berg")
    entry = trail.entries(db, anna)[0]
    assert entry.action == "sign-in refused" and "secret" not in f"{entry.subject} {entry.detail}"


def test_signing_out_ends_the_session_for_good(db: Database, settings: Settings, anna: Person) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    sessions.sign_out(db, token)
    assert sessions.person_of(db, settings, token) is None
    sessions.sign_out(db, token)
    assert [action for action, _ in actions(db, anna)][:2] == ["sign out", "sign in"]


def test_an_idle_session_ends(db: Database, settings: Settings, anna: Person, clock: Clock) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    clock.ahead = timedelta(minutes=settings.session_idle_minutes + 1)
    assert sessions.person_of(db, settings, token) is None


def test_a_session_is_known_where_the_database_takes_no_writes_and_ends_when_nothing_could_be_written(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    """A full disk must not take the pictures from those who look at them."""

    def refuse(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    db.engine.dispose()
    event.listen(db.engine, "connect", refuse)
    clock.ahead = timedelta(minutes=settings.session_idle_minutes - 1)
    assert sessions.person_of(db, settings, token) == anna
    clock.ahead = timedelta(minutes=settings.session_idle_minutes + 1)
    assert sessions.person_of(db, settings, token) is None


def test_how_long_an_idle_session_lives_on_is_known(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    clock.ahead = timedelta(minutes=settings.session_idle_minutes - 2)
    assert sessions.seconds_until_idle_end(db, settings, token) == pytest.approx(120, abs=2)
    clock.ahead = timedelta(minutes=settings.session_idle_minutes + 1)
    assert sessions.seconds_until_idle_end(db, settings, token) is None
    assert sessions.seconds_until_idle_end(db, settings, "unknown") is None


def test_work_keeps_a_session_awake_but_looking_at_it_does_not(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    almost = timedelta(minutes=settings.session_idle_minutes - 1)
    clock.ahead = almost
    assert sessions.person_of(db, settings, token) == anna
    clock.ahead = 2 * almost
    assert sessions.person_of(db, settings, token, is_activity=False) == anna
    clock.ahead = 3 * almost
    assert sessions.person_of(db, settings, token, is_activity=False) is None


def test_no_session_outlives_its_hours_however_busy(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    short = replace(settings, session_hours=1)
    token = accounts.sign_in(db, short, "Anna Berg", PASSWORD)
    for minutes in range(0, 60, 10):
        clock.ahead = timedelta(minutes=minutes)
        assert sessions.person_of(db, short, token) == anna
    clock.ahead = timedelta(minutes=61)
    assert sessions.person_of(db, short, token) is None


def test_disabling_a_person_ends_their_sessions_now(db: Database, settings: Settings, anna: Person) -> None:
    ben = accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=["radiologist"])
    token = accounts.sign_in(db, settings, "Ben Okoye", PASSWORD)
    accounts.disable_person(db, anna, ben.id)
    assert sessions.person_of(db, settings, token) is None
    accounts.enable_person(db, anna, ben.id)
    assert sessions.person_of(db, settings, token) is None  # enabling lets in again, but revives nothing
    accounts.sign_in(db, settings, "Ben Okoye", PASSWORD)


def test_new_roles_count_at_the_next_look(db: Database, settings: Settings, anna: Person) -> None:
    ben = accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=["radiologist"])
    token = accounts.sign_in(db, settings, "Ben Okoye", PASSWORD)
    accounts.set_roles(db, anna, ben.id, ["researcher"])
    person = sessions.person_of(db, settings, token)
    assert person is not None and person.roles == {"researcher"}


def test_a_role_that_was_taken_meanwhile_is_not_given_back_by_who_saw_it_still(db: Database, anna: Person) -> None:
    ben = accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=["radiologist", "administrator"])
    accounts.set_roles(db, anna, ben.id, ["researcher"], seen=["administrator", "radiologist"])
    with pytest.raises(Conflict, match="Somebody else changed this"):
        accounts.set_roles(db, anna, ben.id, ["radiologist", "administrator"], seen=["radiologist", "administrator"])
    assert accounts.list_people(db, anna)[1].roles == ("researcher",)


def test_changing_the_password_needs_the_old_one_and_ends_all_sessions(
    db: Database, settings: Settings, anna: Person
) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    with pytest.raises(AccountRefused, match="current password"):
        accounts.change_password(db, anna, old="something else", new="a new long sentence")
    accounts.change_password(db, anna, old=PASSWORD, new="a new long sentence")
    assert sessions.person_of(db, settings, token) is None
    refused(db, settings, "Anna Berg", PASSWORD)
    accounts.sign_in(db, settings, "Anna Berg", "a new long sentence")


def test_guessing_the_old_password_locks_too(db: Database, settings: Settings, anna: Person) -> None:
    for _ in range(FAILURES_BEFORE_LOCK):
        with pytest.raises(AccountRefused):
            accounts.change_password(db, anna, old="a wrong guess", new="a new long sentence")
    with pytest.raises(AccountRefused):
        accounts.change_password(db, anna, old=PASSWORD, new="a new long sentence")


def test_an_administrator_resets_a_lost_password(db: Database, settings: Settings, anna: Person) -> None:
    ben = accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=["radiologist"])
    token = accounts.sign_in(db, settings, "Ben Okoye", PASSWORD)
    accounts.reset_password(db, anna, ben.id, "another long sentence")
    assert sessions.person_of(db, settings, token) is None
    accounts.sign_in(db, settings, "Ben Okoye", "another long sentence")


def test_only_administrators_manage_people(db: Database, anna: Person) -> None:
    roles = ["radiologist", "researcher"]
    ben = signed_in(db, accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=roles))
    attempts = (
        lambda: accounts.create_person(db, ben, name="Eve", password=PASSWORD, roles=["administrator"]),
        lambda: accounts.list_people(db, ben),
        lambda: accounts.disable_person(db, ben, anna.id),
        lambda: accounts.enable_person(db, ben, ben.id),
        lambda: accounts.set_roles(db, ben, ben.id, ["administrator"]),
        lambda: accounts.reset_password(db, ben, anna.id, "another long sentence"),
    )
    for attempt in attempts:
        with pytest.raises(NotAllowed):
            attempt()


def test_names_are_unique_whatever_their_case(db: Database, anna: Person) -> None:
    with pytest.raises(AccountRefused, match="already"):
        accounts.create_person(db, anna, name="ANNA  berg", password=PASSWORD, roles=["radiologist"])


@pytest.mark.parametrize("name", ["", "   ", "a\x00b", "right\u202eleft", "n" * 81])
def test_names_without_visible_characters_are_refused(db: Database, anna: Person, name: str) -> None:
    with pytest.raises(AccountRefused, match="visible"):
        accounts.create_person(db, anna, name=name, password=PASSWORD, roles=["radiologist"])


@pytest.mark.parametrize("roles", [[], ["surgeon"], ["radiologist", "root"]])
def test_roles_that_do_not_exist_are_refused(db: Database, anna: Person, roles: list[str]) -> None:
    with pytest.raises(AccountRefused, match="at least one role"):
        accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=roles)


def test_administrators_cannot_shut_themselves_out(db: Database, anna: Person) -> None:
    with pytest.raises(InvalidInput, match="yourself"):
        accounts.disable_person(db, anna, anna.id)
    with pytest.raises(InvalidInput, match="yourself"):
        accounts.set_roles(db, anna, anna.id, ["researcher"])


def test_people_that_are_not_there_are_told(db: Database, anna: Person) -> None:
    with pytest.raises(NotFound):
        accounts.disable_person(db, anna, 999)
    with pytest.raises(NotFound):
        accounts.reset_password(db, anna, 999, "another long sentence")


def test_the_list_says_who_is_disabled_and_who_is_locked(db: Database, settings: Settings, anna: Person) -> None:
    ben = accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=["researcher", "radiologist"])
    for _ in range(FAILURES_BEFORE_LOCK):
        refused(db, settings, "Ben Okoye", "wrong password")
    row = accounts.list_people(db, anna)[1]
    assert (row.name, row.roles, row.is_locked, row.is_disabled) == (
        "Ben Okoye", ("radiologist", "researcher"), True, False,
    )  # fmt: skip
    accounts.enable_person(db, anna, ben.id)
    assert not accounts.list_people(db, anna)[1].is_locked


def test_everything_that_happened_is_in_an_unbroken_trail(db: Database, settings: Settings, anna: Person) -> None:
    accounts.create_person(db, anna, name="Ben Okoye", password=PASSWORD, roles=["radiologist"])
    refused(db, settings, "Ben Okoye", "wrong password")
    sessions.sign_out(db, accounts.sign_in(db, settings, "Ben Okoye", PASSWORD))
    assert trail.verify(db).is_intact
    assert [action for action, _ in actions(db, anna)] == [
        "sign out", "sign in", "sign-in refused", "create person", "set up",
    ]  # fmt: skip
