"""One straight line from a manifest to fitted weights: squares, start, epochs, best epoch. Read it top to bottom."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from core.models.architectures import Graph
from core.models.registry import architecture
from core.models.weights import load_state, state_of
from train.batches import Batch, Fresh, Views
from train.checkpoint import Checkpoint, Progress
from train.config import FitConfig
from train.feature_cache import FeatureCache, key_of
from train.head import HEAD_VIEWS, features_of, fit_head, standardise_on
from train.network import (
    MovingAverage,
    Trainable,
    attention_loss,
    balanced_class_weights,
    called,
    class_loss,
    compiled,
    make_trainable,
    mask_loss,
    of_unit_size,
    shrink_masks,
)
from train.squares import Squares

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a run leaves: the graph holding the best weights, the epochs' log, and the best epoch (from 1)."""

    graph: Graph
    history: tuple[dict[str, float], ...]
    best_epoch: int
    started_from: str


def fit(
    config: FitConfig,
    squares: Squares,
    *,
    start: Callable[[Graph], str],
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    cache: FeatureCache | None = None,
) -> Fitted:
    """Train on the "train" cases, choose the epoch on the "validation" cases; the test cases are not looked at.

    `start` puts the starting weights into the graph and says what they are. `folder` gets `epochs.jsonl` (a line an
    epoch) and the state after the last epoch, from which the same run goes on if it was killed; `stop` is asked after
    every epoch, also after those. With a `cache`, what frozen layers give is found again by the next run.
    """
    keras.utils.set_random_seed(config.seed)
    graph = architecture(config.architecture).build(
        side=config.side, channels=squares.pixels.shape[3], outputs=squares.outputs
    )
    started_from = start(graph)
    pretrained = started_from != "random"
    trainable = make_trainable(graph, frozen=config.frozen, freeze_batch_norm=pretrained)
    train, validation = squares.split("train"), squares.split("validation")
    source = Views(trainable, train, config, cache) if trainable.stem is not None else Fresh(train, config)
    held = _stem_outputs(trainable, validation)
    if pretrained:
        _start_classifier(graph, trainable, source, held, validation, config)
    optimizer = _optimizer(trainable, config)
    step = _training_step(trainable, optimizer, config, train)
    average = MovingAverage(trainable.variables, config.average)
    judge = _judge(trainable, held)
    folder.mkdir(parents=True, exist_ok=True)
    key = key_of([squares.pixels, squares.labels], asdict(config), squares.splits.tolist(), started_from)
    changing = [*_changing(graph, trainable), *optimizer.variables, *average.shadows]
    checkpoint = Checkpoint(folder, key, changing)
    progress = checkpoint.restore()
    history, best, average.steps = progress.history, progress.best, progress.average_steps
    is_over = any(stop() for _ in history) or len(history) - best[1] >= config.patience
    (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    steps = max(1, len(train) // config.batch)
    for epoch in range(len(history) + 1, 1 if is_over else config.epochs + 1):
        began = time.monotonic()
        losses = []
        for number, batch in enumerate(source.epoch(epoch)):
            losses.append(float(step(batch, _learning_rate(config, (epoch - 1) + number / steps))))
            average.update()
        average.swapped()
        row = _validate(judge(), validation)
        if row["validation_loss"] < best[0]:
            best = (row["validation_loss"], epoch, state_of(graph.model))
        average.swapped()
        row = {"epoch": epoch, "loss": float(np.mean(losses)), **row, "seconds": time.monotonic() - began}
        history.append({name: round(float(value), 5) for name, value in row.items()})
        checkpoint.save(Progress(history, best, average.steps))
        with (folder / "epochs.jsonl").open("a") as file:
            file.write(json.dumps(history[-1]) + "\n")
        log.info("%s", " ".join(f"{name} {value:g}" for name, value in history[-1].items()))
        if epoch - best[1] >= config.patience or stop():
            break
    load_state(graph.model, best[2])
    return Fitted(graph, tuple(history), best[1], started_from)


def logits_of(forward: Callable[[tf.Tensor], tf.Tensor], pixels: np.ndarray, batch: int = 32) -> np.ndarray:
    """(n, outputs) logits of squares (n, side, side, c) by a `compiled` model."""
    pieces = [
        forward(tf.constant(pixels[index : index + batch].astype(np.float32))).numpy()
        for index in range(0, len(pixels), batch)
    ]
    return np.concatenate(pieces)


def _optimizer(trainable: Trainable, config: FitConfig) -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(trainable.variables)
    return optimizer


def _changing(graph: Graph, trainable: Trainable) -> list[keras.Variable]:
    """What epochs change of the network: learned variables, moving statistics, random states; not the frozen stem."""
    fixed = {id(variable) for variable in trainable.stem.variables} if trainable.stem is not None else set()
    return [*trainable.variables, *(variable for variable in graph.model.variables if id(variable) not in fixed)]


def _training_step(
    trainable: Trainable, optimizer: keras.optimizers.Optimizer, config: FitConfig, train: Squares
) -> Callable[..., tf.Tensor]:
    weights = tf.constant(balanced_class_weights(train.labels, len(train.classes)))
    grids = [tuple(output.shape[1:3]) for output in tf.nest.flatten(trainable.head.input)]
    uses_masks = bool(train.has_mask.any()) and (config.mask_weight > 0 or config.attention_weight > 0)

    @tf.function
    def step(inputs: list[tf.Tensor], masks: tf.Tensor, labels: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            maps = called(trainable.body, inputs, training=True)
            with tf.GradientTape() as inner:
                inner.watch(maps)
                (logits,) = called(trainable.head, maps, training=True)
                score = _own_score(logits, labels)
            loss = class_loss(logits, labels, weights, config.label_smoothing)
            if uses_masks:
                small = shrink_masks(masks, grids)
                found = [layer(tensor) for layer, tensor in zip(trainable.mask_heads, of_unit_size(maps), strict=True)]
                loss += config.mask_weight * mask_loss(found, small, known)
                loss += config.attention_weight * attention_loss(score, maps, small, inner)
        gradients = tape.gradient(loss, trainable.variables)
        pairs = [(g, v) for g, v in zip(gradients, trainable.variables, strict=True) if g is not None]
        optimizer.apply_gradients(pairs)
        return loss

    def run(batch: Batch, learning_rate: float) -> tf.Tensor:
        parts, masks, labels, known = batch
        optimizer.learning_rate.assign(learning_rate)
        return step([tf.convert_to_tensor(part) for part in parts], tf.convert_to_tensor(masks), labels, known)

    return run


def _own_score(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """(n,) logit of each case's own class."""
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * tf.cast(labels, tf.float32) - 1)
    return tf.gather(logits, labels, axis=1, batch_dims=1)


def _learning_rate(config: FitConfig, progress: float) -> float:
    """Linear warm-up over the first epoch, then a cosine down to 2 % (progress in epochs)."""
    if progress < 1:
        return config.learning_rate * max(progress, 0.02)
    share = (progress - 1) / max(1, config.epochs - 1)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(share, 1)))))


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
) -> None:
    """Normalise pooled features by what the starting weights give, and fit the classifier to them before all else."""
    body = tf.function(lambda tensors: called(trainable.body, list(tensors), training=False), reduce_retracing=True)
    views = [features_of(graph, body, parts) for parts in source.samples(min(config.views, HEAD_VIEWS))]
    standardise_on(graph, views)
    if config.head_epochs:
        held_features = features_of(graph, body, held)
        fit_head(graph, views, source.cases.labels, (held_features, validation.labels), config)


