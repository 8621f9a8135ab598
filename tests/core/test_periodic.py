"""A thread that does something every n seconds."""

from __future__ import annotations

import logging
import threading

import pytest

from core.errors import InvalidInput, traceback_of
from core.periodic import repeated

NAME = "Anna Muster.png"


def test_it_acts_at_once_and_again_until_the_block_ends_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    turns, third = [], threading.Event()

    def act() -> None:
        turns.append(threading.current_thread().name)
        if len(turns) == 3:
            third.set()
        if len(turns) == 1:
            raise InvalidInput(NAME)

    with caplog.at_level(logging.ERROR), repeated("a name", act, lambda: 0.01):
        assert third.wait(10)
    n = len(turns)
    assert set(turns) == {"a name"} and not [one for one in threading.enumerate() if one.name == "a name"]
    threading.Event().wait(0.05)
    assert len(turns) == n
    assert "a name failed and is tried again" in caplog.text
    assert "in act" in caplog.text and "InvalidInput" in caplog.text and "Anna" not in caplog.text


def test_a_traceback_names_every_place_and_no_word_of_the_errors() -> None:
    def inner() -> None:
        raise ValueError(NAME)

    def outer() -> None:
        try:
            inner()
        except ValueError as error:
            raise OSError(28, NAME) from error

    with pytest.raises(OSError, match="Anna") as raised:
        outer()
    text = traceback_of(raised.value)
    assert "in inner" in text and "in outer" in text and text.index("ValueError") < text.index("OSError")
    assert "Anna" not in text and "Errno" not in text
