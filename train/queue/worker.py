"""The worker: takes what waits in a queue, one after the other, keeps its lease, and says how it ended.

It is a process of its own, started with the application or by hand (`python -m train worker`), and is replaced when it
dies: whatever it knew is in the database and in the job's folder. Trainings and imports have a loop each, so that an
import of minutes does not wait for a training of hours.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from types import FrameType
from typing import Any, Protocol
from uuid import uuid4

from sqlalchemy.exc import InterfaceError, OperationalError

from core.errors import AppError, NotSaved, traceback_of
from core.files import is_disk_full
from core.models.cards import read_card
from core.models.live import candidate_dir
from core.models.registry import OUTLINE
from core.periodic import repeated
from core.records import data_sets
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.queue import (
    CANCELLED,
    DONE,
    ENDING,
    FAILED,
    LEASE_SECONDS,
    LOST,
    STOP,
    Ended,
    Held,
    Lease,
    Queue,
)
from core.records.releases import promotion_check
from core.serving.cluster import require_token
from core.settings import Settings
from train.fitting.checkpoint import newest_step
from train.publishing import score_live
from train.queue import child, trainings
from train.queue.child import Executor, LocalExecutor, NodeLost, Run
from train.queue.imports import ImportWork
from train.queue.reading import LOOK_SECONDS, NOTE_SECONDS, look_at_nodes, read_open
from train.queue.supervision import machine_name, training_slots

log = logging.getLogger(__name__)

IDLE_SECONDS = 2.0
POLL_SECONDS = 0.1
SWEEP_SECONDS = 600.0
DEVICE_LENGTH_MOST = 200


class Work(Protocol):
    """What is done with the rows of one queue."""

    queue: Queue

    def run(self, held: Held) -> tuple[str, str, Mapping[str, Any] | None]:
        """State, sentence and result of a row. Raises AppError where it is refused, Ended where `held` says so."""

    def is_ready(self) -> bool:
        """Whether a row could be worked on now; none is taken otherwise."""

    def clean(self, row_id: int, ended_at: datetime) -> None:
        """Remove what a row that is over does not need any more."""


class Worker:
    """Does one kind of work until `is_ending` says so. A row in hand is then finished; `should_end`: handed back."""

    def __init__(
        self,
        db: Database,
        work: Work,
        *,
        is_ending: Callable[[], bool] = lambda: False,
        should_end: Callable[[], bool] = lambda: False,
        lease_seconds: float = LEASE_SECONDS,
        machine: str = "",
    ) -> None:
        self.db, self.kind, self.queue = db, work, work.queue
        self.is_ending, self.should_end = is_ending, should_end
        self.lease_seconds = lease_seconds
        self.machine = machine or machine_name()
        self.name = f"{self.machine}:{os.getpid()}:{uuid4().hex[:8]}"
        self._swept = -SWEEP_SECONDS

    def work(self) -> None:
        """Until it is time to end; an error of the database is waited out, with the row in hand under its lease."""
        log.info("worker %s is ready for a %s", self.name, self.queue.kind)
        while not self.is_ending() and not self.should_end():
            try:
                if self.work_once():
                    continue
            except Exception as error:  # the outermost loop: what is wrong now may be right in a moment
                log.error("the worker of %ss: %s", self.queue.kind, traceback_of(error))
            time.sleep(IDLE_SECONDS)

    def work_once(self) -> bool:
        """Take and run one row; False when there is none."""
        if not self.kind.is_ready():
            return False
        lease = self.queue.claim(self.db, worker=self.name, machine=self.machine, lease_seconds=self.lease_seconds)
        if lease is None:
            self._sweep()
            return False
        log.info("%s %d, attempt %d", self.queue.kind, lease.id, lease.attempt)
        with self.queue.renewed(self.db, lease, seconds=self.lease_seconds, is_ending=self.should_end) as held:
            ending = self._run(held)
        if ending is None:
            self.queue.hand_back(self.db, lease)
        elif held.answer == LOST or not self.queue.finish(self.db, lease, *ending):
            log.warning("%s %d is another worker's now", self.queue.kind, lease.id)
        else:
            self.kind.clean(lease.id, tables.now())
        return True

    def _run(self, held: Held) -> tuple[str, str, Mapping[str, Any] | None] | None:
        """How it ended; None for a row that is to be handed back."""
        queue = self.queue
        try:
            return self.kind.run(held)
        except Ended:
            return None if held.answer == ENDING else (CANCELLED, queue.cancelled, None)
        except (NotSaved, OperationalError, InterfaceError, NodeLost):
            raise  # the database or the machine is busy or away: the row is taken up again once its lease is over
        except AppError as refused:
            return FAILED, str(refused), None
        except Exception as error:  # whatever it is, one row must not end the worker, nor be "running" for ever
            if isinstance(error, OSError) and is_disk_full(error):
                sentence = f"The disk is full. Make room in the state folder and start the {queue.kind} anew."
            else:
                log.error("%s %d failed:\n%s", queue.kind, held.lease.id, traceback_of(error))
                sentence = f"The {queue.kind} stopped with an error that is our fault. The log tells where."
            return FAILED, f"{sentence} {queue.failed}".strip(), None

    def _sweep(self) -> None:
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            for row_id, ended_at in self.queue.over(self.db):
                self.kind.clean(row_id, ended_at)


class TrainingWork:
    """A training runs in a process of its own (`train.queue.child`); what it says of itself is in its folder."""

    queue = trainings.QUEUE

    def __init__(self, db: Database, runs: Executor) -> None:
        self.db, self.runs = db, runs

    def is_ready(self) -> bool:
        return self.runs.is_ready()

    def run(self, held: Held) -> tuple[str, str, Mapping[str, Any] | None]:
        """Train, move the candidate to its place, and have the live model scored on the same test cases."""
        lease, settings = held.lease, self.db.settings
        with self.db.read() as connection:
            version = data_sets.find_version(connection, lease.row.version_id)
        run = self.runs.submit(lease, version.manifest_sha256)
        status = _followed(run, held, _Progress(self.db, lease, run))
        if status != 0:
            return FAILED, child.ended_badly(status, run.text()), None
        result = child.store_candidate(self.db, lease)
        if not trainings.store_result(self.db, lease, result):
            held.answer = LOST
            raise Ended
        self.clean(lease.id, tables.now())  # until now the run could be taken up
        return DONE, f"{trainings.CANDIDATE_READY} {self._compare(held, settings, result)}".strip(), result

    def clean(self, job_id: int, ended_at: datetime) -> None:
        """Remove the working files of a job, and a model that was put in place and never noted; its log stays."""
        child.remove_work(self.db.settings, job_id)
        trainings.remove_unclaimed(self.db, job_id)

    def _compare(self, held: Held, settings: Settings, result: Mapping[str, Any]) -> str:
        """Score the live model on the candidate's test cases; why it was not, or "". The candidate stays either way."""
        lease = held.lease
        if trainings.request_of(lease.row.request).architecture == OUTLINE:
            return ""  # it stands beside the live network on the pictures that both were tested on
        try:
            card = read_card(candidate_dir(settings, lease.id) / result["folder"])
            live = next(iter(promotion_check.reference_models(settings, card)), None)
            if live is None:
                return ""
            run = self.runs.compare(lease, score_live.folders_of(self.db, lease.id, card, live))
            status = _followed(run, held, lambda: _comparing(run))
        except Ended:
            why = {STOP: "It was cancelled.", LOST: "", ENDING: "The worker was stopped."}[held.answer]
        except AppError as refused:
            why = str(refused)
        except Exception as error:  # whatever it is: the training was good
            log.error("job %d: the live model was not scored:\n%s", lease.id, traceback_of(error))
            why = "The worker failed at it, and that is our fault."
        else:
            if status == 0:
                return ""
            why = child.ended_badly(status, run.text(), "comparison")
        return f"The live model was not scored on its test cases: {why} A button there does it."


