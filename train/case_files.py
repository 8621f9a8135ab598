"""The table of a model's cases (`core.models.card_cases`): made while it is trained, or afterwards from its data.

Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.imaging.suitability import to_grey
from core.models.card_cases import COLUMNS
from core.types import Image
from train.look_alikes import long_hash

_KNOWS = {"test": 0, "validation": 1, "train": 2}
"""How much a model knows of a case; what was in folds was trained on in the end."""


def trace_of(image: Image) -> dict[str, Any]:
    """What is kept of one picture; see `COLUMNS`. Its file's bytes are already hashed in `image.sha256`."""
    return {
        "sha256": image.sha256,
        "pixels_sha256": pixels_sha256(image.pixels),
        "perceptual_hash": long_hash(to_grey(image.pixels)),
        "width": image.width,
        "height": image.height,
        "brightness": round(float(image.pixels.mean()), 6),
    }


def pixels_sha256(pixels: np.ndarray) -> str:
    """Of what a picture shows, in steps of 1/65535: the same for a PNG, its copy without text and a 16-bit one.

    pixels: float32 [0, 1], (H, W) or (H, W, 3).
    """
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.round(pixels * 65535).astype("<u2").tobytes())
    return digest.hexdigest()


def cases_table(cases: pd.DataFrame, traces: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a case. cases: with `split`, or `fold`; traces: of the same cases, in the same order."""
    split = "fold " + cases["fold"].astype(str) if "fold" in cases else cases["split"]
    vendor = cases["manufacturer"] if "manufacturer" in cases else pd.Series("", index=cases.index)
    table = pd.DataFrame(list(traces)).assign(split=split.to_numpy(), vendor=vendor.to_numpy())
    return table[list(COLUMNS)]


def union(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Every case of an ensemble's members once; where they differ, as the member that knows most of it had it."""
    again = [table.assign(again=table.groupby("sha256").cumcount()) for table in tables]  # a data set's own copies stay
    everything = pd.concat(again, ignore_index=True)
    knows = everything["split"].map(_KNOWS).fillna(max(_KNOWS.values()))
    order = knows.sort_values(ascending=False, kind="stable").index
    kept = everything.loc[order].drop_duplicates(["sha256", "again"]).index
    return everything.loc[sorted(kept), list(COLUMNS)].reset_index(drop=True)
