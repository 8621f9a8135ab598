"""Where scorers stand at one operating point: thresholds, counts, shares, and who is clearly best there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.evaluation.statistics.comparison import McNemarTest, PairedTest, compare_calls
from core.evaluation.statistics.curves import RocCurve
from core.evaluation.statistics.metrics import Confusion, confusion, evaluate_threshold
from core.evaluation.statistics.ranked import fewest_cases
from core.evaluation.tables.scores import ScoreTable
from core.types import Estimate

Threshold = float | np.ndarray
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class OperatingRow:
    """One scorer at its threshold (NaN where its folds have different ones). shares: as `evaluate_threshold`."""

    name: str
    threshold: float
    counts: Confusion
    shares: Mapping[str, Estimate]

    @property
    def false_positive_rate(self) -> float:
        return 1 - self.shares["specificity_at_threshold"].value

    @property
    def sensitivity(self) -> float:
        return self.shares["sensitivity_at_threshold"].value


def thresholds_at_specificity(curves: Mapping[str, RocCurve], specificity: float) -> dict[str, float]:
    """Of every scorer the lowest threshold whose specificity on these cases is at least `specificity`.

    Infinite where a scorer must call nobody. Chosen on the cases shown, so the sensitivity there flatters a little.
    """
    found = {}
    for name, curve in curves.items():
        enough = 1 - curve.false_positive_rate >= specificity - 1e-12
        found[name] = float(curve.thresholds[np.flatnonzero(enough)[-1]])
    return found


def threshold_at_sensitivity(is_positive: np.ndarray, scores: np.ndarray, target: float) -> float:
    """The highest threshold that still finds the share `target` (0 to 1) of the positive cases; there must be some.

    Laid half-way to the next lower score, so that a score computed anew on another machine stays on its side. Arrays
    (n,).
    """
    found = np.sort(scores[is_positive])[::-1]
    last = float(found[max(1, int(fewest_cases(np.asarray(len(found)), target))) - 1])
    below = float(scores[scores < last].max(initial=0.0))
    middle = round((last + below) / 2, 7)  # scores are stored with six decimals: this is between them, exactly
    return middle if below < middle <= last else last


def operating_rows(table: ScoreTable, thresholds: Mapping[str, Threshold]) -> tuple[OperatingRow, ...]:
    """Every scorer of `thresholds` on the cases it scored."""
    assert table.is_positive is not None
    rows = []
    for name, threshold in thresholds.items():
        scores = table.scorers[name]
        scored = ~np.isnan(scores)
        own = threshold[scored] if isinstance(threshold, np.ndarray) else threshold
        labels, patients = table.is_positive[scored], table.patients[scored]
        calls = (scores[scored] >= own).astype(np.float64)
        shares = evaluate_threshold(labels, calls, 0.5, patients)
        rows.append(OperatingRow(name, _one(threshold), confusion(labels, calls, 0.5), shares))
    return tuple(rows)


def compare_calls_by_class(
    table: ScoreTable, thresholds: Mapping[str, Threshold]
) -> dict[str, tuple[McNemarTest, ...]]:
    """McNemar's test of all pairs on positive cases ("sensitivity"), on the others ("specificity"), and on all
    ("accuracy"), each with Holm's correction over its pairs."""
    assert table.is_positive is not None
    chosen = {
        "sensitivity": table.is_positive,
        "specificity": ~table.is_positive,
        "accuracy": np.ones(table.n, bool),
    }
    return {
        measure: compare_calls(
            table.is_positive[which],
            {name: table.scorers[name][which] for name in thresholds},
            {name: one[which] if isinstance(one, np.ndarray) else one for name, one in thresholds.items()},
            table.patients[which],
        )
        for measure, which in chosen.items()
    }


def clear_best(values: Mapping[str, float], differs: Callable[[str, str], bool]) -> str | None:
    """The scorer with the highest value, if it differs from every other one; None otherwise, or with only one."""
    known = {name: value for name, value in values.items() if not np.isnan(value)}
    if len(known) < 2 or len(known) < len(values):
        return None
    best = max(known, key=lambda name: known[name])
    return best if all(differs(best, other) for other in known if other != best) else None


def differ_by(tests: Sequence[PairedTest] | Sequence[McNemarTest]) -> Callable[[str, str], bool]:
    """Whether two scorers differ: adjusted p below 5 % and, for areas, an interval of the difference without 0.

    The test assumes a normal distribution, the interval from draws of patients does not: both must agree.
    """
    found = {frozenset((test.first, test.second)): _is_clear(test) for test in tests}
    return lambda one, other: found.get(frozenset((one, other)), False)


def _is_clear(test: PairedTest | McNemarTest) -> bool:
    if not test.p_holm < SIGNIFICANT:
        return False
    if isinstance(test, PairedTest) and np.isfinite([test.low, test.high]).all():
        return test.low > 0 or test.high < 0
    return True


def _one(threshold: Threshold) -> float:
    values = np.unique(threshold)
    return float(values[0]) if len(values) == 1 else float("nan")
