"""Cases that somebody brings along as hashes, held against what the models here were made from, and split by split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import permutations

import pandas as pd

from core.errors import InvalidInput
from core.evaluation.promotion import Overlap, overlap
from core.evaluation.tables.cells import similar_ids, similar_ids_sentence, with_normal_ids, without_nobody
from core.evaluation.tables.scores import csv_cells
from core.models.card_cases import NEAR_DUPLICATE_BITS, read_cases
from core.models.cards import Card

CASES_MOST = 100_000
SPLITS_MOST = 12
_HASHES: Mapping[str, int] = {"sha256": 64, "pixels_sha256": 64, "perceptual_hash": 64}
"""Column -> hex digits."""
_COLUMNS = (*_HASHES, "patient", "split")


def read_own_cases(content: bytes) -> pd.DataFrame:
    """A row a case: sha256, pixels_sha256, perceptual_hash (64 hex digits each), patient, split; "" where not given.
    The index is the row as a spreadsheet counts it.

    content: a CSV with any of the hashes, as `Leak check` describes it. Raises InvalidInput.
    """
    table = csv_cells(content, f"any of {', '.join(_COLUMNS)}")
    table.columns = [str(name).casefold() for name in table.columns]
    if len(table) > CASES_MOST:
        raise InvalidInput(f"The table has more than {CASES_MOST:,} rows. Upload it in parts.")
    if not set(table.columns) & set(_HASHES):
        raise InvalidInput(f"The table needs at least one of the columns {', '.join(_HASHES)}.")
    if not table.columns.is_unique:
        raise InvalidInput("Two columns of the table have the same name. Rename or remove one.")
    table = with_normal_ids(table.reindex(columns=list(_COLUMNS), fill_value=""), ("patient", "split"))
    table = without_nobody(table, ("patient",))
    for name, digits in _HASHES.items():
        table[name] = table[name].str.lower()
        wrong = table[(table[name] != "") & ~table[name].str.fullmatch(f"[0-9a-f]{{{digits}}}")]
        if len(wrong):
            raise InvalidInput(f"Row {wrong.index[0]}, column {name}: a hash has {digits} digits 0-9 and a-f.")
    bare = table[(table[[*_HASHES, "patient"]] == "").all(axis=1)]
    if len(bare):
        raise InvalidInput(f"Row {bare.index[0]} has neither a hash nor a patient, so nothing can be known of it.")
    if table["split"].nunique() > SPLITS_MOST:
        raise InvalidInput(f"The table names more than {SPLITS_MOST} splits. Keep those that belong to one model.")
    return table


def cases_of_files(files: Sequence[bytes]) -> pd.DataFrame:
    """The same from the files themselves, by the hash of their bytes."""
    hashes = [hashlib.sha256(content).hexdigest() for content in files]
    return pd.DataFrame({"sha256": hashes}).reindex(columns=list(_COLUMNS), fill_value="")


def known_to(card: Card, own: pd.DataFrame) -> Overlap | None:
    """Which of these cases the model was trained or chosen on; None where its folder lists no cases.

    own: any of the hashes. Patients are not compared: lists name none. Raises ModelUnavailable for a damaged list.
    """
    listed = read_cases(card)
    if listed is None:
        return None
    known = listed[listed["split"] != "test"]
    return overlap(own.drop(columns=["patient", "split"], errors="ignore"), known, alike_bits=NEAR_DUPLICATE_BITS)


def remarks_on(own: pd.DataFrame) -> list[str]:
    """Sentences on what may hide a leak: patients that may be one, splits of which nobody knows what they are for."""
    found = [similar_ids_sentence(similar_ids(own["patient"], own.index), "patients")]
    splits = sorted(set(own["split"]) - {""})
    if splits and not any(map(is_tested, splits)):
        found.append(
            "No split is called test, validation or dev, so that nothing is known to be tested and no split is held "
            f"against another. The splits are: {', '.join(splits)}."
        )
    return [sentence for sentence in found if sentence]


def is_tested(split: str) -> bool:
    """Whether a split is by its name one that a model is measured or chosen on."""
    return re.match("test|val|dev", split.casefold()) is not None


def between_splits(own: pd.DataFrame) -> dict[tuple[str, str], Overlap]:
    """(tested, trained on) -> which cases of the one split are known from the other; only where some are."""
    parts = {name: rows for name, rows in own.groupby("split") if name}
    found = {}
    for tested, known in permutations(parts, 2):
        if not is_tested(tested) or re.match("test", known.casefold()):
            continue
        both = (parts[one].drop(columns="split") for one in (tested, known))
        seen = overlap(*both, alike_bits=NEAR_DUPLICATE_BITS)
        if seen.n:
            found[tested, known] = seen
    return found
