"""A queue in a table: a worker takes the oldest row under a lease, renews it by heartbeats, and finishes the row.

A row belongs to one attempt of one worker as long as its lease is renewed in time. What is written by an attempt that
lost its row is refused, so that a worker that was only slow cannot spoil what its successor does: the guard is the
number of the attempt, not the clock. Leases of several machines are by the clock of their database. A row whose worker
died goes back into the queue, `ATTEMPTS` times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, func, or_, select, update

from core.errors import Conflict, NotFound
from core.periodic import repeated
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold

QUEUED, RUNNING, DONE, FAILED, CANCELLED, DEAD = "queued", "running", "done", "failed", "cancelled", "dead"
OPEN, OVER = (QUEUED, RUNNING), (DONE, FAILED, CANCELLED, DEAD)
GO_ON, STOP, LOST, ENDING = "go on", "stop", "lost", "ending"
LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 1.0
AHEAD_SECONDS = 2 * 3600.0
"""A lease that ends later than this from now was written by a clock that was wrong by hours, and is over. A worker that
lives has written another within a second."""
ATTEMPTS = 3
"""A row whose worker died this often is not tried again."""


class Ended(Exception):
    """Raised out of work that is to end, by what the last heartbeat brought."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A row in one worker's hands. attempt: from 1; it tells this claim from any other. row: as it was claimed."""

    id: int
    attempt: int
    worker: str
    row: Row[Any]


@dataclass(slots=True)
class Held:
    """What work tells of itself, and what it is told, while its lease is renewed (`Queue.renewed`).

    values: columns that the next heartbeat writes. answer: GO_ON; STOP when somebody cancelled; LOST when the row is
    not this lease's any more; ENDING when the worker itself is to end.
    """

    lease: Lease
    heartbeat: Callable[[Mapping[str, Any]], str]
    is_ending: Callable[[], bool]
    values: Callable[[], Mapping[str, Any]] = dict
    answer: str = GO_ON
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def beat(self) -> None:
        """Renew the lease now."""
        with self._turn:
            answer = self.heartbeat(self.values())
            if answer != GO_ON or self.answer != ENDING:  # what work was ended by stays
                self.answer = answer

    def require(self) -> None:
        """Raises Ended when the work is not wanted any more."""
        if self.answer == GO_ON and self.is_ending():
            self.answer = ENDING
        if self.answer != GO_ON:
            raise Ended


def _note_nothing(_connection: Connection, _row_id: int, _attempt: int, _sentence: str) -> None:
    """For a queue whose rows have no history."""


