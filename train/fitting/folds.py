"""k folds: every case is scored once by a network that saw neither it nor anything that belongs to it.

In each fold one part is tested, the next one chooses the epoch, the others train. So every case is a validation case of
one network too; a fold's calibration and threshold are chosen on all of these scores but those of its own test cases.
The shipped weights are fitted on all cases afterwards, for as many epochs as the folds needed.

What is measured of a fitted graph before it becomes a model: probabilities, and where it looks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from core.errors import Conflict
from core.files import write_whole
from core.imaging.preprocess import resize
from core.models.architectures import Graph
from core.models.calibration import Calibration, fit_calibration
from core.models.inference import explained, fused_map
from core.models.weights import load_state, state_of, to_float16
from train.datasets.cases import fold_splits
from train.fitting.fit import Fitted, logits_of
from train.fitting.network import compiled
from train.fitting.parts import Parts
from train.fitting.squares import Squares
from train.publishing.threshold import OWN_CLASS, choose_threshold


def stored(graph: Graph) -> Callable[[tf.Tensor], tf.Tensor]:
    """The graph's forward pass with its weights as they will be stored: what is measured is what is shipped."""
    load_state(graph.model, to_float16(state_of(graph.model)))
    return compiled(graph.model)


def pooled_features(graph: Graph, pixels: np.ndarray, batch: int = 32) -> np.ndarray:
    """(n, d) float32: each map's mean, the branches one after the other, of squares (n, rows, columns, c).

    The same that `core.models.inference.explained` gives beside its maps.
    """
    maps = [graph.model.get_layer(name).output for name in graph.maps.values()]
    forward = compiled(keras.Model(graph.model.input, [keras.ops.mean(one, axis=(1, 2)) for one in maps]))
    parts = [
        tf.concat(tf.nest.flatten(forward(tf.constant(pixels[index : index + batch].astype(np.float32)))), axis=1)
        for index in range(0, len(pixels), batch)
    ]
    return np.concatenate([part.numpy() for part in parts])


def scores_table(cases: Squares, logits: np.ndarray, calibration: Calibration) -> pd.DataFrame:
    """One row a case: case (the manifest's file), patient, label, a calibrated probability a class."""
    probabilities = calibration.probabilities(logits)
    patients = cases.cases["patient_key"] if "patient_key" in cases.cases else cases.cases["file"]
    table = pd.DataFrame({"case": cases.cases["file"], "patient": patients, "label": cases.cases["label"]})
    for index, name in enumerate(cases.classes):
        table[name] = probabilities[:, index].round(6)
    return table


