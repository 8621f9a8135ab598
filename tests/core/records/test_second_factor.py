"""The second factor: codes by the RFC's own vectors, used once, kept sealed, and demanded where a site demands them."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.__main__ import main
from core.errors import Conflict, NotAllowed
from core.records import site_settings
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people import accounts, invitations, second_factor, sessions, throttle, totp
from core.records.people.accounts import FAILURES_BEFORE_LOCK, AccountRefused, SecondFactorNeeded
from core.records.people.permissions import LocalTerminal, Person, SessionActor
from core.server.guards import SESSION_COOKIE
from core.server.routes import PENDING_COOKIE, build_routes
from core.settings import Settings

PASSWORD = "correct horse battery"


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
        (2000000000, "69279037"), (20000000000, "65353130"),
    ],
)  # fmt: skip
def test_codes_are_those_of_rfc_6238_appendix_b(at: int, code: str) -> None:
    assert totp.code_at(b"12345678901234567890", totp.step_of(at), digits=8) == code


def test_a_clock_may_be_one_step_off_and_no_more() -> None:
    for at in (1_000_000_000.0, 1_000_000_000.0 + totp.STEP_SECONDS):
        secret = totp.new_secret()
        for steps, is_right in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
            code = totp.code_at(secret, totp.step_of(at) + steps)
            assert (totp.matching_step(secret, code, at=at, after=0) is not None) is is_right, steps


def test_a_secret_is_typed_in_groups_of_four_and_whole() -> None:
    assert totp.secret_text(b"12345678901234567890") == "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"


def test_recovery_codes_are_ten_of_50_random_bits() -> None:
    codes = totp.new_recovery_codes()
    assert len(set(codes)) == 10
    assert [code for code in codes if not re.fullmatch("[A-HJ-NP-Z2-9]{5}-[A-HJ-NP-Z2-9]{5}", code)] == []


def test_what_another_key_sealed_is_no_secret() -> None:
    sealed = totp.seal(b"a" * 32, b"secret")
    assert totp.unseal(b"a" * 32, sealed) == b"secret" and totp.unseal(b"b" * 32, sealed) is None


class Clock:
    """The seconds that the authenticator and the server agree on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead)

    def code(self, secret: bytes) -> str:
        return totp.code_at(secret, totp.step_of(time.time()))

    def next_step(self) -> None:
        self.ahead += totp.STEP_SECONDS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "state"))
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def anna(db: Database) -> Person:
    code = str(accounts.setup_code(db))
    return accounts.create_first_administrator(db, code=code, name="Anna Berg", password=PASSWORD)


def set_up(db: Database, anna: Person, clock: Clock) -> tuple[bytes, list[str]]:
    """The secret and the recovery codes; the next code is a new one."""
    actor = LocalTerminal(anna.id)
    enrolment = second_factor.begin(db, actor)
    with db.read() as connection:
        sealed = connection.execute(select(tables.second_factor.c.secret)).scalar_one()
    secret = totp.unseal(db.site_key, sealed)
    assert secret is not None and totp.secret_text(secret) == enrolment.secret
    assert enrolment.secret.replace(" ", "") in enrolment.address
    codes = second_factor.confirm(db, actor, clock.code(secret))
    clock.next_step()
    return secret, codes


def pending(db: Database, settings: Settings) -> str:
    with pytest.raises(SecondFactorNeeded) as needed:
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    return needed.value.pending


def test_the_password_alone_opens_nothing_and_the_code_does(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    token = second_factor.sign_in(db, settings, pending(db, settings), clock.code(secret))
    assert sessions.person_of(db, settings, token) == anna
    entry = trail.entries(db, LocalTerminal(anna.id))[0]
    assert (entry.action, entry.detail["by"]) == ("sign in", "second factor")


def test_until_a_first_code_was_right_none_is_asked_for(db: Database, settings: Settings, anna: Person) -> None:
    second_factor.begin(db, LocalTerminal(anna.id))
    with pytest.raises(AccountRefused):
        second_factor.confirm(db, LocalTerminal(anna.id), "000000x")
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD)


