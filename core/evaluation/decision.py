"""Is acting on a score better than acting on everybody or nobody? Decision curves (Vickers & Elkin 2006).

Net benefit at threshold probability t: true positives per case minus false positives per case times t / (1 - t), the
odds at which a person who acts at t values a false alarm against a missed cancer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.errors import InvalidInput
from core.evaluation.intervals import Draws
from core.evaluation.metrics import checked_labels, checked_scores
from core.evaluation.ranked import Ranked, Steps

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
    labels: np.ndarray, scores: np.ndarray, draws: Draws | None = None, *, thresholds: np.ndarray = THRESHOLDS
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
    if draws is not None:
        samples = [_net_benefit(ranked.weighted(weights), thresholds) for weights in draws.blocks()]
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
    return (true - false * (thresholds / (1 - thresholds))[:, None]) / steps.called[-1].astype(np.float64)
