"""Libraries that the first pages do without: loaded once the server answers, so that nobody waits for them at a click.

Statistics, charts, print and DICOM together take longer to load than all the rest of the server.
`tests/contract/test_start.py` holds which ones may not be loaded before.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

LATER = (
    "scipy.ndimage", "scipy.fft", "scipy.optimize", "scipy.stats", "pandas", "statsmodels.stats.proportion",
    "statsmodels.genmod.generalized_linear_model", "pydicom", "plotly.graph_objects", "reportlab.platypus", "jinja2",
    "core.evaluation.tables.of_cards", "core.evaluation.cache", "core.reports.pdf",
)  # fmt: skip
"""In the order in which a reader needs them. No TensorFlow: that is loaded where models are."""
AFTER_SECONDS = 2.0
"""So long the first visitors have the processor for themselves."""
PAUSE_SECONDS = 0.05
"""Between two of them, for the threads that draw pages."""


@contextmanager
def loaded_in_background() -> Iterator[None]:
    """In the block a thread loads `LATER`; the block's end does not wait for more than the one in hand."""
    is_over = threading.Event()

    def load() -> None:
        if is_over.wait(AFTER_SECONDS):
            return
        began = time.monotonic()
        for name in LATER:
            try:
                importlib.import_module(name)
            except ImportError as error:  # whoever needs it says so in the act
                log.error("%s was not loaded: %s", name, error)
            if is_over.wait(PAUSE_SECONDS):
                return
        log.info("Libraries loaded in %.1f s", time.monotonic() - began)

    thread = threading.Thread(target=load, name="libraries", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
