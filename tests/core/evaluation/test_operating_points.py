"""Who is called clearly best, exactly at the limit; and the highest threshold of a wished specificity."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.statistics.comparison import ByCase, McNemarTest, PairedTest
from core.evaluation.statistics.curves import roc_curve
from core.evaluation.statistics.intervals import Bootstrap
from core.evaluation.statistics.operating_points import clear_best, differ_by, thresholds_at_specificity


def areas(p: float, p_holm: float, low: float = 0.01, high: float = 0.2) -> PairedTest:
    return PairedTest("a", "b", 100, 50, 0.1, 0.05, 2.0, p, p_holm, low, high, ByCase(0.05, 2.0, p, p_holm))


def calls(p: float, p_holm: float) -> McNemarTest:
    return McNemarTest("a", "b", 100, 20, 5, p, p_holm)


@pytest.mark.parametrize("test", [areas, calls])
def test_two_differ_by_the_adjusted_p_alone_and_only_below_a_twentieth(test: object) -> None:
    def differ(p: float, p_holm: float) -> bool:
        return differ_by([test(p, p_holm)])("b", "a")  # type: ignore[operator]

    assert differ(0.01, 0.0499) and not differ(0.01, 0.05)
    assert not differ(0.001, 0.19)  # clear before the correction over all pairs, not after it
    assert not differ(0.001, float("nan"))


@pytest.mark.parametrize(
    ("low", "high", "differs"),
    [(0.001, 0.2, True), (0.0, 0.2, False), (-0.2, -0.001, True), (-0.2, 0.0, False), (-0.1, 0.1, False)],
)
def test_areas_differ_only_where_the_interval_is_without_0(low: float, high: float, differs: bool) -> None:
    assert differ_by([areas(0.001, 0.001, low, high)])("a", "b") is differs


def test_without_an_interval_the_test_decides() -> None:
    assert differ_by([areas(0.001, 0.001, float("nan"), float("nan"))])("a", "b")
    assert not differ_by([areas(0.001, 0.001)])("a", "c")  # never compared


def test_the_best_must_differ_from_every_other() -> None:
    values = {"a": 0.9, "b": 0.8, "c": 0.7}
    assert clear_best(values, lambda one, other: True) == "a"
    assert clear_best(values, lambda one, other: other != "c") is None
    assert clear_best(values, lambda one, other: other != "b") is None
    assert clear_best({**values, "d": float("nan")}, lambda one, other: True) is None


def test_the_lowest_threshold_of_a_specificity_is_taken_exactly_at_it() -> None:
    positive = np.array([True] * 4 + [False] * 4)
    scores = np.array([0.9, 0.8, 0.35, 0.2, 0.7, 0.3, 0.1, 0.05])
    curve = roc_curve(positive, scores, Bootstrap(np.arange(8).astype(str), 8, resamples=200))
    assert thresholds_at_specificity({"x": curve}, 0.75) == {"x": 0.35}
    assert thresholds_at_specificity({"x": curve}, 0.76) == {"x": 0.8}
    assert thresholds_at_specificity({"x": curve}, 0.5) == {"x": 0.2}


def test_no_one_is_the_best_alone_or_beside_one_that_could_not_be_measured() -> None:
    for values, best in (
        ({"a": 0.9}, None),
        ({"a": 0.9, "b": 0.8}, "a"),
        ({"a": 0.8, "b": 0.9}, "b"),
        ({"a": 0.9, "b": float("nan")}, None),
        ({"a": 0.9, "b": 0.8, "c": float("nan")}, None),
        ({}, None),
    ):
        assert clear_best(values, lambda one, other: True) == best
