"""The worker: takes trainings from the queue, one at a time, and watches over them; imports run beside them.

It is a process of its own, started with the application or by hand (`python -m train worker`), and is replaced when it
dies: whatever it knew is in the database and in the job's folder.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

from core.errors import AppError
from core.models.cards import read_card
from core.models.live import candidate_dir
from core.records import data_sets
from core.records.database.db import Database, open_database
from core.records.releases import promotion_check
from core.settings import REPOSITORY, Settings
from train.fitting.checkpoint import newest_step
from train.publishing import score_live
from train.queue import child, trainings
from train.queue.child import LocalExecutor, LocalRun
from train.queue.import_worker import ImportWorker
from train.queue.trainings import GO_ON, LOST, STOP, Claim

log = logging.getLogger(__name__)

IDLE_SECONDS = 2.0
BEAT_SECONDS = 1.0
RESTART_SECONDS = 3.0
ENDING = "ending"


class Worker:
    """Runs jobs until `is_ending` says so. A job in hand is then finished (`finishes`) or handed back."""

    def __init__(
        self,
        db: Database,
        runs: LocalExecutor,
        *,
        is_ending: Callable[[], bool] = lambda: False,
        should_end: Callable[[], bool] = lambda: False,
        lease_seconds: float = trainings.LEASE_SECONDS,
    ) -> None:
        self.db, self.runs = db, runs
        self.is_ending, self.should_end = is_ending, should_end
        self.lease_seconds = lease_seconds
        self.machine = platform.node()[:80] or "unnamed"
        self.name = f"{self.machine}:{os.getpid()}:{uuid4().hex[:8]}"

    def work(self) -> None:
        """Until it is time to end."""
        log.info("worker %s is ready", self.name)
        while not self.is_ending() and not self.should_end():
            if not self.work_once():
                time.sleep(IDLE_SECONDS)

    def work_once(self) -> bool:
        """Take and run one job; False when there is none."""
        held = trainings.claim(self.db, worker=self.name, machine=self.machine, lease_seconds=self.lease_seconds)
        if held is None:
            return False
        log.info("job %d, attempt %d", held.job_id, held.attempt)
        try:
            self._run(held)
        except AppError as refused:
            trainings.finish(self.db, held, trainings.FAILED, str(refused))
        except Exception:  # the outermost loop: one job must not end the worker, nor be "running" for ever
            log.exception("job %d failed", held.job_id)
            trainings.finish(self.db, held, trainings.FAILED, "The worker failed at this job, and that is our fault.")
        return True

    def _run(self, held: Claim) -> None:
        with self.db.read() as connection:
            version = data_sets.find_version(connection, held.version_id)
        work = trainings.folder_of(self.db.settings, held.job_id) / "work"
        ending: dict[str, int] = {}  # epochs of each part that the database has from this attempt
        run = self.runs.submit(held, version.manifest_sha256)
        answer = self._follow(run, lambda: self._beat(held, run, work, ending))
        if answer == LOST:
            log.warning("job %d is another worker's now", held.job_id)
        elif answer == STOP:
            child.remove_work(self.db.settings, held.job_id)
            trainings.finish(self.db, held, trainings.CANCELLED, "Cancelled; nothing of it was kept but the log.")
        elif answer == ENDING:
            trainings.hand_back(self.db, held)
        else:
            self._close(held, run)

    def _follow(self, run: LocalRun, beat: Callable[[], str]) -> str:
        """Watch a process: GO_ON once it ended by itself; STOP, LOST or ENDING when it was ended because of that."""
        try:
            while run.status() is None:
                answer = beat()
                if answer == GO_ON and self.should_end():
                    answer = ENDING
                if answer != GO_ON:
                    return answer
                time.sleep(BEAT_SECONDS)
            return beat()  # what it said last
        finally:
            if run.status() is None:
                run.stop()

    def _beat(self, held: Claim, run: LocalRun, work: Path, ending: dict[str, int]) -> str:
        message = self._store_epochs(held, work, ending)
        part, told_last = newest_step(work) or ("", {})
        step = dict(told_last)
        return trainings.heartbeat(
            self.db,
            held,
            lease_seconds=self.lease_seconds,
            memory_mib=run.memory_mib(),
            device=step.pop("device", ""),
            message=message,
            progress={**({"part": part, **step} if step else {}), **child.trials_in(work)},
        )

    def _store_epochs(self, held: Claim, work: Path, ending: dict[str, int]) -> str:
        """Bring new epochs into the database; a sentence on where the run stands, "" before the first epoch."""
        for part, rows in child.epochs_in(work):
            if len(rows) > ending.get(part, 0):
                trainings.add_epochs(self.db, held, part, rows)
                ending[part] = len(rows)
        n_epochs = sum(ending.values())
        total = held.request.n_epochs * held.request.runs
        return f"Trains: {n_epochs} of at most {total} epochs." if n_epochs else ""

    def _close(self, held: Claim, run: LocalRun) -> None:
        status = run.status()
        if status != 0:
            child.remove_work(self.db.settings, held.job_id)
            trainings.finish(self.db, held, trainings.FAILED, child.ended_badly(int(status or 0), run.text()))
            return
        result = child.store_candidate(self.db, held)
        if trainings.store_result(self.db, held, result):  # until then the run could be taken up
            child.remove_work(self.db.settings, held.job_id)
            words = f"{trainings.CANDIDATE_READY} {self._compare(held, result)}".strip()
            trainings.finish(self.db, held, trainings.DONE, words, result=result)

    def _compare(self, held: Claim, result: Mapping[str, Any]) -> str:
        """Score the live model on the candidate's test cases; why it was not, or "". The candidate stays either way."""
        try:
            card = read_card(candidate_dir(self.db.settings, held.job_id) / result["folder"])
            live = next(iter(promotion_check.reference_models(self.db.settings, card)), None)
            if live is None:
                return ""
            run = self.runs.compare(held, score_live.folders_of(self.db, held.job_id, card, live))
            answer = self._follow(run, lambda: self._beat_comparing(held, run))
        except AppError as refused:
            why = str(refused)
        except Exception:  # whatever it is: the training was good
            log.exception("job %d: the live model was not scored", held.job_id)
            why = "The worker failed at it, and that is our fault."
        else:
            if run.status() == 0:
                return ""
            ended = {STOP: "It was cancelled.", LOST: "", ENDING: "The worker was stopped."}
            why = ended.get(answer) or child.ended_badly(int(run.status() or 0), run.text(), "comparison")
        return f"The live model was not scored on its test cases: {why} A button there does it."

    def _beat_comparing(self, held: Claim, run: LocalRun) -> str:
        said = score_live.newest_sentence(run.text()) or "starting"
        return trainings.heartbeat(
            self.db,
            held,
            lease_seconds=self.lease_seconds,
            memory_mib=run.memory_mib(),
            message=f"The training is over; now the comparison with the live model: {said.rstrip('.')}.",
        )


