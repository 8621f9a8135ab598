"""Libraries that the first pages do without: loaded once the server answers, so that nobody waits for them at a click.

Statistics, charts, print and DICOM together take longer to load than all the rest of the server.
`tests/contract/test_start.py` holds which ones may not be loaded before.

Two threads that load modules of one package at once may each find the other's half loaded (`ImportError: partially
initialized module`), so whoever draws a page that needs them waits until they are there (`wait_until_loaded`).
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from core.periodic import FIRST_PAGE_SECONDS

log = logging.getLogger(__name__)

LATER = (
    "scipy.ndimage", "scipy.fft", "scipy.optimize", "scipy.stats", "pandas", "statsmodels.stats.proportion",
    "statsmodels.genmod.generalized_linear_model", "plotly.graph_objects", "reportlab.platypus", "jinja2",
    "core.evaluation.tables.of_cards", "core.evaluation.cache", "core.reports.pdf",
)  # fmt: skip
"""In the order in which a reader needs them. No TensorFlow: that is loaded where models are."""
AT_ONCE = ("pydicom",)
"""Loaded before the block, because threads that watch archives need it at any moment."""
MOST_SECONDS = 120.0
PAUSE_SECONDS = 0.05
"""Between two of them, for the threads that draw pages."""


_loaded = threading.Event()
_loaded.set()  # where nothing loads them in the background, nobody waits


@contextmanager
def loaded_in_background() -> Iterator[None]:
    """In the block a thread loads `LATER`; its end waits for no more than the one in hand."""
    is_over = threading.Event()

    def load() -> None:
        if is_over.wait(FIRST_PAGE_SECONDS):
            return
        began = time.monotonic()
        for name in LATER:
            _load(name)
            if is_over.wait(PAUSE_SECONDS):
                return
        log.info("Libraries loaded in %.1f s", time.monotonic() - began)

    def load_all() -> None:
        try:
            load()
        finally:
            _loaded.set()

    for name in AT_ONCE:
        _load(name)
    _loaded.clear()
    thread = threading.Thread(target=load_all, name="libraries", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()


def are_loaded() -> bool:
    """Whether a page may load what it needs."""
    return _loaded.is_set()


def wait_until_loaded() -> None:
    """Returns once they are there, or after `MOST_SECONDS`, when the page had better try."""
    _loaded.wait(MOST_SECONDS)


def _load(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:  # whoever needs it says so in the act
        log.error("%s was not loaded: %s", name, error)
