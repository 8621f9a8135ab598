"""The epochs of a training: train, judge on the validation cases, keep, and know when to end.

One step of a training on one batch: the losses, their gradients and the optimiser.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from core.errors import Conflict, InvalidInput
from core.files import write_whole
from core.models.architectures import Graph
from core.models.inference import device_name
from core.models.weights import state_of
from train.fitting.checkpoint import Checkpoint, Progress, StepFile
from train.fitting.inputs import Batch, Fresh, Views
from train.fitting.network import (
    MovingAverage,
    Trainable,
    attention_loss,
    called,
    class_loss,
    class_weights,
    mask_loss,
    mixed_up,
    of_unit_size,
    shrink_masks,
)
from train.fitting.squares import Squares
from train.fitting.workers import ALONE, Workers
from train.recipe.recipes import FitConfig

log = logging.getLogger(__name__)


class Diverged(InvalidInput):
    """The network's answers are no numbers any more."""


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


def training_step(
    trainable: Trainable,
    optimizer: keras.optimizers.Optimizer,
    config: FitConfig,
    train: Squares,
    workers: Workers = ALONE,
) -> Callable[..., tf.Tensor]:
    """A function (batch, learning rate) -> loss that takes one step on what is learned.

    Of several workers each computes the gradients of its share of the batch. Losses are divided by what counts in the
    whole batch, so that their sums over all workers are the loss and the gradients of the batch.
    """
    weights = tf.constant(class_weights(train.labels, len(train.classes), config.class_weights))
    grids = [tuple(output.shape[1:3]) for output in tf.nest.flatten(trainable.head.input)]
    uses_masks = bool(train.has_mask.any()) and (config.mask_weight > 0 or config.attention_weight > 0)

    @tf.function  # type: ignore[untyped-decorator]
    def step(
        inputs: list[tf.Tensor],
        masks: tf.Tensor,
        labels: tf.Tensor,
        known: tf.Tensor,
        others: tf.Tensor,
        share: tf.Tensor,
        mine: tf.Tensor,
    ) -> tf.Tensor:
        mixed = config.mixup > 0
        if mixed:
            inputs, masks, known = mixed_up(inputs, masks, known, others, share)
        batch, their_batch, small_batch = labels, tf.gather(labels, others), shrink_masks(masks, grids)
        known_batch = known
        if workers.n > 1:
            inputs = [tf.gather(part, mine) for part in inputs]
            labels, known = tf.gather(labels, mine), tf.gather(known, mine)
        with tf.GradientTape() as tape:
            maps = called(trainable.body, inputs, training=True)
            with tf.GradientTape() as inner:
                inner.watch(maps)
                (logits,) = called(trainable.head, maps, training=True)
                score = _own_score(logits, labels)
            loss = class_loss(logits, labels, weights, config.label_smoothing, batch)
            if mixed:
                theirs = tf.gather(their_batch, mine)
                other = class_loss(logits, theirs, weights, config.label_smoothing, their_batch)
                loss = share * loss + (1 - share) * other
            # What the architecture itself asks for: VGG19's dense layer has an L2 penalty.
            loss += tf.add_n([tf.constant(0.0), *trainable.head.losses]) / workers.n
            if uses_masks:
                small = [tf.gather(mask, mine) for mask in small_batch]
                found = [layer(tensor) for layer, tensor in zip(trainable.mask_heads, of_unit_size(maps), strict=True)]
                loss += config.mask_weight * mask_loss(found, small, known, known_batch)
                loss += config.attention_weight * attention_loss(score, maps, small, inner, small_batch)
        return _applied(optimizer, tape.gradient(loss, trainable.variables), trainable.variables, loss, workers)

    def run(batch: Batch, learning_rate: float) -> tf.Tensor:
        optimizer.learning_rate.assign(learning_rate)
        return step(*_taken(batch, config, workers, int(optimizer.iterations)))

    return run


def _taken(batch: Batch, config: FitConfig, workers: Workers, number: int) -> tuple[Any, ...]:
    """What the step of this number takes of a batch, and the places of this worker's share of it."""
    parts, masks, labels, known = batch
    others, share = _mixing(config, labels, number)
    given = [tf.convert_to_tensor(part) for part in parts]
    mine = tf.constant(workers.share(len(labels)))
    return given, tf.convert_to_tensor(masks), labels, known, others, tf.constant(share, tf.float32), mine


def _applied(
    optimizer: keras.optimizers.Optimizer,
    gradients: list[tf.Tensor | None],
    variables: list[tf.Variable],
    loss: tf.Tensor,
    workers: Workers,
) -> tf.Tensor:
    """The loss of the whole batch, once its gradients have moved what is learned; None: of what had no part in it."""
    pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    *summed, loss = workers.summed([*(gradient for gradient, _ in pairs), loss])
    optimizer.apply_gradients([(g, v) for g, (_, v) in zip(summed, pairs, strict=True)])
    return loss


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


