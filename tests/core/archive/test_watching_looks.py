"""Looks at archives that list no number of objects, and at those whose rules nobody may answer for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from record_site import Somebody, add_person
from sqlalchemy import select, update

from core.archive import watching
from core.archive.archives import ArchiveAddress, name_archive
from core.archive.dicomweb import DicomWeb, FoundSeries, FoundStudy
from core.archive.watching import WatchRules
from core.errors import ArchiveRefused
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.settings import Settings

STUDY = "1.2.826.0.1.3680043.8.498.99"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(Settings(state_dir=tmp_path / "state"))
    yield opened
    opened.close()


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """UID -> number of objects, as the archive lists its mammographies."""
    studies: dict[str, int | None] = {}

    def search(*_: object, offset: int = 0, **__: object) -> list[FoundStudy]:
        return [FoundStudy(uid, "", "", "", "", "", ("MG",), "", "", n) for uid, n in [*studies.items()][offset:]]

    monkeypatch.setattr(DicomWeb, "is_orthanc", lambda _: False)
    monkeypatch.setattr(DicomWeb, "search", search)
    monkeypatch.setattr(DicomWeb, "series", lambda *_: [FoundSeries("MG", "", "", "")])
    return studies


def watched(db: Database, who: Somebody) -> None:
    archive_id = name_archive(db, who, ArchiveAddress("pacs", "http://127.0.0.1:9/web"))
    watching.watch_archive(db, who, archive_id, WatchRules())


def look(db: Database) -> str:
    """One look at the archive, as if a minute had passed; what it says."""
    with db.begin() as connection:
        connection.execute(update(tables.archive).values(looked_at=None))
    assert watching.look_at_next(db)
    with db.read() as connection:
        return str(connection.execute(select(tables.archive.c.watch_state)).scalar_one()["sentence"])


def rows(db: Database) -> list[Any]:
    with db.read() as connection:
        return list(connection.execute(select(tables.arrival)))


def test_an_archive_that_lists_no_number_of_objects_is_fetched_from_at_the_second_look(
    db: Database, listed: dict[str, int | None]
) -> None:
    watched(db, add_person(db, "Ada"))
    listed[STUDY] = None
    assert "none to be fetched" in look(db) and rows(db) == []
    assert "1 to be fetched now" in look(db) and len(rows(db)) == 1
    assert "none to be fetched" in look(db)


def test_the_days_are_listed_also_where_orthancs_own_interface_was_closed_since(
    db: Database, listed: dict[str, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise ArchiveRefused("closed")

    watched(db, add_person(db, "Ada"))
    monkeypatch.setattr(DicomWeb, "is_orthanc", lambda _: True)
    monkeypatch.setattr(DicomWeb, "stable_since", lambda *_: ([], 7))
    listed[STUDY] = 4
    look(db)
    monkeypatch.setattr(DicomWeb, "stable_since", closed)
    said = look(db)
    assert "1 to be fetched now" in said and "other days has to be fetched by hand" in said
    with db.read() as connection:
        assert connection.execute(select(tables.archive.c.watch_state)).scalar_one()["last"] == 7, "where it goes on"


def test_an_interface_that_is_closed_at_first_is_asked_for_again_and_one_that_is_none_is_not(
    db: Database, listed: dict[str, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(db, add_person(db, "Ada"))
    asked: list[bool | None] = []
    answers = iter([None, None, False])

    def is_orthanc(_: DicomWeb) -> bool | None:
        asked.append(next(answers))
        return asked[-1]

    monkeypatch.setattr(DicomWeb, "is_orthanc", is_orthanc)
    for _ in range(4):
        look(db)
    assert asked == [None, None, False]


def test_studies_wait_in_the_archive_while_nobody_may_answer_for_the_rules(
    db: Database, listed: dict[str, int | None]
) -> None:
    watched(db, add_person(db, "Ada"))
    listed[STUDY] = 4
    look(db)
    with db.begin() as connection:
        connection.execute(update(tables.person).values(disabled=True))
    assert "disabled" in look(db) and "disabled" in look(db)
    assert rows(db) == [], "it would fail, and never be asked for again"
    with db.begin() as connection:
        connection.execute(update(tables.person).values(disabled=False))
    assert "1 to be fetched now" in look(db)
