"""A day at a site: every kind of act is a row of the trail, by whom it was done, found by its word and in the file."""

from __future__ import annotations

from datetime import date

import pytest
from argon2 import PasswordHasher
from record_site import CALM, picture

from core.records import (
    accounts,
    audit,
    audit_export,
    invitations,
    openings,
    passwords,
    reads,
    sessions,
    site_settings,
    studies,
)  # fmt: skip
from core.records.accounts import AccountRefused
from core.records.db import Database
from core.records.permissions import ROLES

PASSWORD = "a long enough password for tests"


def test_a_day_is_in_the_trail_word_by_word(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: quick)
    code = accounts.setup_code(records) or ""
    ada = accounts.create_first_administrator(records, code=code, name="Ada", password=PASSWORD)
    ben, link = invitations.invite_person(records, ada, name="Ben", roles=["radiologist"])
    invitations.use_link(records, link, PASSWORD)
    with pytest.raises(AccountRefused):
        accounts.sign_in(records, records.settings, "Ben", "not the password")
    token = accounts.sign_in(records, records.settings, "Ben", PASSWORD)
    study_id = studies.create_study(records, ben, display_name="x", images=[picture(laterality="R")])
    openings.record_opening(records, ben, study_id)
    reads.record_first_read(records, ben, study_id, {"R": CALM})
    reads.reveal(records, ben, study_id)
    reads.record_final_read(records, ben, study_id, {"R": CALM})
    reads.record_export(records, ben, study_id, what="pdf")
    reads.record_truth(
        records, ben, study_id, breast="R", pathology="benign", happened_on=date(2024, 1, 1), source="biopsy"
    )
    sessions.sign_out(records, token)
    accounts.set_roles(records, ada, ben.id, ROLES)
    accounts.disable_person(records, ada, ben.id)
    site_settings.choose(records, ada, "reading_mode", "concurrent")

    found = audit.entries(records, ada)
    assert [(entry.action, entry.person_name) for entry in reversed(found)] == [
        ("set up", "Ada"), ("invite person", "Ada"), ("set password by link", "Ben"), ("sign-in refused", None),
        ("sign in", "Ben"), ("create study", "Ben"), ("open study", "Ben"), ("first read", "Ben"), ("reveal", "Ben"),
        ("final read", "Ben"), ("export report", "Ben"), ("enter truth", "Ben"), ("sign out", "Ben"),
        ("set roles", "Ada"), ("disable person", "Ada"), ("change setting", "Ada"),
    ]  # fmt: skip
    words, people = audit.words_and_people(records, ada)
    assert set(words) == {entry.action for entry in found} and set(people.values()) == {"Ada", "Ben"}
    for word in words:
        assert {entry.action for entry in audit.entries(records, ada, action=word)} == {word}
    of_study = audit.entries(records, ada, subject=study_id)
    assert len(of_study) == 7 and {entry.person_id for entry in of_study} == {ben.id}
    text = audit_export.export_csv(records, ada, found).decode("utf-8-sig")
    assert all(word in text for word in words) and text.count("\n") >= len(found)
    assert audit.verify(records).is_intact
