"""A number and the word after it."""

from __future__ import annotations


def how_many(n: int, one: str, several: str = "") -> str:
    """ "1 pair", "2 pairs", "0 pairs". several: where it is not `one` with an s."""
    return f"{n} {one if n == 1 else several or f'{one}s'}"
