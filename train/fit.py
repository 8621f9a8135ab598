"""One straight line from a manifest to fitted weights: squares, start, epochs, best epoch. Read it top to bottom."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from core.models.architectures import Graph
from core.models.inference import device_name
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
    called,
    class_loss,
    class_weights,
    compiled,
    make_trainable,
    mask_loss,
    mixed_up,
    of_unit_size,
    shrink_masks,
)
from train.squares import Squares
from train.step_file import StepFile

log = logging.getLogger(__name__)


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
    told: Callable[[Mapping[str, float]], None] = lambda row: None,
) -> Fitted:
    """Train on the "train" cases, choose the epoch on the "validation" cases; the test cases are not looked at.

    `start` puts the starting weights into the graph and says what they are. `folder` gets `epochs.jsonl` (a line an
    epoch) and the state after the last epoch, from which the same run goes on if it was killed; `stop` is asked after
    every epoch, also after those. With a `cache`, what frozen layers give is found again by the next run.
    `head_epochs`: for exactly so many the classifier alone is fitted, where no case is left to choose on. `told` gets
    the row of every epoch, when a run goes on also of those before; what it raises ends the run.
    """
    keras.utils.set_random_seed(config.seed)
    graph = architecture(config.architecture).build(
        side=config.side, channels=squares.pixels.shape[3], outputs=squares.outputs
    )
    started_from = start(graph)
    pretrained = started_from != "random"
    if config.dropout is not None:
        _set_dropout(graph, config.dropout)
    trainable = make_trainable(graph, frozen=config.frozen, unfreeze=config.unfreeze, freeze_batch_norm=pretrained)
    train, validation = squares.split("train"), squares.split("validation")
    source = Views(trainable, train, config, cache) if trainable.stem is not None else Fresh(train, config)
    held = _stem_outputs(trainable, validation)
    headed = _start_classifier(graph, trainable, source, held, validation, config, head_epochs) if pretrained else 0
    optimizer = make_optimizer(trainable, config)
    step = training_step(trainable, optimizer, config, train)
    average = MovingAverage(trainable.variables, config.average)
    judge = _judge(trainable, held)
    folder.mkdir(parents=True, exist_ok=True)
    key = key_of([squares.pixels, squares.labels], asdict(config), squares.splits.tolist(), started_from)
    changing = [*_changing(graph, trainable), *optimizer.variables, *average.shadows]
    checkpoint = Checkpoint(folder, key, changing)
    progress = checkpoint.restore()
    history, best, average.steps = progress.history, progress.best, progress.average_steps
    for row in history:
        told(row)
    is_over = any(stop() for _ in history) or _is_patience_over(history, config)
    (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    steps, within = max(1, len(train) // config.batch), StepFile(folder, device_name())
    for epoch in range(len(history) + 1, 1 if is_over else config.epochs + 1):
        began = time.monotonic()
        losses = []
        for number, batch in enumerate(source.epoch(epoch)):
            losses.append(float(step(batch, _learning_rate(config, (epoch - 1) + number / steps))))
            average.update()
            within.tell(epoch, number + 1, steps)
        average.swapped()
        row = _validate(judge(), validation)
        if _cost(row, config) < best[0]:
            best = (_cost(row, config), epoch, state_of(graph.model))
        average.swapped()
        row = {"epoch": epoch, "loss": float(np.mean(losses)), **row, "seconds": time.monotonic() - began}
        history.append({name: round(float(value), 5) for name, value in row.items()})
        checkpoint.save(Progress(history, best, average.steps))
        with (folder / "epochs.jsonl").open("a") as file:
            file.write(json.dumps(history[-1]) + "\n")
        log.info("%s", " ".join(f"{name} {value:g}" for name, value in history[-1].items()))
        told(history[-1])
        if _is_patience_over(history, config) or stop():
            break
    load_state(graph.model, best[2])
    return Fitted(graph, tuple(history), best[1], started_from, headed)


def _cost(row: dict[str, float], config: FitConfig) -> float:
    """What the kept epoch has least of; of epochs that are alike in accuracy, the one with the lower loss."""
    if config.keep == "loss":
        return row["validation_loss"]
    # An accuracy changes in steps of one case; the loss, made this small, decides between equal ones only.
    return -row["validation_accuracy"] + 1e-6 * min(row["validation_loss"], 10.0)


def _is_patience_over(history: list[dict[str, float]], config: FitConfig) -> bool:
    losses = [row["validation_loss"] for row in history]
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= config.patience


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


def make_optimizer(trainable: Trainable, config: FitConfig) -> keras.optimizers.Optimizer:
    """The configuration's optimiser, built for what is learned; biases and normalisations do not decay."""
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            config.learning_rate, momentum=0.9, nesterov=True, weight_decay=config.weight_decay or None, clipnorm=1.0
        )
    else:
        optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay, clipnorm=1.0)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(trainable.variables)
    return optimizer


