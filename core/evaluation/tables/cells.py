"""What the cells of other people's tables mean: who a case or a patient is, and which class a label names.

Names of patients and cases: the same name in another form of its letters is the same. Names that differ in capital
letters, blanks or leading zeros are counted apart, because they may be two people, and that is said: they may be one.

Labels: one that is not the positive one counts as negative. So two labels that may mean the same are refused with the
rows they stand in, whoever would have been right: a cancer must not become a negative case by its spelling.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

import pandas as pd

from core.errors import InvalidInput

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

ILL, BENIGN, NORMAL, NEGATIVE, NO = "ill", "benign", "normal", "negative", "no"
_WORDS: Mapping[str, re.Pattern[str]] = {
    ILL: re.compile(
        r"malig\w*|cancer\w*|krebs\w*|carcinoma\w*|karzinom\w*|b(ö|oe)sartig\w*|pos|positiv\w*|yes|true"
        "|悪性|恶性|癌|陽性|阳性"
    ),
    BENIGN: re.compile(r"benign\w*|gutartig\w*|良性"),
    NORMAL: re.compile(r"normals?|healthy|gesund|正常"),
    NEGATIVE: re.compile(r"neg|negativ\w*|陰性|阴性"),
    NO: re.compile(r"no|false"),
}
_ABBREVIATIONS = {
    "m": ILL,
    "mal": ILL,
    "ca": ILL,
    "y": ILL,
    "t": ILL,
    "b": BENIGN,
    "ben": BENIGN,
    "norm": NORMAL,
    "f": NO,
}
"""Only where they are all of a label."""
_WRITTEN_OUT = {"malignant": ILL, "cancer": ILL, "carcinoma": ILL, "positive": ILL, "benign": BENIGN, "normal": NORMAL}
"""Words that are known with a slip of the pen, too."""
_CANCERS = {"idc", "dcis", "ilc", "adenocarcinoma", "sarcoma", "lymphoma", "metastasis", "metastases"}
"""Classes of their own that are ill nevertheless."""
NO_CLASS = (
    "na", "n/a", "n.a.", "nan", "null", "#n/a", "#value!", "#ref!", "#name?", "#div/0!", "#num!", "#null!", "?", ".",
    "-", "--", "not available", "missing",
)  # fmt: skip
"""What programs and people write where nothing is known: no class of cases, which would count as negative."""
UNKNOWN = ("unknown", "unk", "pending", "indeterminate", "undetermined", "inconclusive", "uncertain")
"""What people write of a case of which nobody knows yet."""
_NEGATIONS = {
    "not", "non", "no", "without", "never", "free", "absent", "excluded", "neg", "negative", "kein", "keine", "nicht",
    "ohne",
}  # fmt: skip
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[+<>≤≥≠]|-(?!\w)")
_SLIP_FROM = 5
"""Letters of a word from which a slip of the pen is likelier than another word."""
_COMPARED_MOST = 50
"""Different labels among which slips are looked for; more are no classes."""


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


def spelling(text: str) -> str:
    """The same for texts that differ in capital letters, blanks, unseen letters or forms of one letter only (Unicode,
    TR 15 and 21), and for 0 and 1 however they are written."""
    spelled = " ".join(unicodedata.normalize("NFKC", visible(text)).casefold().split())
    return str(int(number)) if (number := number_of(spelled)) in (0, 1) else spelled


def number_of(text: str) -> float:
    """NaN for everything that is not a number in digits."""
    try:
        return float(text) if "_" not in text else float("nan")
    except ValueError:
        return float("nan")


def meaning(label: str) -> tuple[str, ...]:
    """The words of a label, those that the field has several of brought to one: "Malig." is `(ILL,)`."""
    tokens = _TOKEN.findall(spelling(label))
    if len(tokens) == 1 and tokens[0] in _ABBREVIATIONS:
        return (_ABBREVIATIONS[tokens[0]],)
    return tuple(map(_known, tokens))


def meaning_of_column(name: str) -> tuple[str, ...]:
    """The same of a column's name, where a letter alone means nothing."""
    return tuple(map(_known, _TOKEN.findall(spelling(name))))


def _known(word: str) -> str:
    for name, words in _WORDS.items():
        if words.fullmatch(word):
            return name
    return next((name for known, name in _WRITTEN_OUT.items() if _is_slip(word, known)), word)


