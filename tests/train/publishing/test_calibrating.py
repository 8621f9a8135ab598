"""From logits to calibrated probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from core.models.calibration import Calibration, fit_calibration


def test_an_overconfident_model_is_cooled_down() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, 3000)
    labels = (rng.random(3000) < expit(true)).astype(int)
    calibration = fit_calibration((true * 4)[:, None], labels, [str(i) for i in range(3000)], samples=5)
    assert calibration.slope == pytest.approx(0.25, rel=0.15)
    probabilities = calibration.probabilities((true * 4)[:, None])
    assert probabilities.shape == (3000, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert probabilities[:, 1].mean() == pytest.approx(labels.mean(), abs=0.01)


def test_a_shifted_class_is_moved_back() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(0, 1.5, (4000, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(true, axis=1)])
    shifted = true + np.array([0, 2, 0])
    calibration = fit_calibration(shifted, labels, [str(i) for i in range(4000)], samples=3)
    np.testing.assert_allclose(calibration.probabilities(shifted).mean(0), np.bincount(labels) / 4000, atol=0.01)


def test_few_cases_give_a_wider_interval_than_many() -> None:
    rng = np.random.default_rng(2)

    def spread(n: int) -> float:
        logits = rng.normal(0, 2, n)
        labels = (rng.random(n) < expit(logits)).astype(int)
        calibration = fit_calibration(logits[:, None], labels, [str(i) for i in range(n)], samples=60)
        low, high = np.percentile(calibration.sampled(np.array([[0.7]]), 1)[0], (2.5, 97.5))
        return float(high - low)

    assert spread(60) > 2 * spread(2000)


def test_a_perfectly_separated_validation_set_still_gives_no_certainty() -> None:
    logits = np.concatenate([np.full(20, -3.0), np.full(20, 3.0)])[:, None]
    labels = np.repeat([0, 1], 20)
    calibration = fit_calibration(logits, labels, [str(i) for i in range(40)], samples=3)
    assert 0.95 < calibration.probabilities(np.array([[3.0]]))[0, 1] < 0.9999


def test_samples_are_those_of_the_class_asked_for() -> None:
    calibration = Calibration(slope=1.0, biases=(0.0, 0.0), samples=((1.0, 0.0, 0.0), (1.0, 0.0, 1.0)))
    np.testing.assert_allclose(calibration.sampled(np.array([[0.0]]), 1), [[0.5, expit(1.0)]])
