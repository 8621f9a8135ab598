"""Cycles are collected beside the pages; what stays is passed over; what was left behind goes within a minute."""

from __future__ import annotations

import gc
import sys
import time
import tomllib
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.server import interpreter, libraries

ROOT = Path(__file__).resolve().parents[3]


class Cycle:
    """Something that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def automatic_collector_off() -> Iterator[None]:
    """What is gone was found by the turns, and not by chance."""
    gc.disable()
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def _within(seconds: float, is_so: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


def test_streamlit_does_not_stop_all_pages_after_every_run() -> None:
    assert tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["runner"]["postScriptGC"] is False


def test_a_cycle_is_gone_within_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "TURN_SECONDS", 0.05)
    with interpreter.shared_fairly():
        assert _within(20, lambda: gc.get_freeze_count() > 10_000)  # the first look is at everything
        gone = weakref.ref(Cycle())
        assert gone() is not None
        assert _within(20, lambda: gone() is None)


def test_a_page_that_asks_the_database_does_not_wait_long_for_its_turn() -> None:
    before = sys.getswitchinterval()
    with interpreter.shared_fairly():
        assert sys.getswitchinterval() == pytest.approx(interpreter.SWITCH_SECONDS) != before
    assert sys.getswitchinterval() == before


def test_what_stays_is_passed_over_until_everything_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(interpreter.time, "monotonic", lambda: now[0])
    turns = interpreter.Collector()
    held = Cycle()
    left_behind = weakref.ref(held)
    turns.turn()
    del held
    now[0] += interpreter.EVERYTHING_SECONDS - 0.001
    turns.turn()
    assert left_behind() is not None
    now[0] += 0.001
    turns.turn()
    assert left_behind() is None


def test_what_a_page_holds_while_it_runs_goes_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a look takes: a page's pictures are not to stay for a minute each time somebody turns to it."""
    monkeypatch.setattr(interpreter.time, "monotonic", lambda: 100.0)
    turns = interpreter.Collector()
    turns.turn()
    page = Cycle()
    pictures, frozen = weakref.ref(page), gc.get_freeze_count()
    turns.turn()
    assert gc.get_freeze_count() == frozen
    del page
    turns.turn()
    assert pictures() is None


def test_the_first_pages_are_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "are_loaded", lambda: False)
    gone = weakref.ref(Cycle())
    interpreter.Collector().turn()
    assert gone() is not None
    monkeypatch.setattr(libraries, "are_loaded", lambda: True)
    interpreter.Collector().turn()
    assert gone() is None