def test_a_code_counts_once(db: Database, settings: Settings, anna: Person, clock: Clock) -> None:
    secret, _ = set_up(db, anna, clock)
    code = clock.code(secret)
    second_factor.sign_in(db, settings, pending(db, settings), code)
    with pytest.raises(AccountRefused, match="used already"):
        second_factor.sign_in(db, settings, pending(db, settings), code)
    clock.next_step()
    assert second_factor.sign_in(db, settings, pending(db, settings), clock.code(secret))


def test_a_code_that_is_used_is_used_up_for_its_person_alone(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    ben = accounts.create_person(db, LocalTerminal(anna.id), name="Ben", password=PASSWORD, roles=["radiologist"])
    _set_up_oneself(db, sessions.actor_of(accounts.sign_in(db, settings, "Ben", PASSWORD)), ben, clock)
    with db.read() as connection:
        rows = connection.execute(select(tables.second_factor).order_by(tables.second_factor.c.person_id)).all()
    assert [row.person_id for row in rows] == [anna.id, ben.id] and len({tuple(row.recovery) for row in rows}) == 2
    assert second_factor.sign_in(db, settings, pending(db, settings), clock.code(secret))


def test_a_recovery_code_counts_once_however_it_is_typed(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    _, codes = set_up(db, anna, clock)
    assert len(set(codes)) == totp.RECOVERY_CODES
    assert second_factor.sign_in(db, settings, pending(db, settings), f" {codes[0].lower()} ")
    with pytest.raises(AccountRefused):
        second_factor.sign_in(db, settings, pending(db, settings), codes[0])
    assert second_factor.sign_in(db, settings, pending(db, settings), codes[1])


def test_guessing_codes_locks_and_the_right_password_does_not_start_the_count_again(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    first = pending(db, settings)
    for _ in range(FAILURES_BEFORE_LOCK - 1):
        with pytest.raises(AccountRefused):
            second_factor.sign_in(db, settings, first, "000000x")
    with pytest.raises(AccountRefused):
        second_factor.sign_in(db, settings, first, clock.code(secret))
    with pytest.raises(AccountRefused, match="do not match"):
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD)


def fail_but_one(db: Database, settings: Settings) -> None:
    for _ in range(FAILURES_BEFORE_LOCK - 1):
        with pytest.raises(AccountRefused, match="do not match"):
            accounts.sign_in(db, settings, "Anna Berg", "wrong password")


def locks(db: Database, anna: Person) -> int:
    return sum(entry.action == "lock person" for entry in trail.entries(db, LocalTerminal(anna.id)))


def test_after_four_wrong_passwords_the_right_one_and_the_right_code_open(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    fail_but_one(db, settings)
    pending(db, settings)
    token = second_factor.sign_in(db, settings, pending(db, settings), clock.code(secret))
    assert sessions.person_of(db, settings, token) == anna and locks(db, anna) == 0


def test_after_four_wrong_passwords_and_the_right_one_a_wrong_code_locks_and_is_in_the_trail_once(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    fail_but_one(db, settings)
    token = pending(db, settings)
    with pytest.raises(AccountRefused):
        second_factor.sign_in(db, settings, token, "000000")
    assert locks(db, anna) == 1
    with pytest.raises(AccountRefused):
        second_factor.sign_in(db, settings, token, clock.code(secret))
    with pytest.raises(AccountRefused, match="locked"):
        accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    assert locks(db, anna) == 1


def test_the_right_password_again_and_again_leaves_no_more_codes_to_be_tried(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    token = pending(db, settings)
    for _ in range(FAILURES_BEFORE_LOCK - 1):
        pending(db, settings)
    with pytest.raises(AccountRefused):
        second_factor.sign_in(db, settings, token, "000000")
    with pytest.raises(AccountRefused):
        second_factor.sign_in(db, settings, token, clock.code(secret))
    assert locks(db, anna) == 1


def test_the_right_password_is_remembered_for_five_minutes_and_for_that_password(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    first = pending(db, settings)
    clock.ahead += totp.PENDING_SECONDS + 2
    with pytest.raises(AccountRefused, match="too long"):
        second_factor.sign_in(db, settings, first, clock.code(secret))
    second = pending(db, settings)
    clock.ahead += totp.PENDING_SECONDS - 2
    assert second_factor.sign_in(db, settings, second, clock.code(secret))
    third = pending(db, settings)
    accounts.change_password(db, LocalTerminal(anna.id), old=PASSWORD, new="another long sentence")
    clock.next_step()
    with pytest.raises(AccountRefused, match="too long"):
        second_factor.sign_in(db, settings, third, clock.code(secret))


@pytest.mark.parametrize("made_up", ["", "1", "1.2", "1.99999999999.00", "x.y.z", "1.2.3.4", "²." * 2, "9" * 5000])
def test_a_made_up_pending_token_opens_nothing(
    db: Database, settings: Settings, anna: Person, clock: Clock, made_up: str
) -> None:
    secret, _ = set_up(db, anna, clock)
    with pytest.raises(AccountRefused, match="too long"):
        second_factor.sign_in(db, settings, made_up, clock.code(secret))


def test_a_one_time_link_does_not_replace_the_second_factor(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    set_up(db, anna, clock)
    link = invitations.link_at_terminal(db, "Anna Berg")
    person = invitations.use_link(db, link, "another long sentence")
    with pytest.raises(SecondFactorNeeded):
        accounts.enter(db, person)


def test_it_is_removed_with_a_code_by_an_administrator_or_at_the_terminal(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    with pytest.raises(Conflict):
        second_factor.begin(db, LocalTerminal(anna.id))
    with pytest.raises(AccountRefused):
        second_factor.remove(db, LocalTerminal(anna.id), "000000x")
    (refused,) = trail.entries(db, LocalTerminal(anna.id), action="sign-in refused")
    assert refused.subject == f"person {anna.id}" and refused.detail == {"cause": "second factor"}
    second_factor.remove(db, LocalTerminal(anna.id), clock.code(secret))
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    set_up(db, anna, clock)
    assert main(["people", "remove-second-factor", "Anna Berg"]) == 0
    assert accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    ben = accounts.create_person(db, LocalTerminal(anna.id), name="Ben", password=PASSWORD, roles=["radiologist"])
    set_up(db, ben, clock)
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    second_factor.remove_of(db, sessions.actor_of(token), ben.id)
    assert accounts.sign_in(db, settings, "Ben", PASSWORD)
    with pytest.raises(Conflict):
        second_factor.remove_of(db, sessions.actor_of(token), anna.id)


def test_where_it_is_demanded_the_role_counts_once_it_is_set_up(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    actor = sessions.actor_of(token)
    with pytest.raises(Conflict, match="Set up your own"):
        site_settings.choose(db, actor, "second_factor", "administrators")
    ben = accounts.create_person(db, LocalTerminal(anna.id), name="Ben", password=PASSWORD, roles=["administrator"])
    bens = accounts.sign_in(db, settings, "Ben", PASSWORD)
    set_up(db, anna, clock)
    site_settings.choose(db, actor, "second_factor", "administrators")

    now = site_settings.current(db)
    person = sessions.person_of(db, now, bens)
    assert person is not None and person.roles == frozenset()
    with pytest.raises(NotAllowed):
        accounts.list_people(db, sessions.actor_of(bens))
    assert accounts.list_people(db, actor)  # who has one goes on
    _set_up_oneself(db, sessions.actor_of(bens), ben, clock)
    person = sessions.person_of(db, now, bens)
    assert person is not None and person.roles == {"administrator"}
    assert accounts.list_people(db, sessions.actor_of(bens))


def test_it_is_set_up_once_a_first_code_was_right(db: Database, anna: Person, clock: Clock) -> None:
    assert not second_factor.is_set_up(db, LocalTerminal(anna.id))
    second_factor.begin(db, LocalTerminal(anna.id))
    assert not second_factor.is_set_up(db, LocalTerminal(anna.id))
    set_up(db, anna, clock)
    assert second_factor.is_set_up(db, LocalTerminal(anna.id))


def test_what_somebody_else_set_up_is_nobodys_second_factor(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    ben, _ = (
        accounts.create_person(db, LocalTerminal(anna.id), name=name, password=PASSWORD, roles=["administrator"])
        for name in ("Ben", "Cleo")
    )
    annas, bens, cleos = (accounts.sign_in(db, settings, name, PASSWORD) for name in ("Anna Berg", "Ben", "Cleo"))
    _set_up_oneself(db, sessions.actor_of(bens), ben, clock)
    site_settings.choose(db, sessions.actor_of(bens), "second_factor", "administrators")
    people = [sessions.person_of(db, site_settings.current(db), token) for token in (annas, bens, cleos)]
    assert [person and "administrator" in person.roles for person in people] == [False, True, False]


def _set_up_oneself(db: Database, actor: SessionActor, person: Person, clock: Clock) -> None:
    second_factor.begin(db, actor)
    with db.read() as connection:
        mine = tables.second_factor.c.person_id == person.id
        sealed = connection.execute(select(tables.second_factor.c.secret).where(mine)).scalar_one()
    second_factor.confirm(db, actor, clock.code(totp.unseal(db.site_key, sealed) or b""))


def test_who_comes_by_single_sign_on_has_the_providers(db: Database, settings: Settings, anna: Person) -> None:
    token = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    demanding = replace(settings, second_factor="administrators")
    person = sessions.person_of(db, demanding, token)
    assert person is not None and "administrator" not in person.roles
    with db.begin() as connection:
        accounts.change_row(connection, anna.id, issuer="https://login.example.org", subject="1")
    person = sessions.person_of(db, demanding, token)
    assert person is not None and "administrator" in person.roles


def test_neither_secret_nor_codes_lie_in_the_database_in_clear(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, codes = set_up(db, anna, clock)
    with db.read() as connection:
        row = str(connection.execute(select(tables.second_factor)).one())
    assert not any(code in row for code in codes)
    assert totp.secret_text(secret).replace(" ", "") not in row and secret.hex() not in row


def test_the_browser_is_asked_for_the_code_and_then_has_its_session(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    app = Starlette(routes=build_routes(lambda: db, settings))
    with TestClient(app, follow_redirects=False) as client:
        answer = client.post("/login", data={"who": "Anna Berg", "password": PASSWORD})
        assert answer.headers["location"] == "/second_factor" and SESSION_COOKIE not in client.cookies
        assert "HttpOnly" in answer.headers["set-cookie"] and PENDING_COOKIE in client.cookies
        answer = client.post("/second-factor", data={"code": "000000x"})
        assert answer.headers["location"] == "/second_factor?said=second" and SESSION_COOKIE not in client.cookies
        answer = client.post("/second-factor", data={"code": clock.code(secret)})
        assert answer.headers["location"] == "/" and PENDING_COOKIE not in client.cookies
        assert sessions.person_of(db, settings, client.cookies[SESSION_COOKIE]) == anna
    with TestClient(app, follow_redirects=False) as client:
        assert client.post("/second-factor", data={"code": "1"}).headers["location"] == "/?said=late"


def test_attempts_are_forgotten_after_the_second_factor_only(
    db: Database, settings: Settings, anna: Person, clock: Clock
) -> None:
    secret, _ = set_up(db, anna, clock)
    first = pending(db, settings)
    with db.read() as connection:
        assert connection.execute(select(tables.sign_in_attempt.c.n_failed)).scalar_one() == 1
    second_factor.sign_in(db, settings, first, clock.code(secret))
    with db.read() as connection:
        assert connection.execute(select(tables.sign_in_attempt)).all() == []
        assert throttle.locked_people(connection) == frozenset()
