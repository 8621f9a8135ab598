"""How long several ways of doing the same thing take beside each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; every round runs all of them, so that a busy machine slows all alike. Each is called
    once before, which is not counted.
    """
    for call in ways.values():
        call()
    seconds = np.empty((rounds, len(ways)))
    for taken in seconds:
        for place, call in enumerate(ways.values()):
            began = time.perf_counter()
            call()
            taken[place] = time.perf_counter() - began
    return dict(zip(ways, map(float, np.median(seconds, axis=0)), strict=True))
