"""The worker process beside the application: started with it, replaced when it dies, and what it has in hand at a stop.

Apart from the worker itself, whose libraries for data sets the server would wait for at its start.
"""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError

from core.errors import AppError
from core.periodic import FIRST_PAGE_SECONDS
from core.records.database import tables
from core.records.database.db import Database
from core.records.queue import RUNNING
from core.settings import REPOSITORY, Settings
from train.queue.child import cut_log

log = logging.getLogger(__name__)

RESTART_SECONDS = 3.0


def machine_name() -> str:
    """What this machine is called in rows."""
    return platform.node()[:80] or "unnamed"


def training_slots(settings: Settings) -> list[str]:
    """The names under which this worker runs trainings at the same time: this machine's, or places in the cluster."""
    if not settings.ray_address:
        return [machine_name()]
    return [f"{machine_name()[:60]}, place {number}" for number in range(1, settings.ray_trainings + 1)]


def still_doing(db: Database) -> str:
    """What the worker of this machine has in hand and what becomes of it now that the application stops; "" for
    nothing, and where the database is away: that keeps no server from stopping.
    """
    machines, words = {machine_name(), *training_slots(db.settings)}, []
    try:
        with db.read() as connection:
            for table, kind in ((tables.job, "training"), (tables.data_import, "import")):
                mine = (table.c.state == RUNNING, table.c.machine.in_(machines))
                found = connection.execute(select(table.c.id).where(*mine).order_by(table.c.id)).scalars()
                words += [f"{kind} {row_id}" for row_id in found]
    except (AppError, InterfaceError, OperationalError):
        return ""
    if not words:
        return ""
    if db.settings.worker_at_stop == "hand_back":
        return f"The worker hands back {', '.join(words)}; it goes on after the next start."
    return (
        f"The worker goes on with {', '.join(words)} and ends after that. To end it now and go on after the next "
        "start, send it SIGTERM; SECONDREAD_WORKER_AT_STOP=hand_back does so at every stop."
    )


@contextmanager
def supervised(settings: Settings, report: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A worker process beside this one, replaced when it dies. After the block it ends once its job is done.

    report: is called after the block, before the worker is told.
    """
    folder = settings.state_dir / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_over = threading.Event()

    def watch() -> None:
        is_over.wait(FIRST_PAGE_SECONDS)
        while not is_over.is_set():
            try:
                with (folder / "worker.log").open("ab") as output:
                    process = subprocess.Popen(
                        [sys.executable, "-m", "train", "worker", "--with-app"],
                        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
                    )  # fmt: skip
            except OSError as error:  # the folder is away, or the machine has no room: both may come back
                log.error("The training worker does not start: %s", type(error).__name__)
                is_over.wait(RESTART_SECONDS)
                continue
            while process.poll() is None and not is_over.wait(0.5):
                cut_log(folder / "worker.log")
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
        report()
        is_over.set()
        thread.join(5)
