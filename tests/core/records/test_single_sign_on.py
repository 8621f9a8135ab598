"""Who comes by single sign-on, and as what; on both databases."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from record_site import add_person, at_terminal, sqlite_only
from sqlalchemy import Connection

from core.errors import Conflict, InvalidSettings
from core.records.audit import trail as audit_trail
from core.records.database.db import Database
from core.records.people import accounts, invitations, sessions, single_sign_on
from core.records.people.accounts import AccountRefused
from core.records.people.permissions import Person
from core.records.people.single_sign_on import identity_of, roles_by_value
from core.settings import Settings

ISSUER = "https://id.example.org"
SSO = Settings(
    public_url="https://secondread.example.org",
    sso_discovery_url=f"{ISSUER}/.well-known/openid-configuration",
    sso_client_id="x",
    sso_client_secret="kept to itself",
    sso_roles="readers=radiologist, chiefs=radiologist+administrator",
)


@pytest.fixture
def root(records: Database) -> Person:
    return add_person(records, "Root", "administrator")


def claims(subject: str = "s-1", roles: Any = "readers", **more: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "sub": subject, "name": "Anna Berg", "roles": roles} | more


def come(db: Database, **said: Any) -> Person:
    person = sessions.person_of(db, SSO, single_sign_on.sign_in(db, SSO, claims(**said)))
    assert person is not None
    return person


def test_the_first_time_makes_a_person_and_the_next_time_finds_them_whatever_their_name_is_now(
    records: Database, root: Person
) -> None:
    first = come(records)
    again = come(records, name="Anna Okoye", email="other@example.org")

    assert (first.id, first.name, first.roles) == (again.id, again.name, again.roles)
    assert first.roles == {"radiologist"}
    trail = [(entry.action, dict(entry.detail)) for entry in audit_trail.entries(records, root)][::-1]
    assert trail == [
        ("create by single sign-on", {"roles": ["radiologist"]}),
        ("sign in", {"by": "single sign-on"}),
        ("sign in", {"by": "single sign-on"}),
    ]
    assert audit_trail.verify(records).is_intact


def test_nobody_is_merged_by_a_name(records: Database, root: Person) -> None:
    anna = add_person(records, "Anna Berg", "administrator")
    first, second = come(records), come(records, subject="s-2", roles="chiefs")

    assert len({anna.id, first.id, second.id}) == 3
    assert (first.name, second.name) == ("Anna Berg 2", "Anna Berg 3")


def test_the_same_subject_of_another_issuer_is_somebody_else(records: Database, root: Person) -> None:
    issuers = (ISSUER, "https://a.example.org", "https://z.example.org")  # the others come before it and after it
    people = [come(records, iss=issuer).id for issuer in issuers]
    assert len(set(people)) == 3
    assert [come(records, iss=issuer).id for issuer in issuers] == people


def test_the_list_of_people_says_who_comes_by_single_sign_on(records: Database, root: Person) -> None:
    anna = come(records)
    assert {row.id: row.is_sso for row in accounts.list_people(records, root)} == {root.id: False, anna.id: True}


def test_roles_are_those_of_the_claim_at_each_sign_in(records: Database, root: Person) -> None:
    assert come(records).roles == {"radiologist"}
    assert come(records, roles=["chiefs", "golf"]).roles == {"radiologist", "administrator"}
    assert come(records, roles=["readers"]).roles == {"radiologist"}
    changes = audit_trail.entries(records, root, action="roles by single sign-on")
    assert [entry.detail["roles"] for entry in changes] == [["radiologist"], ["radiologist", "administrator"]]


def test_who_is_given_no_role_any_more_is_refused_and_signed_out(records: Database, root: Person) -> None:
    token = single_sign_on.sign_in(records, SSO, claims())
    with pytest.raises(AccountRefused, match="gives you no role"):
        single_sign_on.sign_in(records, SSO, claims(roles=["golf"]))

    assert sessions.person_of(records, SSO, token) is None
    assert come(records).roles == {"radiologist"}  # and back again


def test_a_stranger_without_a_role_leaves_no_account(records: Database, root: Person) -> None:
    with pytest.raises(AccountRefused, match="gives you no role"):
        single_sign_on.sign_in(records, SSO, claims(roles=None))

    assert [row.name for row in accounts.list_people(records, root)] == ["Root"]
    assert audit_trail.entries(records, root, action="sign-in refused")[0].detail["cause"] == "no_role"


def test_a_disabled_person_stays_outside_whatever_the_provider_says(records: Database, root: Person) -> None:
    token = single_sign_on.sign_in(records, SSO, claims())
    person = sessions.person_of(records, SSO, token)
    assert person is not None
    accounts.disable_person(records, root, person.id)

    assert sessions.person_of(records, SSO, token) is None
    with pytest.raises(AccountRefused, match="is disabled"):
        single_sign_on.sign_in(records, SSO, claims())


def test_an_administrator_ends_the_sessions_of_single_sign_on_too(records: Database, root: Person) -> None:
    token = single_sign_on.sign_in(records, SSO, claims())
    person = sessions.person_of(records, SSO, token)
    assert person is not None
    accounts.sign_out_everywhere(records, root, person.id)
    assert sessions.person_of(records, SSO, token) is None


def test_before_the_site_is_set_up_nobody_comes(records: Database) -> None:
    with pytest.raises(AccountRefused, match="setup code"):
        single_sign_on.sign_in(records, SSO, claims(roles="chiefs"))
    assert accounts.needs_first_administrator(records)


def test_no_password_and_no_role_is_given_here_to_who_comes_by_single_sign_on(records: Database, root: Person) -> None:
    anna = come(records)
    for act in (
        lambda: accounts.set_roles(records, root, anna.id, ["administrator"]),
        lambda: accounts.reset_password(records, root, anna.id, "correct horse battery"),
        lambda: invitations.reset_by_link(records, root, anna.id),
    ):
        with pytest.raises(Conflict, match="single sign-on"):
            act()
    assert not accounts.has_password(records, at_terminal(anna)) and accounts.has_password(records, root)
    with pytest.raises(AccountRefused):
        accounts.sign_in(records, SSO, "Anna Berg", "none")


def test_first_sign_ins_at_once_make_one_person_and_none_waits_for_another_for_ever(
    records: Database, root: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four come before the person exists, and the next ones when it does, while the first four are still waiting."""
    opened = sessions.open_session

    def open_slowly(connection: Connection, person_id: int) -> str:
        time.sleep(0.05)
        return opened(connection, person_id)

    monkeypatch.setattr(sessions, "open_session", open_slowly)
    with ThreadPoolExecutor(4) as pool:
        people = {person.id for person in pool.map(lambda _: come(records), range(12))}
    assert len(people) == 1 and len(accounts.list_people(records, root)) == 2


