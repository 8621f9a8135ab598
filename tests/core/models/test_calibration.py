"""Reliability, the Brier score's parts, slope and intercept, and the decision curve, each computed a second way."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from core.errors import InvalidInput
from core.evaluation.statistics.calibration import bin_of, brier_parts, calibration_line, reliability
from core.evaluation.statistics.curves import decision_curve
from core.evaluation.statistics.intervals import Bootstrap
from core.evaluation.statistics.metrics import evaluate_binary


def calibrated(n: int, slope: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose log odds are `slope` and `shift` away from those the labels were drawn with."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1, 1.2, n)
    labels = rng.random(n) < 1 / (1 + np.exp(-(slope * odds + shift)))
    return labels, 1 / (1 + np.exp(-odds))


def test_bins_hold_equally_many_cases_and_tied_cases_stay_together():
    scores = np.random.default_rng(0).random(300)
    assert (np.bincount(bin_of(scores)) == 20).all()
    tied = np.where(np.arange(300) < 240, 0.0, scores)
    place = bin_of(tied)
    assert len(set(place[:240])) == 1
    assert (np.diff(place[np.argsort(tied, kind="stable")]) >= 0).all()


def test_the_bin_of_a_case_is_that_of_its_middle_rank():
    scores = np.round(np.random.default_rng(1).random(200) ** 3, 1)
    slow = [int(15 * ((scores < one).sum() + (scores <= one).sum()) // (2 * 200)) for one in scores]
    assert list(bin_of(scores)) == slow


def test_the_calibration_error_is_read_off_the_reliability_diagram():
    labels, scores = calibrated(400, slope=0.5)
    scores = np.round(scores, 1)
    bins = reliability(labels, scores)
    assert sum(one.observed.n for one in bins) == 400
    assert sum(one.positives for one in bins) == labels.sum()
    error = sum(one.observed.n * abs(one.observed.value - one.mean_score) for one in bins) / 400
    assert evaluate_binary(labels, scores)["ece"].value == pytest.approx(error, abs=1e-12)


def test_the_parts_of_the_brier_score_add_up():
    labels, scores = calibrated(500)
    parts = brier_parts(labels, scores)
    assert parts.brier == pytest.approx(brier_score_loss(labels, scores))
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert whole == pytest.approx(parts.brier, abs=1e-14)
    assert parts.uncertainty == pytest.approx(labels.mean() * (1 - labels.mean()))
    constant = brier_parts(labels, np.full(500, 0.3))
    assert (constant.resolution, constant.within_bins) == pytest.approx((0, 0), abs=1e-15)


def test_the_line_finds_the_slope_and_shift_that_were_put_in():
    labels, scores = calibrated(6000, slope=0.6, shift=0.4)
    line = calibration_line(labels, scores)
    assert line.slope.low < 0.6 < line.slope.high and line.intercept.low < 0.4 < line.intercept.high
    odds = np.log(scores / (1 - scores))[:, None]
    second = LogisticRegression(C=np.inf, tol=1e-8).fit(odds, labels)
    assert line.slope.value == pytest.approx(second.coef_[0, 0], abs=1e-4)
    assert line.clipped == 0
    good = calibration_line(*calibrated(6000))
    assert good.in_the_large.low < 0 < good.in_the_large.high


def test_the_line_is_less_sure_where_cases_share_a_patient():
    labels, scores = (np.repeat(one, 2) for one in calibrated(500))
    alone = calibration_line(labels, scores)
    together = calibration_line(labels, scores, np.arange(1000) // 2)
    ratio = (together.slope.high - together.slope.low) / (alone.slope.high - alone.slope.low)
    assert ratio == pytest.approx(np.sqrt(2), abs=0.02)


def test_the_shift_of_few_patients_is_as_sure_as_the_regression_with_an_offset_says():
    labels, scores = calibrated(60)
    groups = np.arange(60) // 5
    odds = np.log(scores / (1 - scores))
    model = GLM(labels.astype(float), np.ones(60), family=Binomial(), offset=odds)
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": groups})
    found = calibration_line(labels, scores, groups).in_the_large
    assert (found.value, found.low, found.high) == pytest.approx((fitted.params[0], *fitted.conf_int()[0]), abs=1e-6)


def test_a_line_that_does_not_exist_is_refused():
    labels = np.repeat([False, True], 5)
    with pytest.raises(InvalidInput, match="equal"):
        calibration_line(labels, np.full(10, 0.3))
    with pytest.raises(InvalidInput, match="separate"):
        calibration_line(labels, np.linspace(0, 1, 10))
    with pytest.raises(InvalidInput, match="positive and negative"):
        calibration_line(np.ones(10), np.linspace(0, 1, 10))


def test_net_benefit_counts_true_calls_against_false_ones():
    labels, scores = calibrated(300)
    curve = decision_curve(labels, scores, Bootstrap(None, 300, resamples=200))
    for index in (0, 19, 60):
        threshold, called = curve.thresholds[index], scores >= curve.thresholds[index]
        true, false = (called & labels).sum() / 300, (called & ~labels).sum() / 300
        assert curve.net_benefit[index] == pytest.approx(true - false * threshold / (1 - threshold), abs=1e-12)
        assert curve.low[index] < curve.net_benefit[index] < curve.high[index]
    everybody = decision_curve(labels, np.ones(300))
    assert np.allclose(everybody.net_benefit, everybody.treat_all)
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        decision_curve(labels, scores, thresholds=np.array([0.5, 1.0]))


def test_a_fit_is_that_of_seed_0_where_none_is_given():
    from core.models.calibration import fit_calibration

    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(40, 1)), rng.integers(0, 2, 40)
    groups = [str(at) for at in range(40)]
    found = fit_calibration(logits, labels, groups, samples=3)
    assert found == fit_calibration(logits, labels, groups, samples=3, seed=0)
    assert found != fit_calibration(logits, labels, groups, samples=3, seed=1)
