"""Which cases train, which choose, which measure: by patient or group, stratified, seeded.

The split that a model was measured in, taken up again, so that the next one is measured on the same test cases.

A model's folder names its test and validation cases beside the weights; every other case trains. Loads no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import InvalidInput
from core.models.cards import Card, read_card
from core.settings import REPOSITORY

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


def model_of_split(model_id: str, *weights: Path) -> Card:
    """The card of a model whose split is to be taken up again, in these folders or among the shipped models."""
    for folder in (*weights, REPOSITORY / "weights"):
        if (folder / model_id / "card.json").is_file():
            return read_card(folder / model_id)
    raise InvalidInput(f"There is no model {model_id!r} whose split could be taken up again.")


def split_of_model(cases: pd.DataFrame, card: Card) -> pd.Series:
    """ "test", "validation" or "train" for each case, as `card`'s model was trained and measured.

    A case that the model has not seen goes where those go that it belongs together with (patient, group, same file), so
    that new pictures of a test patient never train. Raises `InvalidInput` where the manifest lacks cases that the model
    was tested on: numbers of other cases could not be compared.
    """
    listed = {name: _cases_of(card, name) for name in ("test", "validation")}
    missing = listed["test"] - set(cases["file"])
    if missing:
        raise InvalidInput(
            f"The manifest lacks {len(missing)} of the {len(listed['test'])} test cases of {card.model_id}. Give the "
            "data set it was measured on, or make a split of its own."
        )
    units = units_of(cases)
    split = pd.Series("train", index=cases.index, name="split")
    for name in ("validation", "test"):  # a unit that is in both is tested: it must neither train nor choose
        split[units.isin(set(units[cases["file"].isin(listed[name])]))] = name
    return split


def _cases_of(card: Card, name: str) -> set[str]:
    path = card.folder / f"{card.weights_sha256[:8]}.{name}_scores.csv"
    if not path.is_file():
        raise InvalidInput(f"{card.model_id} names no {name} cases ({path.name} is not in its folder).")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "fold" in table:
        raise InvalidInput(f"{card.model_id} was measured in folds; train with the same --folds and --seed instead.")
    return set(table["case"])