@dataclass(frozen=True, slots=True)
class EpochLoop:
    """The epochs of one run, from the last one that was kept to the last one there is.

    step: takes one step, gives its loss. judge: logits of the validation cases now. steps: of one epoch. keeps_last:
        whatever the validation cases say, because they are training cases too.
    """

    graph: Graph
    config: FitConfig
    folder: Path
    source: Fresh | Views
    validation: Squares
    average: MovingAverage
    checkpoint: Checkpoint
    step: Callable[..., tf.Tensor]
    judge: Callable[[], np.ndarray]
    steps: int
    workers: Workers = ALONE
    keeps_last: bool = False

    def run(self, stop: Callable[[], bool], on_epoch: Callable[[Mapping[str, float]], None]) -> Progress:
        """See `train.fitting.fit.fit`; where the run ended, with its best epoch."""
        progress = self.checkpoint.restore()
        self._begin_from_first(len(progress.history))
        self.average.steps = progress.average_steps
        for row in progress.history:
            on_epoch(row)
        is_over = any(stop() for _ in progress.history) or self._is_patience_over(progress)
        is_over = self._decided(is_over)
        if self.workers.rank == 0:
            write_whole(self.folder / "epochs.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))
        within = StepFile(self.folder, device_name())
        for epoch in range(len(progress.history) + 1, 1 if is_over else self.config.epochs + 1):
            self._epoch(epoch, progress, within)
            on_epoch(progress.history[-1])
            if self._decided(self._is_patience_over(progress) or stop()):
                break
        return progress

    def _begin_from_first(self, n_epochs: int) -> None:
        """All workers from the state of the first, which they have read from the same file."""
        if self.workers.n == 1:
            return
        (of_first,) = self.workers.of_first([float(n_epochs)])
        if int(of_first) != n_epochs:
            raise Conflict("The workers of this training do not see the same working folder: give all the same --work.")
        variables = self.checkpoint.variables
        floats = [variable for variable in variables if "float" in str(variable.dtype)]
        for variable, value in zip(floats, self.workers.of_first(floats), strict=True):
            variable.assign(tf.cast(value, variable.dtype))

    def _decided(self, is_over: bool) -> bool:
        """What the first worker says: a clock or the last digit of a loss may differ between machines."""
        return bool(self.workers.of_first([float(is_over)])[0] > 0.5)

    def _epoch(self, epoch: int, progress: Progress, within: StepFile) -> None:
        """Train one epoch, judge it, and keep it and where the run stands."""
        began = time.monotonic()
        loss = self._train(epoch, within)
        self.average.swapped()
        row = self._judged()
        if self.keeps_last or _cost(row, self.config) < progress.best[0]:
            progress.best = (_cost(row, self.config), epoch, state_of(self.graph.model))
        self.average.swapped()
        row = {"epoch": epoch, "loss": loss, **row, "seconds": time.monotonic() - began}
        progress.history.append({name: round(float(value), 5) for name, value in row.items()})
        progress.average_steps = self.average.steps
        if self.workers.rank == 0:
            self.checkpoint.save(progress)
            with (self.folder / "epochs.jsonl").open("a") as file:
                file.write(json.dumps(progress.history[-1]) + "\n")
        log.info("%s", " ".join(f"{name} {value:g}" for name, value in progress.history[-1].items()))

    def _is_patience_over(self, progress: Progress) -> bool:
        losses = [row["validation_loss"] for row in progress.history]
        return bool(losses) and not self.keeps_last and len(losses) - 1 - int(np.argmin(losses)) >= self.config.patience

    def _judged(self) -> dict[str, float]:
        row = validate(self.judge(), self.validation)
        if self.workers.n == 1:
            return row
        return dict(zip(row, map(float, self.workers.of_first([*row.values()])), strict=True))

    def _train(self, epoch: int, within: StepFile) -> float:
        losses = []
        for number, batch in enumerate(self.source.epoch(epoch)):
            losses.append(float(self.step(batch, _learning_rate(self.config, (epoch - 1) + number / self.steps))))
            self.average.update()
            if self.workers.rank:
                continue
            within.report(epoch, number + 1, self.steps)
        return float(np.mean(losses))


def _cost(row: dict[str, float], config: FitConfig) -> float:
    """What the kept epoch has least of; of epochs that are alike in accuracy or AUC, the one with the lower loss."""
    if config.keep == "loss":
        return row["validation_loss"]
    # An accuracy changes in steps of one case; the loss, made this small, decides between equal ones only.
    return -row[f"validation_{config.keep}"] + 1e-6 * min(row["validation_loss"], 10.0)


def _learning_rate(config: FitConfig, progress: float) -> float:
    """Linear warm-up over the first epoch, then a cosine down to 2 %, or constant (progress in epochs)."""
    if progress < 1:
        return config.learning_rate * max(progress, 0.02)
    if config.schedule == "constant":
        return config.learning_rate
    share = (progress - 1) / max(1, config.epochs - 1)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(share, 1)))))


def validate(logits: np.ndarray, cases: Squares) -> dict[str, float]:
    """Loss, AUC of the positive class and accuracy of these logits (n, outputs) on the validation cases.

    Raises Diverged where they are no numbers any more.
    """
    if not np.isfinite(logits).all():
        raise Diverged("The training diverged: the network's answers are no numbers. Lower the learning rate.")
    loss = float(class_loss(tf.constant(logits), tf.constant(cases.labels), tf.ones(len(cases.classes)), 0.0))
    positive = cases.labels == cases.positive
    score = logits[:, 0] if logits.shape[1] == 1 else tf.nn.softmax(logits).numpy()[:, cases.positive]
    accuracy = ((logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(1)) == cases.labels
    return {
        "validation_loss": loss,
        "validation_auc": float(roc_auc_score(positive, score)),
        "validation_accuracy": float(accuracy.mean()),
    }
