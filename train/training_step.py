"""One step of a training on one batch: the losses, their gradients and the optimiser."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from train.batches import Batch
from train.config import FitConfig
from train.network import (
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
from train.squares import Squares


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