def test_the_same_name_invited_by_two_at_once_is_taken_once(records: Database, root: Person) -> None:
    def invite(_: int) -> str:
        try:
            return invitations.invite_person(records, root, name="Ben", roles=["researcher"])[0].name
        except AccountRefused as refused:
            return refused.reason

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(invite, range(6)))
    assert answers == ["Ben", "taken", "taken", "taken", "taken", "taken"]


@pytest.mark.parametrize(
    ("claim", "said", "roles"),
    [
        ("roles", {"roles": "readers"}, ("radiologist",)),
        ("roles", {"roles": "golf chiefs"}, ("radiologist", "administrator")),
        ("roles", {"roles": ["golf", 7, None, "readers"]}, ("radiologist",)),
        ("roles", {"roles": {"readers": True}}, ()),
        ("realm.roles", {"realm": {"roles": ["readers"]}}, ("radiologist",)),
        ("realm.roles", {"realm": "readers"}, ()),
        ("https://example.org/roles", {"https://example.org/roles": ["readers"]}, ("radiologist",)),
    ],
)
def test_where_the_roles_stand_in_the_token(claim: str, said: dict[str, Any], roles: tuple[str, ...]) -> None:
    found = identity_of({"iss": ISSUER, "sub": "s", **said}, replace(SSO, sso_role_claim=claim))
    assert found.roles == roles


def test_a_name_is_found_or_made() -> None:
    assert identity_of({"iss": ISSUER, "sub": "s", "name": "  ", "email": "a@b"}, SSO).name == "a@b"
    assert identity_of({"iss": ISSUER, "sub": "s", "name": "A\x00"}, SSO).name.startswith("Person ")
    with pytest.raises(AccountRefused, match="did not confirm"):
        identity_of({"iss": ISSUER}, SSO)


def test_roles_that_do_not_exist_are_refused_at_the_start() -> None:
    assert roles_by_value("a=radiologist, b = c=researcher+administrator") == {
        "a": ("radiologist",), "b = c": ("researcher", "administrator"),
    }  # fmt: skip
    for wrong in ("a=root", "radiologist", "=radiologist", "a=radiologist+"):
        with pytest.raises(InvalidSettings, match="SECONDREAD_SSO_ROLES"):
            roles_by_value(wrong)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sso_client_secret": ""}, "SECONDREAD_SSO_CLIENT_SECRET"),
        ({"public_url": ""}, "SECONDREAD_PUBLIC_URL"),
        ({"sso_discovery_url": ""}, "SECONDREAD_SSO_DISCOVERY_URL"),
        ({"sso_discovery_url": "http://id.example.org/x"}, "https://"),
        ({"public_url": "secondread.example.org"}, "https://"),
    ],
)
def test_half_a_configuration_is_refused_by_name(change: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidSettings, match=says):
        replace(SSO, **change)


@sqlite_only
def test_the_secret_is_in_no_text_about_the_settings(records: Database) -> None:
    assert "kept to itself" not in repr(SSO)
