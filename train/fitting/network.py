"""A graph made ready for training: what is frozen, what is learned, and the extra mask target."""

from __future__ import annotations

from collections.abc import Callable
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
    body: stem outputs (or squares) -> the last map of each branch; None where the stem gives them.
    head: those maps -> logits.
    mask_heads: the last map of each branch -> one lesion-mask logit map a branch.
    variables: what the optimiser changes.
    """

    stem: keras.Model | None
    body: keras.Model | None
    head: keras.Model
    mask_heads: tuple[layers.Layer, ...]
    variables: list[keras.Variable]


def make_trainable(
    graph: Graph,
    *,
    frozen: str,
    freeze_batch_norm: bool,
    unfreeze: int = 0,
    is_kept: bool = True,
    depthwise: str = "learned",
) -> Trainable:
    """Cut after what is `frozen` (see `FitConfig`) and add a mask head on every last map.

    is_kept: what the frozen part gives is computed once; otherwise there is no stem, and its layers do not learn.

    Batch normalisation runs on the statistics it was given when `freeze_batch_norm`: with batches this small,
    new statistics would be worse than the old ones. A layer that was given none learns its own.
    """
    model = graph.model
    for layer in model.layers:
        if depthwise == "fixed" and isinstance(layer, layers.DepthwiseConv2D):
            layer.trainable = False
        if freeze_batch_norm and isinstance(layer, layers.BatchNormalization) and _is_informed(layer):
            layer.trainable = False
    maps = [model.get_layer(name).output for name in graph.maps.values()]
    # From zero: a random mask head on large activations would first of all destroy what the backbone knows.
    masks = tuple(
        layers.Conv2D(1, 1, kernel_initializer="zeros", name=f"mask_{branch}", dtype="float32") for branch in graph.maps
    )
    for layer, tensor in zip(masks, maps, strict=True):
        layer.build(tensor.shape)
    head = keras.Model(maps, model.output)
    cuts = {"nothing": {}, "backbone": graph.maps, "blocks": graph.cuts(max(1, unfreeze))}[frozen]
    fixed: set[int] = set()
    if not cuts:
        stem, body = None, keras.Model(model.input, maps)
    else:
        tensors = [model.get_layer(name).output for name in cuts.values()]
        stem = keras.Model(model.input, tensors)
        fixed = {id(variable) for variable in stem.variables}
        body = keras.Model(tensors, maps) if frozen == "blocks" else None
        if not is_kept:
            for layer in stem.layers:
                layer.trainable = False
            stem, body = None, keras.Model(model.input, maps)
    learned = {
        id(variable): variable
        for part in (*([body] if body is not None else []), head, *masks)
        for variable in part.trainable_variables
        if id(variable) not in fixed
    }
    return Trainable(stem, body, head, masks, list(learned.values()))


def are_maps_learned(graph: Graph) -> bool:
    """Whether the last maps come from layers that were all learned before, so that a classifier can begin on them.

    Told by the normalisations on the way to them: `cnn_resnet50` has a CNN's convolutions under random stages, whose
    maps hardly differ between images; a classifier fitted to those would begin with weights that nothing brings down.
    """
    body = keras.Model(graph.model.input, [graph.model.get_layer(name).output for name in graph.maps.values()])
    return all(_is_informed(layer) for layer in body.layers if isinstance(layer, layers.BatchNormalization))


def _is_informed(layer: layers.BatchNormalization) -> bool:
    """Whether it has statistics: carried over, or, for pooled features ("…_norm"), measured before training."""
    return layer.name.endswith("_norm") or bool(np.any(np.asarray(layer.moving_mean)))


def called(model: keras.Model | None, tensors: list[tf.Tensor], *, training: bool) -> list[tf.Tensor]:
    """The model's outputs as float32, a list whether it takes and gives one tensor or several; no model changes
    nothing."""
    if model is None:
        return tensors
    outputs = tf.nest.flatten(model(tensors if len(tensors) > 1 else tensors[0], training=training))
    return [tf.cast(one, tf.float32) for one in outputs]


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


@tf.function  # type: ignore[untyped-decorator]
def _move(shadows: list[tf.Variable], values: list[tf.Variable], decay: tf.Tensor) -> None:
    for shadow, value in zip(shadows, values, strict=True):
        shadow.assign(decay * shadow + (1 - decay) * value)


def class_loss(
    logits: tf.Tensor, labels: tf.Tensor, class_weights: tf.Tensor, smoothing: float, batch: tf.Tensor | None = None
) -> tf.Tensor:
    """Weighted cross-entropy with label smoothing; one logit (n, 1) or a logit a class (n, classes).

    batch: labels of the whole batch that these cases are a part of: their part of its mean.
    """
    weights = tf.gather(class_weights, labels)
    if logits.shape[1] == 1:
        target = tf.cast(labels, tf.float32) * (1 - smoothing) + smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits[:, 0])
    else:
        classes = logits.shape[1]
        target = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)
    total = weights if batch is None else tf.gather(class_weights, batch)
    return tf.reduce_sum(losses * weights) / tf.reduce_sum(total)


def of_unit_size(maps: list[tf.Tensor]) -> list[tf.Tensor]:
    """Maps (n, h, w, c) divided by their root mean square, case by case: VGG16's are a hundred times EfficientNet's."""
    return [
        tensor / (tf.stop_gradient(tf.sqrt(tf.reduce_mean(tf.square(tensor), axis=(1, 2, 3), keepdims=True))) + 1e-6)
        for tensor in maps
    ]


def mask_loss(
    maps: list[tf.Tensor], masks: list[tf.Tensor], known: tf.Tensor, batch: tf.Tensor | None = None
) -> tf.Tensor:
    """Cross-entropy between mask logit maps (n, h, w, 1) and lesion shares (n, h, w, 1), for cases with a mask.

    batch: which masks of the whole batch are known, as in `class_loss`.
    """
    n_known = tf.reduce_sum(tf.cast(known if batch is None else batch, tf.float32))
    known = tf.cast(known, tf.float32)[:, None, None, None]
    total = tf.constant(0.0)
    for logits, mask in zip(maps, masks, strict=True):
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=mask, logits=logits)
        total += tf.reduce_sum(losses * known) / (n_known * mask.shape[1] * mask.shape[2] + 1e-6)
    return total / len(maps)


def shrink_masks(masks: tf.Tensor, maps: list[tuple[int, int]]) -> list[tf.Tensor]:
    """Masks (n, side, side, 1) as the share of lesion in each cell of each branch's grid."""
    return [tf.image.resize(masks, size, method="area") for size in maps]


