"""Fitting the outline network: what its frozen first layers make of augmented views is computed once."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from core.files import write_whole
from core.models.architectures.outline import OUTLINE_STRIDE, OutlineGraph, outline_network
from core.models.inference import device_name
from core.models.weights import load_state, state_of
from core.types import Modality
from train.fitting.checkpoint import Checkpoint, Progress, StepFile
from train.fitting.feature_cache import FeatureCache, key_of
from train.fitting.inputs import PRESETS, augment
from train.fitting.network import MovingAverage, compiled
from train.fitting.squares import Squares
from train.recipe.outline import OutlineConfig

log = logging.getLogger(__name__)

_PRESET = replace(PRESETS[Modality.ULTRASOUND], cutout=0.0)
"""No rectangle is blanked: a lesion under it would have an outline that nothing in the picture shows."""
_CHUNK = 32


@dataclass(frozen=True, slots=True)
class OutlineFitted:
    """graph: holds the weights of the best epoch (from 1). history: a row an epoch."""

    graph: OutlineGraph
    history: tuple[dict[str, float], ...]
    best_epoch: int
    started_from: str


class OutlineViews:
    """What the frozen part gives for each of `config.views` views of the cases: float16, and the masks as shares.

    features: for each view (n, h, w, c). masks: for each view (n, h, w), the share of lesion in each cell. The first
    view is the picture as it is.
    """

    def __init__(self, stem: keras.Model, squares: Squares, config: OutlineConfig, cache: FeatureCache | None) -> None:
        self.forward = compiled(stem)
        self.grid = tuple(stem.output_shape[1:3])
        weights = key_of([np.asarray(variable) for variable in stem.variables])
        data = key_of([squares.pixels, squares.masks], asdict(_PRESET))
        self.features: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        for view in range(config.views):
            began = time.monotonic()
            key = key_of([], "outline", weights, data, config.seed if view else "plain", view)
            made = self._made(squares, view, config.seed) if cache is None else cache.get(
                key, lambda view=view: self._made(squares, view, config.seed)  # type: ignore[misc]
            )  # fmt: skip
            self.features.append(made[0])
            self.masks.append(made[1])
            log.info("view %d of %d at hand after %.0f s", view + 1, config.views, time.monotonic() - began)

    def _made(self, squares: Squares, view: int, seed: int) -> list[np.ndarray]:
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for index in range(0, len(squares), _CHUNK):
            pixels, masks = squares.tensors(np.arange(index, min(index + _CHUNK, len(squares))))
            if view > 0:
                pixels, masks = augment(pixels, masks, _PRESET, tf.constant([seed * 1000 + view, index]))
            shares = tf.image.resize(masks, self.grid, method="area")[..., 0]
            parts.append((np.asarray(self.forward(pixels), np.float16), np.asarray(shares, np.float16)))
        return [np.concatenate(part) for part in zip(*parts, strict=True)]


def starting_graph(config: OutlineConfig, start: Callable[[keras.Model], str]) -> tuple[OutlineGraph, str, keras.Model]:
    """The graph with its starting weights, what these are in words, and its part up to the cut.

    Drawn weights are the same at every call: views are made by one graph and learnt from by another.
    """
    keras.utils.set_random_seed(config.seed)
    graph = outline_network(side=config.side)
    started_from = start(graph.backbone)
    return graph, started_from, keras.Model(graph.model.input, graph.model.get_layer(graph.cut).output)


def _learning_part(graph: OutlineGraph) -> keras.Model:
    """The graph behind the cut; the backbone's batch normalisation stays as it started."""
    for layer in graph.backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return keras.Model(graph.model.get_layer(graph.cut).output, graph.model.output)


def _optimizer(config: OutlineConfig, variables: Sequence[keras.Variable]) -> keras.Optimizer:
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(variables)
    return optimizer


