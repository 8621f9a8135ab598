"""What is computed from a card's own scores: its headline, and the threshold that counts at a site. No TensorFlow."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.evaluation.statistics.metrics import evaluate_binary, evaluate_classes, evaluate_threshold
from core.evaluation.statistics.operating_points import threshold_at_sensitivity
from core.evaluation.tables.cohort import finding_scores_file
from core.models.cards import Card, case_thresholds, read_test_scores, read_validation_scores, scores_file
from core.models.operating_point import OperatingPoint, operating_point
from core.settings import Settings
from core.types import Estimate

if TYPE_CHECKING:
    import pandas as pd


def headline(card: Card) -> dict[str, Estimate]:
    """The card's measured numbers, computed from its test scores; empty where there are none.

    Keys are those of `core.evaluation.statistics.metrics`: of the positive class against the rest, and for three
    classes or more also those over all classes.
    """
    return dict(_headline(state_of(card), card.folder, json.dumps(card.content())))


def state_of(card: Card) -> str:
    """What is computed from a card can be kept under this: it is another one once the card says anything else (`train
    amend`), or a file of scores beside it came, went or was written anew."""
    files = (scores_file(card, "test"), scores_file(card, "validation"), finding_scores_file(card))
    return hashlib.sha256("|".join([card.model_dump_json(), *map(_state_of_file, files)]).encode()).hexdigest()


def _state_of_file(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "none"
    return f"{found.st_mtime_ns} {found.st_size}"


@lru_cache(maxsize=64)
def _headline(state: str, folder: Path, content: str) -> tuple[tuple[str, Estimate], ...]:
    """state: of the card and its files. content: the card, as JSON."""
    card = Card.model_validate({**json.loads(content), "folder": folder})
    scores = read_test_scores(card)
    if scores is None:
        return ()
    patients = scores["patient"].to_numpy()
    labels = (scores["label"] == card.positive).to_numpy().astype(int)
    estimates = evaluate_binary(
        labels, scores[card.positive].to_numpy(), patients=patients, threshold=case_thresholds(card, scores)
    )
    if len(card.classes) > 2:
        index = scores["label"].map({name: number for number, name in enumerate(card.classes)}).to_numpy()
        probabilities = scores[list(card.classes)].to_numpy()
        estimates = {**evaluate_classes(index, probabilities, card.classes, patients=patients), **estimates}
    return tuple(estimates.items())


def site_operating_point(card: Card, site: Settings, own: float | None = None) -> OperatingPoint:
    """The threshold that counts at this site now, by its policy; the card's own where the policy cannot be followed.

    own: the site's own value for these weights, None where an administrator has set none.
    """
    if site.thresholds == "site" and own is not None:
        return operating_point(card, own, "a value that this site has set itself")
    if site.thresholds == "sensitivity":
        scores = read_validation_scores(card)
        if scores is not None and (scores["label"] == card.positive).any():
            positive, target = (scores["label"] == card.positive).to_numpy(), site.threshold_sensitivity
            value = threshold_at_sensitivity(positive, scores[card.positive].to_numpy(), target / 100)
            return operating_point(card, value, f"the highest that finds {target} % of the positive validation cases")
    return operating_point(card)


def measured_at(card: Card, point: OperatingPoint) -> dict[str, Estimate]:
    """Sensitivity, specificity and the like of the model's test scores at this threshold; {} without test scores.

    Keys are those of `evaluate_threshold`. At the card's own, cases of a fold are held against their fold's; what was
    the card's own before it was amended is a number like any other.
    """
    scores = read_test_scores(card)
    if scores is None:
        return {}
    labels, patients = (scores["label"] == card.positive).to_numpy().astype(int), scores["patient"].to_numpy()
    return evaluate_threshold(labels, scores[card.positive].to_numpy(), _thresholds(card, point, scores), patients)


def is_at_folds_own(card: Card, point: OperatingPoint) -> bool:
    """Whether `measured_at` holds each fold's cases against that fold's threshold instead of this one."""
    scores = read_test_scores(card)
    return scores is not None and isinstance(_thresholds(card, point, scores), np.ndarray)


def _thresholds(card: Card, point: OperatingPoint, scores: pd.DataFrame) -> float | np.ndarray:
    is_own = point.is_of_card and point.threshold == card.threshold.value
    return case_thresholds(card, scores) if is_own else point.threshold