def _followed(run: Run, held: Held, values: Callable[[], Mapping[str, Any]]) -> int:
    """The exit status of a process that ended by itself. Raises Ended once it was ended because `held` said so."""
    held.values = values
    status = None
    try:
        while (status := run.wait(POLL_SECONDS)) is None:
            held.require()
        held.beat()  # what it said last
        held.require()
        return status
    finally:
        held.values = dict
        if status is None:
            run.stop()


class _Progress:
    """What a heartbeat writes of a training: where it stands; new epochs go into the database on the way."""

    def __init__(self, db: Database, lease: Lease, run: Run) -> None:
        self.db, self.lease, self.run = db, lease, run
        self.work = trainings.folder_of(db.settings, lease.id) / "work"
        request = trainings.request_of(lease.row.request)
        self.total = request.n_epochs * request.runs
        self.stored: dict[str, int] = {}
        """Epochs of each part that the database has from this attempt."""

    def __call__(self) -> dict[str, Any]:
        for part, rows in child.epochs_in(self.work):
            if len(rows) > self.stored.get(part, 0):
                trainings.add_epochs(self.db, self.lease, part, rows)
                self.stored[part] = len(rows)
        part, newest = newest_step(self.work) or ("", {})
        step = dict(newest)
        device = str(step.pop("device", ""))
        device = (f"{device} on node {self.run.where}" if device and self.run.where else device)[:DEVICE_LENGTH_MOST]
        n_epochs = sum(self.stored.values())
        trains = f"Trains: {n_epochs} of at most {self.total} epochs." if n_epochs else trainings.QUEUE.begins
        return {
            "memory_mib": self.run.memory_mib(),
            "progress": {**({"part": part, **step} if step else {}), **child.trials_in(self.work)},
            **({"device": device} if device else {}),
            "message": self.run.waits or trains,
        }


