"""Text that came from a file, made fit to be kept: one line, no control characters, short. Not escaped for HTML."""

from __future__ import annotations

import unicodedata


def clean_text(value: object, limit: int = 64) -> str:
    """At most `limit` characters on one line; control, format and separator characters become single spaces."""
    text = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in str(value)[: 4 * limit])
    return " ".join(text.split())[:limit]