def names_class(text: str, label: str) -> bool:
    """Whether the words of a longer text hold those of a label and deny none of them: "malignant mass", "malign"."""
    words, wanted = meaning(text), meaning(label)
    if wanted == (ILL,):
        words = tuple(ILL if word in _CANCERS else word for word in words)
    is_in = any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))
    return is_in and bool(wanted) and not denies(text, label)


def denies(text: str, label: str) -> bool:
    """Whether there is a "not", "free" or the like in a text that is not in the label itself."""
    return bool(set(_TOKEN.findall(spelling(text))) & _NEGATIONS - set(_TOKEN.findall(spelling(label))))


def require_classes(labels: Iterable[str], row_of: Mapping[str, int], row_word: str = "row") -> None:
    """Refuse what is no class beside others: each of these cases would count as negative, a cancer too.

    row_of: label -> a row that holds it, for the sentence.
    """
    numbers = {label: number_of(label) for label in labels}
    unknown = [row_of[label] for label in numbers if spelling(label) in (*NO_CLASS, *UNKNOWN)]
    if unknown:
        raise InvalidInput(
            f"The label in {row_word} {min(unknown)} says that nothing is known. Fill it in or leave the row out."
        )
    names = [row_of[label] for label, value in numbers.items() if value != value]
    digits = {value: row_of[label] for label, value in numbers.items() if value in (0, 1)}
    if names and len(digits) == 2:
        raise InvalidInput(
            f"The label in {row_word} {min(names)} is a word, and others are 0 and 1. Write all in one way."
        )
    if digits and len(names) > 1 and any(set(meaning(label)) & set(_WORDS) for label in numbers):
        raise InvalidInput(
            f"The label in {row_word} {min(digits.values())} is 0 or 1, and others are words. Write all in one way."
        )


def require_one_spelling(
    labels: Iterable[str], row_of: Mapping[str, int], row_word: str = "row", *, allow_synonyms: bool = False
) -> None:
    """Refuse labels that differ only in how they are written, or (unless `allow_synonyms`) that may mean the same: one
    class would become two.

    row_of: label -> a row that holds it, for the sentence.
    """
    different = sorted(set(labels), key=lambda label: row_of[label])
    spelled: dict[str, str] = {}
    meant: dict[str, str] = {}
    for label in different:
        other = spelled.setdefault(spelling(label), label)
        if other != label:
            raise InvalidInput(
                f"The labels {other!r} ({row_word} {row_of[other]}) and {label!r} ({row_word} {row_of[label]}) differ "
                "only in how they are spelled. Spell each class in one way."
            )
    for label in () if allow_synonyms else different:
        words = meaning(label)
        joined = "".join(f" {word} " if word.isdigit() else word for word in words)
        other = meant.setdefault(joined or label, label)
        if other == label and len(different) <= _COMPARED_MOST:
            other = next((one for one in meant.values() if _differ_by_slip(meaning(one), words)), label)
        if other != label:
            raise InvalidInput(
                f"The labels {other!r} ({row_word} {row_of[other]}) and {label!r} ({row_word} {row_of[label]}) may "
                "mean the same class. Write each class in one way, or give the two names that cannot be mistaken."
            )


def require_positive_apart(
    labels: Iterable[str], positive: str, row_of: Mapping[str, int] | None = None, row_word: str = "row"
) -> None:
    """Refuse another label that names the positive class, such as "malignant mass" beside "malignant"."""
    for label in sorted(set(labels), key=lambda label: (row_of or {}).get(label, 0)):
        if label != positive and names_class(label, positive):
            where = f" ({row_word} {row_of[label]})" if row_of else ""
            raise InvalidInput(
                f"The label {label!r}{where} names the positive class {positive!r} or a part of it, and would count as "
                "negative. Write both in one way, or give it a name that cannot be mistaken."
            )


def _differ_by_slip(words: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether all words but one are the same, and that one is by a slip of the pen another."""
    apart = [(one, other) for one, other in zip(words, others, strict=False) if one != other]
    return len(words) == len(others) and len(apart) == 1 and _is_slip(*apart[0])


def _is_slip(one: str, other: str) -> bool:
    """Whether one letter is wrong, missing or too many behind the first, or two changed places; of long words only."""
    if not (one.isalpha() and other.isalpha() and min(len(one), len(other)) >= _SLIP_FROM and one[0] == other[0]):
        return False
    while one and other and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])