def _comparing(run: Run) -> dict[str, Any]:
    said = run.waits or score_live.newest_sentence(run.text()) or "starting"
    message = f"The training is over; now the comparison with the live model: {said.rstrip('.')}."
    return {"memory_mib": run.memory_mib(), "message": message}


def run_worker(settings: Settings, *, with_app: bool, lease_seconds: float = LEASE_SECONDS) -> None:
    """The whole life of a worker process. Told to end by SIGTERM or Ctrl-C, it hands its job back.

    with_app: standard input is a pipe from the application; once that closes, the worker finishes its job and ends, or
    hands it back, as `Settings.worker_at_stop` says.
    lease_seconds: how long its job is its own after its last heartbeat.
    """
    ending = threading.Event()

    def report(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, report)
    signal.signal(signal.SIGINT, report)
    app_is_gone = threading.Event()
    if with_app:
        gone = [app_is_gone, *([ending] if settings.worker_at_stop == "hand_back" else [])]
        threading.Thread(target=_wait_for_end_of_input, args=(gone,), daemon=True).start()
    db = open_database(settings)
    names = training_slots(settings)
    lanes: list[tuple[Work, str]] = [(ImportWork(db), "")]
    lanes += [(TrainingWork(db, executor_of(settings)), name) for name in names[1:]]
    threads = []

    def is_over() -> bool:
        return app_is_gone.is_set() or ending.is_set()

    def works(work: Work, machine: str) -> Worker:
        return Worker(
            db, work, is_ending=app_is_gone.is_set, should_end=ending.is_set, lease_seconds=lease_seconds,
            machine=machine,
        )  # fmt: skip

    for number, (work, machine) in enumerate(lanes):
        threads.append(threading.Thread(target=works(work, machine).work, name=f"work {number}"))
    for thread in threads:
        thread.start()
    try:
        with ExitStack() as looks:
            looks.enter_context(repeated("back-reads", lambda: read_open(db, is_over), lambda: LOOK_SECONDS))
            if settings.ray_address:
                looks.enter_context(repeated("nodes", lambda: look_at_nodes(db), lambda: NOTE_SECONDS))
            looks.callback(app_is_gone.set)
            works(TrainingWork(db, executor_of(settings)), names[0]).work()
    finally:
        for thread in threads:
            thread.join()
        db.close()


def executor_of(settings: Settings) -> Executor:
    """Here or in the site's cluster, as the settings say. Raises InvalidSettings."""
    if not settings.ray_address:
        return LocalExecutor(settings)
    from train.queue.cluster import RayExecutor

    require_token(settings)
    return RayExecutor(settings)


def _wait_for_end_of_input(gone: Sequence[threading.Event]) -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock Python wants to have when it ends
        pass
    for event in gone:
        event.set()
