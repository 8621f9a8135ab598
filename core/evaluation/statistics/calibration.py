"""Does "13 %" mean 13 %? Reliability by equal-mass bins, the Brier score taken apart, slope and intercept.

References: Murphy 1973 and Stephenson, Coelho & Jolliffe 2008 for the decomposition of the Brier score; Cox 1958 and
Van Calster et al. 2019 for slope and intercept; Naeini, Cooper & Hauskrecht 2015 for the expected calibration error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import Z_95, patient_indices, require_both_classes, share
from core.evaluation.statistics.metrics import checked_labels, checked_scores
from core.evaluation.statistics.ranked import N_BINS, Ranked
from core.types import Estimate

CLIP = 1e-6
"""Scores are held this far from 0 and 1 before their logarithm of odds is taken."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Cases with similar scores. low, high: the scores it spans. observed: share of positives, Wilson's interval."""

    low: float
    high: float
    mean_score: float
    observed: Estimate
    positives: int


@dataclass(frozen=True, slots=True)
class BrierParts:
    """brier = reliability - resolution + uncertainty + within_bins.

    reliability: how far bins are from what they claim (0 is best). resolution: how far they differ from the mean.
    uncertainty: of the labels themselves. within_bins: what is lost because the scores of one bin differ.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


@dataclass(frozen=True, slots=True)
class CalibrationLine:
    """log odds of being positive = intercept + slope * log odds of the score; 1 and 0 are ideal.

    in_the_large: the intercept with the slope held at 1; above 0 the scores are too low on average. clipped: scores at
    exactly 0 or 1, which have no log odds and were moved to `CLIP` from there: with many, the line says little.
    """

    slope: Estimate
    intercept: Estimate
    in_the_large: Estimate
    clipped: int


def reliability(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None, *, n_bins: int = N_BINS
) -> tuple[ReliabilityBin, ...]:
    """Equal-mass bins from low to high scores, ties kept together, so that there may be fewer than `n_bins`."""
    is_positive, values = checked_labels(labels), checked_scores(scores, len(labels))
    place = bin_of(values, n_bins=n_bins)
    found = []
    for number in np.unique(place):
        chosen = place == number
        some = None if patients is None else np.asarray(patients)[chosen]
        found.append(
            ReliabilityBin(
                low=float(values[chosen].min()),
                high=float(values[chosen].max()),
                mean_score=float(values[chosen].mean()),
                observed=share(is_positive[chosen], some),
                positives=int(is_positive[chosen].sum()),
            )
        )
    return tuple(found)


def bin_of(scores: np.ndarray, *, n_bins: int = N_BINS) -> np.ndarray:
    """(n,) the equal-mass bin of each case, 0 for the lowest; some may be empty where many scores are equal."""
    ranked = Ranked(np.zeros(len(scores), bool), scores)
    place = ranked.observed.bins(n_bins)[:, 0]
    falling = np.searchsorted(-ranked.thresholds, -scores)
    return place[falling]


def brier_parts(labels: np.ndarray, scores: np.ndarray, *, n_bins: int = N_BINS) -> BrierParts:
    """The Brier score taken apart over the bins of the reliability diagram; the parts add up exactly."""
    is_positive, values = checked_labels(labels), checked_scores(scores, len(labels))
    place = bin_of(values, n_bins=n_bins)
    counts = np.maximum(np.bincount(place, minlength=n_bins), 1)
    observed = np.bincount(place, is_positive, n_bins) / counts
    claimed = np.bincount(place, values, n_bins) / counts
    mean = is_positive.mean()
    brier = float(((values - is_positive) ** 2).mean())
    parts = {
        "reliability": float(((claimed - observed)[place] ** 2).mean()),
        "resolution": float(((observed - mean)[place] ** 2).mean()),
        "uncertainty": float(mean * (1 - mean)),
    }
    within = (values - claimed[place]) * (values + claimed[place] - 2 * is_positive)
    return BrierParts(brier=brier, **parts, within_bins=float(within.mean()))


def calibration_line(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None) -> CalibrationLine:
    """Logistic regression of the label on the score's log odds; intervals by the sandwich over patients.

    Refuses scores that are all equal, scores that separate the classes, for which no finite line exists, and cases of
    one patient, which tell nothing of others.
    """
    is_positive, values = checked_labels(labels), checked_scores(scores, len(labels))
    require_both_classes(is_positive, "The calibration line")
    low, high = values[is_positive], values[~is_positive]
    if np.ptp(values) == 0:
        raise InvalidInput("The calibration line needs different scores; all scores here are equal.")
    if low.min() >= high.max() or low.max() <= high.min():
        raise InvalidInput("The scores separate the classes without overlap, so that no calibration line exists.")
    odds = np.clip(values, CLIP, 1 - CLIP)
    odds = np.log(odds) - np.log1p(-odds)
    groups = patient_indices(patients, len(values))
    if groups.max() == 0:
        raise InvalidInput("The calibration line needs cases of several patients; all of these are of one.")
    robust = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    target = is_positive.astype(np.float64)
    line = GLM(target, np.column_stack([np.ones(len(target)), odds]), family=Binomial()).fit(**robust)
    n = len(values)
    intercept, slope = (_estimate(line, index, n) for index in (0, 1))
    level = _in_the_large(target, odds, groups)
    return CalibrationLine(slope, intercept, level, int(((values == 0) | (values == 1)).sum()))


def _in_the_large(target: np.ndarray, odds: np.ndarray, groups: np.ndarray) -> Estimate:
    """The shift of all log odds at which as many positives are expected as there are, by bisection.

    Newton's steps, which a fitted model would take, run off to infinity where many scores lie at 0 or 1. The interval
    is the sandwich over patients, with the same correction for few of them as the line has.
    """
    shift = float(brentq(lambda a: float((expit(a + odds) - target).sum()), -60.0, 60.0))
    expected = expit(shift + odds)
    bread = float((expected * (1 - expected)).sum())
    residuals = np.bincount(groups, target - expected)
    n_groups, n = len(residuals), len(target)
    deviation = float(np.sqrt(n_groups / (n_groups - 1) * (residuals**2).sum()) / bread)
    return Estimate(shift, shift - Z_95 * deviation, shift + Z_95 * deviation, n)


def _estimate(fitted: GLM, index: int, n: int) -> Estimate:
    low, high = fitted.conf_int()[index]
    return Estimate(float(fitted.params[index]), float(low), float(high), n)
