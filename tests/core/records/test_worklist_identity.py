"""Whose study it is, in the worklist: what the site chose, for who may see it, on record once a day, and no more."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial

import pytest
from record_site import CALM, Somebody, add_person, at_terminal, picture, sqlite_only, stored_files
from sqlalchemy import Connection, update

from core.archive.archives import ArchiveAddress, name_archive
from core.errors import NotAllowed, SignedOut
from core.imaging.dicom.source import OF_STUDY
from core.records import sealed, site_settings
from core.records.archives.identity import SourceIdentity, record_identity, record_uploaded, worklist_identity
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people import accounts
from core.records.people.permissions import Actor
from core.records.reads import reads, retention, studies

NAME = "Muster^Anna"


@pytest.fixture
def ann(records: Database) -> Somebody:
    return add_person(records, "Ann", "radiologist", "administrator")


@pytest.fixture
def archive_id(records: Database, ann: Somebody) -> int:
    return name_archive(records, ann, ArchiveAddress("pacs", "http://127.0.0.1:9/web"))


def of_archive(db: Database, ann: Somebody, archive_id: int, number: int = 1, **tags: str) -> str:
    """A study that came from the archive; tags: what it is called there, more than nothing."""
    known = {"PatientName": NAME, "PatientID": "P-1", "AccessionNumber": f"ACC-{number}", "StudyInstanceUID": "1.2"}
    who = SourceIdentity(dict.fromkeys(OF_STUDY, "") | known | tags, {})

    def add(connection: Connection, study_id: str) -> None:
        record_identity(
            connection, db.site_key, study_id, archive_id=archive_id, exam_hash=f"{number:064x}", identity=who
        )

    return studies.create_study(db, ann, display_name="x", images=[picture(number)], also=add)


def shown(db: Database, ann: Actor) -> list[trail.Entry]:
    return trail.entries(db, ann, action="show identity")


@sqlite_only
def test_nothing_is_opened_or_recorded_unless_the_site_chose_it(
    records: Database, ann: Somebody, archive_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, of_reader_study = of_archive(records, ann, archive_id), of_archive(records, ann, archive_id, 2)
    with records.begin() as connection:
        case = tables.study.c.id == of_reader_study
        connection.execute(update(tables.study).where(case).values(is_reader_study_case=True))
    image = picture(7)
    named = partial(record_uploaded, records.site_key, {image.sha256: {"StudyInstanceUID": "1.2.3"}})
    uploaded = studies.create_study(records, ann, display_name="x", images=[image], also=named)

    def opened(*_: object) -> bytes:
        raise AssertionError("a seal was opened")

    monkeypatch.setattr(sealed, "unseal", opened)
    assert worklist_identity(records, ann, [study]) == {}
    site_settings.choose(records, ann, "worklist_identity", "name")
    with pytest.raises(NotAllowed):
        worklist_identity(records, add_person(records, "Rob", "researcher", "administrator"), [study])
    assert worklist_identity(records, ann, [uploaded, of_reader_study]) == {}
    assert worklist_identity(records, ann, []) == {} and not shown(records, ann)
    with pytest.raises(AssertionError, match="a seal was opened"):
        worklist_identity(records, ann, [study])


def test_what_was_chosen_is_shown_and_recorded_once_a_day_for_each_person(
    records: Database, ann: Somebody, archive_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (of_archive(records, ann, archive_id, number) for number in (1, 2, 3))
    site_settings.choose(records, ann, "worklist_identity", "name")
    for _ in range(2):
        assert worklist_identity(records, ann, [first, second]) == dict.fromkeys((first, second), "Muster, Anna")
    (entry,) = shown(records, ann)
    assert (entry.subject, entry.person_id) == ("worklist", ann.id)
    assert entry.detail == {"shown": "name", "studies": sorted([first, second])}

    assert set(worklist_identity(records, ann, [second, third])) == {second, third}
    assert shown(records, ann)[0].detail["studies"] == [third], "only what is new to this person"
    ben = add_person(records, "Ben", "radiologist")
    worklist_identity(records, ben, [first])
    assert shown(records, ann)[0].person_id == ben.id

    site_settings.choose(records, ann, "worklist_identity", "accession number")
    assert worklist_identity(records, ann, [first]) == {first: "ACC-1"}
    assert shown(records, ann)[0].detail == {"shown": "accession number", "studies": [first]}
    site_settings.back_to_default(records, ann, "worklist_identity")
    assert worklist_identity(records, ann, [first]) == {} and len(shown(records, ann)) == 4

    everything = json.dumps([dict(entry.detail) for entry in trail.entries(records, ann)])
    assert "Muster" not in everything and "ACC-" not in everything
    found = trail.entries(records, ann, subject=f"study {third}")
    assert {"create study", "show identity"} == {entry.action for entry in found}, "found by the study"
    assert len([entry for entry in found if entry.action == "show identity"]) == 1
    assert not trail.entries(records, ann, subject="name", action="show identity"), "by no word of the row"
    assert trail.verify(records).is_intact

    site_settings.choose(records, ann, "worklist_identity", "name")
    tomorrow = tables.now() + timedelta(days=1)
    for module in (tables, trail):
        monkeypatch.setattr(module, "now", lambda: tomorrow)
    for _ in range(2):
        assert worklist_identity(records, at_terminal(ann), [first])
    assert len(shown(records, at_terminal(ann))) == 5


@sqlite_only
def test_of_removed_deleted_and_unnamed_studies_nothing_is_known(
    records: Database, ann: Somebody, archive_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, read = of_archive(records, ann, archive_id, 1), of_archive(records, ann, archive_id, 2)
    unnamed = of_archive(records, ann, archive_id, 3, PatientName="", AccessionNumber="")
    studies.delete_study(records, ann, wrong, reason="wrong")
    reads.record_first_read(records, ann, read, {"R": CALM})
    reads.record_final_read(records, ann, read, {"R": CALM})
    every = [wrong, read, unnamed]
    for choice in ("name", "accession number"):
        site_settings.choose(records, ann, "worklist_identity", choice)
        assert set(worklist_identity(records, ann, every)) == {read}

    site_settings.choose(records, ann, "keep_pixels_days", 30)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=31))
    assert retention.apply_policy(records) == 1
    assert worklist_identity(records, ann, every) == {}
    assert all(entry.detail["studies"] == [read] for entry in shown(records, ann))
    assert not [name for name in stored_files(records) if "Muster" in name]


@sqlite_only
def test_a_role_and_a_session_that_end_count_at_once(records: Database, ann: Somebody, archive_id: int) -> None:
    study = of_archive(records, ann, archive_id)
    site_settings.choose(records, ann, "worklist_identity", "name")
    ben = add_person(records, "Ben", "radiologist")
    assert worklist_identity(records, ben, [study])
    accounts.set_roles(records, ann, ben.id, ["researcher"])
    with pytest.raises(NotAllowed, match="role radiologist"):
        worklist_identity(records, ben, [study])
    accounts.sign_out_everywhere(records, ann, ben.id)
    with pytest.raises(SignedOut):
        worklist_identity(records, ben, [study])


@sqlite_only
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Muster^Anna", "Muster, Anna"),
        ("Muster^Anna^Maria^Dr^PhD", "Muster, Anna Maria Dr PhD"),
        ("Anna Muster", "Anna Muster"),
        ("^Anna", "Anna"),
        ("=山田^太郎=やまだ^たろう", "山田, 太郎"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"),
        ("^^=山田", "山田"),
    ],
)
def test_a_name_is_read_as_people_read_it(
    records: Database, ann: Somebody, archive_id: int, written: str, read: str
) -> None:
    study = of_archive(records, ann, archive_id, PatientName=written)
    site_settings.choose(records, ann, "worklist_identity", "name")
    assert worklist_identity(records, ann, [study]) == {study: read}
