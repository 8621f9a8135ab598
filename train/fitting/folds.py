"""k folds: every case is scored once by a network that saw neither it nor anything that belongs to it.

In each fold one part is tested, the next one chooses the epoch, the calibration and the threshold, the others train.
The shipped weights are fitted on all cases afterwards, for as many epochs as the folds needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from core.models.calibration import Calibration, fit_calibration
from train.datasets.cases import fold_splits
from train.fitting.fit import Fitted, logits_of
from train.fitting.measure import Localisation, localisations, pooled, scores_table, stored
from train.fitting.squares import Squares
from train.publishing.threshold import choose_threshold

log = logging.getLogger(__name__)

FitOne = Callable[[Squares, Path, Callable[[], bool], int | None], Fitted]
"""Trains on the "train" and "validation" cases of squares in a folder, until done or told to stop.

With a number, for exactly so many epochs the classifier alone is fitted first; without, validation cases choose.
"""


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What k folds leave. fitted: on all cases. Scores have the column `fold`.

    test_scores: out of fold, each fold with its own calibration. calibration, threshold: of the shipped weights, from
    the validation scores of all folds. thresholds: of each fold, from its own validation part alone.
    """

    fitted: Fitted
    calibration: Calibration
    threshold: float
    thresholds: tuple[float, ...]
    best_epochs: tuple[int, ...]
    test_scores: pd.DataFrame
    validation_scores: pd.DataFrame
    localisation: dict[str, Localisation]


def cross_validate(squares: Squares, folds: int, fit_one: FitOne, folder: Path) -> CrossValidated:
    """Fit `folds` networks and one more; `squares.cases` has the column `fold`."""
    tested, validated, logits, order = [], [], [], []
    thresholds, best_epochs, head_epochs, places = [], [], [], []
    for number in range(folds):
        splits = fold_splits(squares.cases, number, folds).to_numpy()
        part = replace(squares, splits=splits)
        log.info("fold %d of %d", number + 1, folds)
        fitted = fit_one(part, folder / f"fold{number}", lambda: False, None)
        validation, test = part.split("validation"), part.split("test")
        forward = stored(fitted.graph)
        validation_logits = logits_of(forward, validation.pixels)
        calibration = calibrated(validation, validation_logits)
        scores = scores_table(validation, validation_logits, calibration)
        thresholds.append(choose_threshold(*_positives(validation, scores)))
        tested.append(_in_fold(scores_table(test, logits_of(forward, test.pixels), calibration), number))
        validated.append(np.full(len(validation), number))
        logits.append(validation_logits)
        order.append(np.flatnonzero(splits == "validation"))
        best_epochs.append(fitted.best_epoch)
        head_epochs.append(fitted.head_epochs)
        places.append(localisations(fitted.graph, validation))
    every = squares.chosen(np.concatenate(order))
    calibration = calibrated(every, np.concatenate(logits))
    scores = scores_table(every, np.concatenate(logits), calibration)
    scores.insert(3, "fold", np.concatenate(validated))
    epochs = int(np.median(best_epochs))
    log.info("all cases, %d epochs", epochs)
    fitted = fit_one(on_all_cases(squares), folder / "all", after(epochs), int(np.median(head_epochs)))
    stored(fitted.graph)
    return CrossValidated(
        fitted,
        calibration,
        choose_threshold(*_positives(every, scores)),
        tuple(thresholds),
        tuple(best_epochs),
        pd.concat(tested, ignore_index=True),
        scores,
        pooled(places),
    )


def on_all_cases(squares: Squares) -> Squares:
    """Every case trains; the first fold's are also there as validation cases, only to be looked at.

    There is no case left to choose an epoch on, so how long to train must come from elsewhere.
    """
    n = len(squares)
    again = np.flatnonzero(squares.cases["fold"].to_numpy() == 0)
    both = squares.chosen(np.concatenate([np.arange(n), again]))
    return replace(both, splits=np.repeat(["train", "validation"], [n, len(again)]))


def after(epochs: int) -> Callable[[], bool]:
    """A `stop` that is asked once an epoch and says yes at the end of epoch number `epochs`."""
    seen = 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return seen >= epochs

    return stop


def calibrated(cases: Squares, logits: np.ndarray) -> Calibration:
    """Fitted on these cases, with a bootstrap over their patients."""
    return fit_calibration(logits, cases.labels, cases.cases["patient_key"].tolist())


def _positives(cases: Squares, scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return cases.labels == cases.positive, scores[cases.classes[cases.positive]].to_numpy()


def _in_fold(scores: pd.DataFrame, number: int) -> pd.DataFrame:
    scores.insert(3, "fold", number)
    return scores