def _changing(graph: Graph, trainable: Trainable) -> list[keras.Variable]:
    """What epochs change of the network: learned variables, moving statistics, random states; not the frozen stem."""
    fixed = {id(variable) for variable in trainable.stem.variables} if trainable.stem is not None else set()
    return [*trainable.variables, *(variable for variable in graph.model.variables if id(variable) not in fixed)]


def training_step(
    trainable: Trainable, optimizer: keras.optimizers.Optimizer, config: FitConfig, train: Squares
) -> Callable[..., tf.Tensor]:
    """A function (batch, learning rate) -> loss that takes one step on what is learned."""
    weights = tf.constant(class_weights(train.labels, len(train.classes), config.class_weights))
    grids = [tuple(output.shape[1:3]) for output in tf.nest.flatten(trainable.head.input)]
    uses_masks = bool(train.has_mask.any()) and (config.mask_weight > 0 or config.attention_weight > 0)

    @tf.function
    def step(
        inputs: list[tf.Tensor],
        masks: tf.Tensor,
        labels: tf.Tensor,
        known: tf.Tensor,
        others: tf.Tensor,
        share: tf.Tensor,
    ) -> tf.Tensor:
        mixed = config.mixup > 0
        if mixed:
            inputs, masks, known = mixed_up(inputs, masks, known, others, share)
        with tf.GradientTape() as tape:
            maps = called(trainable.body, inputs, training=True)
            with tf.GradientTape() as inner:
                inner.watch(maps)
                (logits,) = called(trainable.head, maps, training=True)
                score = _own_score(logits, labels)
            loss = class_loss(logits, labels, weights, config.label_smoothing)
            if mixed:
                other = class_loss(logits, tf.gather(labels, others), weights, config.label_smoothing)
                loss = share * loss + (1 - share) * other
            # What the architecture itself asks for: VGG19's dense layer has an L2 penalty.
            loss += tf.add_n([tf.constant(0.0), *trainable.head.losses])
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
        others, share = _mixing(config, labels, int(optimizer.iterations))
        given = [tf.convert_to_tensor(part) for part in parts]
        return step(given, tf.convert_to_tensor(masks), labels, known, others, tf.constant(share, tf.float32))

    return run


def _mixing(config: FitConfig, labels: np.ndarray, step: int) -> tuple[np.ndarray, float]:
    """With which case of the batch each is mixed, and its own share of the mixture (at least a half)."""
    if not config.mixup:
        return np.arange(len(labels)), 1.0
    rng = np.random.default_rng((config.seed, step, 1))
    share = rng.beta(config.mixup, config.mixup)
    return rng.permutation(len(labels)), float(max(share, 1 - share))


def _own_score(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """(n,) logit of each case's own class."""
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * tf.cast(labels, tf.float32) - 1)
    return tf.gather(logits, labels, axis=1, batch_dims=1)


def _learning_rate(config: FitConfig, progress: float) -> float:
    """Linear warm-up over the first epoch, then a cosine down to 2 %, or constant (progress in epochs)."""
    if progress < 1:
        return config.learning_rate * max(progress, 0.02)
    if config.schedule == "constant":
        return config.learning_rate
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
    exactly: int | None,
) -> int:
    """Normalise pooled features by what the starting weights give, and fit the classifier to them before all else.

    Returns for how many epochs; `exactly` so many, without looking at the validation cases, where that is said.
    """
    body = tf.function(lambda tensors: called(trainable.body, list(tensors), training=False), reduce_retracing=True)
    views = [features_of(graph, body, parts) for parts in source.samples(min(config.views, HEAD_VIEWS))]
    standardise_on(graph, views)
    if not config.head_epochs:
        return 0
    if exactly is not None:
        return fit_head(graph, views, source.cases.labels, None, replace(config, head_epochs=exactly))
    held_features = features_of(graph, body, held)
    return fit_head(graph, views, source.cases.labels, (held_features, validation.labels), config)


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