def _judge(trainable: Trainable, held: list[np.ndarray], batch: int = 32) -> Callable[[], np.ndarray]:
    """A function that gives the logits of what a frozen stem made of the cases (`held`), under the present weights."""

    @tf.function(reduce_retracing=True)
    def head(*tensors: tf.Tensor) -> tf.Tensor:
        return called(trainable.head, called(trainable.body, list(tensors), training=False), training=False)[0]

    def logits() -> np.ndarray:
        chunks = ([part[index : index + batch] for part in held] for index in range(0, len(held[0]), batch))
        return np.concatenate([head(*[tf.constant(part, tf.float32) for part in chunk]).numpy() for chunk in chunks])

    return logits


def _validate(logits: np.ndarray, cases: Squares) -> dict[str, float]:
    loss = float(class_loss(tf.constant(logits), tf.constant(cases.labels), tf.ones(len(cases.classes)), 0.0))
    positive = cases.labels == cases.positive
    score = logits[:, 0] if logits.shape[1] == 1 else tf.nn.softmax(logits).numpy()[:, cases.positive]
    accuracy = ((logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(1)) == cases.labels
    return {
        "validation_loss": loss,
        "validation_auc": float(roc_auc_score(positive, score)),
        "validation_accuracy": float(accuracy.mean()),
    }
