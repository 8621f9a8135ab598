"""Running one claimed job in a process of its own, and saying in a sentence how it ended. Loads no TensorFlow itself.

`python -m train.queue.child ARGUMENTS` is that process: `python -m train ARGUMENTS`, but it ends when the pipe on its
standard input closes, that is when its worker dies in whatever way. So no training goes on that nobody watches.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from core.errors import AppError
from core.models.live import candidate_dir, outline_candidate_dir
from core.models.outline_card import FILE
from core.models.registry import OUTLINE
from core.records import data_sets
from core.records.database.db import Database
from core.records.queue import Lease
from core.settings import REPOSITORY, Settings
from train.queue import trainings
from train.recipe.outline import Request

LOG_BYTES_MOST = 20_000_000
"""Of a log that a process writes which nobody can ask to be brief."""
STOP_SECONDS = 5
_OUT_OF_MEMORY = ("ResourceExhaustedError", "MemoryError", "std::bad_alloc", "OOM when allocating", "Cannot allocate")
_DISK_FULL = ("No space left on device", "Disk quota exceeded")


class NodeLost(Exception):
    """The machine that ran a job is gone, or nobody can say: the job is taken up again once its lease is over."""


class Unseen(AppError):
    """A machine that was to run a job does not have what it needs."""


class Run(Protocol):
    """A process that works on a job, here or elsewhere."""

    @property
    def where(self) -> str:
        """The other machines, "" for this one."""

    @property
    def waits(self) -> str:
        """A sentence on what it waits for before it begins, "" once it began."""

    def wait(self, seconds: float) -> int | None:
        """Exit status, None while it runs after these seconds. Raises NodeLost."""

    def stop(self) -> None:
        """End it now, and wait until it is gone."""

    def memory_mib(self) -> int | None:
        """Of the process, None where that cannot be said."""

    def text(self) -> str:
        """What it wrote, the end of it."""


class Executor(Protocol):
    """Where the processes of jobs run: `LocalExecutor`, or `train.queue.cluster.RayExecutor`."""

    def is_ready(self) -> bool:
        """Whether it could run a job now; none is taken otherwise."""

    def submit(self, lease: Lease, manifest_sha256: str) -> Run:
        """Begin a training, or go on with it after its last epoch. Raises NotFound for a damaged data set, OSError."""

    def compare(self, lease: Lease, folders: Sequence[Path]) -> Run:
        """Score a live model on the candidate's test cases (`train.publishing.score_live`)."""


