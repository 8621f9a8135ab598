"""Names of patients and cases as people write them: what is one name, and what may be one.

The same name in another form of its letters is the same. Names that differ in capital letters, blanks or leading zeros
are counted apart, because they may be two people, and that is said, because they may be one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

_LEADING_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")
"""Of a number, also in the middle of a name; never those behind a decimal point."""
_WHOLE_DECIMALS = re.compile(r"(\d+)\.0+")
"""A number that a program took for a decimal one."""
_OTHER_LETTERS = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
_NOBODY = {"na", "n/a", "n.a.", "nan", "null", "none", "#n/a", "unknown", "unk", "anonymous", "anonymized",
           "anonymised", "missing", "?", "-", "--", "."}  # fmt: skip
_SAME_SIGNS = str.maketrans("\u2010\u2011\u2012\u2013\u2014\u2212\u2018\u2019\u02bc", "------'''")
_LATIN_LOOK = str.maketrans("АВЕКМНОРСТХУаеорсух", "ABEKMHOPCTXYaeopcyx")
"""Letters of other scripts that look the same."""
_GAP = re.compile(r"(?<=[^\W\d_])[-_](?=\d)")
_SHOWN = 3


def visible(text: str) -> str:
    """The text without letters that nobody sees (Unicode's Cf: marks of direction, joiners), in one form (NFC)."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", "".join(letter for letter in text if unicodedata.category(letter) != "Cf"))


def outer_stripped(text: str) -> str:
    """The text without blanks and unseen letters around it."""
    if text.isascii():
        return text.strip()
    seen = [at for at, letter in enumerate(text) if not letter.isspace() and unicodedata.category(letter) != "Cf"]
    return text[seen[0] : seen[-1] + 1] if seen else ""


def normal_id(text: str) -> str:
    """A name as it is compared: composed letters, plain digits (NFKC, Unicode TR 15), nothing unseen, no outer blanks.

    Capital letters and zeros stay as they are, and so do raised digits and the like: x² is another name than x2.
    """
    if text.isascii():
        return text.strip()
    plain = (
        letter
        if unicodedata.decomposition(letter).startswith(_OTHER_LETTERS)
        else unicodedata.normalize("NFKC", letter)
        for letter in visible(text)
    )
    return unicodedata.normalize("NFC", "".join(plain)).strip()


def similar_ids(ids: Iterable[str], places: Iterable[int]) -> list[tuple[int, ...]]:
    """Where names first stand that differ only in capital letters, blanks, hyphens, leading zeros, an ending ".0",
    quotes of a spreadsheet, or letters of two scripts that look the same.

    ids: in their normal form, "" for none. A tuple for each two or more names that may be one, in the order of places.
    """
    first: dict[str, int] = {}
    for name, place in zip(ids, places, strict=True):
        first.setdefault(name, place)
    first.pop("", None)
    found: dict[str, list[int]] = {}
    for name, place in first.items():
        bare = "".join(name.translate(_SAME_SIGNS).translate(_LATIN_LOOK).casefold().split()).strip("'\"=")
        bare = _GAP.sub("", bare)
        whole = _WHOLE_DECIMALS.fullmatch(bare)
        found.setdefault(_LEADING_ZEROS.sub("", whole[1] if whole else bare), []).append(place)
    return [tuple(group) for group in found.values() if len(group) > 1]


def similar_ids_sentence(groups: list[tuple[int, ...]], whose: str, row_word: str = "row") -> str:
    """What to say of `similar_ids`, "" where there are none. whose: "patients" or "cases"."""
    if not groups:
        return ""
    shown = "; ".join(", ".join(map(str, group[:_SHOWN])) for group in groups[:_SHOWN])
    more = f" and {len(groups) - _SHOWN} more times" if len(groups) > _SHOWN else ""
    return (
        f"The {whose} of {row_word}s {shown}{more} differ only in capital letters, blanks, hyphens or leading zeros "
        f"and count as different {whose}. If they are the same, write them in one way."
    )


def names_nobody(name: str) -> bool:
    """Whether it is what is written where nobody knows the patient: rows of it would count as one patient."""
    return name.casefold() in _NOBODY


def without_nobody(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The table with "" in these columns, where it has them, for what names nobody."""
    return table.assign(
        **{name: table[name].mask(table[name].map(names_nobody), "") for name in columns if name in table}
    )


def with_normal_ids(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The table of text with these columns, where it has them, in their normal form."""
    return table.assign(**{name: table[name].map(normal_id) for name in columns if name in table})
