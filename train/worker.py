"""The worker: takes jobs from the queue, one at a time, and watches over them. Loads no TensorFlow.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from uuid import uuid4

from core.errors import AppError
from core.records import data_sets
from core.records.db import Database, open_database
from core.settings import REPOSITORY, Settings
from train import executor, jobs, leases
from train.executor import LocalExecutor, LocalRun
from train.leases import GO_ON, LOST, Claim
from train.step_file import newest_step

log = logging.getLogger(__name__)

IDLE_SECONDS = 2.0
BEAT_SECONDS = 1.0
RESTART_SECONDS = 3.0


class Worker:
    """Runs jobs until `is_ending` says so. A job in hand is then finished (`finishes`) or handed back."""

    def __init__(
        self,
        db: Database,
        runs: LocalExecutor,
        *,
        is_ending: Callable[[], bool] = lambda: False,
        is_told_to_end: Callable[[], bool] = lambda: False,
        lease_seconds: float = leases.LEASE_SECONDS,
    ) -> None:
        self.db, self.runs = db, runs
        self.is_ending, self.is_told_to_end = is_ending, is_told_to_end
        self.lease_seconds = lease_seconds
        self.machine = platform.node()[:80] or "unnamed"
        self.name = f"{self.machine}:{os.getpid()}:{uuid4().hex[:8]}"

    def work(self) -> None:
        """Until it is time to end."""
        log.info("worker %s is ready", self.name)
        while not self.is_ending() and not self.is_told_to_end():
            if not self.work_once():
                time.sleep(IDLE_SECONDS)

    def work_once(self) -> bool:
        """Take and run one job; False when there is none."""
        held = leases.claim(self.db, worker=self.name, machine=self.machine, lease_seconds=self.lease_seconds)
        if held is None:
            return False
        log.info("job %d, attempt %d", held.job_id, held.attempt)
        try:
            self._run(held)
        except AppError as refused:
            leases.finish(self.db, held, jobs.FAILED, str(refused))
        except Exception:  # the outermost loop: one job must not end the worker, nor be "running" for ever
            log.exception("job %d failed", held.job_id)
            leases.finish(self.db, held, jobs.FAILED, "The worker failed at this job, and that is our fault.")
        return True

    def _run(self, held: Claim) -> None:
        with self.db.read() as connection:
            version = data_sets.find_version(connection, held.version_id)
        run = self.runs.submit(held, version.manifest_sha256)
        try:
            self._watch(held, run)
        finally:
            if run.status() is None:
                run.stop()

    def _watch(self, held: Claim, run: LocalRun) -> None:
        work = jobs.folder_of(self.db.settings, held.job_id) / "work"
        told: dict[str, int] = {}  # epochs of each part that the database has from this attempt
        while run.status() is None:
            answer = self._beat(held, run, work, told)
            if answer != GO_ON:
                run.stop()
                if answer == LOST:
                    log.warning("job %d is another worker's now", held.job_id)
                else:
                    executor.remove_work(self.db.settings, held.job_id)
                    leases.finish(self.db, held, jobs.CANCELLED, "Cancelled; nothing of it was kept but the log.")
                return
            if self.is_told_to_end():
                run.stop()
                leases.hand_back(self.db, held)
                return
            time.sleep(BEAT_SECONDS)
        self._beat(held, run, work, told)  # the last epochs, and what a search tried last
        self._close(held, run)

    def _beat(self, held: Claim, run: LocalRun, work: Path, told: dict[str, int]) -> str:
        message = self._tell(held, work, told)
        part, step = newest_step(work) or ("", {})
        return leases.heartbeat(
            self.db,
            held,
            lease_seconds=self.lease_seconds,
            memory_mib=run.memory_mib(),
            message=message,
            progress={**({"part": part, **step} if step else {}), **executor.trials_in(work)},
        )

    def _tell(self, held: Claim, work: Path, told: dict[str, int]) -> str:
        """Bring new epochs into the database; a sentence on where the run stands, "" before the first epoch."""
        for part, rows in executor.epochs_in(work):
            if len(rows) > told.get(part, 0):
                leases.add_epochs(self.db, held, part, rows)
                told[part] = len(rows)
        n_epochs = sum(told.values())
        total = held.request.n_epochs * held.request.runs
        return f"Trains: {n_epochs} of at most {total} epochs." if n_epochs else ""

    def _close(self, held: Claim, run: LocalRun) -> None:
        status = run.status()
        if status == 0:
            result = executor.keep_candidate(self.db, held)
            leases.finish(self.db, held, jobs.DONE, "Done: the candidate is ready to be compared.", result=result)
            executor.remove_work(self.db.settings, held.job_id)  # after that: until then the run could be taken up
            return
        executor.remove_work(self.db.settings, held.job_id)
        leases.finish(self.db, held, jobs.FAILED, executor.ended_badly(int(status or 0), run.words()))


def run_worker(settings: Settings, *, with_app: bool) -> None:
    """The whole life of a worker process. Told to end by SIGTERM or Ctrl-C, it hands its job back.

    with_app: standard input is a pipe from the application; once that closes, the worker finishes its job and ends.
    """
    told = threading.Event()

    def tell(_number: int, _frame: FrameType | None) -> None:
        told.set()

    signal.signal(signal.SIGTERM, tell)
    signal.signal(signal.SIGINT, tell)
    app_is_gone = threading.Event()
    if with_app:
        threading.Thread(target=_wait_for_end_of_input, args=(app_is_gone,), daemon=True).start()
    db = open_database(settings)
    try:
        Worker(db, LocalExecutor(settings), is_ending=app_is_gone.is_set, is_told_to_end=told.is_set).work()
    finally:
        db.close()


def _wait_for_end_of_input(app_is_gone: threading.Event) -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock Python wants to have when it ends
        pass
    app_is_gone.set()


@contextmanager
def kept_alive(settings: Settings) -> Iterator[None]:
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
