"""How the threads that draw pages share the interpreter: turns of each, and the collector of cycles beside them.

As it comes, Streamlit collects at the end of every run of a page, and no thread runs meanwhile. With libraries, cards
and fifty readers' pages in memory that took as long as a page (40 ms of 90 ms, measured), so it is switched off
(`runner.postScriptGC` in .streamlit/config.toml) and a thread looks every few seconds for all pages together, and once
a minute at everything. What it finds in use then it leaves aside until the next time.

A page that asks the database gives up the interpreter at each question, and waits for it up to one turn of every other
page: with Python's 5 ms a short page beside a long one waits longer than it works.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from core.periodic import repeated
from core.server import libraries

SWITCH_SECONDS = 0.001
"""The longest turn of one thread while others wait (`sys.setswitchinterval`)."""
TURN_SECONDS = 2.0
"""So long a picture that only a cycle holds may stay in memory; those of every run of a page are held so. What runs
while everything is looked at stays until the next time."""
EVERYTHING_SECONDS = 60.0
"""Between two looks at everything, each a fifth of a second for all threads; a picture held by a reader who left goes
at the latest then."""


class Collector:
    """Whose `turn` is called every `TURN_SECONDS`."""

    def __init__(self) -> None:
        self._everything_at = 0.0

    def turn(self) -> None:
        """One look: at what came since the last one, or at everything."""
        if not libraries.are_loaded():
            return  # the first pages have the processor for themselves
        is_everything = (now := time.monotonic()) >= self._everything_at
        if is_everything:
            self._everything_at = now + EVERYTHING_SECONDS
            gc.unfreeze()
        gc.collect()
        if is_everything:
            gc.freeze()


@contextmanager
def shared_fairly() -> Iterator[None]:
    """In the block threads have short turns, and a thread of its own collects."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with repeated("collector", Collector().turn, lambda: TURN_SECONDS):
            yield
    finally:
        sys.setswitchinterval(before)
