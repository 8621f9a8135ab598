"""ROC and precision-recall curves at every distinct score, with bands from draws of patients. `charts` draws them.

Is acting on a score better than acting on everybody or nobody? Decision curves (Vickers & Elkin 2006).

Net benefit at threshold probability t: true positives per case minus false positives per case times t / (1 - t), the
odds at which a person who acts at t values a false alarm against a missed cancer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import Bootstrap, require_both_classes
from core.evaluation.statistics.metrics import checked_labels, checked_scores
from core.evaluation.statistics.ranked import Ranked, Steps

GRID = np.linspace(0, 1, 101)
"""Where bands are given: rates 0 to 1 by hundredths."""


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Arrays (points,), from calling nobody (threshold infinite) to calling everybody.

    grid: false-positive rates; low, high: 95 % band of the sensitivity there (vertical), None without draws.
    """

    thresholds: np.ndarray
    false_positive_rate: np.ndarray
    sensitivity: np.ndarray
    false_positives: np.ndarray
    true_positives: np.ndarray
    n_positives: int
    n_negatives: int
    grid: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None

    def at(self, threshold: float) -> int:
        """The point where a case is called positive at or above `threshold`."""
        return int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1


@dataclass(frozen=True, slots=True)
class PrecisionRecallCurve:
    """Arrays (points,), from the highest score down. prevalence: the precision of calling everybody.

    grid: recalls; low, high: 95 % band of the precision there, None without draws.
    """

    thresholds: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    true_positives: np.ndarray
    called: np.ndarray
    prevalence: float
    n: int
    grid: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def roc_curve(labels: np.ndarray, scores: np.ndarray, bootstrap: Bootstrap | None = None) -> RocCurve:
    """labels (n,) 0/1, scores (n,) in [0, 1]."""
    ranked = _ranked(labels, scores, "A ROC curve")
    steps = ranked.observed
    false, true = (np.concatenate([[0], counts[:, 0]]) for counts in (steps.false_positives, steps.true_positives))
    n_positives, n_negatives = int(true[-1]), int(false[-1])
    low, high = _band(ranked, bootstrap, _sensitivity_on_grid)
    return RocCurve(
        thresholds=np.concatenate([[np.inf], ranked.thresholds]),
        false_positive_rate=false / n_negatives,
        sensitivity=true / n_positives,
        false_positives=false.astype(np.int64),
        true_positives=true.astype(np.int64),
        n_positives=n_positives,
        n_negatives=n_negatives,
        grid=GRID,
        low=low,
        high=high,
    )


def precision_recall_curve(
    labels: np.ndarray, scores: np.ndarray, bootstrap: Bootstrap | None = None
) -> PrecisionRecallCurve:
    """labels (n,) 0/1, scores (n,) in [0, 1]."""
    ranked = _ranked(labels, scores, "A precision-recall curve")
    true, called = ranked.observed.true_positives[:, 0], ranked.observed.called[:, 0]
    low, high = _band(ranked, bootstrap, _precision_on_grid)
    return PrecisionRecallCurve(
        thresholds=ranked.thresholds,
        recall=true / true[-1],
        precision=true / called,
        true_positives=true.astype(np.int64),
        called=called.astype(np.int64),
        prevalence=float(true[-1] / called[-1]),
        n=int(called[-1]),
        grid=GRID[1:],
        low=None if low is None else low[1:],
        high=None if high is None else high[1:],
    )


