"""Archives that are watched, against a real one: what fits comes by itself, once and whole, and no fault loses it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from made_images import MG, dicom, stored_mammogram
from orthanc_site import AE_TITLE, Orthanc
from record_site import Somebody, add_person
from sqlalchemy import select, update

from core.archive import arrivals, watching
from core.archive.archives import ArchiveAddress, change_archive, name_archive
from core.archive.dicomweb import DicomWeb, FoundSeries
from core.archive.watching import WatchRules, fits
from core.errors import ArchiveRefused, InvalidInput, NotAllowed
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.reads import studies

US = "1.2.840.10008.5.1.4.1.1.6.1"
ROOT = "1.2.826.0.1.3680043.8.498.7"
WHO = {"worker": "test", "machine": "here"}
PATIENT = "P-4711"


@pytest.fixture
def ada(db: Database) -> Somebody:
    """The only person of the site, an administrator who reads nothing."""
    return add_person(db, "Ada", "administrator")


@pytest.fixture
def archive_id(db: Database, ada: Somebody, orthanc: Orthanc) -> int:
    return name_archive(db, ada, address(orthanc))


def address(orthanc: Orthanc, web: str = "") -> ArchiveAddress:
    return ArchiveAddress("pacs", web or orthanc.web, AE_TITLE, "127.0.0.1", orthanc.port)


def put(orthanc: Orthanc, number: int, *, image: int = 1, day: date | None = None, **tags: object) -> str:
    """One image of study `number`, taken today; the study's UID."""
    uid = f"{ROOT}.{number}"
    taken = f"{day or date.today():%Y%m%d}"
    facts = {"PatientID": PATIENT, "StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "StudyDate": taken,
             "SOPInstanceUID": f"{uid}.1.{image}", "SOPClassUID": MG, "StationName": "ROOM 2"}  # fmt: skip
    orthanc.put(dicom(stored_mammogram(seed=image), **{**facts, **tags}))
    return uid


def look(db: Database) -> str:
    """One look at the archive, as if a minute had passed; what it says."""
    with db.begin() as connection:
        connection.execute(update(tables.archive).values(looked_at=None))
    assert watching.look_at_next(db)
    with db.read() as connection:
        return str(connection.execute(select(tables.archive.c.watch_state)).scalar_one()["sentence"])


def rows(db: Database) -> list[Any]:
    with db.read() as connection:
        return list(connection.execute(select(tables.arrival).order_by(tables.arrival.c.id)))


def as_no_orthanc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DicomWeb, "is_orthanc", lambda _: False)


