"""One lease over a table: who may write a row, at the boundary of every rule, on both kinds of database."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from record_site import add_person, picture
from sqlalchemy import Row, insert, select

from core.archive import arrivals, sending
from core.errors import Conflict, DatabaseAway, NotFound, NotSaved
from core.language import asking
from core.records import queue
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock
from core.records.queue import (
    AHEAD_SECONDS,
    ATTEMPTS,
    CANCELLED,
    DEAD,
    DONE,
    ENDING,
    FAILED,
    GO_ON,
    LOST,
    QUEUED,
    RUNNING,
    STOP,
    Ended,
    Lease,
    Queue,
)  # fmt: skip
from core.records.reads.studies import create_study
from core.settings import REPOSITORY

NAME = "Anna Muster.png"

ROWS = Queue(
    tables.data_import, AdvisoryLock.IMPORTS, kind="import", subject="import", begins="Begins.", again="Again.",
    cancelled="Cancelled.", dead="Nothing.", anew={"done": 0.0}, recorded=("weights_sha256",),
)  # fmt: skip


@pytest.fixture
def ask(records: Database) -> Callable[[], int]:
    """Puts a row into the queue; its number."""
    person = add_person(records, "Ada", "administrator")

    def enqueue() -> int:
        values = {"request": {}, "state": QUEUED, "attempts": 0, "done": 0.0, "message": "Waits."}
        values |= {"created_by": person.id, "created_at": tables.now()}
        with records.begin() as connection:
            query = insert(tables.data_import).values(**values).returning(tables.data_import.c.id)
            return int(connection.execute(query).scalar_one())

    return enqueue


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How far the clock that leases are by is off, from now on; its last element counts."""
    moment, off = datetime.now(tz=tables.now().tzinfo), [timedelta()]
    monkeypatch.setattr(tables, "present", lambda connection: moment + off[-1])
    return off


def take(db: Database, worker: str = "w", machine: str = "m", seconds: float = 30) -> Lease:
    lease = ROWS.claim(db, worker=worker, machine=machine, lease_seconds=seconds)
    assert lease is not None
    return lease


def row_of(db: Database, row_id: int) -> Row[Any]:
    with db.read() as connection:
        return connection.execute(select(tables.data_import).where(tables.data_import.c.id == row_id)).one()


def writes(db: Database, lease: Lease) -> list[bool]:
    """Whether each of the ways to write a row is open to a lease; nothing is changed where it is not."""
    with db.begin() as connection:
        is_held = ROWS.is_held(connection, lease)
    return [is_held, ROWS.heartbeat(db, lease, {"done": 0.9}) != LOST, ROWS.finish(db, lease, FAILED, "Too late.")]


def test_a_late_attempt_of_the_same_worker_writes_nothing_once_the_next_attempt_has_the_row(
    records: Database, ask: Callable[[], int], clock: list[timedelta]
) -> None:
    row_id = ask()
    late = take(records)
    clock.append(timedelta(seconds=31))
    now = take(records)
    assert (late.worker, late.attempt, now.worker, now.attempt) == ("w", 1, "w", 2)
    before = row_of(records, row_id)
    assert writes(records, late) == [False, False, False]
    ROWS.hand_back(records, late)
    assert row_of(records, row_id) == before
    assert writes(records, now) == [True, True, True]
    assert (row_of(records, row_id).state, row_of(records, row_id).done) == (FAILED, 0.9)


def test_another_worker_with_the_same_number_of_attempt_writes_nothing(
    records: Database, ask: Callable[[], int]
) -> None:
    ask()
    stopped = take(records)
    ROWS.hand_back(records, stopped)
    now = take(records, "another")
    assert stopped.attempt == now.attempt == 1
    assert writes(records, stopped) == [False, False, False] and writes(records, now) == [True, True, True]


def test_what_is_over_is_written_no_more(records: Database, ask: Callable[[], int]) -> None:
    row_id = ask()
    lease = take(records)
    assert ROWS.finish(records, lease, DONE, "Done.", {"weights_sha256": "a", "notes": ["x"]})
    before = row_of(records, row_id)
    assert writes(records, lease) == [False, False, False]
    ROWS.hand_back(records, lease)
    assert row_of(records, row_id) == before and before.result == {"weights_sha256": "a", "notes": ["x"]}
    with pytest.raises(ValueError, match="dead"):
        ROWS.finish(records, lease, DEAD, "No worker says that.")


