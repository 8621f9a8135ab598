"""ROC and precision-recall curves at every distinct score, with bands from draws of patients. `charts` draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.evaluation.intervals import Draws, require_both_classes
from core.evaluation.metrics import checked_labels, checked_scores
from core.evaluation.ranked import Ranked, Steps

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


def roc_curve(labels: np.ndarray, scores: np.ndarray, draws: Draws | None = None) -> RocCurve:
    """labels (n,) 0/1, scores (n,) in [0, 1]."""
    ranked = _ranked(labels, scores, "A ROC curve")
    steps = ranked.observed
    false, true = (np.concatenate([[0], counts[:, 0]]) for counts in (steps.false_positives, steps.true_positives))
    n_positives, n_negatives = int(true[-1]), int(false[-1])
    low, high = _band(ranked, draws, _sensitivity_on_grid)
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


def precision_recall_curve(labels: np.ndarray, scores: np.ndarray, draws: Draws | None = None) -> PrecisionRecallCurve:
    """labels (n,) 0/1, scores (n,) in [0, 1]."""
    ranked = _ranked(labels, scores, "A precision-recall curve")
    true, called = ranked.observed.true_positives[:, 0], ranked.observed.called[:, 0]
    low, high = _band(ranked, draws, _precision_on_grid)
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


def _ranked(labels: np.ndarray, scores: np.ndarray, what: str) -> Ranked:
    is_positive, values = checked_labels(labels), checked_scores(scores, len(labels))
    require_both_classes(is_positive, what)
    return Ranked(is_positive, values)


def _band(
    ranked: Ranked, draws: Draws | None, on_grid: Callable[[Steps], np.ndarray]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if draws is None:
        return None, None
    samples = np.concatenate([on_grid(ranked.weighted(weights)) for weights in draws.blocks()])
    whole = samples[np.isfinite(samples).all(axis=1)]  # a draw without one of the classes has no curve
    if not len(whole):
        return None, None
    low, high = np.percentile(whole, (2.5, 97.5), axis=0)
    return low, high


def _sensitivity_on_grid(steps: Steps) -> np.ndarray:
    """(draws, grid): straight lines between points, as the area under the curve takes them."""
    draws = steps.cases.shape[1]
    zero = np.zeros((1, draws))
    with np.errstate(invalid="ignore"):
        rates = np.concatenate([zero, steps.false_positives / steps.n_negatives]).T  # (draws, points)
        found = np.concatenate([zero, steps.true_positives / steps.n_positives]).T
    # Draw after draw on one rising axis, 2 apart, so that a single interpolation serves all.
    offset = 2.0 * np.arange(draws)[:, None]
    return np.interp((GRID + offset).ravel(), (rates + offset).ravel(), found.ravel()).reshape(draws, len(GRID))


def _precision_on_grid(steps: Steps) -> np.ndarray:
    """(draws, grid): precision at the highest threshold that reaches the recall, without interpolation."""
    draws, points = steps.cases.shape[1], len(steps.thresholds)
    # A draw without positives has no recall; NaN here would break the one search that serves all draws.
    recall = (steps.true_positives / np.maximum(steps.n_positives, 1)).T  # (draws, points)
    precision = (steps.true_positives / np.maximum(steps.called, 1)).T
    offset = 2.0 * np.arange(draws)[:, None]
    place = np.searchsorted((recall + offset).ravel(), (GRID + offset - 1e-9).ravel()).reshape(draws, len(GRID))
    place = np.clip(place - points * np.arange(draws)[:, None], 0, points - 1)
    found = np.take_along_axis(precision, place, axis=1).astype(np.float64)
    found[steps.n_positives == 0] = np.nan
    return found