def mixed_up(
    inputs: list[tf.Tensor], masks: tf.Tensor, known: tf.Tensor, others: tf.Tensor, share: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Every case with `share` of itself and the rest of case `others` of the batch (mixup, Zhang et al. 2017).

    What a tail reads of a frozen stem is mixed like squares (manifold mixup, Verma et al. 2018). A mixture's mask is
    known where both are.
    """
    inputs = [share * part + (1 - share) * tf.gather(part, others) for part in inputs]
    masks = share * masks + (1 - share) * tf.gather(masks, others)
    return inputs, masks, tf.logical_and(known, tf.gather(known, others))


def class_weights(labels: np.ndarray, classes: int, kind: str = "root") -> np.ndarray:
    """A weight a class (float32), mean 1 over the cases: see `FitConfig.class_weights`.

    The root is between plain and fully balanced.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    inverse = len(labels) / (classes * np.maximum(counts, 1))
    weights = inverse ** {"root": 0.5, "balanced": 1.0, "none": 0.0}[kind]
    scaled: np.ndarray = (weights / weights[labels].mean()).astype(np.float32)
    return scaled


def attention_loss(
    score: tf.Tensor, maps: list[tf.Tensor], masks: list[tf.Tensor], tape: tf.GradientTape,
    batch: list[tf.Tensor] | None = None,
) -> tf.Tensor:  # fmt: skip
    """The share of each branch's Grad-CAM map that lies outside the lesion, over cases that have one: in [0, 1].

    score: (n,) logit of the case's own class, computed from `maps` under `tape`. Teaches a network to be right for the
    right reason (Ross, Hughes & Doshi-Velez 2017); the gradient passes the head only, so it costs little.
    batch: masks of the whole batch, as in `class_loss`.
    """
    total = tf.constant(0.0)
    for gradient, activation, mask, whole in zip(
        tape.gradient(score, maps), maps, masks, masks if batch is None else batch, strict=True
    ):
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        cam = tf.nn.relu(tf.reduce_sum(weights * activation, axis=3, keepdims=True))  # (n, h, w, 1)
        cam /= tf.reduce_max(cam, axis=(1, 2, 3), keepdims=True) + 1e-6
        has_lesion = _has_lesion(mask)
        # A cell that touches the lesion counts as inside: the grid is coarse.
        outside = tf.reduce_sum(cam * (1 - tf.minimum(3 * mask, 1)), axis=(1, 2, 3))
        # An empty map counts as wholly outside, or a branch would learn to show nothing.
        share = (outside + 1e-3) / (tf.reduce_sum(cam, axis=(1, 2, 3)) + 1e-3)
        total += tf.reduce_sum(share * has_lesion) / (tf.reduce_sum(_has_lesion(whole)) + 1e-6)
    return total / len(maps)


def _has_lesion(mask: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reduce_sum(mask, axis=(1, 2, 3)) > 0.5, tf.float32)


def compiled(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """The forward pass without dropout, traced once for every batch size."""
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    compiled_call: Callable[[tf.Tensor], tf.Tensor] = tf.function(
        lambda x: model(x, training=False), input_signature=signature
    )
    return compiled_call
