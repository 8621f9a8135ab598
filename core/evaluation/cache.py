"""The numbers of one cohort, each computed once: a slider or one more scorer must not repeat the bootstrap."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import RLock
from typing import TypeVar

import numpy as np

from core.errors import AppError
from core.evaluation.statistics.calibration import (
    BrierParts,
    CalibrationLine,
    brier_parts,
    calibration_line,
    reliability,
)
from core.evaluation.statistics.calibration import ReliabilityBin as Bin
from core.evaluation.statistics.comparison import McNemarTest, PairedTest, compare_areas
from core.evaluation.statistics.curves import (
    DecisionCurve,
    PrecisionRecallCurve,
    RocCurve,
    decision_curve,
    precision_recall_curve,
    roc_curve,
)
from core.evaluation.statistics.intervals import N_RESAMPLES, Bootstrap
from core.evaluation.statistics.operating_points import Threshold, compare_calls_by_class
from core.evaluation.statistics.subgroups import Subgroup, number_bands, subgroups
from core.evaluation.statistics.summary import ScorerResult, evaluate_scorer
from core.evaluation.tables.cohort import Cohort

_FEWEST_RESAMPLES = 200
_CASES_FOR_ALL = 10_000
"""Up to so many cases the bootstrap draws all of `N_RESAMPLES`; beyond, chance between draws matters less."""
_THREADS = 2
_CALLS_MOST = 16
T = TypeVar("T")


def resamples_for(n: int) -> int:
    """How many bootstrap samples a table of n cases gets."""
    return max(_FEWEST_RESAMPLES, min(N_RESAMPLES, N_RESAMPLES * _CASES_FOR_ALL // max(n, 1)))


class ComparisonCache:
    """Measures of a cohort's scorers, kept after they were asked for. May be shared between threads."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.resamples = resamples_for(cohort.table.n)
        self._bootstrap = Bootstrap(cohort.table.patients, cohort.table.n, resamples=self.resamples)
        self._cached: dict[Hashable, object] = {}
        self._calls: OrderedDict[Hashable, dict[str, tuple[McNemarTest, ...]]] = OrderedDict()
        self._lock = RLock()

    def results(self, names: Sequence[str]) -> dict[str, ScorerResult]:
        return self._each("result", names, lambda name: evaluate_scorer(self.cohort.table, name, self._bootstrap))

    def roc(self, names: Sequence[str], *, with_bands: bool = True) -> dict[str, RocCurve]:
        """with_bands: what takes long, and is seen only where few curves are drawn."""
        if not with_bands:
            return self._each("points", names, lambda name: roc_curve(*self._known(name)[:2]), draws=False)
        return self._each("roc", names, lambda name: roc_curve(*self._scored(name)))

    def precision_recall(self, names: Sequence[str], *, with_bands: bool = True) -> dict[str, PrecisionRecallCurve]:
        """As `roc`."""
        if not with_bands:
            return self._each(
                "pr points", names, lambda name: precision_recall_curve(*self._known(name)[:2]), draws=False
            )
        return self._each("pr", names, lambda name: precision_recall_curve(*self._scored(name)))

    def decision(self, names: Sequence[str]) -> dict[str, DecisionCurve]:
        return self._each("decision", names, lambda name: decision_curve(*self._scored(name)))

    def reliability(self, names: Sequence[str]) -> dict[str, tuple[Bin, ...]]:
        return self._each("bins", names, lambda name: reliability(*self._known(name)))

    def brier(self, names: Sequence[str]) -> dict[str, BrierParts]:
        return self._each("brier", names, lambda name: brier_parts(*self._known(name)[:2]))

    def calibration(self, names: Sequence[str]) -> dict[str, CalibrationLine | str]:
        """The line, or the sentence that says why there is none."""

        def line(name: str) -> CalibrationLine | str:
            try:
                return calibration_line(*self._known(name))
            except AppError as refused:
                return str(refused)

        return self._each("line", names, line)

    def pairs(self, names: Sequence[str]) -> tuple[PairedTest, ...]:
        """All pairs of these scorers; Holm's correction is over exactly these."""
        table = self.cohort.table
        chosen = {name: table.scorers[name] for name in names}

        def compute() -> tuple[PairedTest, ...]:
            return compare_areas(self._labels(), chosen, self._bootstrap) if len(chosen) > 1 else ()

        return self._once(("pairs", tuple(names)), compute)

    def calls(self, thresholds: Mapping[str, Threshold]) -> dict[str, tuple[McNemarTest, ...]]:
        """`compare_calls_by_class` at these thresholds; the last few are kept, for a slider that goes back."""
        key = tuple((name, np.asarray(one, np.float64).tobytes()) for name, one in thresholds.items())
        with self._lock:
            if key not in self._calls:
                self._calls[key] = compare_calls_by_class(self.cohort.table, thresholds)
                while len(self._calls) > _CALLS_MOST:
                    self._calls.popitem(last=False)
            self._calls.move_to_end(key)
            return self._calls[key]

    def subgroups(self, column: str, name: str) -> tuple[Subgroup, ...]:
        """The area in every subgroup of a column."""
        table = self.cohort.table

        def compute() -> tuple[Subgroup, ...]:
            values = number_bands(table.subgroups[column].to_numpy(object))
            return subgroups(
                column, values, self._labels(), table.scorers[name], table.patients, resamples=self.resamples
            )

        return self._once(("subgroups", column, name), compute)

    # ---- pieces ----

    def _labels(self) -> np.ndarray:
        labels = self.cohort.table.is_positive
        assert labels is not None  # a cohort has a positive class
        return labels

    def _known(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores = self.cohort.table.scorers[name]
        scored = ~np.isnan(scores)
        return self._labels()[scored], scores[scored], self.cohort.table.patients[scored]

    def _scored(self, name: str) -> tuple[np.ndarray, np.ndarray, Bootstrap]:
        scored = ~np.isnan(self.cohort.table.scorers[name])
        return (*self._known(name)[:2], self._bootstrap.only(scored))

    def _once(self, key: Hashable, compute: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._cached:
                self._cached[key] = compute()
            return self._cached[key]  # type: ignore[return-value]

    def _each(
        self, what: str, names: Sequence[str], compute: Callable[[str], T], *, draws: bool = True
    ) -> dict[str, T]:
        with self._lock:
            missing = [name for name in names if (what, name) not in self._cached]
            if missing and draws:
                next(self._bootstrap.blocks())  # drawn once, before threads share them
            if len(missing) > 1:
                with ThreadPoolExecutor(_THREADS) as pool:
                    found = list(pool.map(compute, missing))
            else:
                found = [compute(name) for name in missing]
            self._cached |= {(what, name): one for name, one in zip(missing, found, strict=True)}
            return {name: self._cached[what, name] for name in names}  # type: ignore[misc]
