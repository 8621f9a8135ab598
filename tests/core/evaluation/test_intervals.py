"""DeLong, Wilson and the draws of patients against slower second computations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import (
    Bootstrap,
    delong,
    design_effect,
    one_case_each,
    percentile,
    share,
    wilson,
)


def slow_delong(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """By the definition: every pair compared, then the variances of the row and column means."""
    positives, negatives = scores[labels], scores[~labels]
    won = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    variance = won.mean(1).var(ddof=1) / len(positives) + won.mean(0).var(ddof=1) / len(negatives)
    return won.mean(), np.sqrt(variance)


@pytest.mark.parametrize("digits", [1, 2, 12])
def test_delong_is_what_comparing_every_pair_gives(digits: int):
    rng = np.random.default_rng(digits)
    labels = rng.random(150) < 0.3
    scores = np.round(np.clip(rng.normal(0.3 + 0.2 * labels, 0.2), 0, 1), digits)
    found = delong(labels, scores)
    assert (found.auc, found.se) == pytest.approx(slow_delong(labels, scores), abs=1e-12)
    assert found.low < found.auc < found.high


def test_delong_standard_errors_of_the_reader_study(test_data: Path):
    folder = test_data / "data" / "reader_study"
    table = pd.read_csv(folder / "scores.csv")
    for name, expected in json.loads((folder / "golden.json").read_text())["scorers"].items():
        found = delong(table["label"].to_numpy(), table[name].to_numpy())
        assert found.se == pytest.approx(expected["delong_se"], abs=1e-9), name
        assert found.auc == pytest.approx(expected["auc"], abs=1e-9), name


def test_delong_covers_the_true_area_about_95_times_in_100():
    rng = np.random.default_rng(0)
    true_area, covered = 0.76024994, 0  # of two normals one standard deviation apart: Phi(1 / sqrt 2)
    labels = np.repeat([False, True], [80, 60])
    for _ in range(400):
        found = delong(labels, rng.normal(labels.astype(float), 1))
        covered += found.low <= true_area <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_delong_with_one_case_of_a_kind_or_a_perfect_order_stays_wide():
    alone = delong(np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3]))
    assert np.isnan(alone.se) and alone.low < 0.3 and alone.high == 1
    perfect = delong(np.array([1, 1, 1, 0, 0, 0]), np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3]))
    assert perfect.se == 0 and perfect.low < 0.5
    with pytest.raises(InvalidInput, match="positive and negative"):
        delong(np.ones(3), np.array([0.9, 0.1, 0.2]))


def test_wilson_solves_its_own_equation_and_touches_the_ends():
    low, high = wilson(7, 50)
    for bound in (low, high):
        assert abs(7 / 50 - bound) == pytest.approx(1.959963984540054 * np.sqrt(bound * (1 - bound) / 50))
    assert wilson(0, 50)[0] == 0 and wilson(50, 50)[1] == 1
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_share_of_paired_cases_is_as_sure_as_one_of_the_patients():
    once = np.random.default_rng(0).random(100) < 0.4
    twice, patients = np.repeat(once, 2), np.repeat(np.arange(100), 2)
    plain, clustered, half = share(twice), share(twice, patients), share(once)
    assert clustered.high - clustered.low > 1.3 * (plain.high - plain.low)
    assert (clustered.low, clustered.high) == pytest.approx((half.low, half.high), abs=0.003)
    assert share(once, np.arange(100)) == share(once)
    assert share(np.ones(200, bool), patients).low == share(np.ones(100, bool)).low
    assert design_effect(twice, patients) == pytest.approx(2, abs=0.05)


def test_draws_take_patients_with_all_their_cases():
    patients = np.array(["b", "a", "a", "c", "b", "d"])
    (weights,) = Bootstrap(patients, 6, resamples=300, seed=4).blocks()
    assert weights.shape == (6, 300)
    assert (weights[0] == weights[4]).all() and (weights[1] == weights[2]).all()
    assert (weights[0] + weights[1] + weights[3] + weights[5] == 4).all()
    assert weights[[0, 1, 3, 5]].mean() == pytest.approx(1, abs=0.1)


def test_draws_are_the_same_in_blocks_and_seen_from_some_cases():
    whole = Bootstrap(None, 50, resamples=40, seed=1)
    (weights,) = whole.blocks()
    small = Bootstrap(None, 50, resamples=40, seed=1)
    small._BLOCK_VALUES = 50 * 7  # type: ignore[misc]
    blocks = list(small.blocks())
    assert len(blocks) == 6 and (np.concatenate(blocks, axis=1) == weights).all()
    chosen = np.arange(50) % 3 == 0
    assert (next(whole.only(chosen).blocks()) == weights[chosen]).all()
    assert (next(whole.only(chosen).only(np.arange(17) < 5).blocks()) == weights[chosen][:5]).all()


def test_bootstrap_and_delong_agree_where_cases_are_independent():
    from core.evaluation.statistics.metrics import evaluate_binary

    rng = np.random.default_rng(5)
    labels = rng.random(600) < 0.3
    found = evaluate_binary(labels, 1 / (1 + np.exp(-rng.normal(labels.astype(float), 1))))
    for end in ("low", "high"):
        assert getattr(found["auc_delong"], end) == pytest.approx(getattr(found["auc_bootstrap"], end), abs=0.01)


def test_percentiles_leave_out_draws_without_a_class():
    samples = np.concatenate([np.linspace(0, 1, 101), [np.nan] * 50])
    found = percentile(0.5, samples, 9)
    assert (found.low, found.high, found.n) == (pytest.approx(0.025), pytest.approx(0.975), 9)
    assert np.isnan(percentile(0.5, np.array([np.nan]), 9).low)


@pytest.mark.parametrize(("value", "bias"), [(0.025, None), (0.024, 0.476), (0.975, None), (0.976, -0.476)])
def test_an_interval_that_is_widened_to_hold_its_estimate_says_so_with_the_bias(value, bias):
    found = percentile(value, np.linspace(0, 1, 101), 9)
    assert found.low <= value <= found.high and found.bias == (None if bias is None else pytest.approx(bias))


def test_one_case_each_compares_names_not_types():
    assert one_case_each(None) and one_case_each(np.array([1, 2, 3]))
    assert not one_case_each(np.array([1, "1", 2], object))
