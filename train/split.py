"""Which cases train, which choose, which measure: by patient or group, stratified, seeded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from core.errors import InvalidInput

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.6, 0.2, 0.2)
TOGETHER = ("group", "patient", "md5", "sha256")
"""Columns whose equal values keep cases in one split."""


def split_cases(
    cases: pd.DataFrame, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0, by: str | None = None
) -> pd.Series:
    """ "train", "validation" or "test" for each case; cases that belong together are never parted.

    Cases belong together when they share a `group` or a `patient`, directly or through others, or are the same file
    (`md5`, `sha256`); `by` names one column to use instead ("file" parts what belongs together, to show what that does
    to the numbers). Each class is divided by `fractions` as nearly as whole units allow; a unit with several labels
    counts as the rarest of them.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InvalidInput("The shares of train, validation and test must be three numbers that add up to 1.")
    return _dealt(cases, units_of(cases, by=by), fractions, seed).map(dict(enumerate(SPLITS))).rename("split")


def fold_cases(cases: pd.DataFrame, n: int = 5, seed: int = 0, *, by: str | None = None) -> pd.Series:
    """A number from 0 to n - 1 for each case; in each fold, the cases with its number are the test cases.

    Units and classes are kept as in `split_cases`.
    """
    units = units_of(cases, by=by)
    if not 2 <= n <= units.nunique():
        raise InvalidInput(f"{n} folds need at least 2 and no more than the {units.nunique()} patients or groups.")
    return _dealt(cases, units, [1 / n] * n, seed).rename("fold")


def balanced_subset(cases: pd.DataFrame, per_class: int, *, seed: int = 0) -> pd.DataFrame:
    """`per_class` cases of every label, drawn by seed, in the manifest's order (500 of two labels: 1000 as 50/50)."""
    counts = cases["label"].value_counts()
    if per_class < 1 or counts.min() < per_class:
        raise InvalidInput(
            f"Label {counts.idxmin()!r} has {counts.min()} cases, so a balanced subset has 1 to {counts.min()} a label."
        )
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(np.flatnonzero(cases["label"] == label), per_class, replace=False)
        for label in sorted(cases["label"].unique())
    ]
    return cases.iloc[np.sort(np.concatenate(drawn))].reset_index(drop=True)


def resampled_training(cases: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Training cases of rarer labels repeated, by seed, until every label has as many; validation and test untouched.

    Needs the column `split`: repeating before the split is how copies of one picture get into training and test.
    """
    if "split" not in cases or not cases["split"].isin(SPLITS).all():
        raise InvalidInput("Split the cases before any is repeated: every row needs train, validation or test.")
    rng = np.random.default_rng(seed)
    training = np.flatnonzero(cases["split"] == "train")
    labels = cases["label"].to_numpy()[training]
    most = max((int((labels == label).sum()) for label in set(labels)), default=0)
    repeats = [
        rng.choice(training[labels == label], most - int((labels == label).sum()), replace=True)
        for label in sorted(set(labels))
    ]
    order = np.concatenate([np.arange(len(cases)), *repeats]).astype(int)
    return cases.iloc[order].reset_index(drop=True)


def _dealt(cases: pd.DataFrame, units: pd.Series, fractions: Sequence[float], seed: int) -> pd.Series:
    """For each case the position in `fractions` that its unit was dealt to."""
    rarity = cases["label"].value_counts()
    label = cases["label"].groupby(units).agg(lambda labels: min(labels, key=lambda name: (rarity[name], name)))
    size = units.value_counts()
    rng = np.random.default_rng(seed)
    chosen: dict[int, int] = {}
    for name in sorted(label.unique()):
        members = [int(unit) for unit in rng.permutation(sorted(label.index[label == name]))]
        wanted = np.asarray(fractions) * size[members].sum()
        given = np.zeros(len(fractions))
        for unit in members:
            # To the part that lacks most, so that the shares hold for small classes too.
            part = int(np.argmax((wanted - given) / np.maximum(wanted, 1e-9)))
            given[part] += size[unit]
            chosen[unit] = part
    return units.map(chosen)


def units_of(cases: pd.DataFrame, *, by: str | None = None) -> pd.Series:
    """A number for each case; equal for cases that share a value in `TOGETHER` (or `by`), directly or through others.

    An empty value joins nothing.
    """
    if by is not None and by not in cases:
        raise InvalidInput(f"The manifest has no column {by!r} to split by. Columns: {', '.join(cases.columns)}.")
    parent = list(range(len(cases)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for column in TOGETHER if by is None else (by,):
        if column not in cases:
            continue
        first: dict[str, int] = {}
        for index, value in enumerate(cases[column]):
            if value:
                parent[root(index)] = root(first.setdefault(value, index))
    return pd.Series([root(index) for index in range(len(cases))], index=cases.index)
