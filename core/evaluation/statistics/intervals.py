"""How sure a number is: DeLong for areas under the curve, Wilson for shares, a bootstrap that draws patients.

References: DeLong, DeLong & Clarke-Pearson 1988, computed from mid-ranks as in Sun & Xu 2014, with the variance over
patients of Obuchowski 1997 (Biometrics 53:567) where one patient gives several cases; Wilson 1927, with the design
effect of Dean & Pagano 2015 there; Efron & Tibshirani 1993 for percentiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata
from statsmodels.stats.proportion import proportion_confint

from core.errors import InvalidInput
from core.types import Estimate

N_RESAMPLES = 2000
Z_95 = float(norm.ppf(0.975))


@dataclass(frozen=True, slots=True)
class Placements:
    """For each positive case how many negatives score lower, and for each negative how many positives score higher.

    of_positives: (positives,) in [0, negatives]; of_negatives: (negatives,) in [0, positives]; a tie counts one half,
    so that all values are exact multiples of 0.5.
    """

    of_positives: np.ndarray
    of_negatives: np.ndarray

    @property
    def auc(self) -> float:
        """Share of (positive, negative) pairs in which the positive scores higher."""
        return float(self.of_positives.sum() / (len(self.of_positives) * len(self.of_negatives)))

    @property
    def variance(self) -> float:
        """DeLong's variance of the area; exactly 0 where all placements of a kind are equal."""
        return placement_variance(self.of_positives, self.of_negatives)

    def clustered_variance(self, labels: np.ndarray, patients: np.ndarray) -> float:
        """The area's variance where cases of one patient are alike; arguments as `clustered_variance`."""
        return clustered_variance(self.of_positives, self.of_negatives, labels, patients)


def placements(labels: np.ndarray, scores: np.ndarray) -> Placements:
    """labels (n,) bool, scores (n,); O(n log n)."""
    ranks = rankdata(scores)
    of_positives = ranks[labels] - rankdata(scores[labels])
    of_negatives = labels.sum() - (ranks[~labels] - rankdata(scores[~labels]))
    return Placements(of_positives, of_negatives)


def placement_variance(of_positives: np.ndarray, of_negatives: np.ndarray) -> float:
    """Variance of mean placement (or of a difference of two): both kinds of cases are samples."""
    n_positives, n_negatives = len(of_positives), len(of_negatives)
    over_positives = of_positives.var(ddof=1) / n_positives if n_positives > 1 else np.nan
    over_negatives = of_negatives.var(ddof=1) / n_negatives if n_negatives > 1 else np.nan
    return float(over_positives / n_negatives**2 + over_negatives / n_positives**2)


def clustered_variance(
    of_positives: np.ndarray, of_negatives: np.ndarray, labels: np.ndarray, patients: np.ndarray
) -> float:
    """As `placement_variance`, with patients as the samples (Obuchowski 1997); the same where each has one case.

    labels (n,) bool and patients (n,) numbers from 0 are of all cases, in the order of the placements. NaN where one
    patient has all positives or all negatives.
    """
    n_patients = int(patients.max()) + 1
    with_positives, with_negatives = np.unique(patients[labels]), np.unique(patients[~labels])
    if len(with_positives) < 2 or len(with_negatives) < 2:
        return float("nan")
    scale = len(of_positives) * len(of_negatives)
    over_positives = np.bincount(patients[labels], of_positives - of_positives.mean(), n_patients) / scale
    over_negatives = np.bincount(patients[~labels], of_negatives - of_negatives.mean(), n_patients) / scale
    n = len(np.union1d(with_positives, with_negatives))
    return float(
        (over_positives**2).sum() * len(with_positives) / (len(with_positives) - 1)
        + (over_negatives**2).sum() * len(with_negatives) / (len(with_negatives) - 1)
        + 2 * (over_positives * over_negatives).sum() * n / (n - 1)
    )


@dataclass(frozen=True, slots=True)
class DeLong:
    """Area under the ROC curve with its standard error and 95 % interval. se: NaN with a single case of a kind."""

    auc: float
    se: float
    low: float
    high: float