def mean_sensitivity(curves: Iterable[RocCurve]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of several ROC curves at equal specificity (vertical averaging; Chen & Samuelson 2014).

    Gives false-positive rates (`GRID`) and the mean sensitivity there, both (points,), with straight lines between the
    points of each curve. Where a curve rises straight up, its upper end counts.
    """
    each = []
    for curve in curves:
        rates, places = np.unique(curve.false_positive_rate[::-1], return_index=True)
        each.append(np.interp(GRID, rates, curve.sensitivity[::-1][places]))
    return GRID, np.mean(each, axis=0)


def _ranked(labels: np.ndarray, scores: np.ndarray, what: str) -> Ranked:
    is_positive, values = checked_labels(labels), checked_scores(scores, len(labels))
    require_both_classes(is_positive, what)
    return Ranked(is_positive, values)


def _band(
    ranked: Ranked, bootstrap: Bootstrap | None, on_grid: Callable[[Steps], np.ndarray]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if bootstrap is None:
        return None, None
    samples = np.concatenate([on_grid(ranked.weighted(weights)) for weights in bootstrap.blocks()])
    whole = samples[np.isfinite(samples).all(axis=1)]  # a draw without one of the classes has no curve
    if not len(whole):
        return None, None
    low, high = np.percentile(whole, (2.5, 97.5), axis=0)
    return low, high


def _sensitivity_on_grid(steps: Steps) -> np.ndarray:
    """(draws, grid): straight lines between points, as the area under the curve takes them."""
    bootstrap = steps.cases.shape[1]
    zero = np.zeros((1, bootstrap))
    with np.errstate(invalid="ignore"):
        rates = np.concatenate([zero, steps.false_positives / steps.n_negatives]).T  # (draws, points)
        found = np.concatenate([zero, steps.true_positives / steps.n_positives]).T
    # Draw after draw on one rising axis, 2 apart, so that a single interpolation serves all.
    offset = 2.0 * np.arange(bootstrap)[:, None]
    values = np.interp((GRID + offset).ravel(), (rates + offset).ravel(), found.ravel())
    return np.asarray(values.reshape(bootstrap, len(GRID)))


def _precision_on_grid(steps: Steps) -> np.ndarray:
    """(draws, grid): precision at the highest threshold that reaches the recall, without interpolation."""
    bootstrap, points = steps.cases.shape[1], len(steps.thresholds)
    # A draw without positives has no recall; NaN here would break the one search that serves all draws.
    recall = (steps.true_positives / np.maximum(steps.n_positives, 1)).T  # (draws, points)
    precision = (steps.true_positives / np.maximum(steps.called, 1)).T
    offset = 2.0 * np.arange(bootstrap)[:, None]
    place = np.searchsorted((recall + offset).ravel(), (GRID + offset - 1e-9).ravel()).reshape(bootstrap, len(GRID))
    place = np.clip(place - points * np.arange(bootstrap)[:, None], 0, points - 1)
    found = np.take_along_axis(precision, place, axis=1).astype(np.float64)
    found[steps.n_positives == 0] = np.nan
    return found


THRESHOLDS = np.round(np.arange(0.005, 0.5001, 0.005), 3)
"""Up to 50 %: nobody waits for even odds before looking further into a breast."""


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Arrays (thresholds,). low, high: 95 % band from draws of patients, NaN without draws.

    treat_all: net benefit of calling every case positive; that of calling none is 0.
    """

    thresholds: np.ndarray
    net_benefit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    treat_all: np.ndarray
    n: int
    positives: int


def decision_curve(
    labels: np.ndarray, scores: np.ndarray, bootstrap: Bootstrap | None = None, *, thresholds: np.ndarray = THRESHOLDS
) -> DecisionCurve:
    """labels (n,) 0/1, scores (n,) calibrated probabilities in [0, 1]; a case is acted on where score >= threshold."""
    is_positive, values = checked_labels(labels), checked_scores(scores, len(labels))
    if not len(values):
        raise InvalidInput("A decision curve needs cases; there are none.")
    if ((thresholds <= 0) | (thresholds >= 1)).any():
        raise InvalidInput("The thresholds of a decision curve lie between 0 and 1, both left out.")
    odds = thresholds / (1 - thresholds)
    ranked = Ranked(is_positive, values)
    prevalence = is_positive.mean()
    low = high = np.full(len(thresholds), np.nan)
    if bootstrap is not None:
        samples = [_net_benefit(ranked.weighted(weights), thresholds) for weights in bootstrap.blocks()]
        low, high = np.percentile(np.concatenate(samples, axis=1), (2.5, 97.5), axis=1)
    return DecisionCurve(
        thresholds=thresholds,
        net_benefit=_net_benefit(ranked.observed, thresholds)[:, 0],
        low=low,
        high=high,
        treat_all=prevalence - (1 - prevalence) * odds,
        n=len(values),
        positives=int(is_positive.sum()),
    )


def _net_benefit(steps: Steps, thresholds: np.ndarray) -> np.ndarray:
    """(thresholds, draws): true positives a case, less false positives times the odds of the threshold."""
    n_called = np.searchsorted(-steps.thresholds, -thresholds, side="right")  # steps at or above each threshold
    nobody = (n_called == 0)[:, None]
    at = np.maximum(n_called, 1) - 1
    true, false = (
        np.where(nobody, 0.0, counts[at]).astype(np.float64) for counts in (steps.true_positives, steps.false_positives)
    )
    benefit = true - false * (thresholds / (1 - thresholds))[:, None]
    return np.asarray(benefit / steps.called[-1].astype(np.float64))
