"""The worker's part in back-reads: has them read here or on the nodes of the site's cluster, one back-read at a time.

The reading itself is `python -m core back-read work`, so no model is loaded in the worker's process.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import InterfaceError, OperationalError

from core.errors import AppError
from core.records.database.db import Database
from core.records.reads import back_reads
from core.serving.cluster import answers, note_nodes
from core.serving.loops import on_every_node
from core.settings import REPOSITORY
from train.queue.child import STOP_SECONDS, cut_log

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
AGAIN_SECONDS = 30.0
"""After a failure, so that what fails at once does not fail a thousand times an hour."""
NOTE_SECONDS = 10.0


def read_open(db: Database, is_ending: Callable[[], bool], command: tuple[str, ...] = ("-m", "core")) -> None:
    """The oldest back-read that is open, until it is read or it is time to end: what is in hand then goes back.

    command: of this program, before its arguments.
    """
    try:
        number = back_reads.first_open(db)
        if number is not None:
            _read(db, number, is_ending, [*command, "back-read", "work", str(number)])
    except (AppError, OperationalError, InterfaceError, OSError) as error:
        log.warning("A back-read waits: %s", error if isinstance(error, AppError) else type(error).__name__)
        _pause(AGAIN_SECONDS, is_ending)


def look_at_nodes(db: Database) -> None:
    """Writes down which machines the site's cluster has now, where it answers."""
    try:
        if answers(db.settings):
            note_nodes(db.settings)
    except (AppError, OSError) as error:
        log.warning("The cluster was not looked at: %s", type(error).__name__)


def _read(db: Database, number: int, is_ending: Callable[[], bool], arguments: list[str]) -> None:
    def is_wanted() -> bool:
        return not is_ending() and back_reads.is_open(db, number)

    if db.settings.ray_address:
        on_every_node(db.settings, arguments, is_wanted)
        return
    logs = db.settings.state_dir / "logs"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = _here(arguments, logs / "back-read.log", is_wanted)
    if status and is_wanted():
        log.warning("The process of back-read %d ended with status %d", number, status)
        _pause(AGAIN_SECONDS, is_ending)


def _here(arguments: list[str], words: Path, is_wanted: Callable[[], bool]) -> int:
    with words.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments, "--with-worker"], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    try:
        while process.poll() is None and is_wanted():
            time.sleep(0.5)
            cut_log(words)
        process.terminate()
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        process.stdin.close()


def _pause(seconds: float, is_ending: Callable[[], bool]) -> None:
    over = threading.Event()
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_ending():
        over.wait(0.2)
