"""What is chosen on validation scores, and what a card must own up to. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pandas as pd

from core.evaluation.statistics.comparison import compare_areas
from core.evaluation.statistics.intervals import Bootstrap, delong
from core.evaluation.statistics.metrics import evaluate_binary, evaluate_threshold
from core.evaluation.statistics.operating_points import threshold_at_sensitivity
from core.evaluation.statistics.ranked import SENSITIVITY_TARGET, fewest_cases
from core.models.cards import WEAK, WEAK_AUC, LocalisationOnCard

MAP_MARGIN = Fraction(5, 100)
"""By how much of the cases a map must beat the image's centre to be called a place."""


def choose_threshold(positive: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> float:
    """The highest threshold that finds `SENSITIVITY_TARGET` of the positive validation cases on 97.5 % of bootstrap
    samples of their patients.

    The one that finds so many of just these cases finds fewer of others in every second hospital: with thirty cancers
    it misses by a fifth. What is promised has to be kept, so the allowance for chance is made on the careful side; it
    shrinks as the cases grow. positive: (n,) bool, scores and patients: (n,), of the validation cases.
    """
    plain = threshold_at_sensitivity(positive, scores, SENSITIVITY_TARGET)
    return min(plain, threshold_interval(positive, scores, patients)[0])


def threshold_interval(
    positive: np.ndarray, scores: np.ndarray, patients: np.ndarray, *, seed: int = 0
) -> tuple[float, float]:
    """Where 95 % of the thresholds lie that find `SENSITIVITY_TARGET` of the positive cases on bootstrap samples of the
    patients, one that finds so many of just these cases among them.

    positive: (n,) bool, scores and patients: (n,), of the validation cases.
    """
    order = np.argsort(-scores[positive], kind="stable")
    found, of = scores[positive][order], patients[positive][order]
    chosen = []
    for drawn in Bootstrap(of, len(found), seed=seed).blocks():
        reached = np.cumsum(drawn, axis=0)  # positive cases at or above each score, in every sample
        fewest = np.maximum(1, fewest_cases(reached[-1], SENSITIVITY_TARGET))
        chosen.append(found[(reached >= fewest).argmax(axis=0)])
    low, high = np.percentile(np.concatenate(chosen), (2.5, 97.5))
    # Down and up: a score that lies at the end of the interval lies in it.
    return float(np.floor(low * 1e6) / 1e6), float(np.ceil(high * 1e6) / 1e6)


def promise_on_card(test_scores: pd.DataFrame, positive: str, threshold: float | np.ndarray) -> dict[str, float | int]:
    """What became on the test cases of the sensitivity that the threshold is for: `core.models.cards.PromiseOnCard`.

    threshold: the card's, or (n,) each case's own (`core.models.cards.case_thresholds`).
    """
    labels = (test_scores["label"] == positive).to_numpy()
    found = evaluate_threshold(
        labels, test_scores[positive].to_numpy(), threshold, test_scores["patient"].astype(str).to_numpy()
    )["sensitivity_at_threshold"]
    return {
        "promised": SENSITIVITY_TARGET,
        "tested": round(found.value, 4),
        "difference": round(found.value - SENSITIVITY_TARGET, 4),
        "low": round(found.low - SENSITIVITY_TARGET, 4),
        "high": round(found.high - SENSITIVITY_TARGET, 4),
        "n": found.n,
    }


def measured_on_card(test_scores: pd.DataFrame, positive: str) -> dict[str, float | int]:
    """What the card says of the area under the ROC curve on the test cases: `core.models.cards.MeasuredOnCard`."""
    labels = (test_scores["label"] == positive).to_numpy().astype(int)
    area = evaluate_binary(labels, test_scores[positive].to_numpy(), patients=test_scores["patient"].to_numpy())["auc"]
    return {"auc": round(area.value, 4), "low": round(area.low, 4), "high": round(area.high, 4), "n": area.n}


def fold_areas(test_scores: pd.DataFrame, positive: str) -> list[float | None]:
    """`core.models.cards.FoldsOnCard.areas` of test scores with the column `fold`."""
    areas: list[float | None] = []
    for number in range(int(test_scores["fold"].max()) + 1):
        part = test_scores[test_scores["fold"] == number]
        labels = (part["label"] == positive).to_numpy()
        is_defined = labels.any() and not labels.all()
        areas.append(round(delong(labels, part[positive].to_numpy()).auc, 4) if is_defined else None)
    return areas


def branch_on_card(test_scores: pd.DataFrame, without: pd.DataFrame, positive: str) -> dict[str, float | int]:
    """What a branch adds on the test cases: `core.models.cards.BranchOnCard`. without: the same cases, the branch left
    out, in the same order."""
    labels = (test_scores["label"] == positive).to_numpy()
    scorers = {"whole": test_scores[positive].to_numpy(), "without": without[positive].to_numpy()}
    bootstrap = Bootstrap(test_scores["patient"].astype(str).to_numpy(), len(labels))
    (pair,) = compare_areas(labels, scorers, bootstrap)
    area = evaluate_binary(labels.astype(int), scorers["without"], patients=test_scores["patient"].to_numpy())["auc"]
    return {
        "auc_without": round(area.value, 4),
        "adds": round(pair.difference, 4),
        "low": round(pair.low, 4),
        "high": round(pair.high, 4),
        "n": pair.n,
    }


def weakness(test_scores: pd.DataFrame, positive: str) -> tuple[str, ...]:
    """The limit of a model whose area under the ROC curve may be low; () for the others."""
    if measured_on_card(test_scores, positive)["low"] > WEAK_AUC:
        return ()
    return (f"{WEAK} the interval of its AUC on the test cases reaches {WEAK_AUC:.2f} or lower. Do not lean on it.",)


OWN_CLASS = "own class, all lesions"
"""The pointing game that says whether a map is a place: of every outlined lesion, the map of its own class."""


def own_class_of(collection: str) -> str:
    """The same game on the lesions of another collection."""
    return f"{OWN_CLASS} of {collection}"


def map_limits(localisation: Mapping[str, LocalisationOnCard]) -> tuple[str, ...]:
    """Where a model's heat map is no place: a branch that never points at a lesion, a map no better than a guess, at
    home or in another collection."""
    limits: list[str] = []
    for name, result in localisation.items():
        if not name.startswith(OWN_CLASS) or not result.n:
            continue
        collection = name.removeprefix(own_class_of(""))
        if name == OWN_CLASS:
            limits += [
                f"The map of its branch {branch} never lay on a lesion or was empty: "
                "look at another branch or at the fused map."
                for branch, share in result.pointing_game.items()
                if share == 0 and branch != "fused"
            ]
        # Shares of n lesions: counted, so that a map exactly at the margin is at it whatever its shares are rounded to.
        hits, centre = (round(share * result.n) for share in (result.pointing_game["fused"], result.image_centre))
        if Fraction(hits - centre, result.n) <= MAP_MARGIN:
            its = "Its map" if name == OWN_CLASS else f"On pictures of {collection} its map"
            limits.append(
                f"{its} finds lesions no more often than the centre of the image does: do not read it as a place."
            )
    return tuple(limits)
