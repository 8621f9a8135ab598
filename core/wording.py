"""Words: a number and the word after it; what people write, as it is stored."""

from __future__ import annotations

import unicodedata

from core.errors import InvalidInput


def how_many(n: int, one: str, several: str = "") -> str:
    """ "1 pair", "2 pairs", "0 pairs". several: where it is not `one` with an s."""
    return f"{n} {one if n == 1 else several or f'{one}s'}"


def tidy_text(text: str, most: int, what: str) -> str:
    """Free text without control characters; line ends stay, and so do the joiners, which Persian spells with, and
    characters that this Python does not know yet. Raises InvalidInput when it is longer than `most`."""
    lines = unicodedata.normalize("NFC", text).splitlines()
    clean = ("".join(c for c in line.replace("\t", " ") if not _is_control(c)) for line in lines)
    tidy = "\n".join(line.rstrip() for line in clean).strip()
    if len(tidy) > most:
        raise InvalidInput(f"The {what} has {len(tidy)} characters; at most {most} are kept. Shorten it.")
    return tidy


def _is_control(character: str) -> bool:
    """Joiners are format characters (Cf) that carry meaning, so they stay."""
    return character not in "\u200c\u200d" and unicodedata.category(character) in ("Cc", "Cf", "Cs")
