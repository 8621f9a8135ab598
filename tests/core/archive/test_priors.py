"""Earlier exams: asked for when a study came, chosen by patient and day, fetched within a number and a size."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from orthanc_site import Orthanc
from record_site import Somebody
from sqlalchemy import select, update
from test_archive_round_trip import NAME, PATIENT, STUDY, address, view

from core.archive import arrivals, priors
from core.archive.archives import change_archive, name_archive
from core.archive.dicomweb import Criteria, DicomWeb, FoundStudy
from core.archive.priors import choose, look_for_next
from core.errors import ArchiveAway, InvalidInput
from core.imaging.dicom.source import OF_STUDY
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor
from core.records.reads.worklist import n_open, worklist

WHO = {"worker": "test", "machine": "here"}


@pytest.fixture
def archive_id(db: Database, ada: Somebody, orthanc: Orthanc) -> int:
    return name_archive(db, ada, replace(address(orthanc), priors=2))


def put(orthanc: Orthanc, year: int, **tags: Any) -> None:
    uid = f"{STUDY}.{year}"
    own = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "SOPInstanceUID": f"{uid}.1.1"}
    orthanc.put(view("R", "CC", year, **{**own, "StudyDate": f"{year}0102", **tags}))


def came(db: Database, actor: Actor, archive_id: int, year: int = 2026) -> str:
    """The study of that year, fetched because somebody asked for it."""
    arrivals.fetch(db, actor, archive_id, f"{STUDY}.{year}")
    assert arrivals.process_next(db, **WHO)
    (row, *_) = arrivals.recent_arrivals(db, actor)
    assert row.state == "done" and row.study_id, row
    return row.study_id


def years(db: Database, actor: Actor) -> list[int]:
    return sorted(row.study.taken_on.year for row in worklist(db, actor) if row.study.taken_on)


def test_the_newest_earlier_exams_come_and_nobody_has_to_read_them(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    for year in (2020, 2022, 2024, 2026):
        put(orthanc, year)
    put(orthanc, 2023, PatientID="P-1", PatientName=NAME)
    put(orthanc, 2025, Modality="CR", SOPClassUID="1.2.840.10008.5.1.4.1.1.1")
    study_id = came(db, ada, archive_id)
    assert look_for_next(db) and not look_for_next(db), "asked once"
    while arrivals.process_next(db, **WHO):
        assert not look_for_next(db), "an earlier exam brings no earlier ones"
    assert years(db, ada) == [2022, 2024, 2026]
    rows = {row.study.taken_on.year: row for row in worklist(db, ada) if row.study.taken_on}
    assert rows[2026].is_open and not rows[2024].is_open and not rows[2022].is_open
    assert n_open(rows.values()).n_new == 1
    detail = [entry.detail for entry in trail.entries(db, ada, action="fetch study")]
    assert [one.get("is_prior", False) for one in detail] == [True, True, False]
    with db.read() as connection:
        arrival = tables.arrival.c
        assert set(connection.execute(select(arrival.prior_of)).scalars()) == {None, study_id}
    arrivals.fetch(db, ada, archive_id, f"{STUDY}.2024")
    assert arrivals.process_next(db, **WHO)
    rows = {row.study.taken_on.year: row for row in worklist(db, ada) if row.study.taken_on}
    assert rows[2024].is_open, "somebody asked for it"


def test_what_they_may_have_together_is_a_limit(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    for year in (2022, 2024, 2026):
        put(orthanc, year)
    came(db, ada, archive_id)
    assert look_for_next(db)
    assert arrivals.process_next(db, **WHO)
    with db.begin() as connection:
        arrival = tables.arrival
        (result,) = connection.execute(
            select(arrival.c.result).where(arrival.c.prior_of.is_not(None), arrival.c.state == "done")
        ).scalars()
        assert result["n_bytes"] > 100_000
        full = result | {"n_bytes": 1024 * arrivals.MIB}
        connection.execute(update(arrival).where(arrival.c.prior_of.is_not(None)).values(result=full))
    assert arrivals.process_next(db, **WHO)
    assert years(db, ada) == [2024, 2026]
    row = arrivals.recent_arrivals(db, ada)[0]
    assert row.state == "failed" and "larger" in row.message


def test_none_are_asked_for_where_the_archive_says_so_and_an_archive_that_is_away_is_asked_again(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(orthanc, 2024)
    put(orthanc, 2026)
    came(db, ada, archive_id)
    with monkeypatch.context() as down:

        def away(*_: object, **__: object) -> list[FoundStudy]:
            raise ArchiveAway("pacs cannot be reached.")

        down.setattr(DicomWeb, "search", away)
        assert look_for_next(db)
        assert not look_for_next(db), "not at once"
    monkeypatch.setattr(priors.tables, "now", _later(minutes=10))
    change_archive(db, ada, archive_id, replace(address(orthanc), priors=0))
    assert look_for_next(db) and not arrivals.process_next(db, **WHO)
    assert not look_for_next(db)
    with pytest.raises(InvalidInput, match="Earlier exams can be"):
        change_archive(db, ada, archive_id, replace(address(orthanc), priors=21))


def _later(**much: int) -> Any:
    real = tables.now
    return lambda: real() + timedelta(**much)


def test_an_exam_of_another_day_or_patient_is_no_earlier_one() -> None:
    who = dict.fromkeys(OF_STUDY, "") | {
        "PatientID": PATIENT, "PatientBirthDate": "19600101", "StudyInstanceUID": STUDY, "StudyDate": "20260102",
    }  # fmt: skip
    one = FoundStudy("1.2.3", NAME, PATIENT, "19600101", "20260101", "", ("MG",), "", "", 4)
    assert choose([one], who, most=1) == [one] and choose([one], who, most=0) == []
    for other in (
        replace(one, uid=STUDY), replace(one, patient_id="P-47111"), replace(one, birth_date="19600102"),
        replace(one, modalities=("CT",)), replace(one, day="20260102"), replace(one, day=""),
    ):  # fmt: skip
        assert choose([other], who, most=1) == [], other.day
    assert choose([replace(one, birth_date="")], who, most=1), "the archive does not say it"
    older = replace(one, uid="1.2.4", day="20240101", modalities=("US", "SR"))
    assert choose([older, one], who, most=2) == [one, older]
    assert Criteria(patient_id=PATIENT).as_query == {"PatientID": PATIENT}
