"""What is measured of a fitted graph before it becomes a model: probabilities, and where it looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from core.imaging.preprocess import resize
from core.models.architectures import Graph
from core.models.calibration import Calibration
from core.models.inference import explained, fused_map
from core.models.weights import load_state, state_of, to_float16
from train.fitting.network import compiled
from train.fitting.squares import Squares


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
        for name, only_positive in (("positive class, positive cases", True), ("own class, all lesions", False))
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
