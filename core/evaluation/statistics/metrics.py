"""From the scores of test cases to measured numbers with 95 % intervals.

Everything here takes arrays and gives `Estimate`s or small dataclasses; `core.evaluation.charts_…` draw them. Intervals
come from a bootstrap that draws patients, except where a closed form is known to be better: DeLong for the area under
the ROC curve where every patient has one case, Wilson for shares at a threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import (
    Bootstrap,
    delong,
    one_case_each,
    percentile,
    require_both_classes,
    share,
)
from core.evaluation.statistics.ranked import Ranked, Steps
from core.types import Estimate

PREVALENCES = (0.005, 0.02, 0.5)
"""Screening, diagnostic work-up, a balanced test set: what predictive values are restated at."""

RANKED_MEASURES = {
    "average_precision": Steps.average_precision,
    "brier": Steps.brier,
    "ece": Steps.expected_calibration_error,
    "sensitivity_at_specificity_889": Steps.sensitivity_at_specificity,
    "specificity_at_sensitivity_869": Steps.specificity_at_sensitivity,
}
"""The measures of one score against 0/1, beside the area under the ROC curve; all from the bootstrap."""


def evaluate_binary(
    labels: np.ndarray,
    scores: np.ndarray,
    patients: np.ndarray | None = None,
    threshold: float | np.ndarray | None = None,
    seed: int = 0,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Estimate]:
    """All measures of one score.

    labels: (n,) 0/1, 1 is positive. scores: (n,) in [0, 1]. patients: (n,) names, None if every case is its own.
    threshold: a case is called positive at or above it, one for all or (n,) where folds have their own; adds the
    measures that end in `_at_threshold`.
    draws: bootstrap samples to share between scorers (of the same n cases).
    `auc` repeats `auc_delong` where every patient has one case and `auc_bootstrap` elsewhere. A predictive value that
    nobody was called for is NaN between 0 and 1 with n = 0. Refuses one class only, NaN and scores outside [0, 1].
    """
    is_positive, scores = checked_labels(labels), checked_scores(scores, len(labels))
    require_both_classes(is_positive, "The area under the ROC curve")
    ranked = Ranked(is_positive, scores)
    measures = {"auc": Steps.auc, **RANKED_MEASURES}
    samples: dict[str, list[np.ndarray]] = {name: [] for name in measures}
    for weights in (bootstrap or Bootstrap(patients, len(scores), seed=seed)).blocks():
        steps = ranked.weighted(weights)
        for name, measure in measures.items():
            samples[name].append(measure(steps))
    counted = {
        "sensitivity_at_specificity_889": int(is_positive.sum()),
        "specificity_at_sensitivity_869": int((~is_positive).sum()),
    }
    found = {
        name: percentile(
            float(measure(ranked.observed)[0]), np.concatenate(samples[name]), counted.get(name, len(scores))
        )
        for name, measure in measures.items()
    }
    found = {**_areas(is_positive, scores, found.pop("auc"), patients), **found}
    if threshold is not None:
        found |= evaluate_threshold(is_positive, scores, threshold, patients)
    return found


def _areas(
    is_positive: np.ndarray, scores: np.ndarray, bootstrapped: Estimate, patients: np.ndarray | None
) -> dict[str, Estimate]:
    area = delong(is_positive, scores)
    by_delong = Estimate(area.auc, area.low, area.high, len(scores))
    by_bootstrap = Estimate(area.auc, min(bootstrapped.low, area.auc), max(bootstrapped.high, area.auc), len(scores))
    if area.auc in (0.0, 1.0):
        # Every resample of a perfect order is perfect, too; the width must come from the number of cases.
        over_patients = delong(is_positive, scores, patients)
        by_bootstrap = Estimate(area.auc, over_patients.low, over_patients.high, len(scores))
    headline = by_delong if one_case_each(patients) else by_bootstrap
    return {"auc": headline, "auc_delong": by_delong, "auc_bootstrap": by_bootstrap}


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts at one threshold; a case is called positive where its score >= the threshold."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def n(self) -> int:
        return self.true_positives + self.false_positives + self.false_negatives + self.true_negatives


def confusion(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Confusion:
    """labels (n,) 0/1, scores (n,)."""
    is_positive, called = np.asarray(labels).astype(bool), np.asarray(scores) >= threshold
    return Confusion(
        float(threshold),
        int((is_positive & called).sum()),
        int((~is_positive & called).sum()),
        int((is_positive & ~called).sum()),
        int((~is_positive & ~called).sum()),
    )


def evaluate_threshold(
    labels: np.ndarray, scores: np.ndarray, threshold: float | np.ndarray, patients: np.ndarray | None = None
) -> dict[str, Estimate]:
    """Shares at one threshold (or (n,), a case's own) with Wilson intervals.

    Keys end in `_at_threshold`; n is what each share is of.
    """
    is_positive, called = np.asarray(labels).astype(bool), np.asarray(scores) >= threshold
    right = is_positive == called
    among = {
        "sensitivity": is_positive,
        "specificity": ~is_positive,
        "ppv": called,
        "npv": ~called,
        "accuracy": np.ones(len(right), bool),
    }
    return {
        f"{name}_at_threshold": share(right[chosen], None if patients is None else np.asarray(patients)[chosen])
        for name, chosen in among.items()
    }


def predictive_values(sensitivity: Estimate, specificity: Estimate, prevalence: float) -> tuple[Estimate, Estimate]:
    """(PPV, NPV) where a share `prevalence` of the women is positive, by Bayes' rule.

    A test set's own predictive values hold for its own mixture only. Intervals: the likelihood ratio's by MOVER (Zou &
    Donner 2008) from the intervals of its two parts.
    """
    if not 0 < prevalence < 1:
        raise InvalidInput(f"The prevalence is {prevalence:g}; it must lie between 0 and 1.")
    odds = prevalence / (1 - prevalence)
    n = sensitivity.n + specificity.n
    ppv = _posterior(odds, sensitivity, _complement(specificity), n)
    return ppv, _posterior(1 / odds, specificity, _complement(sensitivity), n)


def _posterior(odds: float, right: Estimate, wrong: Estimate, n: int) -> Estimate:
    """Probability after a call that is `right` among those it should name and `wrong` among the others."""

    def probability(of_right: float, of_wrong: float) -> float:
        return odds * of_right / (odds * of_right + of_wrong) if of_right or of_wrong else float("nan")

    if min(right.value, wrong.value, right.low, wrong.low) <= 0:
        # The logarithm of a ratio with a zero has no interval; the corners of both hold in any case.
        return Estimate(
            probability(right.value, wrong.value), probability(right.low, wrong.high),
            probability(right.high, wrong.low), n,
        )  # fmt: skip
    ratio = np.log(right.value / wrong.value)
    down = np.hypot(np.log(right.value / right.low), np.log(wrong.high / wrong.value))
    up = np.hypot(np.log(right.high / right.value), np.log(wrong.value / wrong.low))
    low, high = (float(1 / (1 + np.exp(-value) / odds)) for value in (ratio - down, ratio + up))
    return Estimate(probability(right.value, wrong.value), low, high, n)


def _complement(part: Estimate) -> Estimate:
    return Estimate(1 - part.value, 1 - part.high, 1 - part.low, part.n)


# ---- three classes and more --------------------------------------------------------------------------------------


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """(classes, classes) int64: rows are the true class, columns the predicted one."""
    cells = np.asarray(labels, np.int64) * n_classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def evaluate_classes(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    patients: np.ndarray | None = None,
    seed: int = 0,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Estimate]:
    """All measures over classes; the predicted class is the one with the highest probability (the first of equals).

    labels: (n,) indices into `classes`. probabilities: (n, classes) in [0, 1]. Keys: accuracy, balanced_accuracy,
    kappa, mcc, macro_ and weighted_ (by the classes' frequency) precision, recall, specificity and f1, macro_auc (one
    against the rest), macro_average_precision, majority_accuracy (what always naming the most frequent class gives),
    and for each class auc_CLASS, average_precision_CLASS, precision_CLASS, recall_CLASS, specificity_CLASS, f1_CLASS.
    Definitions are scikit-learn's, with 0 for a precision or F1 that nobody was called for.
    """
    labels, probabilities = _checked_classes(labels, probabilities, classes)
    n, n_classes = len(labels), len(classes)
    cells = labels * n_classes + probabilities.argmax(axis=1)
    one_hot = np.eye(n_classes**2, dtype=np.float32)[:, cells]  # (cells, n)
    ranked = [Ranked(labels == index, probabilities[:, index]) for index in range(n_classes)]
    observed = _class_measures(np.bincount(cells, minlength=n_classes**2)[:, None], ranked, None, classes)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in observed}
    for weights in (bootstrap or Bootstrap(patients, n, seed=seed)).blocks():
        for name, values in _class_measures(one_hot @ weights, ranked, weights, classes).items():
            samples[name].append(values)
    counted: dict[str, int] = {f"recall_{name}": int((labels == index).sum()) for index, name in enumerate(classes)}
    found = {
        name: percentile(float(values[0]), np.concatenate(samples[name]), counted.get(name, n))
        for name, values in observed.items()
    }
    return {**found, "majority_accuracy": majority_accuracy(labels, patients)}


def majority_accuracy(labels: np.ndarray, patients: np.ndarray | None = None) -> Estimate:
    """Accuracy of always naming the most frequent class: what any accuracy has to beat."""
    _, index = np.unique(np.asarray(labels), return_inverse=True)
    return share(index == np.bincount(index).argmax(), patients)


def _class_measures(
    cells: np.ndarray, ranked: Sequence[Ranked], weights: np.ndarray | None, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """cells: (classes * classes, draws) counts. Every value (draws,)."""
    k = len(classes)
    table = cells.astype(np.float64).reshape(k, k, -1)  # (true, predicted, draws)
    total, hits = table.sum((0, 1)), np.einsum("iid->id", table)
    true, called = table.sum(1), table.sum(0)  # (classes, draws)
    recall = _share_or_nan(hits, true)
    precision, f1 = hits / np.maximum(called, 1), 2 * hits / np.maximum(true + called, 1)
    chance = (true * called).sum(0)
    covariance = hits.sum(0) * total - chance
    spread = np.sqrt(total**2 - (called**2).sum(0)) * np.sqrt(total**2 - (true**2).sum(0))
    specificity = _share_or_nan(total - true - called + hits, total - true)
    steps = [one.observed if weights is None else one.weighted(weights) for one in ranked]
    areas = np.array([one.auc() for one in steps])
    average_precision = np.array([one.average_precision() for one in steps])
    found = {
        "accuracy": hits.sum(0) / total,
        "balanced_accuracy": recall.mean(0),
        "macro_precision": precision.mean(0),
        "macro_recall": recall.mean(0),
        "macro_specificity": specificity.mean(0),
        "macro_f1": f1.mean(0),
        "weighted_precision": (precision * true).sum(0) / total,
        "weighted_recall": hits.sum(0) / total,
        "weighted_specificity": (specificity * true).sum(0) / total,
        "weighted_f1": (f1 * true).sum(0) / total,
        "kappa": _share_or_nan(covariance, total**2 - chance),
        "mcc": np.where(spread > 0, covariance / np.where(spread > 0, spread, 1), 0.0),
        "macro_auc": areas.mean(0),
        "macro_average_precision": average_precision.mean(0),
    }
    for index, name in enumerate(classes):
        found |= {
            f"auc_{name}": areas[index],
            f"average_precision_{name}": average_precision[index],
            f"precision_{name}": precision[index],
            f"recall_{name}": recall[index],
            f"specificity_{name}": specificity[index],
            f"f1_{name}": f1[index],
        }
    return found


def _share_or_nan(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.where(whole > 0, whole, np.nan)


# ---- several seeds, folds or sites -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spread:
    """One measure over several seeds: its mean, the standard deviation between seeds (NaN for one), and how many."""

    mean: float
    deviation: float
    lowest: float
    highest: float
    seeds: int


def spread(runs: Sequence[Mapping[str, Estimate]]) -> dict[str, Spread]:
    """Mean and spread of every measure that all runs have."""
    shared = [name for name in runs[0] if all(name in run for run in runs)] if runs else []
    found = {}
    for name in shared:
        values = np.array([run[name].value for run in runs])
        deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        found[name] = Spread(float(values.mean()), deviation, float(values.min()), float(values.max()), len(values))
    return found


# ---- what may come in --------------------------------------------------------------------------------------------


def checked_labels(labels: np.ndarray) -> np.ndarray:
    """(n,) bool from 0/1; refuses everything else, naming the case by its place."""
    values = np.asarray(labels, np.float64)
    strange = np.flatnonzero((values != 0) & (values != 1))
    if len(strange):
        raise InvalidInput(f"The label of case {strange[0] + 1} is neither 0 nor 1. Correct it or leave the case out.")
    return np.asarray(values == 1)


def checked_scores(scores: np.ndarray, n: int) -> np.ndarray:
    """(n,) float64 in [0, 1]; refuses NaN and what lies outside, naming the case by its place."""
    values = np.asarray(scores, np.float64)
    if values.shape != (n,):
        raise ValueError(f"scores must have shape ({n},), not {values.shape}")
    strange = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(strange):
        what = "not a number" if np.isnan(values[strange[0]]) else "outside 0 to 1"
        raise InvalidInput(f"The score of case {strange[0] + 1} is {what}. Correct it or leave the case out.")
    return values


def _checked_classes(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(probabilities, np.float64)
    if values.shape != (len(labels), len(classes)):
        raise ValueError(f"probabilities must have shape ({len(labels)}, {len(classes)}), not {values.shape}")
    for column in range(values.shape[1]):
        checked_scores(values[:, column], len(values))
    index = np.asarray(labels, np.float64)
    strange = np.flatnonzero(~np.isin(index, np.arange(len(classes))))
    if len(strange):
        raise InvalidInput(f"The label of case {strange[0] + 1} is none of {', '.join(classes)}. Correct it.")
    absent = [name for number, name in enumerate(classes) if not (index == number).any()]
    if absent or len(classes) < 2:
        raise InvalidInput(
            f"Measures over classes need cases of every class; there is none of {', '.join(absent) or 'a second one'}."
        )
    return index.astype(np.int64), values
