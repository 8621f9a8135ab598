"""What test cases may be grouped by, kept beside their scores: view, density, size of the lesion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Raster

LESION_SIZE = "lesion_size"
_NOT_OF_THE_CASE = frozenset(
    {"file", "label", "patient", "patient_key", "group", "split", "fold", "mask", "note", "licence", "modality"}
)
_MOST_VALUES = 12
_SHARES = {"under 2 % of the picture": 0.02, "2 to 10 % of the picture": 0.1, "over 10 % of the picture": np.inf}


def with_subgroups(
    scores: pd.DataFrame, cases: pd.DataFrame, root: Path, *, always: Sequence[str] = ()
) -> pd.DataFrame:
    """The scores, one row a `case`, with what the manifest's cases (column `file`) can be grouped by.

    Columns of words with two to twelve different values among these cases, and the size of the lesion where outlines
    are at hand. A column with a value that one patient alone has is left out: it could name that patient, and tables of
    scores leave the house. Columns of numbers are left out: a table of scores would take them for a scorer. always:
    columns that tell something although they hold one value only, such as which collection this is.
    """
    own = cases.drop_duplicates("file").set_index("file").reindex(scores["case"]).fillna("").astype(str)
    found = {
        column: own[column].to_numpy()
        for column in own.columns
        if column not in _NOT_OF_THE_CASE
        and column not in scores
        and _is_grouping(own[column], least=1 if column in always else 2)
        and (column in always or _is_shared(own[column], scores["patient"]))
    }
    if "mask" in own and LESION_SIZE not in scores:
        sizes = [lesion_size(root, mask, label) for mask, label in zip(own["mask"], own["label"], strict=True)]
        if _is_grouping(pd.Series(sizes)):
            found[LESION_SIZE] = np.array(sizes)
    return scores.assign(**found)


def lesion_size(root: Path, masks: str, label: str) -> str:
    """How much of the picture its lesions cover, in words; "none" for a normal picture, "" where nobody drew them.

    masks: files relative to root, with "|" between them. One that cannot be read counts as not drawn.
    """
    covered: np.ndarray | None = None
    for name in filter(None, masks.split("|")):
        try:
            with Raster.open(root / name) as raster:
                mask = np.asarray(raster.convert("L")) > 127
        except OSError:
            return ""
        covered = mask if covered is None or covered.shape != mask.shape else covered | mask
    if covered is None or not covered.any():
        return "none" if label == "normal" else ""
    share = float(covered.mean())
    return next(words for words, below in _SHARES.items() if share < below)


def _is_grouping(values: pd.Series, *, least: int = 2) -> bool:
    """Whether values say which group a case belongs to: words, few enough to be counted apart."""
    there = values[values != ""]
    is_number = pd.to_numeric(there, errors="coerce").notna()
    return bool(least <= there.nunique() <= _MOST_VALUES and not is_number.any())


def _is_shared(values: pd.Series, patients: pd.Series) -> bool:
    """Whether every value belongs to two patients or more. Both are in the order of the scores."""
    there = (values != "").to_numpy()
    counts = patients[there].astype(str).groupby(values.to_numpy()[there]).nunique()
    return bool(counts.min() >= 2)