def logits_without(graph: Graph, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Branch -> (n, outputs) logits of squares (n, rows, columns, c) where that branch says what it says on average.

    Of graphs whose backbones meet behind normalised pooled features, whose average over the training cases is 0; none
    for others. What a branch adds to the rest is told by what is lost without it.
    """
    layers = {layer.name for layer in graph.model.layers}
    branches = [branch for branch in graph.blocks if f"{branch}_norm" in layers]
    if len(branches) < 2:
        return {}
    normalised = [graph.model.get_layer(f"{branch}_norm").output for branch in branches]
    bodies, head = keras.Model(graph.model.input, normalised), keras.Model(normalised, graph.model.output)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def forward(squares: tf.Tensor) -> list[tf.Tensor]:
        features = bodies(squares, training=False)
        silenced = [[tf.zeros_like(one) if left is one else one for one in features] for left in features]
        return [head(given, training=False) for given in silenced]

    pieces = [
        [one.numpy() for one in forward(tf.constant(pixels[index : index + 32].astype(np.float32)))]
        for index in range(0, len(pixels), 32)
    ]
    return {branch: np.concatenate(part) for branch, part in zip(branches, zip(*pieces, strict=True), strict=True)}


@dataclass(frozen=True, slots=True)
class Localisation:
    """The pointing game (Zhang et al. 2018): the share of lesions whose outline holds the map's peak.

    hits: branch -> share. centre: share of outlines that hold the centre of the image, the baseline to beat.
    """

    n: int
    hits: dict[str, float]
    centre: float


def pointing_game(graph: Graph, cases: Squares, *, only_positive: bool) -> Localisation:
    """Over the cases with a lesion outline: the map of the positive class (`only_positive`) or of the case's own."""
    wanted = (cases.masks.astype(np.float32) > 0.5).any(axis=(1, 2))
    if only_positive:
        wanted &= cases.labels == cases.positive
    chosen = cases.chosen(np.flatnonzero(wanted))
    forward = explained(graph.model, tuple(graph.maps.values()))
    shape = chosen.pixels.shape[1:3]
    hits: dict[str, list[bool]] = {name: [] for name in [*graph.maps, "fused"]}
    centre = []
    for index in range(len(chosen)):
        _, cams, _ = forward(tf.constant(chosen.pixels[index : index + 1].astype(np.float32)))
        maps = dict(zip(graph.maps, cams, strict=True)) | {"fused": fused_map(cams)}
        outline = chosen.masks[index] > 0.5
        for name, cam in maps.items():
            heat = resize(cam.numpy()[0, chosen.labels[index]], shape)
            hits[name].append(bool(heat.max() > 0 and outline[np.unravel_index(heat.argmax(), heat.shape)]))
        fit = chosen.fits[index]
        centre.append(bool(outline[fit.top + fit.height // 2, fit.left + fit.width // 2]))
    if not centre:
        return Localisation(0, {}, 0.0)
    return Localisation(
        len(centre), {name: float(np.mean(values)) for name, values in hits.items()}, float(np.mean(centre))
    )


def localisations(graph: Graph, cases: Squares) -> dict[str, Localisation]:
    """The pointing game twice; only those that have an outline to play with."""
    played = {
        name: pointing_game(graph, cases, only_positive=only_positive)
        for name, only_positive in (("positive class, positive cases", True), (OWN_CLASS, False))
    }
    return {name: result for name, result in played.items() if result.n}


def pooled(parts: Sequence[Mapping[str, Localisation]]) -> dict[str, Localisation]:
    """The games of several parts as one game."""
    found = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        games = [part[name] for part in parts if name in part]
        n = sum(game.n for game in games)
        hits = {branch: sum(game.n * game.hits[branch] for game in games) / n for branch in games[0].hits}
        found[name] = Localisation(n, hits, sum(game.n * game.centre for game in games) / n)
    return found


log = logging.getLogger(__name__)

_FINISHED = "fold.json"
"""Written last, so that a fold that has it has its scores."""

_WITHOUT = "test_without_"
"""How the files of test cases begin for which a branch was left out."""

FitOne = Callable[[Squares, Path, Callable[[], bool], int | None], Fitted]
"""Trains on the "train" and "validation" cases of squares in a folder, until done or told to stop.

With a number, for exactly so many epochs the classifier alone is fitted first; without, validation cases choose.
"""


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What k folds leave. fitted: on all cases. Scores have the column `fold`.

    test_scores: out of fold, each fold with its own calibration. test_without: branch -> the same where that branch is
    left out. calibration, threshold: of the shipped weights, from the validation scores of all folds. thresholds: of
    each fold, from the validation scores of all cases but its own.
    """

    fitted: Fitted
    calibration: Calibration
    threshold: float
    thresholds: tuple[float, ...]
    best_epochs: tuple[int, ...]
    test_scores: pd.DataFrame
    validation_scores: pd.DataFrame
    localisation: dict[str, Localisation]
    test_without: dict[str, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class _Fold:
    """What is kept of a finished fold: logits of its validation and test cases, (n, outputs) each; without: branch ->
    those of its test cases where the branch is left out."""

    validation: np.ndarray
    test: np.ndarray
    best_epoch: int
    head_epochs: int
    places: dict[str, Localisation]
    without: dict[str, np.ndarray]


class Folds:
    """The folds of one model; `squares.cases` has the column `fold`. key, folder: see `cross_validate`."""

    def __init__(self, squares: Squares, folds: int, fit_one: FitOne, folder: Path, key: str) -> None:
        self.squares, self.folds, self.fit_one, self.folder, self.key = squares, folds, fit_one, folder, key
        self._made: dict[int, _Fold] = {}

    def do(self, part: str) -> None:
        """Fit "foldN", unless it is finished."""
        number = int(part.removeprefix("fold"))
        if self.finished(number) is None:
            log.info("fold %d of %d", number + 1, self.folds)
            part_squares = replace(self.squares, splits=self.splits(number))
            validation, test = part_squares.split("validation"), part_squares.split("test")
            self._made[number] = _fold(part_squares, validation, test, self.fit_one, self.folder / part, self.key)

    def splits(self, number: int) -> np.ndarray:
        """(n,) split of each case in this fold."""
        return np.asarray(fold_splits(self.squares.cases, number, self.folds))

    def finished(self, number: int) -> _Fold | None:
        """What was fitted here or lies in the folder."""
        if number not in self._made:
            part = replace(self.squares, splits=self.splits(number))
            fold = _finished(self.folder / f"fold{number}", self.key, part.split("validation"), part.split("test"))
            if fold is not None:
                self._made[number] = fold
        return self._made.get(number)


def cross_validate(
    squares: Squares, folds: int, fit_one: FitOne, folder: Path, key: str = "", *, is_shared: bool = True
) -> CrossValidated:
    """Fit `folds` networks and one more; `squares.cases` has the column `fold`.

    The scores of a finished fold lie in `folder/foldN` as CSV and are not computed again where the `key`, which names
    what is trained on what, is the same: another machine that is given `folder` goes on with the next fold.
    is_shared: other processes may fit some of them (`train.fitting.parts`).
    """
    fitting = Folds(squares, folds, fit_one, folder, key)
    parts = Parts(folder, key)
    with parts.led():
        parts.do_all([f"fold{number}" for number in range(folds)], fitting.do, is_shared=is_shared and bool(key))
    found, order = [], []
    for number in range(folds):
        fold = fitting.finished(number)
        if fold is None:
            raise Conflict(f"The files of fold {number + 1} were changed while it was used. Start the training again.")
        found.append(fold)
        order.append(np.flatnonzero(fitting.splits(number) == "validation"))
    every = squares.chosen(np.concatenate(order))
    logits = np.concatenate([fold.validation for fold in found])
    tested, thresholds = [], []
    without: dict[str, list[pd.DataFrame]] = {branch: [] for branch in found[0].without}
    for number, fold in enumerate(found):
        others = np.flatnonzero(every.cases["fold"].to_numpy() != number)
        known = every.chosen(others)
        calibration = calibrated(known, logits[others])
        thresholds.append(_threshold(known, scores_table(known, logits[others], calibration)))
        test = squares.chosen(np.flatnonzero(squares.cases["fold"].to_numpy() == number))
        tested.append(_in_fold(scores_table(test, fold.test, calibration), number))
        for branch, tables in without.items():
            tables.append(_in_fold(scores_table(test, fold.without[branch], calibration), number))
    best_epochs = [fold.best_epoch for fold in found]
    calibration = calibrated(every, logits)
    scores = scores_table(every, logits, calibration)
    scores.insert(3, "fold", np.repeat(np.arange(folds), [len(part) for part in order]))
    epochs = int(np.median(best_epochs))
    log.info("all cases, %d epochs", epochs)
    fitted = fit_one(
        on_all_cases(squares), folder / "all", after(epochs), int(np.median([fold.head_epochs for fold in found]))
    )
    stored(fitted.graph)
    return CrossValidated(
        fitted,
        calibration,
        _threshold(every, scores),
        tuple(thresholds),
        tuple(best_epochs),
        pd.concat(tested, ignore_index=True),
        scores,
        pooled([fold.places for fold in found]),
        {branch: pd.concat(tables, ignore_index=True) for branch, tables in without.items()},
    )


def _fold(part: Squares, validation: Squares, test: Squares, fit_one: FitOne, folder: Path, key: str) -> _Fold:
    fitted = fit_one(part, folder, lambda: False, None)
    forward = stored(fitted.graph)
    fold = _Fold(
        logits_of(forward, validation.pixels),
        logits_of(forward, test.pixels),
        fitted.best_epoch,
        fitted.head_epochs,
        localisations(fitted.graph, validation),
        logits_without(fitted.graph, test.pixels),
    )
    folder.mkdir(parents=True, exist_ok=True)
    of_test = {_WITHOUT + branch: values for branch, values in fold.without.items()}
    for name, values in {"validation": fold.validation, "test": fold.test, **of_test}.items():
        table = pd.DataFrame(values, columns=[f"logit_{index}" for index in range(values.shape[1])])
        table.insert(0, "case", (validation if name == "validation" else test).cases["file"].to_numpy())
        write_whole(folder / f"{name}_logits.csv", table.to_csv(index=False))
    told = {"key": key, "best_epoch": fold.best_epoch, "head_epochs": fold.head_epochs, "without": [*fold.without],
            "places": {name: asdict(place) for name, place in fold.places.items()}}  # fmt: skip
    write_whole(folder / _FINISHED, json.dumps(told))
    return fold


def _finished(folder: Path, key: str, validation: Squares, test: Squares) -> _Fold | None:
    if not key or not (folder / _FINISHED).is_file():
        return None
    told = json.loads((folder / _FINISHED).read_text())
    if told["key"] != key or "without" not in told:  # a fold of an earlier version left no branch out
        return None
    logits = {}
    for name in ("validation", "test", *(_WITHOUT + branch for branch in told["without"])):
        table = pd.read_csv(folder / f"{name}_logits.csv", dtype={"case": str})
        if table["case"].tolist() != (validation if name == "validation" else test).cases["file"].tolist():
            return None
        logits[name] = table.drop(columns="case").to_numpy(np.float32)
    log.info("%s is finished", folder.name)
    places = {name: Localisation(**place) for name, place in told["places"].items()}
    without = {branch: logits[_WITHOUT + branch] for branch in told["without"]}
    return _Fold(logits["validation"], logits["test"], told["best_epoch"], told["head_epochs"], places, without)


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


def _threshold(cases: Squares, scores: pd.DataFrame) -> float:
    positive = scores[cases.classes[cases.positive]].to_numpy()
    return choose_threshold(cases.labels == cases.positive, positive, scores["patient"].astype(str).to_numpy())


def _in_fold(scores: pd.DataFrame, number: int) -> pd.DataFrame:
    scores.insert(3, "fold", number)
    return scores