def test_a_study_that_fits_comes_by_itself_once_it_is_whole_and_only_once(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_no_orthanc(monkeypatch)
    watching.watch_archive(db, ada, archive_id, WatchRules())
    put(orthanc, 1)
    put(orthanc, 2, Modality="US", SOPClassUID=US)
    assert "1 listed" in look(db) and rows(db) == [], "it may still be arriving"
    put(orthanc, 1, image=2)
    look(db)
    assert rows(db) == [], "it was"
    assert "1 to be fetched now" in look(db)
    assert arrivals.process_next(db, **WHO)
    (row,) = rows(db)
    assert (row.state, row.message, row.asked_by) == ("done", "2 images.", "watch")
    look(db)
    assert "none to be fetched" in look(db) and len(rows(db)) == 1
    (entry,) = trail.entries(db, ada, action="fetch study")
    assert entry.detail == {"archive": archive_id, "by_rule": True}
    with db.read() as connection:
        state = str(connection.execute(select(tables.archive.c.watch_state)).scalar_one())
    assert ROOT not in state and PATIENT not in state


def test_orthanc_says_what_got_complete_also_of_other_days(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.watch_archive(db, ada, archive_id, WatchRules())
    put(orthanc, 1, day=date.today() - timedelta(days=400))
    until_stable(orthanc)
    look(db)
    assert rows(db) == [], "what was complete before it was watched is not fetched"
    put(orthanc, 2, day=date.today() - timedelta(days=400))
    until_stable(orthanc, n=2)

    def failing(*_: object) -> list[FoundSeries]:
        raise ArchiveRefused("no")

    with monkeypatch.context() as away:
        away.setattr(DicomWeb, "series", failing)
        assert "asked for again" in look(db) and rows(db) == []
    assert "1 to be fetched now" in look(db)
    assert arrivals.process_next(db, **WHO) and rows(db)[0].state == "done"


def until_stable(orthanc: Orthanc, n: int = 1) -> None:
    import time

    until = time.monotonic() + 30
    while sum(orthanc.ask(f"/studies/{one}")["IsStable"] for one in orthanc.ask("/studies")) < n:
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(0.3)  # the change is written after the mark


def test_a_look_that_fails_says_so_and_the_next_one_misses_nothing(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_no_orthanc(monkeypatch)
    watching.watch_archive(db, ada, archive_id, WatchRules())
    put(orthanc, 1)
    look(db)
    change_archive(db, ada, archive_id, address(orthanc, "http://127.0.0.1:9/web"))
    assert "cannot be reached" in look(db)
    change_archive(db, ada, archive_id, address(orthanc))
    assert "1 to be fetched now" in look(db)


def test_more_studies_than_one_answer_holds_are_all_seen(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_no_orthanc(monkeypatch)
    monkeypatch.setattr("core.archive.dicomweb.FOUND_MOST", 2)
    watching.watch_archive(db, ada, archive_id, WatchRules())
    for number in range(5):
        put(orthanc, number)
    assert "5 listed" in look(db) and "5 to be fetched now" in look(db)


def test_of_two_processes_one_looks_and_only_when_a_minute_has_passed(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    assert not watching.look_at_next(db), "nothing is watched"
    watching.watch_archive(db, ada, archive_id, WatchRules())
    assert watching.look_at_next(db) and not watching.look_at_next(db)
    with db.begin() as connection:
        before = tables.now() - timedelta(seconds=watching.WATCH_SECONDS + 1)
        connection.execute(update(tables.archive).values(looked_at=before))
    assert watching.look_at_next(db)
    watching.watch_archive(db, ada, archive_id, None)
    assert not watching.look_at_next(db) and watching.watches_to_manage(db, ada) == {}


def test_whose_rules_they_are_answers_for_what_comes(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    grace = add_person(db, "Grace", "administrator")
    with pytest.raises(NotAllowed):
        watching.watch_archive(db, add_person(db, "Rita", "radiologist"), archive_id, WatchRules())
    watching.watch_archive(db, grace, archive_id, WatchRules())
    uid = put(orthanc, 1)
    assert arrivals.fetch_by_rule(db, archive_id, uid, grace.id)
    assert arrivals.fetch_by_rule(db, archive_id, uid, grace.id) is None
    with db.begin() as connection:
        connection.execute(update(tables.person).where(tables.person.c.id == grace.id).values(disabled=True))
    assert arrivals.process_next(db, **WHO)
    (row,) = rows(db)
    assert row.state == "failed" and "disabled" in row.message
    rita = add_person(db, "Rosa", "radiologist")
    arrivals.fetch_again(db, rita, row.id)
    assert arrivals.process_next(db, **WHO)
    assert rows(db)[0].state == "done" and len(studies.list_studies(db, rita)) == 1


def test_what_rules_ask_for_waits_as_long_as_the_archive_is_away(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    arrivals.fetch_by_rule(db, archive_id, f"{ROOT}.9", ada.id)
    change_archive(db, ada, archive_id, address(orthanc, "http://127.0.0.1:9/web"))
    with db.begin() as connection:
        connection.execute(update(tables.arrival).values(tries=10 * arrivals.TRIES_MOST))
    assert arrivals.process_next(db, **WHO)
    assert rows(db)[0].state == "queued"


MAMMOGRAM = FoundSeries("MG", "", "", "ROOM 2")


@pytest.mark.parametrize(
    ("rules", "description", "series", "is_fitting"),
    [
        (WatchRules(), "", [MAMMOGRAM], True),
        (WatchRules(), "", [FoundSeries("US", "", "", "")], False),
        (WatchRules(("US",)), "", [MAMMOGRAM], False),
        (WatchRules(("MG", "US")), "US Abdomen", [FoundSeries("US", "", "", "")], False),
        (WatchRules(("MG", "US")), "US MAMMA bds", [FoundSeries("US", "", "", "")], True),
        (WatchRules(("US",)), "", [FoundSeries("US", "", "BREAST", "")], True),
        (WatchRules(("US",)), "", [FoundSeries("US", "", "", ""), FoundSeries("MR", "Breast", "", "")], False),
        (WatchRules(("US",), ()), "US Abdomen", [FoundSeries("US", "", "", "")], True),
        (WatchRules(stations=("room 2",)), "", [MAMMOGRAM], True),
        (WatchRules(stations=("ROOM 1",)), "", [MAMMOGRAM], False),
        (WatchRules(stations=("ROOM 1",)), "", [MAMMOGRAM, FoundSeries("CR", "", "", "ROOM 1")], False),
        (WatchRules(), "breast", [], False),
    ],
)
def test_the_rules(rules: WatchRules, description: str, series: list[FoundSeries], is_fitting: bool) -> None:
    assert fits(rules, description, series) is is_fitting


def test_rules_that_cannot_be_are_refused_and_tidied(db: Database, ada: Somebody, archive_id: int) -> None:
    for rules, sentence in (
        (WatchRules(()), "Choose what is watched"), (WatchRules(("CT",)), "Choose what is watched"),
        (WatchRules(days=-1), "0 to 30"), (WatchRules(days=31), "0 to 30"),
        (WatchRules(words=("x" * 65,)), "at most 20"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=sentence):
            watching.watch_archive(db, ada, archive_id, rules)
    watching.watch_archive(db, ada, archive_id, WatchRules(words=(" a ", "", "a"), stations=("",), days=30))
    (watch,) = watching.watches_to_manage(db, ada).values()
    assert (watch.rules.words, watch.rules.stations, watch.looked_at) == (("a",), (), None)
