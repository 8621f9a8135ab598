"""A thread that does something every n seconds for as long as a block lasts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.errors import traceback_of

log = logging.getLogger(__name__)

FIRST_PAGE_SECONDS = 0.5
"""So long after a start the first visitors have the processor for themselves: what can begin later begins then."""


@contextmanager
def repeated(name: str, act: Callable[[], object], seconds: Callable[[], float]) -> Iterator[None]:
    """Calls `act` now and then after every `seconds()`, until the block ends. The thread is called `name`.

    Whatever `act` raises is in the log, and the next turn tries again: a database that was away comes back.
    """
    ended = threading.Event()

    def turn() -> None:
        while True:
            try:
                act()
            except Exception as error:  # a thread's outermost loop: one bad turn must not be the last one
                log.error("%s failed and is tried again:\n%s", name, traceback_of(error))
            if ended.wait(seconds()):
                return

    thread = threading.Thread(target=turn, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)
