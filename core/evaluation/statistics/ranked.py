"""Scores sorted once: everything that depends on their order, for the cases at hand and for thousands of resamples.

Cases with the same score stand or fall together, so a "step" is one distinct score. Weighted counts at the steps give
every measure at once; a bootstrap sample is only another set of whole-number weights, (cases, draws).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

N_BINS = 15
"""Equal-mass bins of the expected calibration error."""
SPECIFICITY_TARGET = 0.889
SENSITIVITY_TARGET = 0.869
"""US screening radiologists in the BCSC (Lehman et al. 2017): 88.9 % specificity, 86.9 % sensitivity."""


class Ranked:
    """One scorer's cases from the highest score to the lowest.

    thresholds: (steps,) the distinct scores, falling. A case is called positive where its score >= the threshold.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        """labels (n,) bool; scores (n,) finite."""
        self.labels = labels
        self.scores = scores
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        starts = np.flatnonzero(np.concatenate([[True], falling[1:] != falling[:-1]]))
        self.thresholds = falling[starts]
        self._order = order
        self._starts = starts
        self._all_distinct = len(starts) == len(order)

    @cached_property
    def observed(self) -> Steps:
        """The cases as they are: one column, each case once."""
        return self.weighted(np.ones((len(self.scores), 1)))

    def weighted(self, weights: np.ndarray) -> Steps:
        """weights: (cases, draws), whole numbers in the order of the cases given at the start."""
        in_order = weights[self._order]
        positives = in_order * self.labels[self._order, None].astype(weights.dtype)
        if not self._all_distinct:
            in_order = np.add.reduceat(in_order, self._starts, axis=0)
            positives = np.add.reduceat(positives, self._starts, axis=0)
        return Steps(self.thresholds, positives, in_order)


@dataclass(frozen=True)
class Steps:
    """Weighted counts at each distinct score.

    thresholds: (steps,) falling. positives, cases: (steps, draws) whole numbers, exact as floats. Every measure below
    is (draws,) and NaN for a draw that lacks what it needs.
    """

    thresholds: np.ndarray
    positives: np.ndarray
    cases: np.ndarray

    @cached_property
    def true_positives(self) -> np.ndarray:
        """(steps, draws): positives scoring at or above each threshold."""
        return np.cumsum(self.positives, axis=0)

    @cached_property
    def called(self) -> np.ndarray:
        """(steps, draws): cases scoring at or above each threshold."""
        return np.cumsum(self.cases, axis=0)

    @property
    def n_positives(self) -> np.ndarray:
        return np.asarray(self.true_positives[-1], np.float64)

    @property
    def n_negatives(self) -> np.ndarray:
        return np.asarray(self.called[-1] - self.true_positives[-1], np.float64)

    @cached_property
    def false_positives(self) -> np.ndarray:
        """(steps, draws): negatives scoring at or above each threshold."""
        return np.asarray(self.called - self.true_positives)

    def auc(self) -> np.ndarray:
        """Area under the ROC curve; a tie between a positive and a negative counts one half."""
        # Twice the pairs won: negatives below the step, and half of those at it.
        twice_above = self.false_positives * 2
        twice_above -= self.cases - self.positives
        twice_lost = np.einsum("ij,ij->j", self.positives, twice_above, dtype=np.float64)
        pairs = self.n_positives * self.n_negatives
        return 1 - _ratio(twice_lost, 2 * pairs)

    def average_precision(self) -> np.ndarray:
        """Precision at each step weighted by the rise in recall, without interpolation, as scikit-learn defines it."""
        precision = self.true_positives / np.maximum(self.called, 1)
        return _ratio(np.einsum("ij,ij->j", self.positives, precision, dtype=np.float64), self.n_positives)

    def sensitivity_at_specificity(self, target: float = SPECIFICITY_TARGET) -> np.ndarray:
        """The highest sensitivity among thresholds (calling nobody positive is one) with specificity >= target."""
        allowed = self.n_negatives - fewest_cases(self.n_negatives, target)
        found = np.where(self.false_positives <= allowed, self.true_positives, 0).max(axis=0)
        return _ratio(np.where(self.n_negatives > 0, found, np.nan), self.n_positives)

    def specificity_at_sensitivity(self, target: float = SENSITIVITY_TARGET) -> np.ndarray:
        """The highest specificity among thresholds with sensitivity >= target."""
        enough = self.true_positives >= fewest_cases(self.n_positives, target)
        false = np.where(enough, self.false_positives, np.inf).min(axis=0)
        return _ratio(np.where(self.n_positives > 0, self.n_negatives - false, np.nan), self.n_negatives)

    def brier(self) -> np.ndarray:
        """Mean squared distance between score and label."""
        scores = self.thresholds.astype(np.float64)
        of_positives = ((1 - scores) ** 2) @ self.positives
        return _ratio(of_positives + scores**2 @ (self.cases - self.positives), self.called[-1].astype(np.float64))

    def bins(self, n_bins: int = N_BINS) -> np.ndarray:
        """(steps, draws) integers: the equal-mass bin of each step, 0 for the lowest scores.

        A case of rank r among n goes to bin floor(n_bins (r - 1/2) / n); tied cases share their middle rank and so
        stay together.
        """
        total = self.called[-1].astype(np.int32)
        twice_middle = (2 * (total - self.called) + self.cases).astype(np.int32)
        return np.asarray(np.minimum(n_bins * twice_middle // np.maximum(2 * total, 1), n_bins - 1))

    def expected_calibration_error(self, n_bins: int = N_BINS) -> np.ndarray:
        """Mean over cases of |mean label - mean score| in the case's equal-mass bin."""
        bootstrap = self.cases.shape[1]
        surplus = self.positives - self.thresholds[:, None] * self.cases
        place = self.bins(n_bins) * bootstrap + np.arange(bootstrap)
        sums = np.bincount(place.ravel(), surplus.ravel(), n_bins * bootstrap).reshape(n_bins, bootstrap)
        return _ratio(np.abs(sums).sum(axis=0), self.called[-1].astype(np.float64))


def fewest_cases(n: np.ndarray, target: float) -> np.ndarray:
    """The smallest whole number k with k / n >= target, compared as the quotient is, so that 889 of 1000 is .889."""
    guess = np.floor(n * target)
    for _ in range(2):
        guess = np.where(_ratio(guess, n) < target, guess + 1, guess)
    return np.where(_ratio(guess - 1, n) >= target, guess - 1, guess)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; NaN where the denominator is 0."""
    safe = np.where(denominator > 0, denominator, np.nan)
    return numerator / safe
