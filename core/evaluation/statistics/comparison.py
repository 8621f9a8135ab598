"""Is the difference real? Paired tests between scorers on the same cases.

DeLong, DeLong & Clarke-Pearson 1988 for two areas; McNemar 1947 for two sets of calls at thresholds; Holm 1979 over
all pairs of a table. Where a patient has several cases, patients are the samples of both: the variance of Obuchowski
1997 for areas, and for calls the signs of the patients' differences instead of the cases'.

Does reader + AI beat both? The mean of two scorers, and the weight that is best on other cases.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import (
    Bootstrap,
    PatientsOf,
    Placements,
    clustered_variance,
    patient_indices,
    percentile,
    placement_variance,
    placements,
)
from core.evaluation.statistics.ranked import Ranked
from core.evaluation.tables.scores import ScoreTable

EXACT_BELOW = 25
"""Discordant cases below which McNemar's test is computed exactly (binomial)."""


@dataclass(frozen=True, slots=True)
class ByCase:
    """DeLong's own test, which takes cases to be independent: what other software and papers print.

    Fields as in `PairedTest`.
    """

    se: float
    z: float
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Area of `first` minus area of `second`, on the `n` cases that both scored.

    se: of the difference, DeLong's, over patients where one has several cases. z: difference / se, infinite where se is
    0 and the areas differ. p: two-sided, unadjusted. p_holm: adjusted over all pairs compared. low, high: 95 % interval
    of the difference from draws of patients (NaN without draws). by_case: the same where no patient has several cases.
    Where the cases that both scored are not of both classes, or are none, nothing is compared: every number but n and
    positives is NaN.
    """

    first: str
    second: str
    n: int
    positives: int
    difference: float
    se: float
    z: float
    p: float
    p_holm: float
    low: float
    high: float
    by_case: ByCase

    @property
    def name(self) -> str:
        return f"{self.first} vs {self.second}"

    @property
    def why_not(self) -> str:
        """Why these two are not compared; empty where they are."""
        if not np.isnan(self.difference):
            return ""
        if not self.n:
            return "they share no case"
        of = "1 case that both scored is" if self.n == 1 else f"{self.n} cases that both scored are"
        return f"the {of} {'positive' if self.positives else 'negative'}, and an area needs both classes"


@dataclass(frozen=True, slots=True)
class McNemarTest:
    """Which of two scorers is right more often. only_first: cases that only the first called correctly."""

    first: str
    second: str
    n: int
    only_first: int
    only_second: int
    p: float
    p_holm: float


def compare_areas(
    labels: np.ndarray, scorers: Mapping[str, np.ndarray], bootstrap: Bootstrap | None = None
) -> tuple[PairedTest, ...]:
    """Every pair of scorers in their order. labels (n,) bool; scores (n,), NaN where a scorer has none.

    A pair without cases of both classes in common is among them, says `why_not`, and counts for nothing in Holm's
    correction. bootstrap: of the same n cases; it also says which of them are of one patient. Without it every case is
    a patient.
    """
    labels = np.asarray(labels).astype(bool)
    areas = _Areas(labels, scorers, bootstrap)
    areas.draw_together()
    tests = [areas.compare(first, second) for first, second in combinations(scorers, 2)]
    adjusted = holm([test.p for test in tests]), holm([test.p_by_case for test in tests])
    found = []
    for (first, second), test, p_holm, p_holm_by_case in zip(combinations(scorers, 2), tests, *adjusted, strict=True):
        n, difference = int(test.both.sum()), test.difference
        interval = percentile(difference, test.samples, n)
        by_case = ByCase(test.se_by_case, _z_of(difference, test.se_by_case), test.p_by_case, p_holm_by_case)
        positives, z = int(labels[test.both].sum()), _z_of(difference, test.se)
        found.append(
            PairedTest(
                first,
                second,
                n,
                positives,
                difference,
                test.se,
                z,
                test.p,
                p_holm,
                interval.low,
                interval.high,
                by_case,
            )
        )
    return tuple(found)


def _z_of(difference: float, se: float) -> float:
    if se > 0 or np.isnan(se):
        return difference / se
    return 0.0 if difference == 0 else float(np.copysign(np.inf, difference))


@dataclass(frozen=True, slots=True)
class _Difference:
    """both (n,) bool: the cases that both scored. samples: resampled differences."""

    both: np.ndarray
    difference: float
    se: float
    p: float
    se_by_case: float
    p_by_case: float
    samples: np.ndarray


class _Areas:
    """Placements and resampled areas, computed once for each scorer and set of cases."""

    def __init__(self, labels: np.ndarray, scorers: Mapping[str, np.ndarray], bootstrap: Bootstrap | None) -> None:
        self._labels = labels
        self._scorers = scorers
        self._bootstrap = bootstrap
        self._scored = {name: ~np.isnan(scores) for name, scores in scorers.items()}
        self._patients = PatientsOf(None if bootstrap is None else bootstrap.patients)
        self._placed: dict[tuple[str, bytes], Placements] = {}
        self._sampled: dict[tuple[str, bytes], np.ndarray] = {}

    def draw_together(self) -> None:
        """The resampled areas of scorers that scored the same cases, two scorers at a time; others' when needed."""
        if self._bootstrap is None or len(self._scored) < 2:
            return
        whole, *others = self._scored.values()
        labels = self._labels[whole]
        if labels.any() and not labels.all() and all(np.array_equal(whole, one) for one in others):
            next(self._bootstrap.blocks())  # drawn once, before threads share them
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda name: self._samples(name, whole), self._scorers))

    def compare(self, first: str, second: str) -> _Difference:
        both = self._scored[first] & self._scored[second]
        labels = self._labels[both]
        if not labels.any() or labels.all():
            return _Difference(both, *(float("nan"),) * 5, np.full(1, np.nan))
        one, other = self._placements(first, both), self._placements(second, both)
        # Counts are exact multiples of 0.5, so equal placements leave a variance of exactly 0.
        over_positives = one.of_positives - other.of_positives
        over_negatives = one.of_negatives - other.of_negatives
        difference = float(over_positives.sum()) / (len(over_positives) * len(over_negatives))
        se_by_case = float(np.sqrt(placement_variance(over_positives, over_negatives)))
        p_by_case = _p_of(difference, se_by_case, len(over_positives), len(over_negatives))
        samples = self._samples(first, both) - self._samples(second, both)
        patients, is_one_case_each = self._patients.of(both)
        if is_one_case_each:
            return _Difference(both, difference, se_by_case, p_by_case, se_by_case, p_by_case, samples)
        se = float(np.sqrt(clustered_variance(over_positives, over_negatives, labels, patients)))
        n_positives = len(np.unique(patients[labels]))
        p = _p_of(difference, se, n_positives, int(patients.max()) + 1 - n_positives)
        return _Difference(both, difference, se, p, se_by_case, p_by_case, samples)

    def _placements(self, name: str, both: np.ndarray) -> Placements:
        key = (name, both.tobytes())
        if key not in self._placed:
            self._placed[key] = placements(self._labels[both], self._scorers[name][both])
        return self._placed[key]

    def _samples(self, name: str, both: np.ndarray) -> np.ndarray:
        if self._bootstrap is None:
            return np.full(1, np.nan)
        key = (name, both.tobytes())
        if key not in self._sampled:
            ranked = Ranked(self._labels[both], self._scorers[name][both])
            blocks = self._bootstrap.only(both).blocks()
            self._sampled[key] = np.concatenate([ranked.weighted(weights).auc() for weights in blocks])
        return self._sampled[key]


