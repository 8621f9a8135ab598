"""Which cases train, which choose, which measure: by patient or group, stratified, seeded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.6, 0.2, 0.2)


def split_cases(cases: pd.DataFrame, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> pd.Series:
    """ "train", "validation" or "test" for each case; cases that belong together are never parted.

    Cases belong together when they share a `group` or a `patient`, directly or through others. Each class is divided
    by `fractions` as nearly as whole units allow; a unit with several labels counts as the rarest of them.
    """
    units = units_of(cases)
    rarity = cases["label"].value_counts()
    label = cases["label"].groupby(units).agg(lambda labels: min(labels, key=lambda name: (rarity[name], name)))
    size = units.value_counts()
    rng = np.random.default_rng(seed)
    chosen: dict[int, str] = {}
    for name in sorted(label.unique()):
        members = [int(unit) for unit in rng.permutation(sorted(label.index[label == name]))]
        wanted = np.asarray(fractions) * size[members].sum()
        given = np.zeros(len(SPLITS))
        for unit in members:
            # To the split that lacks most, so that the shares hold for small classes too.
            split = int(np.argmax((wanted - given) / np.maximum(wanted, 1e-9)))
            given[split] += size[unit]
            chosen[unit] = SPLITS[split]
    return units.map(chosen).rename("split")


def units_of(cases: pd.DataFrame) -> pd.Series:
    """A number for each case; equal for cases that share a group or a patient, directly or through others."""
    parent = list(range(len(cases)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for column in ("group", "patient", "md5"):
        if column not in cases:
            continue
        first: dict[str, int] = {}
        for index, value in enumerate(cases[column]):
            if value:
                parent[root(index)] = root(first.setdefault(value, index))
    return pd.Series([root(index) for index in range(len(cases))], index=cases.index)
