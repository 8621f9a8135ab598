"""Refusals, told as they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from core.errors import AppError
from pages.parts.markdown import plain

log = logging.getLogger(__name__)


@contextmanager
def refusals_shown(*, stops: bool = False) -> Iterator[None]:
    """Shows an `AppError` of the block as a sentence; every other exception goes on its way to the log.

    stops: end the page there, when nothing after the block makes sense without it.
    """
    try:
        yield
    except AppError as refused:
        log.info("Refused: %s", type(refused).__name__)
        st.error(plain(str(refused)), icon=":material/block:")
        if stops:
            st.stop()
