"""Does reader + AI beat both? The mean of two scorers, and the weight that is best on other cases."""

from __future__ import annotations

import numpy as np

from core.errors import InvalidInput
from core.evaluation.intervals import patient_indices, placements
from core.evaluation.scores import ScoreTable

WEIGHTS = np.round(np.linspace(0, 1, 21), 2)
N_FOLDS = 5


def mean_of(table: ScoreTable, first: str, second: str) -> np.ndarray:
    """(n,) the mean of both scores, NaN where one is missing."""
    return (table.scorers[first] + table.scorers[second]) / 2


def cross_validated(
    table: ScoreTable, first: str, second: str, *, folds: int = N_FOLDS, seed: int = 0
) -> tuple[np.ndarray, tuple[float, ...]]:
    """((n,) weighted score, the weight of `first` in each fold).

    The weight for a fold is the one of `WEIGHTS` with the highest area on the other folds (of equals the one nearest
    to a half), so no case helps to choose its own weight. Folds are of patients. Each fold's scores become ranks
    among those of the other folds, in [0, 1], because folds with different weights do not share a scale. Refuses
    where a fold's other cases lack a class.
    """
    assert table.is_positive is not None
    one, other = table.scorers[first], table.scorers[second]
    both = ~np.isnan(one) & ~np.isnan(other)
    fold = np.random.default_rng(seed).permutation(_n_patients(table)) % folds
    fold_of = fold[patient_indices(table.patients, table.n)]
    mixed, chosen = np.full(table.n, np.nan), []
    for number in range(folds):
        train, test = both & (fold_of != number), both & (fold_of == number)
        labels = table.is_positive[train]
        if labels.all() or not labels.any():
            raise InvalidInput("There are too few cases of one class to choose a weight on other cases.")
        areas = [placements(labels, weight * one[train] + (1 - weight) * other[train]).auc for weight in WEIGHTS]
        best = max(range(len(WEIGHTS)), key=lambda at: (areas[at], -abs(WEIGHTS[at] - 0.5)))
        weight = float(WEIGHTS[best])
        chosen.append(weight)
        known = np.sort(weight * one[train] + (1 - weight) * other[train])
        new = weight * one[test] + (1 - weight) * other[test]
        below, upto = np.searchsorted(known, new, "left"), np.searchsorted(known, new, "right")
        mixed[test] = (below + upto) / (2 * len(known))
    return mixed, tuple(chosen)


def _n_patients(table: ScoreTable) -> int:
    return int(patient_indices(table.patients, table.n).max()) + 1
