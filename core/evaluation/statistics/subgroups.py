"""A number for all may hide a failure for some: the area and the calls in every subgroup of a column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.evaluation.statistics.intervals import (
    N_RESAMPLES,
    Bootstrap,
    delong,
    n_patients,
    one_case_each,
    percentile,
    share,
)
from core.evaluation.statistics.metrics import checked_labels, checked_scores
from core.evaluation.statistics.ranked import Ranked
from core.types import Estimate

SMALL = 20
"""Below this many cases a subgroup is shown greyed out."""
FEWEST_OF_A_CLASS = 5
"""With positives of fewer patients, or others of fewer, an area says nothing: none is shown, whatever its interval. Ten
pictures of one woman are drawn together, so their interval would be of the others alone."""
MAX_GROUPS = 40
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Subgroup:
    """auc: None where a class of the subgroup has fewer than `FEWEST_OF_A_CLASS` patients. sensitivity, specificity:
    None without a threshold."""

    column: str
    value: str
    n: int
    positives: int
    auc: Estimate | None
    sensitivity: Estimate | None
    specificity: Estimate | None

    @property
    def is_small(self) -> bool:
        return self.n < SMALL


def subgroups(
    column: str,
    values: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    patients: np.ndarray | None = None,
    *,
    threshold: float | None = None,
    resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """values (n,) text, one group each (empty: not stated); by size, the largest first, at most `MAX_GROUPS`.

    scores: NaN where the scorer has none; such cases count nowhere. `number_bands` makes groups of a column of numbers.
    """
    retained = ~np.isnan(np.asarray(scores, np.float64))
    is_positive, known = (
        checked_labels(labels)[retained],
        checked_scores(np.asarray(scores)[retained], int(retained.sum())),
    )
    named = np.array([str(value).strip() or NOT_STATED for value in np.asarray(values, object)[retained]], object)
    people = None if patients is None else np.asarray(patients)[retained]
    names, counts = np.unique(named.astype(str), return_counts=True)
    found = []
    for name in names[np.argsort(-counts, kind="stable")][:MAX_GROUPS]:
        chosen = named == name
        some = None if people is None else people[chosen]
        truth, calls = is_positive[chosen], known[chosen] >= (threshold if threshold is not None else 0)
        sensitivity = specificity = None
        if threshold is not None:
            sensitivity = share(calls[truth], None if some is None else some[truth])
            specificity = share(~calls[~truth], None if some is None else some[~truth])
        rarer = min(n_patients(one, some) for one in (truth, ~truth))
        area = _area(truth, known[chosen], some, resamples, seed) if rarer >= FEWEST_OF_A_CLASS else None
        found.append(Subgroup(column, str(name), len(truth), int(truth.sum()), area, sensitivity, specificity))
    return tuple(found)


def _area(
    is_positive: np.ndarray, scores: np.ndarray, patients: np.ndarray | None, resamples: int, seed: int
) -> Estimate:
    area = delong(is_positive, scores, patients)
    if one_case_each(patients) or area.auc in (0.0, 1.0):
        return Estimate(area.auc, area.low, area.high, len(scores))
    ranked = Ranked(is_positive, scores)
    bootstrap = Bootstrap(patients, len(scores), resamples=resamples, seed=seed)
    return percentile(area.auc, np.concatenate([ranked.weighted(one).auc() for one in bootstrap.blocks()]), len(scores))


def number_bands(values: np.ndarray, *, n_bands: int = 4) -> np.ndarray:
    """(n,) text: the quarter a number lies in ("12 to 19"), empty where a cell is no number; for sizes and ages.

    A column that is not mostly numbers, or has at most `2 * n_bands` different ones, is given back as it is.
    """
    numbers = np.array([_number(value) for value in values])
    finite = np.isfinite(numbers)
    if finite.mean() <= 0.5 or len(np.unique(numbers[finite])) <= 2 * n_bands:
        return np.asarray(values, object)
    edges = np.unique(np.quantile(numbers[finite], np.linspace(0, 1, n_bands + 1), method="nearest"))
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    named = [
        f"{edges[index]:g} to {'' if index == len(edges) - 2 else 'below '}{edges[index + 1]:g}" for index in place
    ]
    return np.where(finite, np.array(named, object), "")


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return float("nan")