def delong(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None) -> DeLong:
    """labels (n,) bool or 0/1, scores (n,). The interval is symmetric and cut at 0 and 1.

    patients (n,): where one has several cases, the standard error is that of `clustered_variance`, and the interval
    of a perfect order counts patients.
    """
    labels = np.asarray(labels).astype(bool)
    require_both_classes(labels, "The area under the ROC curve")
    placed = placements(labels, np.asarray(scores, np.float64))
    n_positives, n_negatives = int(labels.sum()), int((~labels).sum())
    if one_case_each(patients):
        variance = placed.variance
    else:
        patient_of = patient_indices(patients, len(labels))
        variance = placed.clustered_variance(labels, patient_of)
        n_positives, n_negatives = len(np.unique(patient_of[labels])), len(np.unique(patient_of[~labels]))
    se = float(np.sqrt(variance))
    low, high = delong_interval(placed.auc, se, n_positives, n_negatives)
    return DeLong(placed.auc, se, low, high)


def delong_interval(auc: float, se: float, n_positives: int, n_negatives: int) -> tuple[float, float]:
    """95 % interval of an area.

    Where all pairs are ordered (0 or 1) the standard error is 0 and would claim certainty; with one case of a kind
    there is none. Then Wilson's interval of a share among the smaller class stands in, which errs to the wide side.
    """
    if np.isnan(se) or (se == 0 and auc in (0.0, 1.0)):
        n = min(n_positives, n_negatives)
        return wilson(auc * n, n)
    return max(0.0, auc - Z_95 * se), min(1.0, auc + Z_95 * se)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """95 % Wilson interval of a share; (0, 1) where nothing was counted."""
    if n <= 0:
        return 0.0, 1.0
    low, high = proportion_confint(successes, n, alpha=0.05, method="wilson")
    # The formula misses 0 and 1 by a rounding error where nobody or everybody succeeded.
    return (0.0 if successes <= 0 else float(low)), (1.0 if successes >= n else float(high))