def prepared(settings: Settings, lease: Lease, manifest_sha256: str) -> tuple[Request, Path]:
    """What a job's process is asked for, and the job's folder, without what an earlier attempt had nearly finished."""
    manifest = data_sets.checked_manifest(settings, manifest_sha256)
    folder = trainings.folder_of(settings, lease.id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    request = replace(
        trainings.request_of(lease.row.request),
        data=manifest, root=data_sets.files_dir(settings), out=folder / "out", work=folder / "work",
    )  # fmt: skip
    return request, folder


@dataclass(slots=True)
class LocalExecutor:
    """A child process for each job; its words go to the job's log."""

    settings: Settings
    command: Sequence[str] = field(default_factory=lambda: (sys.executable, "-m", "train.queue.child"))
    comparison: Sequence[str] = field(default_factory=lambda: (sys.executable, "-m", "train.publishing.score_live"))

    def is_ready(self) -> bool:
        """A process can be started at any time."""
        return True

    def submit(self, lease: Lease, manifest_sha256: str) -> LocalRun:
        """Raises NotFound when the data set is damaged, OSError when there is no space to begin in."""
        request, folder = prepared(self.settings, lease, manifest_sha256)
        return LocalRun([*self.command, *request.to_arguments()], folder / "log.txt", f"attempt {lease.attempt}")

    def compare(self, lease: Lease, folders: Sequence[Path]) -> LocalRun:
        """Score a live model on the candidate's test cases (`train.publishing.score_live`)."""
        log = trainings.folder_of(self.settings, lease.id) / "log.txt"
        return LocalRun([*self.comparison, *map(str, folders)], log, "comparison with the live model")


class LocalRun:
    """A running child process. heading: above its words in the log."""

    where = waits = ""

    def __init__(self, command: Sequence[str], log: Path, heading: str) -> None:
        self.log, self.heading = log, f"--- {heading}\n".encode()
        with log.open("ab") as file:
            file.write(self.heading)
        # A group of its own: Ctrl-C in the terminal ends the worker, which then ends this in order.
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self.writer = threading.Thread(target=self._write_log, name="log of a training", daemon=True)
        self.writer.start()

    def _write_log(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as source, self.log.open("ab", buffering=0) as file:
            while words := os.read(source.fileno(), 64 * 1024):
                with suppress(OSError):  # where the disk is full it must not wait for us: it finds that out itself
                    file.write(words)
                    cut_log(self.log)

    def wait(self, seconds: float) -> int | None:
        """Exit status, None while it runs after these seconds. Once it ended, everything it wrote is in its log."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self.writer.join(STOP_SECONDS)
        return status

    def stop(self) -> None:
        """End it now, and wait until it is gone."""
        self.process.terminate()
        if self.wait(STOP_SECONDS) is None:
            self.process.kill()
            self.wait(STOP_SECONDS)
        if self.process.stdin is not None:
            self.process.stdin.close()

    def memory_mib(self) -> int | None:
        """Of the process, None where that cannot be said."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None  # not Linux, or it has just ended
        found = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(found[0]) // 1024 if found else None

    def text(self) -> str:
        """What this process wrote, the end of it."""
        return text_below(self.log, self.heading)


def text_below(log: Path, heading: bytes) -> str:
    """The end of a job's log, below this heading."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - trainings.LOG_BYTES))
        return file.read().rpartition(heading)[2].decode("utf-8", "replace")


def cut_log(log: Path, most: int | None = None) -> None:
    """Keep the newest half of a log that grew beyond `most` bytes (`LOG_BYTES_MOST`), and say so where it begins now.

    Whoever else writes must append: it goes on at the new end. A log that cannot be read or written now stays as it is:
    who calls this looks after a process, which matters more.
    """
    most = most or LOG_BYTES_MOST
    with suppress(OSError):
        if log.stat().st_size <= most:
            return
        with log.open("a+b") as file:
            file.seek(-(most // 2), os.SEEK_END)
            newest = file.read().partition(b"\n")[2]
            file.truncate(0)
            file.write(b"--- What was written before this was removed: a log holds %d bytes at most.\n" % most + newest)


_LESS_MEMORY = {"training": "Choose a smaller side, or a smaller architecture.", "comparison": "Try again later."}


def ended_badly(status: int, words: str, what: str = "training") -> str:
    """Why a training or a comparison failed, as a sentence for the person who started it. The log keeps everything.

    status: of the process, negative for a signal. words: the end of its log.
    """
    status = 128 - status if status > 128 else status  # a command that a signal ended in order
    if any(word in words for word in _OUT_OF_MEMORY):
        return f"The memory of this machine was not enough. {_LESS_MEMORY[what]}"
    if any(word in words for word in _DISK_FULL):
        return f"The disk is full. Make room in the state folder and start the {what} anew."
    if status == 1 and "Traceback (most recent call last)" not in words:
        return (words.strip().splitlines() or [f"The {what} was refused without a reason."])[-1][:600]
    if status == -signal.SIGKILL:
        return f"The system killed the {what}, most often because the memory was not enough. {_LESS_MEMORY[what]}"
    if status < 0:
        return f"The {what} was ended by signal {-status}. The log may tell why."
    return f"The {what} stopped with an error that is our fault. The log tells where."


def epochs_in(work: Path) -> Iterator[tuple[str, list[Mapping[str, float]]]]:
    """Part ("" or the fold's folder) and its epochs so far, of a working folder of `fit`."""
    files = [work / "epochs.jsonl", *work.glob("*/epochs.jsonl")]
    for path in sorted((path for path in files if path.is_file()), key=lambda path: path.stat().st_ctime):
        lines = path.read_text(encoding="utf-8").split("\n")
        yield ("" if path.parent == work else path.parent.name), [json.loads(line) for line in lines[:-1] if line]


def trials_in(work: Path) -> dict[str, Any]:
    """{"trials": what a search has tried so far}, empty for a plain training."""
    try:
        return {"trials": json.loads((work / "trials.json").read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return {}


def store_candidate(db: Database, lease: Lease) -> dict[str, Any]:
    """Move a finished model to its place in one step; what the job says of it (`result`)."""
    folder, candidate = trainings.folder_of(db.settings, lease.id), candidate_dir(db.settings, lease.id)
    if trainings.request_of(lease.row.request).architecture == OUTLINE:
        candidate = outline_candidate_dir(db.settings, lease.id)
    (card_path,) = [*(folder / "out").glob("*/card.json"), *(folder / "out").glob(f"*/{FILE}")]
    card = json.loads(card_path.read_text(encoding="utf-8"))
    candidate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(candidate, ignore_errors=True)
    (folder / "out").rename(candidate)
    return {"model_id": card["model_id"], "weights_sha256": card["weights"]["sha256"], "folder": card_path.parent.name}


def remove_work(settings: Settings, job_id: int) -> None:
    """The working files of a job that ended; its log stays."""
    for name in ("out", "work"):
        shutil.rmtree(trainings.folder_of(settings, job_id) / name, ignore_errors=True)


def end_with_parent() -> None:
    """From now on this process ends when the pipe on its standard input closes; and it lets readers go first."""
    threading.Thread(target=_wait_for_end_of_input, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(10)


def _wait_for_end_of_input() -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock Python wants to have when it ends
        pass
    os._exit(75)  # nothing may run on the way out: the next worker goes on from the last epoch


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("train", run_name="__main__", alter_sys=True)
