"""The bar of something that takes a while, gone when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from train.datasets.staging import Progress


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """What to call with a sentence and how much is done, 0 to 1; draws where it is entered."""
    place = st.empty()
    bar = place.progress(0.0, "Beginning")
    last: list[Any] = ["", -1.0]

    def report(sentence: str, done: float) -> None:
        done = min(max(done, 0.0), 1.0)
        if sentence != last[0] or done - last[1] >= 0.01:  # a message a percent, not a picture
            bar.progress(done, sentence)
            last[:] = [sentence, done]

    try:
        yield report
    finally:
        place.empty()