def fit_outline(
    config: OutlineConfig,
    squares: Squares,
    views: OutlineViews,
    chosen: np.ndarray,
    validation: np.ndarray,
    *,
    start: Callable[[keras.Model], str],
    folder: Path,
    seconds_most: float = math.inf,
) -> OutlineFitted:
    """Train on the cases at `chosen`, choose the epoch by the mean Dice of the cases at `validation`.

    views: of all cases of `squares`. `folder` gets the state after the last epoch, from which the same run goes on,
    `epochs.jsonl` (a line an epoch) and where it stands within one.
    seconds_most: no epoch begins after so many seconds of epochs, also when a run goes on; the first always runs.
    """
    graph, started_from, _ = starting_graph(config, start)
    start_weights = key_of(map(np.asarray, graph.backbone.variables)) if started_from != "random" else ""
    tail = _learning_part(graph)
    variables = tail.trainable_variables
    batch = min(config.batch, len(chosen))
    steps = len(chosen) // batch
    optimizer = _optimizer(config, variables)
    average = MovingAverage(variables, config.average)
    step = _step(tail, optimizer, variables)
    learnt_from = [chosen, validation, squares.pixels, squares.masks]
    key = key_of(learnt_from, asdict(config), started_from, start_weights)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(folder, key, [*tail.variables, *optimizer.variables, *average.shadows])
    progress = checkpoint.restore()
    average.steps = progress.average_steps
    write_whole(folder / "epochs.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))
    within = StepFile(folder, device_name())
    forward = compiled(tail)
    while len(progress.history) < config.epochs and sum(row["seconds"] for row in progress.history) < seconds_most:
        epoch = len(progress.history) + 1
        began = time.monotonic()
        losses = []
        for number, (inputs, masks) in enumerate(_batches(views, chosen, config, epoch, batch)):
            at = (epoch - 1 + number / steps) / config.epochs
            optimizer.learning_rate.assign(config.learning_rate * 0.5 * (1 + math.cos(math.pi * at)))
            losses.append(float(step(tf.constant(inputs), tf.constant(masks))))
            average.update()
            within.report(epoch, number + 1, steps)
        average.swapped()
        dice = _mean_dice(forward, views, validation)
        if 1 - dice < progress.best[0]:
            progress.best = (1 - dice, epoch, state_of(graph.model))
        average.swapped()
        row = {"epoch": float(epoch), "loss": float(np.mean(losses)), "validation_dice": dice,
               "seconds": time.monotonic() - began}  # fmt: skip
        progress.history.append({name: round(value, 5) for name, value in row.items()})
        progress.average_steps = average.steps
        checkpoint.save(progress)
        with (folder / "epochs.jsonl").open("a") as file:
            file.write(json.dumps(progress.history[-1]) + "\n")
        log.info("%s epoch %d loss %.4f validation dice %.4f (%.0f s)", folder.name, epoch, row["loss"], dice,
                 row["seconds"])  # fmt: skip
    return _best(graph, progress, started_from)


def outline_probabilities(graph: OutlineGraph, pixels: np.ndarray) -> np.ndarray:
    """float32 (n, h, w) in [0, 1] of squares (n, side, side, 1), a cell of `OUTLINE_STRIDE` pixels each."""
    forward = compiled(graph.model)
    parts = [
        np.asarray(tf.sigmoid(forward(tf.constant(pixels[index : index + _CHUNK].astype(np.float32)))))[..., 0]
        for index in range(0, len(pixels), _CHUNK)
    ]
    side = pixels.shape[1] // OUTLINE_STRIDE
    return np.concatenate(parts) if parts else np.zeros((0, side, side), np.float32)


def _best(graph: OutlineGraph, progress: Progress, started_from: str) -> OutlineFitted:
    _, epoch, state = progress.best
    load_state(graph.model, state)
    return OutlineFitted(graph, tuple(progress.history), epoch, started_from)


def _step(
    tail: keras.Model, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    @tf.function  # type: ignore[untyped-decorator]
    def step(inputs: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = outline_loss(tail(inputs, training=True)[..., 0], masks)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    taken: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = step
    return taken


def outline_loss(logits: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """Cross-entropy over cells, plus 1 - soft Dice of each case with a lesion (Milletari et al. 2016).

    logits, masks: (n, h, w), masks as the share of lesion in each cell. Dice makes a small lesion weigh as much as a
    large one; a normal picture has none, so only the cross-entropy speaks of it.
    """
    entropy = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=masks, logits=logits))
    found = tf.sigmoid(logits)
    both = tf.reduce_sum(found * masks, axis=(1, 2))
    size = tf.reduce_sum(found, axis=(1, 2)) + tf.reduce_sum(masks, axis=(1, 2))
    has_lesion = tf.cast(tf.reduce_sum(masks, axis=(1, 2)) > 0.5, tf.float32)
    missed = 1 - (2 * both + 1) / (size + 1)
    return entropy + tf.reduce_sum(missed * has_lesion) / (tf.reduce_sum(has_lesion) + 1e-6)


def _batches(
    views: OutlineViews, chosen: np.ndarray, config: OutlineConfig, epoch: int, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features (n, h, w, c) and masks (n, h, w) of one epoch: each case once, in a view drawn for it."""
    rng = np.random.default_rng((config.seed, epoch))
    order = rng.permutation(chosen)
    drawn = rng.integers(0, config.views, len(order))
    for index in range(0, len(order) - batch + 1, batch):
        pairs = list(zip(drawn[index : index + batch], order[index : index + batch], strict=True))
        yield (
            np.stack([views.features[view][case] for view, case in pairs]).astype(np.float32),
            np.stack([views.masks[view][case] for view, case in pairs]).astype(np.float32),
        )


def _mean_dice(forward: Callable[[tf.Tensor], tf.Tensor], views: OutlineViews, cases: np.ndarray) -> float:
    """Of the cells above 0.5 against those that lie for more than half in the lesion, over cases with a lesion."""
    values = []
    for index in range(0, len(cases), _CHUNK):
        part = np.sort(cases[index : index + _CHUNK])
        found = np.asarray(forward(tf.constant(views.features[0][part].astype(np.float32))))[..., 0] > 0
        masks = views.masks[0][part] > 0.5
        size = found.sum((1, 2)) + masks.sum((1, 2))
        dice = 2 * (found & masks).sum((1, 2)) / np.maximum(size, 1)
        values.extend(dice[masks.any((1, 2))])
    return float(np.mean(values)) if values else 0.0