@dataclass(frozen=True)
class Queue:
    """The rows of one table, which has the columns `id`, `state`, `message`, `attempts`, `worker`, `machine`,
    `lease_until`, `cancel_asked_at`, `result` and `ended_at`; `due_at` where rows can be postponed.

    lock: what makes workers that ask at once wait for each other. kind, subject: of a row, in sentences and in the
    audit trail ("training done", "job 7"). begins, again: what a row says when it was taken, and when its worker died.
    cancelled, dead, failed: the same of its end; dead and failed follow the sentence on why. has_result: of one that
    had what it is for when its worker died; it is done. anew: columns as they are when a row begins anew. recorded:
    keys of its result that the audit trail gets. note: adds a sentence to a row's history. is_in_trail: the end of each
    row is an act of its own; False where what somebody asked for is many rows, and is in the trail itself.
    """

    table: Table
    lock: AdvisoryLock
    kind: str
    subject: str
    begins: str
    again: str
    cancelled: str
    dead: str
    failed: str = ""
    has_result: str = "Done."
    anew: Mapping[str, Any] = field(default_factory=dict)
    recorded: tuple[str, ...] = ()
    note: Callable[[Connection, int, int, str], None] = _note_nothing
    is_in_trail: bool = True

    def claim(self, db: Database, *, worker: str, machine: str, lease_seconds: float = LEASE_SECONDS) -> Lease | None:
        """The oldest waiting row, now running here; None when there is none or this machine has one in hand already.

        Rows whose worker died are put back first, or buried. Two workers that ask at once wait for each other:
        SQLite's writers do so anyway, PostgreSQL's take a lock until the transaction ends.
        """
        table = self.table
        with db.begin() as connection:
            hold(connection, self.lock)
            self._put_back_expired(connection)
            busy = select(table.c.id).where(table.c.state == RUNNING, table.c.machine == machine)
            if connection.execute(busy).first() is not None:
                return None
            waiting = select(table.c.id).where(table.c.state == QUEUED).order_by(table.c.id).limit(1)
            if "due_at" in table.c:  # what was postponed waits for its hour and holds up nobody behind it
                waiting = waiting.where(or_(table.c.due_at.is_(None), table.c.due_at <= tables.now()))
            oldest = waiting.scalar_subquery()
            values: dict[str, Any] = {"state": RUNNING, "worker": worker, "machine": machine, "message": self.begins}
            values |= {"attempts": table.c.attempts + 1, "lease_until": _after(connection, lease_seconds)}
            if "started_at" in table.c:
                values["started_at"] = func.coalesce(table.c.started_at, tables.now())
            query = update(table).where(table.c.id == oldest, table.c.state == QUEUED).values(**values)
            found = connection.execute(query.returning(table)).one_or_none()
            if found is None:
                return None
            again = "" if found.attempts == 1 else f", attempt {found.attempts} of {ATTEMPTS}"
            self.note(connection, found.id, found.attempts, f"Taken by a worker on {machine}{again}.")
        return Lease(found.id, found.attempts, worker, found)

    def heartbeat(
        self, db: Database, lease: Lease, values: Mapping[str, Any] | None = None, *, seconds: float = LEASE_SECONDS
    ) -> str:
        """Renew the lease and write these columns: GO_ON, STOP or LOST (see `Held`)."""
        table = self.table
        query = update(table).where(*self._is_held(lease)).values(values or {})
        with db.begin() as connection:
            query = query.values(lease_until=_after(connection, seconds))
            found = connection.execute(query.returning(table.c.cancel_asked_at)).one_or_none()
        if found is None:
            return LOST
        return GO_ON if found.cancel_asked_at is None else STOP

    @contextmanager
    def renewed(
        self, db: Database, lease: Lease, *, seconds: float = LEASE_SECONDS, is_ending: Callable[[], bool]
    ) -> Iterator[Held]:
        """The lease is renewed in a thread of its own until the block ends, so that a long step does not lose it."""
        held = Held(lease, lambda values: self.heartbeat(db, lease, values, seconds=seconds), is_ending)
        with repeated(f"{self.kind} lease", held.beat, lambda: HEARTBEAT_SECONDS):
            yield held

    def is_held(self, connection: Connection, lease: Lease) -> bool:
        """Whether the row is still this lease's; if so nobody else can take it until the transaction ends."""
        query = select(self.table.c.id).where(*self._is_held(lease)).with_for_update()
        return connection.execute(query).one_or_none() is not None

    def finish(
        self, db: Database, lease: Lease, state: str, message: str, result: Mapping[str, Any] | None = None
    ) -> bool:
        """End the row as done, failed or cancelled, with its sentence; False when it is not this lease's any more."""
        if state not in (DONE, FAILED, CANCELLED):
            raise ValueError(f"a worker cannot end a {self.kind} as {state!r}")
        with db.begin() as connection:
            hold(connection, self.lock)
            if not self.is_held(connection, lease):
                return False
            self._end(connection, lease.id, lease.attempt, state, message, result)
        return True

    def hand_back(self, db: Database, lease: Lease) -> None:
        """Put the row back into the queue when the worker is told to end: that is no failed attempt."""
        with db.begin() as connection:
            if not self.is_held(connection, lease):
                return
            asked = select(self.table.c.cancel_asked_at).where(self.table.c.id == lease.id)
            if connection.execute(asked).scalar_one() is not None:
                self._end(connection, lease.id, lease.attempt, CANCELLED, self.cancelled)
                return
            self._put_back(connection, lease.id, "Waits: its worker was stopped.", attempts=lease.attempt - 1)
            self.note(connection, lease.id, lease.attempt, "Its worker was stopped; back in the queue.")

    def postpone(self, db: Database, lease: Lease, message: str, due_at: datetime) -> bool:
        """Put the row back until `due_at`: what it needs is away, which is no failed attempt. False as in `finish`."""
        with db.begin() as connection:
            if not self.is_held(connection, lease):
                return False
            self._put_back(connection, lease.id, message, attempts=lease.attempt - 1, due_at=due_at)
            self.note(connection, lease.id, lease.attempt, message)
        return True

    def cancel(self, connection: Connection, row_id: int) -> Row[Any]:
        """End a row that waits, ask for the end of one that runs; the row as it was. Raises NotFound, Conflict."""
        table = self.table
        row = connection.execute(select(table).where(table.c.id == row_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFound(f"There is no {self.kind} {row_id}.")
        if row.state not in OPEN:
            raise Conflict(f"{self.kind.capitalize()} {row_id} is {row.state} already.")
        if row.cancel_asked_at is not None:
            raise Conflict(f"{self.kind.capitalize()} {row_id} is being cancelled already.")
        asked: dict[str, Any] = {"cancel_asked_at": tables.now()}
        if row.state == QUEUED:
            asked |= {"state": CANCELLED, "ended_at": tables.now(), "message": "Cancelled before it began."}
        connection.execute(update(table).where(table.c.id == row_id).values(**asked))
        return row

    def over(self, db: Database) -> list[tuple[int, datetime]]:
        """Number and end of every row that is over."""
        query = select(self.table.c.id, self.table.c.ended_at).where(self.table.c.state.in_(OVER))
        with db.read() as connection:
            return [(row.id, row.ended_at) for row in connection.execute(query)]

    def _put_back_expired(self, connection: Connection) -> None:
        table = self.table
        until = table.c.lease_until
        is_over = or_(until < tables.present(connection), until > _after(connection, AHEAD_SECONDS))
        gone = select(table).where(table.c.state == RUNNING, is_over).order_by(table.c.id)
        for row in connection.execute(gone.with_for_update()).all():
            self.note(connection, row.id, row.attempts, "Its worker does not answer any more.")
            if row.result is not None:
                self._end(connection, row.id, row.attempts, DONE, self.has_result, row.result)
            elif row.cancel_asked_at is not None:
                self._end(connection, row.id, row.attempts, CANCELLED, self.cancelled)
            elif row.attempts >= ATTEMPTS:
                sentence = f"Its worker died {row.attempts} times, so it is not tried again. {self.dead}"
                self._end(connection, row.id, row.attempts, DEAD, sentence)
            else:
                self._put_back(connection, row.id, self.again)

    def _put_back(self, connection: Connection, row_id: int, message: str, **more: Any) -> None:
        values = {"state": QUEUED, "lease_until": None, "worker": None, "message": message, **self.anew, **more}
        connection.execute(update(self.table).where(self.table.c.id == row_id).values(**values))

    def _end(
        self,
        connection: Connection,
        row_id: int,
        attempt: int,
        state: str,
        message: str,
        result: Mapping[str, Any] | None = None,
    ) -> None:
        values: dict[str, Any] = {"state": state, "message": message, "ended_at": tables.now()}
        values |= {"lease_until": None, "worker": None, "result": dict(result) if result else None}
        connection.execute(update(self.table).where(self.table.c.id == row_id).values(**values))
        self.note(connection, row_id, attempt, message)
        if not self.is_in_trail:
            return
        evidence = {key: value for key, value in (result or {}).items() if key in self.recorded}
        trail.record(connection, None, f"{self.kind} {state}", f"{self.subject} {row_id}", attempt=attempt, **evidence)

    def _is_held(self, lease: Lease) -> tuple[ColumnElement[bool], ...]:
        table = self.table.c
        return (
            table.id == lease.id,
            table.state == RUNNING,
            table.worker == lease.worker,
            table.attempts == lease.attempt,
        )


def _after(connection: Connection, seconds: float) -> datetime | ColumnElement[datetime]:
    return tables.present(connection) + timedelta(seconds=seconds)
