"""Words that came from a file or a person, made safe for Streamlit's Markdown; and a few that pages share."""

from __future__ import annotations

import re

from core.types import SIDE_NOT_STATED

SIDE_WORDS = {"R": "Right", "L": "Left"}
SIDE_CHOICES = {**SIDE_WORDS, SIDE_NOT_STATED: "Cannot be told"}
_MARKS = re.compile(r"([!-/:-@\[-`{-~])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]+")


def plain(text: str) -> str:
    """`text` as Markdown that shows it letter by letter, on one line.

    Markdown would make links, pictures fetched from elsewhere, formulas and colours of it; control characters and
    those that turn the writing direction become spaces.
    """
    return _MARKS.sub(r"\\\1", without_controls(text))


def without_controls(text: str) -> str:
    """`text` for what shows letters as they are (the options of a box to choose from), on one line."""
    return _CONTROLS.sub(" ", text)
