"""Rows of studies that are fetched, where a process dies or the database is busy. No archive is asked here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from record_site import Somebody, add_person, picture
from sqlalchemy import select, update

from core.archive import arrivals, priors
from core.archive.archives import ArchiveAddress, name_archive
from core.archive.arrivals import _Outcome
from core.errors import NotSaved
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.queue import DONE, QUEUED, Queue
from core.records.reads.studies import create_study

WHO = {"worker": "test", "machine": "here"}


@pytest.fixture
def ada(records: Database) -> Somebody:
    return add_person(records, "Dr Ada")


@pytest.fixture
def study_id(records: Database, ada: Somebody, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is fetched next, and that somebody asked for it."""
    archive_id = name_archive(records, ada, ArchiveAddress("pacs", "http://127.0.0.1:1/dicom-web", priors=1))
    arrivals.fetch(records, ada, archive_id, "1.2.3.4")
    made = create_study(records, ada, display_name="x", images=[picture()])
    monkeypatch.setattr(arrivals, "_fetched", lambda *_: _Outcome(made, 1, n_bytes=7))
    return made


def test_a_study_that_is_here_is_done_also_where_its_process_dies_before_it_says_so(
    records: Database, ada: Somebody, study_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def dies(*_: object) -> bool:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Queue, "finish", dies)
        arrivals.process_next(records, **WHO)
    with records.begin() as connection:
        connection.execute(update(tables.arrival).values(lease_until=tables.now() - timedelta(seconds=1)))
    assert not arrivals.process_next(records, **WHO)
    (row,) = arrivals.recent_arrivals(records, ada)
    assert (row.state, row.study_id) == (DONE, study_id) and row.message.startswith("It is here")
    (entry,) = trail.entries(records, ada, action="arrival done")
    assert entry.detail["n_images"] == 1


def test_a_database_that_is_full_for_an_hour_ends_no_row(
    records: Database, ada: Somebody, study_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small updates may still be saved then: a row that was left to its lease three times would be dead."""
    right = arrivals._fetched
    for number in range(5):
        with monkeypatch.context() as full:
            full.setattr(arrivals, "_fetched", refuse)
            assert arrivals.process_next(records, **WHO)
        (row,) = arrivals.recent_arrivals(records, ada)
        assert (row.state, row.message) == (QUEUED, "It is full."), number
        with records.begin() as connection:
            connection.execute(update(tables.arrival).values(due_at=None))
    monkeypatch.setattr(arrivals, "_fetched", right)
    assert arrivals.process_next(records, **WHO) and arrivals.recent_arrivals(records, ada)[0].state == DONE


def refuse(*_: object) -> None:
    raise NotSaved("It is full.")


def test_a_database_that_is_busy_for_a_moment_forgets_no_earlier_exam(
    records: Database, study_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert arrivals.process_next(records, **WHO)
    asked: list[Any] = []

    def refuses(*given: Any) -> None:
        asked.append(given)
        raise NotSaved("It is busy.")

    monkeypatch.setattr(priors, "_look", refuses)
    with pytest.raises(NotSaved):
        priors.look_for_next(records)
    with records.read() as connection:
        due_at = connection.execute(select(tables.arrival.c.priors_due_at)).scalar_one()
    assert len(asked) == 1 and due_at > tables.now()