def share(successes: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Share of True in `successes` (n,) with Wilson's interval; NaN in (0, 1) with n = 0 where there are no cases.

    patients (n,): cases of one patient are alike, so the number of cases is divided by the design effect: the
    variance of the share over patients against that of independent cases, at least 1. Where all cases agree, that
    cannot be estimated, and the number of patients counts instead.
    """
    n = len(successes)
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0, 0)
    value = float(np.mean(successes))
    effective = n / design_effect(successes, patients) if patients is not None else float(n)
    low, high = wilson(value * effective, effective)
    return Estimate(value, low, high, n)


def design_effect(successes: np.ndarray, patients: np.ndarray) -> float:
    """How many times the variance of a share exceeds that of independent cases; 1 where every patient has one case."""
    n = len(successes)
    patient_of = patient_indices(patients, n)
    n_patients = int(patient_of.max()) + 1
    if n_patients == n:
        return 1.0
    value = float(np.mean(successes))
    if value in (0.0, 1.0) or n_patients == 1:
        return n / n_patients
    totals = np.bincount(patient_of, np.asarray(successes, np.float64) - value, n_patients)
    clustered = n_patients / (n_patients - 1) * float((totals**2).sum()) / n**2
    return float(np.clip(clustered / (value * (1 - value) / n), 1.0, n))


class Bootstrap:
    """Bootstrap samples of patients: how often each case is in each. Patients are drawn with all their cases.

    One `Bootstrap` serves every scorer of a table, so that differences between scorers are paired and nothing is drawn
    twice. Blocks are small enough for the processor's cache; those of a table that is not huge are kept.
    """

    _BLOCK_VALUES = 100_000
    _CACHED_VALUES = 16_000_000

    def __init__(self, patients: np.ndarray | None, n: int, *, resamples: int = N_RESAMPLES, seed: int = 0) -> None:
        self.n = n
        self.resamples = resamples
        self._seed = seed
        self._patient_of = patient_indices(patients, n)
        self._cached: list[np.ndarray] | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        """(n, draws) float32 whole numbers, block after block; the same ones at every call."""
        if self._cached is not None:
            yield from self._cached
            return
        if self.n * self.resamples > self._CACHED_VALUES:
            yield from self._drawn()
            return
        self._cached = list(self._drawn())
        yield from self._cached

    @property
    def patients(self) -> np.ndarray:
        """(n,) the number of each case's patient, from 0."""
        return self._patient_of

    def only(self, chosen: np.ndarray) -> Bootstrap:
        """The same draws, seen from some of the cases: `chosen` (n,) bool."""
        return _SubsetBootstrap(self, chosen)

    def _drawn(self) -> Iterator[np.ndarray]:
        size = max(1, min(self.resamples, self._BLOCK_VALUES // max(self.n, 1)))
        rng = np.random.default_rng(self._seed)
        for start in range(0, self.resamples, size):
            yield self._draw(rng, min(size, self.resamples - start))

    def _draw(self, rng: np.random.Generator, bootstrap: int) -> np.ndarray:
        n_patients = int(self._patient_of.max()) + 1
        counts = np.empty((n_patients, bootstrap), np.float32)
        for column in range(bootstrap):
            counts[:, column] = np.bincount(rng.integers(0, n_patients, n_patients), minlength=n_patients)
        return np.asarray(counts[self._patient_of])


class _SubsetBootstrap(Bootstrap):
    def __init__(self, whole: Bootstrap, chosen: np.ndarray) -> None:
        self.n = int(chosen.sum())
        self.resamples = whole.resamples
        self._whole = whole
        self._chosen = chosen
        self._patient_of = whole.patients[chosen]

    def blocks(self) -> Iterator[np.ndarray]:
        for weights in self._whole.blocks():
            yield weights if self._chosen.all() else weights[self._chosen]

    def only(self, chosen: np.ndarray) -> Bootstrap:
        of_whole = self._chosen.copy()
        of_whole[self._chosen] = chosen
        return _SubsetBootstrap(self._whole, of_whole)


def patient_indices(patients: np.ndarray | None, n: int) -> np.ndarray:
    """(n,) the number of each case's patient, from 0; every case its own patient where `patients` is None."""
    if patients is None:
        return np.arange(n)
    return np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]


class PatientsOf:
    """`patient_indices` of some of a table's cases, worked out once for each choice of cases: every pair asks.

    patients (n,): of all n cases; None where every case is its own patient.
    """

    def __init__(self, patients: np.ndarray | None) -> None:
        self._patients = patients
        self._known: dict[bytes, tuple[np.ndarray, bool]] = {}

    def of(self, chosen: np.ndarray) -> tuple[np.ndarray, bool]:
        """Of the cases in `chosen` (n,) bool: the number of each one's patient, and whether no patient has two."""
        key = chosen.tobytes()
        if key not in self._known:
            found = patient_indices(None if self._patients is None else self._patients[chosen], int(chosen.sum()))
            self._known[key] = found, len(found) == 0 or int(found.max()) + 1 == len(found)
        return self._known[key]


def n_patients(chosen: np.ndarray, patients: np.ndarray | None) -> int:
    """Of how many patients the chosen cases are; without patients each case is one."""
    return int(chosen.sum()) if patients is None else len(np.unique(np.asarray(patients)[chosen].astype(str)))


def one_case_each(patients: np.ndarray | None) -> bool:
    """Whether no patient has two cases; only then are cases independent."""
    return (
        patients is None
        or len(patients) == 0
        or int(patient_indices(patients, len(patients)).max()) + 1 == len(patients)
    )


def percentile(value: float, samples: np.ndarray, n: int) -> Estimate:
    """`value` with the central 95 % of bootstrap `samples`, widened where needed so that it holds the value; the
    estimate then has its `bias`.

    Samples that are NaN (a draw without one of the classes) are left out; with none left the interval is NaN.
    """
    retained = samples[np.isfinite(samples)]
    if len(retained) == 0:
        return Estimate(value, float("nan"), float("nan"), n)
    low, high = np.percentile(retained.astype(np.float64), (2.5, 97.5))
    # Percentiles interpolate between draws: a rounding error is no bias.
    is_widened = value < low - 1e-12 or value > high + 1e-12
    bias = float(retained.astype(np.float64).mean()) - value if is_widened else None
    return Estimate(value, min(float(low), value), max(float(high), value), n, bias)


def require_both_classes(labels: np.ndarray, what: str) -> None:
    """Refuse where all cases are of one kind."""
    positives, n = int(np.sum(labels)), len(labels)
    if n == 0:
        raise InvalidInput(f"{what} needs positive and negative cases; there are no cases at all.")
    if positives in (0, n):
        kind = "positive" if positives else "negative"
        raise InvalidInput(f"{what} needs positive and negative cases; all {n} cases here are {kind}. Add the others.")
