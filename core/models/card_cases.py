"""The cases that a model was made from and measured on, as a table beside its weights: `<sha8>.cases.csv`.

It says of each picture what it takes to know it again and to compare it with others, and nothing of a patient: no id,
no file name, no pixel, no label. The card names the table and its sha256. Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from core.errors import ModelUnavailable
from core.models.cards import Card

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("split", "sha256", "pixels_sha256", "perceptual_hash", "width", "height", "brightness", "vendor")
"""split: "train", "validation" or "test"; "fold 0" … where the model was measured in folds: such a case was tested by
the network of its fold, and the weights were fitted on all of them. sha256: of the file's bytes, as for an upload.
pixels_sha256: of what the file shows, whatever holds it. perceptual_hash: 256 bits as hex, "" for a picture of
one grey. width, height: pixels. brightness: mean, 0 to 1. vendor: as the data set names it, "" where it does not."""
NEAR_DUPLICATE_BITS = 40
"""Perceptual hashes that differ in no more bits are of nearly the same picture.

Measured: copies that were scaled, compressed to JPEG, given another gamma or written on differ in 30 bits at the most
(mammograms and ultrasound; tissue tiles made half as large in 54), a crop of two hundredths on each side in 46. Of
29,040 pairs of mini-MIAS mammograms of different women, 171,171 of BUSI and 262,656 of IDC none differs in 40 or fewer,
the nearest in 48."""


def read_cases(card: Card) -> pd.DataFrame | None:
    """A row a case, as `COLUMNS`; None for a card that names no table, as those made before there were any.

    Raises ModelUnavailable where the table is missing or is not the one that the card names.
    """
    if card.cases is None:
        return None
    try:
        content = (card.folder / cases_name(card.weights_sha256)).read_bytes()
    except OSError as error:
        raise ModelUnavailable(f"The list of cases of {card.model_id} is missing. Restore its folder.") from error
    if hashlib.sha256(content).hexdigest() != card.cases.sha256:
        raise ModelUnavailable(
            f"The list of cases of {card.model_id} is not the one its card names. Restore its folder."
        )
    import pandas as pd

    table = pd.read_csv(
        io.BytesIO(content), keep_default_na=False,
        dtype=dict.fromkeys(("split", "sha256", "pixels_sha256", "perceptual_hash", "vendor"), str),
    )  # fmt: skip
    if tuple(table.columns) != COLUMNS:
        raise ModelUnavailable(f"The list of cases of {card.model_id} has other columns than this version reads.")
    return table


def cases_name(weights_sha256: str) -> str:
    """The table's file name in a model's folder."""
    return f"{weights_sha256[:8]}.cases.csv"


def named_on_card(weights_sha256: str, cases: pd.DataFrame) -> dict[str, str]:
    """What the card says of the table: its file and the sha256 of `cases_csv`."""
    content = cases_csv(cases).encode("utf-8")
    return {"file": cases_name(weights_sha256), "sha256": hashlib.sha256(content).hexdigest()}


def cases_csv(cases: pd.DataFrame) -> str:
    """The table as it is stored."""
    return str(cases[list(COLUMNS)].to_csv(index=False, lineterminator="\n"))


def measured_cases(cases: pd.DataFrame) -> pd.DataFrame:
    """The rows that the model's numbers come from: the test cases; in folds every case."""
    return cases[(cases["split"] == "test") | cases["split"].str.startswith("fold ")]
