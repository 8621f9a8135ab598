"""The binormal ROC curve of one reader under one modality, fitted by maximum likelihood.

Scores are taken as ordered categories of a latent decision variable that is normal(0, 1) in negatives and
normal(a / b, 1 / b^2) in positives, so that the curve is sensitivity = Phi(a + b * Phi^-1(1 - specificity)) and its
area Phi(a / sqrt(1 + b^2)): Dorfman & Alf 1969 (J Math Psychol 6:487). Scores on a fine scale are cut into at most
`MOST_CATEGORIES`, each with about the same share of both kinds; neighbours that hold one kind alone are then one
category, which loses nothing of the likelihood (Metz, Herman & Shen 1998, Stat Med 17:1033).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri

from core.evaluation.statistics.reader_study import ReaderStudy

MOST_CATEGORIES = 20
FITTED, DEGENERATE, NOT_CONVERGED, TOO_FEW = "fitted", "degenerate", "did not converge", "too few reads"
WORDS = {
    DEGENERATE: "the likelihood has no maximum inside the model: the points lie on a curve of straight edges",
    NOT_CONVERGED: "the likelihood's maximum was not found",
    TOO_FEW: "fewer than two positive or two negative cases were read",
}
"""Why there is no curve."""
SEPARATION_MOST, SLOPES = 8.0, (0.05, 20.0)
"""Beyond these a fit is degenerate: the curve cannot be told from one of straight edges, and a and b run on."""
_GRADIENT_MOST = 1e-3
_LEAST = 1e-300


@dataclass(frozen=True, slots=True)
class BinormalFit:
    """a, b, area: NaN unless state is `FITTED`. log_likelihood: at the maximum. state: one of the words above.

    has_hook: whether the curve lies visibly below the diagonal somewhere, which no rational reader's does.
    """

    a: float
    b: float
    area: float
    log_likelihood: float
    state: str
    has_hook: bool = False

    @property
    def remark(self) -> str:
        """What a reader of the numbers should know: why there are none, or where the curve is odd; "" elsewhere."""
        if self.state != FITTED:
            return f"{self.state}: {WORDS[self.state]}"
        return "below the diagonal in a part" if self.has_hook else ""

    def sensitivity(self, false_positive_rate: np.ndarray) -> np.ndarray:
        """The curve's height at rates in [0, 1]."""
        return np.asarray(ndtr(self.a + self.b * ndtri(false_positive_rate)))


def fit_binormal(positives: np.ndarray, negatives: np.ndarray) -> BinormalFit:
    """The curve of the scores of positive and of negative cases, each (n,), higher more suspicious; NaN is no read."""
    given = [scores[~np.isnan(scores)] for scores in (positives, negatives)]
    if min(len(scores) for scores in given) < 2:
        return _without(TOO_FEW)
    counts = _categories(*given)
    if not _has_maximum(counts):
        return _without(DEGENERATE)
    start = _start(counts)
    found = minimize(_loss, start, args=(counts,), jac=True, method="BFGS", options={"maxiter": 500, "gtol": 1e-6})
    a, b = float(found.x[0]), float(np.exp(found.x[1]))
    if not SLOPES[0] < b < SLOPES[1] or abs(a) > SEPARATION_MOST * max(b, 1.0):
        return _without(DEGENERATE)
    if not np.isfinite(found.fun) or np.abs(found.jac).max() > _GRADIENT_MOST * counts.sum():
        return _without(NOT_CONVERGED)
    return BinormalFit(a, b, float(ndtr(a / np.hypot(1, b))), -float(found.fun), FITTED, _has_hook(a, b))


def fits_of(study: ReaderStudy) -> dict[str, dict[str, BinormalFit]]:
    """Modality -> reader -> the curve of the cases that the reader read."""
    return {
        modality: {
            reader: fit_binormal(scores[study.is_positive], scores[~study.is_positive])
            for reader, scores in zip(study.readers, by_reader, strict=True)
        }
        for modality, by_reader in zip(study.modalities, study.scores, strict=True)
    }


def _without(state: str) -> BinormalFit:
    nan = float("nan")
    return BinormalFit(nan, nan, nan, nan, state)


