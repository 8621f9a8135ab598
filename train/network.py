"""A graph made ready for training: what is frozen, what is learned, and the extra mask target."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from core.models.architectures import Graph


@dataclass(frozen=True, slots=True)
class Trainable:
    """A graph cut in two.

    stem: squares -> what the tail reads; None where everything is learned. Its layers never change.
    tail: stem outputs (or squares) -> (logits, one lesion-mask logit map a branch).
    variables: what the optimiser changes.
    """

    stem: keras.Model | None
    tail: keras.Model
    variables: list[keras.Variable]


def make_trainable(graph: Graph, *, freeze_stem: bool, freeze_batch_norm: bool) -> Trainable:
    """Cut at the graph's stems (where asked for and the graph has them) and add a mask head on every last map.

    Batch normalisation runs on the statistics it was given when `freeze_batch_norm`: with batches this small,
    new statistics would be worse than the old ones.
    """
    model = graph.model
    for layer in model.layers:
        if freeze_batch_norm and isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    masks = [
        layers.Conv2D(1, 1, name=f"mask_{branch}", dtype="float32")(model.get_layer(name).output)
        for branch, name in graph.maps.items()
    ]
    outputs = [model.output, *masks]
    if not (freeze_stem and graph.stems):
        whole = keras.Model(model.input, outputs)
        return Trainable(None, whole, whole.trainable_variables)
    cuts = [model.get_layer(name).output for name in graph.stems.values()]
    stem = keras.Model(model.input, cuts)
    tail = keras.Model(cuts, outputs)
    frozen = {id(variable) for variable in stem.variables}
    return Trainable(stem, tail, [v for v in tail.trainable_variables if id(v) not in frozen])


class MovingAverage:
    """Exponential moving average of variables (Polyak & Juditsky 1992): steadier than the last step of a small run."""

    def __init__(self, variables: list[keras.Variable], decay: float) -> None:
        self.variables = variables
        self.decay = decay
        self.shadows = [tf.Variable(tf.convert_to_tensor(variable), trainable=False) for variable in variables]
        self.steps = 0

    def update(self) -> None:
        """Take one step towards the variables' present values (faster during the first steps)."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        _move(self.shadows, [variable.value for variable in self.variables], tf.constant(decay))

    def swapped(self) -> None:
        """Exchange the averages with the live values; call it again to exchange them back."""
        for variable, shadow in zip(self.variables, self.shadows, strict=True):
            live = tf.identity(variable.value)
            variable.assign(shadow)
            shadow.assign(live)


@tf.function
def _move(shadows: list[tf.Variable], values: list[tf.Variable], decay: tf.Tensor) -> None:
    for shadow, value in zip(shadows, values, strict=True):
        shadow.assign(decay * shadow + (1 - decay) * value)


def class_loss(logits: tf.Tensor, labels: tf.Tensor, class_weights: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Weighted cross-entropy with label smoothing; one logit (n, 1) or a logit a class (n, classes)."""
    weights = tf.gather(class_weights, labels)
    if logits.shape[1] == 1:
        target = tf.cast(labels, tf.float32) * (1 - smoothing) + smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits[:, 0])
    else:
        classes = logits.shape[1]
        target = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)
    return tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)


def mask_loss(maps: list[tf.Tensor], masks: list[tf.Tensor], known: tf.Tensor) -> tf.Tensor:
    """Cross-entropy between mask logit maps (n, h, w, 1) and lesion shares (n, h, w, 1), for cases with a mask."""
    known = tf.cast(known, tf.float32)[:, None, None, None]
    total = tf.constant(0.0)
    for logits, mask in zip(maps, masks, strict=True):
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=mask, logits=logits)
        total += tf.reduce_sum(losses * known) / (tf.reduce_sum(known) * mask.shape[1] * mask.shape[2] + 1e-6)
    return total / len(maps)


def shrink_masks(masks: tf.Tensor, maps: list[tuple[int, int]]) -> list[tf.Tensor]:
    """Masks (n, side, side, 1) as the share of lesion in each cell of each branch's grid."""
    return [tf.image.resize(masks, size, method="area") for size in maps]


def balanced_class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Square root of the inverse frequency, mean 1 over the cases: between plain and fully balanced."""
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = np.sqrt(len(labels) / (classes * np.maximum(counts, 1)))
    return (weights / weights[labels].mean()).astype(np.float32)
