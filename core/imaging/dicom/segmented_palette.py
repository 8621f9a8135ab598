"""Segmented palettes written out: runs, lines and repetitions of them become one entry after the other.

DICOM PS3.3 C.7.9.2. The words of a segment are 16 bits wide, or 8 where the entries have 8 bits; files also write
entries of 8 bits in 16-bit words, and entries of 12 bits are words anyway, so the width is the one that fits.
"""

from __future__ import annotations

import numpy as np

_DISCRETE, _LINEAR, _INDIRECT = range(3)


def segmented_entries(data: bytes, entries: int, *, is_little: bool = True) -> np.ndarray | None:
    """The entries of the table, int64 (`entries`,), from its segments; None where they make no table of that length."""
    for width in (2, 1):
        words = np.frombuffer(data[: len(data) // width * width], f"{'<' if is_little else '>'}u{width}").tolist()
        found = _written_out(words, entries, width, is_little=is_little)
        if found is not None:
            return np.asarray(found, np.int64)
    return None


def _written_out(words: list[int], entries: int, width: int, *, is_little: bool) -> list[int] | None:
    """None where these are no segments of so many entries. What pads them is zero."""
    table: list[int] = []
    position = 0
    while position < len(words) and len(table) < entries:
        if words[position] == _INDIRECT:
            after = _append_repeated(words, position, table, entries, width, is_little=is_little)
        else:
            after = _append_segment(words, position, table, entries)
        if after is None:
            return None
        position = after
    return table if len(table) == entries and not any(words[position:]) else None


def _append_segment(words: list[int], position: int, table: list[int], most: int) -> int | None:
    """Append what a discrete or linear segment holds (C.7.9.2.1, C.7.9.2.2); where it ends, None for what is none."""
    kind, length = [*words[position : position + 2], 0][:2]
    n_held = length if kind == _DISCRETE else 1
    held = words[position + 2 : position + 2 + n_held]
    if kind not in (_DISCRETE, _LINEAR) or not length or len(held) < n_held or len(table) + length > most:
        return None
    if kind == _DISCRETE:
        table += held
    elif not table:  # a line begins behind a point that the segment before has set
        return None
    else:
        step = (held[0] - table[-1]) / length
        table += np.around(np.linspace(table[-1] + step, held[0], length)).astype(int).tolist()
    return position + 2 + n_held


def _append_repeated(
    words: list[int], position: int, table: list[int], most: int, width: int, *, is_little: bool
) -> int | None:
    """The same of an indirect segment (C.7.9.2.3): how many segments, and the byte at which the first of them begins.

    The offset has two 16-bit halves, the lower first; each half has the byte order of the file.
    """
    n_offset = 4 // width
    if position + 2 + n_offset > len(words):
        return None
    halves = words[position + 2 : position + 2 + n_offset]
    if width == 1:
        pairs = (halves[:2], halves[2:])
        halves = [pair[0] + (pair[1] << 8) if is_little else pair[1] + (pair[0] << 8) for pair in pairs]
    source = (halves[0] + (halves[1] << 16)) // width
    for _ in range(words[position + 1]):
        after = _append_segment(words, source, table, most) if source < position else None
        if after is None:
            return None
        source = after
    return position + 2 + n_offset