def test_a_lease_ends_just_after_its_last_moment(
    records: Database, ask: Callable[[], int], clock: list[timedelta]
) -> None:
    ask()
    first = take(records)
    clock.append(timedelta(seconds=30))
    assert ROWS.claim(records, worker="w2", machine="m2") is None  # its last moment
    clock.append(timedelta(seconds=30, microseconds=1))
    assert take(records, "w2", "m2").attempt == 2
    assert ROWS.heartbeat(records, first) == LOST


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgresql"], indirect=True)
@pytest.mark.parametrize("off", [timedelta(seconds=40), timedelta(seconds=-40), timedelta(days=1)])
def test_no_machine_takes_a_living_row_because_clocks_differ(
    records: Database, ask: Callable[[], int], monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    ask()
    right = tables.now
    first = take(records)
    with monkeypatch.context() as other:  # this machine's clock, on which the second worker is
        other.setattr(tables, "now", lambda: right() + off)
        assert ROWS.claim(records, worker="w2", machine="m2") is None
        assert ROWS.heartbeat(records, first) == GO_ON
    assert ROWS.claim(records, worker="w2", machine="m2") is None
    until = row_of(records, first.id).lease_until
    assert abs(until - right() - timedelta(seconds=30)) < timedelta(seconds=20)
    assert ROWS.heartbeat(records, first, seconds=-0.001) == GO_ON
    assert take(records, "w2", "m2").attempt == 2


def test_a_lease_of_a_clock_that_was_a_day_ahead_ends_once_the_clock_is_right(
    records: Database, ask: Callable[[], int], clock: list[timedelta]
) -> None:
    """Or the row would be nobody's for a day, and so would every other on this machine."""
    ask()
    clock.append(timedelta(days=1))
    first = take(records)
    clock.append(timedelta())
    assert take(records, "w2").attempt == 2 and ROWS.heartbeat(records, first) == LOST


@pytest.mark.parametrize(("ahead", "is_taken"), [(AHEAD_SECONDS, False), (AHEAD_SECONDS + 0.001, True)])
def test_a_lease_that_ends_later_than_any_can_is_over(
    records: Database, ask: Callable[[], int], clock: list[timedelta], ahead: float, is_taken: bool
) -> None:
    ask()
    lease = ROWS.claim(records, worker="w1", machine="m1", lease_seconds=ahead)
    assert lease is not None
    assert (ROWS.claim(records, worker="w2", machine="m2") is not None) == is_taken


def test_a_heartbeat_counts_from_the_moment_it_comes(
    records: Database, ask: Callable[[], int], clock: list[timedelta]
) -> None:
    ask()
    lease = take(records)
    clock.append(timedelta(seconds=29))
    assert ROWS.heartbeat(records, lease) == GO_ON
    clock.append(timedelta(seconds=59))
    assert ROWS.claim(records, worker="w2", machine="m2") is None


def test_a_clock_that_goes_back_gives_no_row_to_two_and_lets_its_worker_end_it(
    records: Database, ask: Callable[[], int], clock: list[timedelta]
) -> None:
    row_id = ask()
    lease = take(records)
    clock.append(-timedelta(hours=1))
    assert ROWS.claim(records, worker="w2", machine="m2") is None
    assert ROWS.heartbeat(records, lease) == GO_ON
    clock.append(timedelta(seconds=31 - 3600))  # it died; by the clock of now its last lease is over
    taken = take(records, "w2", "m2")
    assert taken.attempt == 2 and writes(records, lease) == [False, False, False]
    clock.append(-timedelta(days=1))
    assert ROWS.finish(records, taken, DONE, "Done.") and row_of(records, row_id).state == DONE


def test_a_row_is_tried_three_times_and_no_fourth(
    records: Database, ask: Callable[[], int], clock: list[timedelta]
) -> None:
    row_id = ask()
    for attempt in range(1, ATTEMPTS + 1):
        assert row_of(records, row_id).state == (QUEUED if attempt == 1 else RUNNING)
        assert take(records).attempt == attempt
        ROWS.heartbeat(records, take_again(records, row_id), {"done": 0.5})
        clock.append(clock[-1] + timedelta(seconds=31))
    assert ROWS.claim(records, worker="w", machine="m") is None
    row = row_of(records, row_id)
    assert (row.state, row.attempts, row.worker, row.lease_until) == (DEAD, 3, None, None)
    assert row.message == "Its worker died 3 times, so it is not tried again. Nothing."
    with records.read() as connection:
        said = connection.execute(select(tables.audit.c.action, tables.audit.c.detail)).all()
    assert [one.detail for one in said if one.action == "import dead"] == [{"attempt": 3}]


def take_again(db: Database, row_id: int) -> Lease:
    """The lease of whoever has the row now."""
    row = row_of(db, row_id)
    return Lease(row.id, row.attempts, row.worker, row)


def test_a_row_begins_anew_when_its_worker_died_or_was_stopped(
    records: Database, ask: Callable[[], int], clock: list[timedelta]
) -> None:
    row_id = ask()
    lease = take(records)
    ROWS.heartbeat(records, lease, {"done": 0.7, "message": "Copies."})
    assert (row_of(records, row_id).done, row_of(records, row_id).message) == (0.7, "Copies.")
    ROWS.hand_back(records, lease)
    row = row_of(records, row_id)
    assert (row.state, row.done, row.message, row.attempts) == (QUEUED, 0.0, "Waits: its worker was stopped.", 0)
    ROWS.heartbeat(records, take(records), {"done": 0.7})
    clock.append(timedelta(seconds=31))
    assert take(records, "w2").row.done == 0.0


def test_who_cancels_is_heard_by_the_next_heartbeat_and_a_second_one_is_refused(
    records: Database, ask: Callable[[], int]
) -> None:
    first, second = ask(), ask()
    lease = take(records)
    with records.begin() as connection:
        assert ROWS.cancel(connection, first).state == RUNNING
        assert ROWS.cancel(connection, second).state == QUEUED
    assert ROWS.heartbeat(records, lease) == STOP
    assert row_of(records, second).state == CANCELLED and row_of(records, second).ended_at is not None
    for row_id, sentence in ((first, "Import 1 is being cancelled already"), (second, "Import 2 is cancelled already")):
        with pytest.raises(Conflict, match=sentence), records.begin() as connection:
            ROWS.cancel(connection, row_id)
    with pytest.raises(NotFound, match="no import 99"), records.begin() as connection:
        ROWS.cancel(connection, 99)
    assert ROWS.finish(records, lease, CANCELLED, "Cancelled.")
    assert {row_id for row_id, _ in ROWS.over(records)} == {first, second}


def test_what_had_its_result_when_its_worker_died_is_done(
    records: Database, ask: Callable[[], int], clock: list[timedelta]
) -> None:
    row_id = ask()
    lease = take(records)
    ROWS.heartbeat(records, lease, {"result": {"weights_sha256": "a", "notes": ["a file"]}})
    clock.append(timedelta(seconds=31))
    assert ROWS.claim(records, worker="w2", machine="m") is None
    assert row_of(records, row_id).state == DONE
    entry = trail.entries(records, add_person(records, "Bea", "administrator"))[0]
    assert (entry.action, entry.detail) == ("import done", {"attempt": 1, "weights_sha256": "a"})


KILLED = """
import os, signal, sys
from core.records.database.db import open_database
from core.settings import Settings
sys.path.insert(0, "tests/core/records")
sys.path.insert(0, "tests")
from test_queue import ROWS
db = open_database(Settings.from_environment())
lease = ROWS.claim(db, worker="killed", machine="m", lease_seconds=0.2)
with ROWS.renewed(db, lease, seconds=0.2, is_ending=lambda: False) as held:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_row_of_a_worker_that_is_killed_goes_to_the_next(records: Database, ask: Callable[[], int]) -> None:
    row_id = ask()
    environment = {**os.environ, "SECONDREAD_STATE_DIR": str(records.settings.state_dir)}
    if records.settings.database_url:
        environment["SECONDREAD_DATABASE_URL"] = records.settings.database_url
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=REPOSITORY, env=environment, check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (row_of(records, row_id).state, row_of(records, row_id).worker) == (RUNNING, "killed")
    time.sleep(0.3)
    assert take(records, "next").attempt == 2


def test_a_lease_is_renewed_while_the_work_goes_on_and_through_an_error_of_the_database(
    records: Database, ask: Callable[[], int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue, "HEARTBEAT_SECONDS", 0.02)
    row_id, ending, told = ask(), threading.Event(), threading.Event()
    heartbeat = Queue.heartbeat

    def once_broken(*given: Any, **more: Any) -> str:
        if not told.is_set():
            told.set()
            raise OSError(NAME)
        return heartbeat(*given, **more)

    monkeypatch.setattr(Queue, "heartbeat", once_broken)
    lease = take(records)
    with caplog.at_level(logging.ERROR), ROWS.renewed(records, lease, is_ending=ending.is_set) as held:
        held.values = lambda: {"done": 0.4}
        until(lambda: row_of(records, row_id).done == 0.4)
        held.require()
        assert "import lease failed" in caplog.text and "in once_broken" in caplog.text
        assert "Muster" not in caplog.text
        ending.set()
        with pytest.raises(Ended):
            held.require()
        held.beat()
        assert held.answer == ENDING  # a heartbeat that goes well does not take it back
        with records.begin() as connection:
            ROWS.cancel(connection, row_id)
        held.beat()
        assert held.answer == STOP
    assert ROWS.heartbeat(records, lease) == STOP


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


WITH_HOURS = Queue(
    tables.outbox, AdvisoryLock.RESULTS, kind="result", subject="result", begins="Begins.", again="Again.",
    cancelled="Cancelled.", dead="Nothing.",
)  # fmt: skip


def _two_results(db: Database) -> list[int]:
    """Two rows of the outbox that wait."""
    person = add_person(db, "Ada")
    study_id = create_study(db, person, display_name="x", images=[picture()])
    with db.begin() as connection:
        archive = {"name": "pacs", "dicomweb_url": "http://a", "ae_title": "", "host": "", "sends": [], "pushes": False}
        archive |= {"sends_preliminary": [], "created_by": person.id, "created_at": tables.now()}
        archive_id = connection.execute(
            insert(tables.archive).values(**archive).returning(tables.archive.c.id)
        ).scalar()
        read = {"study_id": study_id, "person_id": person.id, "kind": "final", "impressions": {}, "comment": ""}
        read |= {"reading_mode": "concurrent", "created_at": tables.now(), "predictions_seen": []}
        read_id = connection.execute(insert(tables.read).values(**read).returning(tables.read.c.id)).scalar()
        values = {
            "study_id": study_id,
            "read_id": read_id,
            "archive_id": archive_id,
            "image": 0,
            "sop_instance_uid": "",
            "tries": 0,
        }
        values |= {"state": QUEUED, "message": "Waits.", "attempts": 0, "created_at": tables.now()}
        rows = [insert(tables.outbox).values(**values, kind=kind).returning(tables.outbox.c.id) for kind in ("a", "b")]
        return [connection.execute(row).scalar_one() for row in rows]


def test_what_was_postponed_waits_for_its_hour_holds_up_nobody_and_is_no_failed_attempt(records: Database) -> None:
    first, second = _two_results(records)
    claim = {"worker": "one", "machine": "here"}
    for _ in range(ATTEMPTS + 1):
        lease = WITH_HOURS.claim(records, **claim)
        assert lease is not None and (lease.id, lease.attempt) == (first, 1)
        assert WITH_HOURS.postpone(records, lease, "Is away.", tables.now() - timedelta(seconds=1)), "due at once"
    lease = WITH_HOURS.claim(records, **claim)
    assert lease is not None
    assert WITH_HOURS.postpone(records, lease, "Is away.", tables.now() + timedelta(hours=1))
    following = WITH_HOURS.claim(records, **claim)
    assert following is not None and following.id == second
    assert WITH_HOURS.finish(records, following, DONE, "Done.")
    assert WITH_HOURS.claim(records, **claim) is None, "the first is not due"
    assert not WITH_HOURS.postpone(records, following, "Late.", tables.now()), "it is not this lease's any more"


@pytest.mark.parametrize("error", [DatabaseAway("It does not answer."), NotSaved("It is busy.")])
@pytest.mark.parametrize(
    ("module", "queue", "step", "take"),
    [
        (sending, "RESULTS", "_made", sending.send_next),
        (arrivals, "ARRIVALS", "_fetched", arrivals.process_next),
        (asking, "ANSWERS", "_ask", asking.ask_next),
    ],
)
def test_a_database_that_is_away_or_busy_for_a_moment_ends_no_row_as_failed(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, queue: str, step: str, take: Callable[..., bool],
    error: Exception,
) -> None:  # fmt: skip
    """It is taken up again once its lease is over, also where not even the next try can be noted. Here the queue has
    one row, and notes what becomes of it."""

    class OneRow:
        ended: ClassVar[list[object]] = []

        def claim(self, *_: object, **__: object) -> object:
            return SimpleNamespace(id=1, row=SimpleNamespace(tries=0, asked_by="archive"))

        def renewed(self, *_: object, **__: object) -> AbstractContextManager[object]:
            return nullcontext(SimpleNamespace(require=lambda: None))

        def finish(self, *given: object) -> None:
            self.ended.append(given)

    def away(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, queue, OneRow())
    monkeypatch.setattr(module, step, away)
    with pytest.raises(type(error)):
        take(SimpleNamespace(begin=away), worker="w", machine="m")
    assert not OneRow.ended
