"""Cases that somebody brings along as hashes, held against what the models here were made from, and split by split."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from itertools import permutations

import pandas as pd

from core.errors import InvalidInput
from core.evaluation.promotion import Overlap, overlap
from core.models.card_cases import NEAR_DUPLICATE_BITS, read_cases
from core.models.cards import Card

CASES_MOST = 100_000
_HASHES: Mapping[str, int] = {"sha256": 64, "pixels_sha256": 64, "perceptual_hash": 64}
"""Column -> hex digits."""
_COLUMNS = (*_HASHES, "patient", "split")


def read_own_cases(content: bytes) -> pd.DataFrame:
    """A row a case: sha256, pixels_sha256, perceptual_hash (64 hex digits each), patient, split; "" where not given.

    content: a CSV with any of the hashes, as `Leak check` describes it. Raises InvalidInput.
    """
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, nrows=CASES_MOST + 1)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise InvalidInput("This is not a table. Upload a CSV file in UTF-8 with commas.") from error
    table.columns = [str(name).strip().casefold() for name in table.columns]
    if len(table) > CASES_MOST:
        raise InvalidInput(f"The table has more than {CASES_MOST:,} rows. Upload it in parts.")
    if table.empty or not set(table.columns) & set(_HASHES):
        raise InvalidInput(f"The table needs at least one of the columns {', '.join(_HASHES)}, and a row.")
    table = table.loc[:, ~table.columns.duplicated()].reindex(columns=list(_COLUMNS), fill_value="")
    for name in _COLUMNS:
        table[name] = table[name].str.strip()
    for name, digits in _HASHES.items():
        table[name] = table[name].str.lower()
        wrong = table[(table[name] != "") & ~table[name].str.fullmatch(f"[0-9a-f]{{{digits}}}")]
        if len(wrong):
            raise InvalidInput(f"Row {wrong.index[0] + 2}, column {name}: a hash has {digits} digits 0-9 and a-f.")
    return table


def cases_of_files(files: Sequence[bytes]) -> pd.DataFrame:
    """The same from the files themselves, by the hash of their bytes."""
    hashes = [hashlib.sha256(content).hexdigest() for content in files]
    return pd.DataFrame({"sha256": hashes}).reindex(columns=list(_COLUMNS), fill_value="")


def known_to(card: Card, own: pd.DataFrame) -> Overlap | None:
    """Which of these cases the model was trained or chosen on; None where its folder lists no cases.

    Patients are not compared: lists name none. Raises ModelUnavailable for a damaged list.
    """
    listed = read_cases(card)
    if listed is None:
        return None
    known = listed[listed["split"] != "test"]
    return overlap(own.drop(columns=["patient", "split"]), known, alike_bits=NEAR_DUPLICATE_BITS)


def between_splits(own: pd.DataFrame) -> dict[tuple[str, str], Overlap]:
    """(tested, trained on) -> which cases of the one split are known from the other; only where some are."""
    parts = {name: rows for name, rows in own.groupby("split") if name}
    found = {}
    for tested, known in permutations(parts, 2):
        if not re.match("test|val|dev", tested.casefold()) or re.match("test", known.casefold()):
            continue
        both = (parts[one].drop(columns="split") for one in (tested, known))
        seen = overlap(*both, alike_bits=NEAR_DUPLICATE_BITS)
        if seen.n:
            found[tested, known] = seen
    return found