def _has_hook(a: float, b: float) -> bool:
    """Whether the curve is below the diagonal by a hundredth or more anywhere."""
    rates = np.linspace(0, 1, 201)[1:-1]
    return bool((rates - ndtr(a + b * ndtri(rates)) > 0.01).any())


def _categories(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(2, categories) counts from the lowest category up, negatives first; no category is empty."""
    values, place = np.unique(np.concatenate([negatives, positives]), return_inverse=True)
    is_positive = np.arange(len(place)) >= len(negatives)
    counts = np.array([np.bincount(place[kind], minlength=len(values)) for kind in (~is_positive, is_positive)])
    if counts.shape[1] > MOST_CATEGORIES:
        share = np.cumsum(counts / counts.sum(axis=1, keepdims=True), axis=1).mean(axis=0)
        group = np.minimum((share - 1e-12) * MOST_CATEGORIES, MOST_CATEGORIES - 1).astype(int)
        counts = np.add.reduceat(counts, np.flatnonzero(np.concatenate([[True], np.diff(group) > 0])), axis=1)
    # Neighbours that hold only positives, or only negatives, are one category.
    pure = np.where(counts[1] == 0, -1, np.where(counts[0] == 0, 1, 0))
    is_new = np.concatenate([[True], (pure[1:] != pure[:-1]) | (pure[1:] == 0)])
    return np.asarray(np.add.reduceat(counts, np.flatnonzero(is_new), axis=1))


def _has_maximum(counts: np.ndarray) -> bool:
    """Whether some cut calls part of both kinds: without such a point any steep or flat enough curve fits best."""
    upward = np.cumsum(counts[:, ::-1], axis=1)[:, :-1] / counts.sum(axis=1, keepdims=True)
    return bool(((upward > 0) & (upward < 1)).all(axis=0).any())


def _start(counts: np.ndarray) -> np.ndarray:
    """a, log b, the lowest cut and the logarithms of the steps to the next: from the points' regression, moved off 0
    and 1 by half a case."""
    totals = counts.sum(axis=1, keepdims=True)
    below = (np.cumsum(counts, axis=1)[:, :-1] + 0.5) / (totals + 1)
    cuts, of_positives = ndtri(below[0]), ndtri(below[1])
    b = float(np.clip(np.polyfit(cuts, of_positives, 1)[0], 0.2, 5.0)) if np.ptp(cuts) > 0.1 else 1.0
    a = float(np.mean(b * cuts - of_positives))
    return np.concatenate([[a, np.log(b), cuts[0]], np.log(np.maximum(np.diff(cuts), 0.02))])


def _loss(parameters: np.ndarray, counts: np.ndarray) -> tuple[float, np.ndarray]:
    """Minus the log likelihood and its gradient by a, log b, the lowest cut and the logarithms of the steps."""
    a, b = parameters[0], np.exp(np.clip(parameters[1], -5, 5))
    steps = np.exp(np.clip(parameters[3:], -30, 5))
    cuts = parameters[2] + np.concatenate([[0.0], np.cumsum(steps)])
    total, of_cuts, gradient = 0.0, np.zeros(len(cuts)), np.zeros(len(parameters))
    for count, at, slope in ((counts[0], cuts, 1.0), (counts[1], b * cuts - a, b)):
        ends = np.concatenate([[-np.inf], at, [np.inf]])
        # The upper tail where a category lies there: a difference of two numbers near 1 would be 0.
        is_high = ends[:-1] > 0
        share = np.where(is_high, ndtr(-ends[:-1]) - ndtr(-ends[1:]), ndtr(ends[1:]) - ndtr(ends[:-1]))
        total -= float(count @ np.log(np.maximum(share, _LEAST)))
        ratio = count / np.maximum(share, _LEAST)
        density = np.exp(-0.5 * at**2) / np.sqrt(2 * np.pi)
        by_end = density * (ratio[1:] - ratio[:-1])  # of minus the log likelihood, by each end
        of_cuts += slope * by_end
        if slope is b:
            gradient[0] = -by_end.sum()
            gradient[1] = float((by_end * cuts).sum()) * b
    gradient[2] = of_cuts.sum()
    gradient[3:] = np.cumsum(of_cuts[::-1])[::-1][1:] * steps
    return total, gradient
