"""Measures against scikit-learn, against a slower second computation, and against published golden values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from core.errors import InvalidInput
from core.evaluation.statistics.agreement import descriptor_agreement
from core.evaluation.statistics.metrics import (
    confusion,
    evaluate_binary,
    evaluate_classes,
    evaluate_threshold,
    predictive_values,
    spread,
)
from core.evaluation.statistics.ranked import Ranked
from core.types import Estimate


def tied_case(seed: int = 0, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with many ties, most at exactly 0."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.2
    scores = np.clip(np.round(rng.normal(0.4 * labels - 0.1, 0.3), 1), 0, 1)
    return labels, scores


def test_golden_values_of_the_reader_study(test_data: Path):
    folder = test_data / "data" / "reader_study"
    golden = json.loads((folder / "golden.json").read_text())
    table = pd.read_csv(folder / "scores.csv")
    for name, expected in golden["scorers"].items():
        found = evaluate_binary(table["label"].to_numpy(), table[name].to_numpy(), table["patient"].to_numpy())
        for measure in ("auc", "average_precision", "brier"):
            assert found[measure].value == pytest.approx(expected[measure], abs=1e-9), (name, measure)


@pytest.mark.parametrize("seed", range(5))
def test_measures_agree_with_scikit_learn_under_ties(seed: int):
    labels, scores = tied_case(seed)
    found = evaluate_binary(labels, scores, threshold=0.3)
    assert found["auc"].value == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    assert found["average_precision"].value == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-12)
    assert found["brier"].value == pytest.approx(sk.brier_score_loss(labels, scores), abs=1e-12)
    called = scores >= 0.3
    assert found["sensitivity_at_threshold"].value == sk.recall_score(labels, called)
    assert found["specificity_at_threshold"].value == sk.recall_score(~labels, ~called)
    assert found["ppv_at_threshold"].value == sk.precision_score(labels, called)
    assert found["npv_at_threshold"].value == sk.precision_score(~labels, ~called)
    assert found["accuracy_at_threshold"].value == sk.accuracy_score(labels, called)


@pytest.mark.parametrize("seed", range(5))
def test_operating_points_are_the_best_among_all_thresholds(seed: int):
    labels, scores = tied_case(seed)
    found = evaluate_binary(labels, scores)
    points = [(scores[labels] >= t).mean() for t in [*np.unique(scores), 2]]
    specificities = [(scores[~labels] < t).mean() for t in [*np.unique(scores), 2]]
    pairs = list(zip(points, specificities, strict=True))
    assert found["sensitivity_at_specificity_889"].value == max(a for a, b in pairs if b >= 0.889)
    assert found["specificity_at_sensitivity_869"].value == max(b for a, b in pairs if a >= 0.869)


def test_a_specificity_of_exactly_the_target_is_enough():
    labels = np.repeat([False, True], [1000, 10])
    scores = np.concatenate([np.zeros(889), np.ones(111), np.ones(10)])
    assert evaluate_binary(labels, scores)["sensitivity_at_specificity_889"].value == 1
    labels, scores = np.repeat([False, True], [10, 1000]), np.concatenate([np.zeros(10), np.ones(869), np.zeros(131)])
    assert evaluate_binary(labels, scores)["specificity_at_sensitivity_869"].value == 1


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1), (1, 4), ()])
def test_there_is_one_score_a_case(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"must have shape \(4,\)"):
        evaluate_binary(np.array([0, 1, 0, 1]), np.full(shape, 0.5))


def test_one_case_of_each_class_is_enough_for_an_operating_point():
    ranked = Ranked(np.array([True, True, False]), np.array([0.9, 0.3, 0.5])).weighted(np.ones((3, 1), np.float32))
    assert ranked.sensitivity_at_specificity().tolist() == [0.5]
    ranked = Ranked(np.array([True, False, False]), np.array([0.5, 0.9, 0.3])).weighted(np.ones((3, 1), np.float32))
    assert ranked.specificity_at_sensitivity().tolist() == [0.5]


def test_calibration_error_is_that_of_fifteen_equal_bins_when_nothing_is_tied():
    rng = np.random.default_rng(3)
    scores, labels = rng.permutation(np.linspace(0.01, 0.99, 150)), rng.random(150) < 0.4
    order = np.argsort(scores)
    slow = sum(abs(labels[part].mean() - scores[part].mean()) * 10 for part in order.reshape(15, 10)) / 150
    assert evaluate_binary(labels, scores)["ece"].value == pytest.approx(slow, abs=1e-12)


def test_calibration_error_does_not_depend_on_the_order_of_tied_cases():
    labels, scores = tied_case(1)
    turned = np.argsort(labels)
    assert evaluate_binary(labels, scores)["ece"].value == pytest.approx(
        evaluate_binary(labels[turned], scores[turned])["ece"].value, abs=1e-12
    )


def test_bootstrap_measures_are_those_of_the_cases_written_out():
    labels, scores = tied_case(2, n=90)
    weights = np.random.default_rng(0).integers(0, 4, (90, 6)).astype(np.float32)
    steps = Ranked(labels, scores).weighted(weights)
    for draw in range(6):
        drawn = np.repeat(np.arange(90), weights[:, draw].astype(int))
        alone = Ranked(labels[drawn], scores[drawn]).observed
        assert steps.auc()[draw] == pytest.approx(sk.roc_auc_score(labels[drawn], scores[drawn]), abs=1e-6)
        assert steps.average_precision()[draw] == pytest.approx(
            sk.average_precision_score(labels[drawn], scores[drawn]), abs=1e-6
        )
        for measure in (
            "brier",
            "expected_calibration_error",
            "sensitivity_at_specificity",
            "specificity_at_sensitivity",
        ):
            assert getattr(steps, measure)()[draw] == pytest.approx(getattr(alone, measure)()[0], abs=1e-6), measure


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    labels, scores = tied_case()
    first, again = (evaluate_binary(labels, scores, seed=1)["brier"] for _ in range(2))
    assert first == again != evaluate_binary(labels, scores, seed=2)["brier"]


def test_the_headline_interval_is_delong_only_where_every_patient_has_one_case():
    labels, scores = tied_case()
    alone = evaluate_binary(labels, scores, np.arange(200))
    assert alone["auc"] == alone["auc_delong"]
    together = evaluate_binary(labels, scores, np.arange(200) // 2)
    assert together["auc"] == together["auc_bootstrap"] != together["auc_delong"]


def test_perfect_separation_does_not_claim_certainty():
    labels = np.repeat([False, True], [30, 10])
    for patients in (None, np.arange(40) // 2):
        area = evaluate_binary(labels, labels.astype(float), patients)["auc"]
        assert area.value == 1 and 0.5 < area.low < 0.9 and area.high == 1


def test_equal_scores_rank_nothing():
    labels = np.repeat([False, True], [30, 10])
    found = evaluate_binary(labels, np.full(40, 0.25), threshold=0.5)
    assert (found["auc"].value, found["auc"].low, found["auc"].high) == (0.5, 0.5, 0.5)
    assert found["average_precision"].value == found["average_precision"].n / 160
    assert found["ece"].value == 0
    assert np.isnan(found["ppv_at_threshold"].value)
    assert (found["ppv_at_threshold"].low, found["ppv_at_threshold"].high, found["ppv_at_threshold"].n) == (0, 1, 0)


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], "all 3 cases here are negative"),
        ([1, 1], [0.1, 0.2], "all 2 cases here are positive"),
        ([], [], "no cases at all"),
        ([0, 1, 1], [0.1, float("nan"), 0.3], "case 2 is not a number"),
        ([0, 1, 1], [0.1, 0.2, 1.3], "case 3 is outside 0 to 1"),
        ([0, 2, 1], [0.1, 0.2, 0.3], "label of case 2"),
        ([0, float("nan"), 1], [0.1, 0.2, 0.3], "label of case 2"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_sentence(labels: list, scores: list, words: str):
    with pytest.raises(InvalidInput, match=words):
        evaluate_binary(np.array(labels), np.array(scores))


@pytest.mark.parametrize("seed", range(3))
def test_measures_over_classes_agree_with_scikit_learn(seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 120)
    probabilities = np.round(rng.dirichlet([1, 1, 1], 120) * 0.7 + 0.3 * np.eye(3)[labels], 2)
    called = probabilities.argmax(axis=1)
    found = {name: one.value for name, one in evaluate_classes(labels, probabilities, ("a", "b", "c")).items()}
    precision, recall, f1, _ = sk.precision_recall_fscore_support(labels, called)
    expected = {
        "accuracy": sk.accuracy_score(labels, called),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        "macro_f1": sk.f1_score(labels, called, average="macro"),
        "weighted_f1": sk.f1_score(labels, called, average="weighted"),
        "weighted_precision": sk.precision_score(labels, called, average="weighted"),
        "weighted_recall": sk.recall_score(labels, called, average="weighted"),
        "macro_average_precision": sk.average_precision_score(
            np.eye(probabilities.shape[1])[labels], probabilities, average="macro"
        ),
        "kappa": sk.cohen_kappa_score(labels, called),
        "mcc": sk.matthews_corrcoef(labels, called),
        "macro_auc": np.mean([sk.roc_auc_score(labels == index, probabilities[:, index]) for index in range(3)]),
        "auc_b": sk.roc_auc_score(labels == 1, probabilities[:, 1]),
        "average_precision_c": sk.average_precision_score(labels == 2, probabilities[:, 2]),
        "precision_a": precision[0],
        "recall_b": recall[1],
        "f1_c": f1[2],
        "specificity_a": sk.recall_score(labels != 0, called != 0),
        "majority_accuracy": np.bincount(labels).max() / 120,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_a_class_that_nobody_is_called_has_precision_zero_and_one_without_cases_is_refused():
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]] * 3)
    assert evaluate_classes(labels, probabilities, ("a", "b", "c"))["precision_c"].value == 0
    with pytest.raises(InvalidInput, match="none of c"):
        evaluate_classes(np.array([0, 1, 0, 1, 0, 1]), probabilities, ("a", "b", "c"))


def test_predictive_values_follow_bayes_and_equal_the_counts_at_the_own_prevalence():
    labels, scores = tied_case()
    found = evaluate_threshold(labels, scores, 0.3)
    sensitivity, specificity = found["sensitivity_at_threshold"], found["specificity_at_threshold"]
    ppv, npv = predictive_values(sensitivity, specificity, float(labels.mean()))
    assert ppv.value == pytest.approx(found["ppv_at_threshold"].value)
    assert npv.value == pytest.approx(found["npv_at_threshold"].value)
    screening, _ = predictive_values(Estimate(0.869, 0.85, 0.88, 100), Estimate(0.889, 0.88, 0.9, 900), 0.005)
    assert screening.value == pytest.approx(0.005 * 0.869 / (0.005 * 0.869 + 0.995 * 0.111))
    assert screening.low < screening.value < screening.high
    perfect, _ = predictive_values(Estimate(0.9, 0.8, 0.95, 100), Estimate(1.0, 0.96, 1.0, 100), 0.02)
    assert perfect.value == 1 and 0 < perfect.low < perfect.high == 1
    with pytest.raises(InvalidInput, match="prevalence"):
        predictive_values(sensitivity, specificity, 0.0)


def test_restated_predictive_values_vary_as_the_counts_behind_them_do():
    rng = np.random.default_rng(0)
    labels = np.repeat([True, False], [80, 300])
    calls = np.concatenate([np.ones(64), np.zeros(16), np.ones(45), np.zeros(255)])
    found = evaluate_threshold(labels, calls, 0.5)
    ppv, npv = predictive_values(found["sensitivity_at_threshold"], found["specificity_at_threshold"], 0.02)
    sensitivity, false = rng.binomial(80, 0.8, 20000) / 80, rng.binomial(300, 0.15, 20000) / 300
    slow_ppv = np.percentile(0.02 * sensitivity / (0.02 * sensitivity + 0.98 * false), (2.5, 97.5))
    slow_npv = np.percentile(0.98 * (1 - false) / (0.98 * (1 - false) + 0.02 * (1 - sensitivity)), (2.5, 97.5))
    assert (ppv.low, ppv.high) == pytest.approx(slow_ppv, abs=0.008)
    assert (npv.low, npv.high) == pytest.approx(slow_npv, abs=0.001)


def test_a_score_equal_to_the_threshold_is_called_positive():
    counts = confusion(np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.4, 0.4]), 0.5)
    assert (counts.true_positives, counts.false_positives, counts.false_negatives, counts.true_negatives) == (
        1,
        1,
        1,
        1,
    )


def test_seeds_are_summarised_as_mean_and_spread():
    runs = [{"auc": Estimate(value, 0, 1, 10), "only": Estimate(0, 0, 0, 1)} for value in (0.8, 0.9)]
    found = spread([runs[0], {"auc": runs[1]["auc"]}])
    assert set(found) == {"auc"}
    assert (found["auc"].mean, found["auc"].seeds) == (pytest.approx(0.85), 2)
    assert found["auc"].deviation == pytest.approx(np.std([0.8, 0.9], ddof=1))


def test_agreement_in_words_is_cohens_kappa_over_the_lesions_that_both_described() -> None:
    rng = np.random.default_rng(3)
    words = ("oval", "round", "irregular")
    first = [words[one] for one in rng.integers(0, 3, 120)]
    second = [one if rng.random() < 0.6 else words[rng.integers(3)] for one in first]
    described = {
        "measured": [{"shape": one} for one in first],
        "reader": [{"shape": one} if place % 4 else {} for place, one in enumerate(second)],
        "other": [{"shape": "made up", "margin": "angular"}] * 120,
    }
    patients = [f"p{place // 2}" for place in range(120)]
    (found,) = descriptor_agreement(described, {"shape": words, "margin": ("angular",)}, patients)
    both = [place for place in range(120) if place % 4]
    expected = sk.cohen_kappa_score([first[one] for one in both], [second[one] for one in both])
    assert (found.descriptor, found.first, found.second, found.n, found.n_patients) == (
        "shape", "measured", "reader", 90, 60,
    )  # fmt: skip
    assert found.kappa.value == pytest.approx(expected) and found.kappa.low < expected < found.kappa.high
    assert found.agreed.value == pytest.approx(np.mean([first[one] == second[one] for one in both]))


@pytest.mark.parametrize(
    ("said", "n_patients", "low"),
    [(["oval", "round"] * 3, 6, 0.2), (["oval"] * 6, 6, math.nan), (["oval", "round"] * 3, 1, math.nan)],
)
def test_agreement_without_exception_is_not_certain(said: list[str], n_patients: int, low: float) -> None:
    """Every draw agrees then, so the draws say nothing; one word throughout, or one patient, leaves no interval."""
    same = [{"shape": one} for one in said]
    patients = [str(place % n_patients) for place in range(6)]
    (found,) = descriptor_agreement({"a": same, "b": same}, {"shape": ("oval", "round")}, patients)
    assert found.agreed.value == 1
    assert found.kappa.low == pytest.approx(low, abs=0.03, nan_ok=True)


def test_a_label_that_is_no_class_is_named_by_the_place_of_its_case() -> None:
    thirds = np.full((4, 3), 1 / 3)
    with pytest.raises(InvalidInput, match=r"^The label of case 3 is none of a, b, c\. Correct it\.$"):
        evaluate_classes(np.array([0, 1, 3, 2]), thirds, ("a", "b", "c"))
    with pytest.raises(InvalidInput, match=r"none of c\.$"):
        evaluate_classes(np.array([0, 1, 0, 1]), thirds, ("a", "b", "c"))
