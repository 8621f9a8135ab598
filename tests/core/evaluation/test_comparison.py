"""Paired tests against slower second computations and published golden values."""

from __future__ import annotations

import json
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from core.evaluation.statistics.agreement import agreement, cohen_kappa
from core.evaluation.statistics.comparison import compare_areas, compare_calls, holm, mcnemar_p, signs_p
from core.evaluation.statistics.intervals import Bootstrap, delong


def slow_paired(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Difference and standard error from the full covariance matrix of the two areas."""
    rows, columns = [], []
    for scores in (one, other):
        won = (scores[labels][:, None] > scores[~labels]) + 0.5 * (scores[labels][:, None] == scores[~labels])
        rows.append(won.mean(1))
        columns.append(won.mean(0))
    covariance = np.cov(rows) / labels.sum() + np.cov(columns) / (~labels).sum()
    contrast = np.array([1, -1])
    return rows[0].mean() - rows[1].mean(), np.sqrt(contrast @ covariance @ contrast)


def test_golden_pairs_of_the_reader_study(test_data: Path):
    folder = test_data / "data" / "reader_study"
    table = pd.read_csv(folder / "scores.csv")
    names = ["reader_04", "gmic_top5", "gmic_top1", "dmvcnn"]
    tests = compare_areas(table["label"].to_numpy(), {name: table[name].to_numpy() for name in names})
    found = {test.name: test for test in tests}
    for name, expected in json.loads((folder / "golden.json").read_text())["pairs"].items():
        for measure, value in expected.items():
            assert getattr(found[name], measure) == pytest.approx(value, abs=1e-9), (name, measure)


def test_paired_delong_is_what_the_covariance_matrix_gives_and_pairs_keep_their_order():
    rng = np.random.default_rng(0)
    labels = rng.random(120) < 0.3
    base = rng.normal(labels.astype(float), 1)
    scorers = {name: np.round(base + rng.normal(0, 1, 120), 1) for name in ("b", "a", "c")}
    tests = compare_areas(labels, scorers, Bootstrap(np.arange(120), 120, resamples=300))
    assert [test.name for test in tests] == ["b vs a", "b vs c", "a vs c"]
    for test in tests:
        difference, se = slow_paired(labels, scorers[test.first], scorers[test.second])
        assert (test.difference, test.se) == pytest.approx((difference, se), abs=1e-12)
        assert test.z == pytest.approx(difference / se)
        assert test.low < test.difference < test.high


def test_pairs_use_the_cases_that_both_scored():
    rng = np.random.default_rng(1)
    labels = rng.random(100) < 0.4
    one, other = rng.random(100), rng.random(100)
    one[:10] = np.nan
    other[5:20] = np.nan
    (test,) = compare_areas(labels, {"one": one, "other": other}, Bootstrap(None, 100, resamples=50))
    (alone,) = compare_areas(labels[20:], {"one": one[20:], "other": other[20:]})
    assert test.n == 80 and test.positives == labels[20:].sum()
    assert (test.difference, test.se) == (alone.difference, alone.se)


def test_a_pair_without_both_classes_in_common_is_said_and_the_other_pairs_are_compared_as_if_it_were_not_there():
    rng = np.random.default_rng(1)
    labels = np.arange(100) % 3 == 0
    scores = {name: rng.random(100) for name in ("early", "late", "all", "one")}
    scores["early"][50:] = np.nan
    scores["late"][:49] = np.nan  # case 49, a negative one, was scored by both
    scores["one"][np.arange(100) != 48] = np.nan
    scores["one"][51] = 0.5
    draws = Bootstrap(None, 100, resamples=50)
    tests = {test.name: test for test in compare_areas(labels, scores, draws)}
    assert list(tests) == [f"{one} vs {other}" for one, other in combinations(scores, 2)]
    assert tests["early vs late"].why_not == ("the 1 case that both scored is negative, and an area needs both classes")
    assert tests["late vs one"].why_not == "the 1 case that both scored is positive, and an area needs both classes"
    assert tests["all vs one"].why_not.startswith("the 2 cases that both scored are positive")
    scores["late"][49] = np.nan
    apart = next(test for test in compare_areas(labels, scores, draws) if test.name == "early vs late")
    assert (apart.n, apart.why_not) == (0, "they share no case")
    assert all(np.isnan([apart.difference, apart.se, apart.z, apart.p, apart.p_holm, apart.low, apart.high]))
    compared = [test for test in tests.values() if not test.why_not]
    assert [test.name for test in compared] == ["early vs all", "late vs all"]
    assert [test.p_holm for test in compared] == holm([test.p for test in compared])
    (alone,) = compare_areas(labels, {name: scores[name] for name in ("early", "all")}, draws)
    assert (compared[0].difference, compared[0].se, compared[0].low) == (alone.difference, alone.se, alone.low)


def test_no_difference_and_no_spread_are_handled():
    labels = np.repeat([True, False], [2, 2])
    perfect, constant = np.array([0.9, 0.8, 0.1, 0.2]), np.full(4, 0.5)
    same, more, _ = compare_areas(labels, {"perfect": perfect, "copy": perfect.copy(), "constant": constant})
    assert (same.difference, same.se, same.z, same.p) == (0, 0, 0, 1)
    # Four cases can at best show two of the six ways to deal their labels, however perfect the order.
    assert (more.difference, more.se, more.z, more.p) == (0.5, 0, np.inf, pytest.approx(1 / 3))


def test_without_spread_the_patients_are_dealt_and_not_their_cases():
    labels, patients = np.repeat([True, False], [6, 10]), np.repeat(np.arange(8), 2)
    perfect, constant = np.where(labels, 0.9, 0.1), np.full(16, 0.5)
    bootstrap = Bootstrap(patients, 16, resamples=10)
    (found,) = compare_areas(labels, {"perfect": perfect, "constant": constant}, bootstrap)
    assert (found.difference, found.se) == (0.5, 0)
    assert (found.p, found.by_case.p) == (pytest.approx(2 / comb(8, 3)), pytest.approx(2 / comb(16, 6)))


def test_areas_that_never_differ_are_rejected_about_5_times_in_100():
    rng, rejected = np.random.default_rng(2), 0
    labels = np.repeat([True, False], [40, 60])
    for _ in range(400):
        base = rng.normal(labels.astype(float), 1)
        (test,) = compare_areas(labels, {"a": base + rng.normal(size=100), "b": base + rng.normal(size=100)})
        rejected += test.p < 0.05
    assert 0.025 <= rejected / 400 <= 0.08


def slow_over_patients(labels: np.ndarray, difference: np.ndarray, patients: np.ndarray) -> float:
    """Obuchowski 1997, formula by formula. difference (positives, negatives): of two scorers' kernels."""
    theta, n_positives, n_negatives = difference.mean(), *difference.shape
    people = sorted(set(patients))
    of_positives = [difference.mean(1)[patients[labels] == one] for one in people]
    of_negatives = [difference.mean(0)[patients[~labels] == one] for one in people]
    first = [one.sum() - len(one) * theta for one in of_positives]
    second = [one.sum() - len(one) * theta for one in of_negatives]
    i10, i01, i = sum(len(one) > 0 for one in of_positives), sum(len(one) > 0 for one in of_negatives), len(people)
    s10 = i10 / ((i10 - 1) * n_positives) * np.square(first).sum()
    s01 = i01 / ((i01 - 1) * n_negatives) * np.square(second).sum()
    s11 = i / (i - 1) * np.multiply(first, second).sum()
    return float(np.sqrt(s10 / n_positives + s01 / n_negatives + 2 * s11 / (n_positives * n_negatives)))


def test_areas_of_patients_with_several_cases_have_the_variance_over_patients():
    rng = np.random.default_rng(5)
    patients = rng.integers(0, 40, 160)
    labels = rng.random(160) < 0.4
    one, other = (np.round(rng.normal(labels, 1) + rng.normal(0, 0.8, 40)[patients], 1) for _ in range(2))
    (test,) = compare_areas(labels, {"one": one, "other": other}, Bootstrap(patients, 160, resamples=50))
    kernels = [
        (scores[labels][:, None] > scores[~labels]) + 0.5 * (scores[labels][:, None] == scores[~labels])
        for scores in (one, other)
    ]
    assert test.se == pytest.approx(slow_over_patients(labels, kernels[0] - kernels[1], patients), abs=1e-12)
    assert delong(labels, one, patients).se == pytest.approx(
        slow_over_patients(labels, kernels[0], patients), abs=1e-12
    )


def test_eight_equal_rows_of_a_patient_say_no_more_than_one():
    rng = np.random.default_rng(3)
    labels = np.arange(60) < 24
    one, other = rng.normal(1.2 * labels, 1), rng.normal(0.3 * labels, 1)
    (single,) = compare_areas(labels, {"one": one, "other": other}, Bootstrap(None, 60, resamples=50))
    eight = {name: np.repeat(scores, 8) for name, scores in (("one", one), ("other", other))}
    patients = np.repeat(np.arange(60), 8)
    (test,) = compare_areas(np.repeat(labels, 8), eight, Bootstrap(patients, 480, resamples=50))
    assert (test.difference, test.se, test.p) == pytest.approx((single.difference, single.se, single.p), abs=1e-12)
    assert single.p > 1e-3
    (calls,) = compare_calls(np.repeat(labels, 8), eight, {"one": 0.6, "other": 0.6}, patients)
    (alone,) = compare_calls(labels, {"one": one, "other": other}, {"one": 0.6, "other": 0.6})
    assert calls.only_first == 8 * alone.only_first and calls.p == pytest.approx(alone.p, rel=0.3)


def test_areas_of_alike_cases_that_never_differ_are_rejected_about_5_times_in_100():
    rng, rejected = np.random.default_rng(4), 0
    patients = np.repeat(np.arange(60), 4)
    labels = patients < 25
    for _ in range(300):
        one, other = (rng.normal(labels, 1) + rng.normal(0, 1, 60)[patients] for _ in range(2))
        (test,) = compare_areas(labels, {"a": one, "b": other}, Bootstrap(patients, 240, resamples=1))
        rejected += test.p < 0.05
    assert 0.02 <= rejected / 300 <= 0.09


def test_signs_of_patients_are_mcnemars_test_where_each_has_one_case():
    assert signs_p(np.array([1, 1, 1, -1, 0, 0])) == pytest.approx(mcnemar_p(3, 1))
    assert signs_p(np.repeat([1, -1], [30, 55])) == pytest.approx(mcnemar_p(30, 55))
    # Of the eight ways to sign 3, 2 and 2, all three leads point one way in two.
    assert signs_p(np.array([3, 2, 2])) == pytest.approx(2 / 8)
    assert signs_p(np.zeros(3, int)) == signs_p(np.array([2, -2])) == 1


def test_mcnemar_is_the_binomial_test_for_few_and_chi_squared_for_many():
    assert mcnemar_p(3, 9) == pytest.approx(binomtest(3, 12).pvalue)
    from scipy.stats import chi2

    assert mcnemar_p(30, 55) == pytest.approx(chi2.sf((abs(30 - 55) - 1) ** 2 / 85, 1))
    assert mcnemar_p(0, 0) == 1


def test_calls_are_compared_at_each_scorers_own_threshold():
    labels = np.array([1, 1, 1, 0, 0, 0])
    scorers = {"a": np.array([0.9, 0.9, 0.2, 0.1, 0.1, np.nan]), "b": np.array([0.6, 0.1, 0.6, 0.1, 0.6, 0.1])}
    (test,) = compare_calls(labels, scorers, {"a": 0.5, "b": 0.3})
    assert (test.n, test.only_first, test.only_second) == (5, 2, 1)


def test_holm_steps_down_keeps_order_and_passes_over_nan():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = holm([0.01, float("nan"), 0.04])
    assert adjusted[0] == pytest.approx(0.02) and np.isnan(adjusted[1])
    assert holm([]) == []


def test_agreement_counts_calls_and_knows_constants():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    one, other = rng.random(60), rng.random(60)
    other[0] = np.nan
    scorers = {"one": one, "other": other, "constant": np.full(60, 0.2)}
    found = {(pair.first, pair.second): pair for pair in agreement(scorers, dict.fromkeys(scorers, 0.5))}
    pair = found["one", "other"]
    assert pair.n == 59
    assert pair.kappa == pytest.approx(cohen_kappa_score(one[1:] >= 0.5, other[1:] >= 0.5))
    assert pair.disagreement.value == pytest.approx((pair.only_first + pair.only_second) / 59)
    assert np.isnan(found["one", "constant"].spearman)


@pytest.mark.parametrize("shares", [(0.9, 0.2), (0.8, 0.7), (0.5, 0.1)])  # chance alone agrees more or less often
def test_kappa_is_cohens_wherever_the_thresholds_lie(shares: tuple[float, float]):
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(1)
    one, other = (rng.random(200) < share for share in shares)
    assert cohen_kappa(one, other) == pytest.approx(cohen_kappa_score(one, other))


def test_holm_is_that_of_statsmodels_with_gaps_ties_and_ones():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = np.round(rng.uniform(0, 1, rng.integers(1, 9)) ** 3, 2)
        assert holm([*values, float("nan")])[:-1] == pytest.approx(list(multipletests(values, method="holm")[1]))
        assert np.isnan(holm([*values, float("nan")])[-1])
    assert holm([]) == []