def _p_of(difference: float, se: float, n_positives: int, n_negatives: int) -> float:
    """Two-sided p. n_positives, n_negatives: patients with a positive case, and the others.

    With a standard error of 0 and different areas every case speaks the same way, and the normal approximation would
    say 0. The share of ways to deal the labels that order all cases, both directions, is what so few cases can show.
    """
    if np.isnan(se):
        return float("nan")
    if se == 0:
        return 1.0 if difference == 0 else min(1.0, 2 / comb(n_positives + n_negatives, n_positives))
    return float(2 * norm.sf(abs(difference / se)))


def compare_calls(
    labels: np.ndarray,
    scorers: Mapping[str, np.ndarray],
    thresholds: Mapping[str, float],
    patients: np.ndarray | None = None,
) -> tuple[McNemarTest, ...]:
    """McNemar's test of every pair, each scorer at its own threshold, on the cases that both scored.

    patients (n,): where one has several cases, `signs_p` over patients takes the place of McNemar's test over cases.
    """
    labels = np.asarray(labels).astype(bool)
    right = {name: (scores >= thresholds[name]) == labels for name, scores in scorers.items()}
    of_patients = PatientsOf(None if patients is None else np.asarray(patients))
    counts, p_values = [], []
    for first, second in combinations(scorers, 2):
        both = ~np.isnan(scorers[first]) & ~np.isnan(scorers[second])
        one, other = right[first][both], right[second][both]
        only_first, only_second = int((one & ~other).sum()), int((~one & other).sum())
        counts.append((first, second, int(both.sum()), only_first, only_second))
        numbers, is_one_case_each = of_patients.of(both)
        if is_one_case_each:
            p_values.append(mcnemar_p(only_first, only_second))
        else:
            leads = np.bincount(numbers, one.astype(np.float64) - other)
            p_values.append(signs_p(np.rint(leads).astype(np.int64)))
    return tuple(
        McNemarTest(*count, p, p_holm) for count, p, p_holm in zip(counts, p_values, holm(p_values), strict=True)
    )


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided; exact below `EXACT_BELOW` discordant cases, with continuity correction above."""
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return float(mcnemar([[0, only_first], [only_second, 0]], exact=discordant < EXACT_BELOW).pvalue)


def signs_p(leads: np.ndarray) -> float:
    """Two-sided p of McNemar's test with patients as samples: were each patient's lead as likely the other way round?

    leads (patients,) whole numbers: cases that only the first called correctly less those that only the second did.
    Fisher's randomisation of signs, exact below `EXACT_BELOW` patients who are not 0, and with McNemar's continuity
    correction above; where every lead is 1 or -1 both are McNemar's own.
    """
    sizes = np.abs(leads[leads != 0])
    total = abs(int(leads.sum()))
    if len(sizes) == 0:
        return 1.0
    if len(sizes) >= EXACT_BELOW:
        return float(2 * norm.sf(max(total - 1, 0) / np.sqrt(float((sizes.astype(np.float64) ** 2).sum()))))
    ways = np.ones(1)  # of each sum of the leads that point to the first, by its size
    for size in sizes:
        ways = np.convolve(ways, np.concatenate([[0.5], np.zeros(int(size) - 1), [0.5]]))
    sums = 2 * np.arange(len(ways)) - int(sizes.sum())
    return float(min(1.0, ways[np.abs(sums) >= total].sum()))


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values; NaN stays NaN and does not count."""
    values = np.asarray(p_values, np.float64)
    known = ~np.isnan(values)
    adjusted = values.copy()
    # Not statsmodels' multipletests, which collects garbage first: a tenth of a second for every slider's move.
    order = np.argsort(values[known], kind="stable")
    stepped = np.maximum.accumulate(values[known][order] * np.arange(len(order), 0, -1))
    adjusted[np.flatnonzero(known)[order]] = np.minimum(stepped, 1)
    return [float(value) for value in adjusted]


WEIGHTS = np.round(np.linspace(0, 1, 21), 2)
N_FOLDS = 5


def mean_of(table: ScoreTable, first: str, second: str) -> np.ndarray:
    """(n,) the mean of both scores, NaN where one is missing."""
    return np.asarray((table.scorers[first] + table.scorers[second]) / 2)


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
    patient_of = patient_indices(table.patients, table.n)
    fold_of = (np.random.default_rng(seed).permutation(int(patient_of.max()) + 1) % folds)[patient_of]
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
