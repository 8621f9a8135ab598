"""From logits to probabilities that mean what they say, with the uncertainty of that step.

Temperature scaling with a bias a class (bias-corrected temperature scaling, Alexandari, Kundaje & Shrikumar 2020); for
one logit this is Platt scaling (Platt 1999). Fitted on validation cases only. The bootstrap refits it on patients drawn
anew; the spread of the refitted probabilities is the interval a reader is shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat

_RIDGE = 1.0
"""Pull of log slope and biases towards the uncalibrated model, in cases: keeps a separable set from giving 0 and 1."""


class Calibration(BaseModel):
    """slope: what logits are multiplied with (1 / temperature). biases: added, one a class (the first is 0).

    samples: the same (slope, *biases) for each bootstrap refit, shape (n, 1 + classes).
    """

    model_config = ConfigDict(frozen=True)

    slope: FiniteFloat
    biases: tuple[FiniteFloat, ...]
    samples: tuple[tuple[FiniteFloat, ...], ...] = ()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(n, outputs) logits -> (n, classes) calibrated probabilities, rows summing to 1."""
        return _softmax(_per_class(logits) * self.slope + np.asarray(self.biases))

    def sampled(self, logits: np.ndarray, class_index: int) -> np.ndarray:
        """(n, outputs) logits -> (n, samples): the probability of one class under each bootstrap refit."""
        per_class = _per_class(logits)[:, None, :]  # (n, 1, classes)
        parameters = np.asarray(self.samples, np.float64).reshape(-1, 1 + per_class.shape[2])
        scaled = per_class * parameters[None, :, :1] + parameters[None, :, 1:]  # (n, samples, classes)
        return _softmax(scaled)[..., class_index]


def fit_calibration(
    logits: np.ndarray, labels: np.ndarray, groups: Sequence[str], *, samples: int = 200, seed: int = 0
) -> Calibration:
    """Fit on validation logits (n, outputs), labels (n,) as class indices; `groups` are patients for the bootstrap."""
    per_class = _per_class(logits)
    best = _fit(per_class, labels)
    rng = np.random.default_rng(seed)
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(group_of == index) for index in range(len(names))]
    refits: list[tuple[float, ...]] = []
    while len(refits) < samples:
        drawn = np.concatenate([members[index] for index in rng.integers(0, len(names), len(names))])
        if len(np.unique(labels[drawn])) == per_class.shape[1]:
            refits.append(tuple(float(round(value, 5)) for value in _fit(per_class[drawn], labels[drawn], start=best)))
    return Calibration(slope=float(best[0]), biases=tuple(float(value) for value in best[1:]), samples=tuple(refits))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """(n, classes) probabilities -> (n, outputs) logits as a graph would give them: one for two classes, else one each.

    Kept finite: nothing is nearer to 0 than 1e-6.
    """
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-6))
    return logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs


def _fit(per_class: np.ndarray, labels: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    from scipy.optimize import minimize

    n, classes = per_class.shape
    target = np.eye(classes)[labels]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        log_slope, biases = parameters[0], np.concatenate([[0.0], parameters[1:]])
        slope = np.exp(log_slope)
        probabilities = _softmax(per_class * slope + biases)
        value = -np.log(np.maximum((probabilities * target).sum(1), 1e-12)).mean()
        error = (probabilities - target) / n
        gradient = np.concatenate([[(error * per_class).sum() * slope], error.sum(0)[1:]])
        return value + _RIDGE / n * float(parameters @ parameters), gradient + 2 * _RIDGE / n * parameters

    first = np.zeros(classes) if start is None else np.concatenate([[np.log(start[0])], start[2:]])
    solution = minimize(loss, first, jac=True, method="L-BFGS-B").x
    return np.concatenate([[np.exp(solution[0]), 0.0], solution[1:]])


def _per_class(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    if logits.shape[1] == 1:  # one logit: that of the second class against the first
        return np.concatenate([np.zeros_like(logits), logits], axis=1)
    return logits


def _softmax(values: np.ndarray) -> np.ndarray:
    exponents = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(-1, keepdims=True))