def run_worker(settings: Settings, *, with_app: bool) -> None:
    """The whole life of a worker process. Told to end by SIGTERM or Ctrl-C, it hands its job back.

    with_app: standard input is a pipe from the application; once that closes, the worker finishes its job and ends.
    """
    ending = threading.Event()

    def report(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, report)
    signal.signal(signal.SIGINT, report)
    app_is_gone = threading.Event()
    if with_app:
        threading.Thread(target=_wait_for_end_of_input, args=(app_is_gone,), daemon=True).start()
    db = open_database(settings)
    imports = ImportWorker(db, is_ending=app_is_gone.is_set, should_end=ending.is_set)
    lane = threading.Thread(target=imports.work, name="imports")
    lane.start()
    try:
        Worker(db, LocalExecutor(settings), is_ending=app_is_gone.is_set, should_end=ending.is_set).work()
    finally:
        app_is_gone.set()
        lane.join()
        db.close()


def _wait_for_end_of_input(app_is_gone: threading.Event) -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock Python wants to have when it ends
        pass
    app_is_gone.set()


@contextmanager
def supervised(settings: Settings) -> Iterator[None]:
    """A worker process beside this one, replaced when it dies. After the block it ends once its job is done."""
    folder = settings.state_dir / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            with (folder / "worker.log").open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "train", "worker", "--with-app"],
                    cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
            while process.poll() is None and not is_over.wait(0.5):
                pass
            if process.stdin is not None:
                process.stdin.close()  # its sign that we go
            if not is_over.is_set():
                log.warning("The training worker ended with status %s; starting another", process.returncode)
                is_over.wait(RESTART_SECONDS)

    thread = threading.Thread(target=watch, name="training worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(5)
