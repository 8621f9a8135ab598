"""One straight line from a manifest to fitted weights: squares, start, epochs, best epoch. Read it top to bottom."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from core.errors import InvalidInput
from core.files import write_whole
from core.models.architectures import Graph
from core.models.inference import unfitted_graph
from core.models.weights import load_state, state_of
from train.fitting.checkpoint import Checkpoint
from train.fitting.feature_cache import FeatureCache, key_of
from train.fitting.head import HEAD_VIEWS, features_of, fit_by_regression, fit_head, standardise_on
from train.fitting.inputs import Fresh, Views
from train.fitting.loop import EpochLoop, make_optimizer, training_step, validate
from train.fitting.network import MovingAverage, Trainable, are_maps_learned, called, compiled, make_trainable
from train.fitting.squares import Squares
from train.fitting.workers import ALONE, Workers
from train.recipe.recipes import FitConfig

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""`FitConfig.precision` as Keras calls it."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a run leaves: the graph holding the kept weights, the epochs' log, and the kept epoch (from 1).

    head_epochs: how many the classifier alone was fitted for (0: it was not).
    """

    graph: Graph
    history: tuple[dict[str, float], ...]
    best_epoch: int
    started_from: str
    head_epochs: int = 0


def fit(
    config: FitConfig,
    squares: Squares,
    *,
    start: Callable[[Graph], str],
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    cache: FeatureCache | None = None,
    head_epochs: int | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] = lambda row: None,
    workers: Workers = ALONE,
) -> Fitted:
    """Train on the "train" cases, choose the epoch on the "validation" cases; the test cases are not looked at.

    `start` puts the starting weights into the graph and says what they are. `folder` gets `epochs.jsonl` (a line an
    epoch) and the state after the last epoch, from which the same run goes on if it was killed; `stop` is asked after
    every epoch, also after those. With a `cache`, what frozen layers give is found again by the next run.
    `head_epochs`: where no case is left to choose on, for exactly so many the classifier alone is fitted, and the epoch
    that is kept is the last. `on_epoch` gets the row of every epoch, when a run goes on also of those before; what it
    raises ends the run. `workers`: the processes that do this together, of which the first alone writes.
    """
    keras.utils.set_random_seed(config.seed)
    graph = _graph(config, squares, _POLICIES[config.precision])
    started_from = start(graph)
    pretrained = started_from != "random"
    start_weights = key_of(map(np.asarray, graph.model.variables)) if pretrained else ""
    if config.dropout is not None:
        _set_dropout(graph, config.dropout)
    trainable = make_trainable(
        graph, frozen=config.frozen, unfreeze=config.unfreeze, freeze_batch_norm=pretrained,
        is_kept=config.views > 0, depthwise=config.depthwise,
    )  # fmt: skip
    train, validation = squares.split("train"), squares.split("validation")
    _require_a_batch(len(train), config)
    source = Views(trainable, squares, config, cache) if trainable.stem is not None else Fresh(train, config)
    held = _stem_outputs(trainable, validation)
    folder.mkdir(parents=True, exist_ok=True)
    if config.classifier == "regression":
        fitted = _regressed(graph, trainable, source, (held, validation), config, folder, on_epoch, started_from)
        return replace(fitted, graph=_in_float32(config, squares, graph, state_of(graph.model)))
    headed = 0
    if pretrained and are_maps_learned(graph):
        headed = _start_classifier(graph, trainable, source, held, validation, config, head_epochs)
    optimizer = make_optimizer(trainable, config)
    average = MovingAverage(trainable.variables, config.average)
    learnt_from = [squares.pixels, squares.labels, squares.masks]
    key = key_of(learnt_from, asdict(config), squares.splits.tolist(), started_from, start_weights)
    changing = [*_changing(graph, trainable), *optimizer.variables, *average.shadows]
    loop = EpochLoop(
        graph, config, folder, source, validation, average, Checkpoint(folder, key, changing),
        step=training_step(trainable, optimizer, config, train, workers),
        judge=_judge(trainable, held),
        steps=max(1, len(train) // config.batch),
        workers=workers,
        keeps_last=head_epochs is not None,
    )  # fmt: skip
    progress = loop.run(stop, on_epoch)
    graph = _in_float32(config, squares, graph, progress.best[2])
    return Fitted(graph, tuple(progress.history), progress.best[1], started_from, headed)


def _require_a_batch(n: int, config: FitConfig) -> None:
    if n < config.batch and config.classifier == "steps":
        raise InvalidInput(
            f"There are {n} training cases, fewer than a batch of {config.batch}: nothing would be learnt. "
            "Use more cases, or say --set batch=…."
        )


def _graph(config: FitConfig, squares: Squares, policy: str) -> Graph:
    return unfitted_graph(
        config.architecture,
        policy,
        side=config.side,
        channels=squares.pixels.shape[3],
        outputs=squares.outputs,
        columns=config.columns,
    )


def _in_float32(config: FitConfig, squares: Squares, graph: Graph, state: dict[str, np.ndarray]) -> Graph:
    """A graph with these weights that computes in float32: the one that learned where it does, else a new one."""
    if config.precision != "float32":
        graph = _graph(config, squares, "float32")
    load_state(graph.model, state)
    return graph


def _set_dropout(graph: Graph, rate: float) -> None:
    for layer in graph.model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = rate


def logits_of(forward: Callable[[tf.Tensor], tf.Tensor], pixels: np.ndarray, batch: int = 32) -> np.ndarray:
    """(n, outputs) logits of squares (n, side, side, c) by a `compiled` model."""
    pieces = [
        forward(tf.constant(pixels[index : index + batch].astype(np.float32))).numpy()
        for index in range(0, len(pixels), batch)
    ]
    return np.concatenate(pieces)


def _changing(graph: Graph, trainable: Trainable) -> list[keras.Variable]:
    """What epochs change of the network: learned variables, moving statistics, random states; not the frozen stem."""
    fixed = {id(variable) for variable in trainable.stem.variables} if trainable.stem is not None else set()
    return [*trainable.variables, *(variable for variable in graph.model.variables if id(variable) not in fixed)]


def _stem_outputs(trainable: Trainable, cases: Squares, batch: int = 32) -> list[np.ndarray]:
    """What the frozen stem gives for these cases unchanged, an array a branch; the squares where nothing is frozen."""
    if trainable.stem is None:
        return [cases.pixels]
    stem = compiled(trainable.stem)
    chunks = [
        [np.asarray(part, np.float16) for part in tf.nest.flatten(stem(tf.constant(chunk.astype(np.float32))))]
        for chunk in (cases.pixels[index : index + batch] for index in range(0, len(cases), batch))
    ]
    return [np.concatenate(part) for part in zip(*chunks, strict=True)]


def _start_classifier(
    graph: Graph,
    trainable: Trainable,
    source: Fresh | Views,
    held: list[np.ndarray],
    validation: Squares,
    config: FitConfig,
    exactly: int | None,
) -> int:
    """Normalise pooled features by what the starting weights give, and fit the classifier to them before all else.

    Returns for how many epochs; `exactly` so many, without looking at the validation cases, where that is said.
    """
    body = tf.function(lambda tensors: called(trainable.body, list(tensors), training=False), reduce_retracing=True)
    views = [features_of(graph, body, parts) for parts in source.samples(min(config.views or HEAD_VIEWS, HEAD_VIEWS))]
    standardise_on(graph, views)
    if not config.head_epochs:
        return 0
    if exactly is not None:
        return fit_head(graph, views, source.cases.labels, None, replace(config, head_epochs=exactly), source.chance)
    held_features = features_of(graph, body, held)
    return fit_head(graph, views, source.cases.labels, (held_features, validation.labels), config, source.chance)


def _regressed(
    graph: Graph,
    trainable: Trainable,
    source: Fresh | Views,
    held: tuple[list[np.ndarray], Squares],
    config: FitConfig,
    folder: Path,
    on_epoch: Callable[[Mapping[str, float]], None],
    started_from: str,
) -> Fitted:
    """The classifier by regression on the kept views, in place of epochs: a history of one row.

    held: what the frozen part gives of the validation cases, and these cases.
    """
    began = time.monotonic()
    body = tf.function(lambda tensors: called(trainable.body, list(tensors), training=False), reduce_retracing=True)
    views = [features_of(graph, body, parts) for parts in source.samples(max(1, config.views))]
    standardise_on(graph, views, damping=0.0)
    fit_by_regression(graph, views, source.cases.labels, config, source.chance)
    own = validate(_judge(trainable, list(next(iter(source.samples(1)))))(), source.cases)
    row = {"epoch": 1, "loss": own["validation_loss"], **validate(_judge(trainable, held[0])(), held[1])}
    row = {name: round(float(value), 5) for name, value in row.items()} | {"seconds": time.monotonic() - began}
    write_whole(folder / "epochs.jsonl", json.dumps(row) + "\n")
    on_epoch(row)
    return Fitted(graph, (row,), 1, started_from)


def _judge(trainable: Trainable, held: list[np.ndarray], batch: int = 32) -> Callable[[], np.ndarray]:
    """A function that gives the logits of what a frozen stem made of the cases (`held`), under the present weights."""

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def head(*tensors: tf.Tensor) -> tf.Tensor:
        return called(trainable.head, called(trainable.body, list(tensors), training=False), training=False)[0]

    def logits() -> np.ndarray:
        chunks = ([part[index : index + batch] for part in held] for index in range(0, len(held[0]), batch))
        return np.concatenate([head(*[tf.constant(part, tf.float32) for part in chunk]).numpy() for chunk in chunks])

    return logits
