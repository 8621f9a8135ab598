"""Grad-CAM inside the forward pass: one compiled call gives logits and every branch's maps for every class.

Grad-CAM (Selvaraju et al. 2017): the maps A of the last convolution, weighted by the mean gradient of a class score
with respect to each map, summed, negative parts cut. From A to the score lies only a small head, so the gradient never
enters the backbone and costs almost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

Compiled = Callable[[tf.Tensor], tuple[tf.Tensor, list[tf.Tensor]]]


def explained(model: keras.Model, map_layers: Sequence[str]) -> Compiled:
    """A compiled function: squares (n, side, side, c) -> logits (n, outputs), and for each layer in `map_layers` the
    Grad-CAM maps (n, classes, h, w), >= 0, not normalised.

    With one logit the classes are [against it, for it]: the maps of the first are those of the negated logit.
    """
    tensors = [model.get_layer(name).output for name in map_layers]
    backbone = keras.Model(model.input, tensors)
    head = keras.Model(tensors, model.output)
    classes = 2 if model.output_shape[1] == 1 else model.output_shape[1]

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)])
    def forward(squares: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        maps = tf.nest.flatten(backbone(squares, training=False))  # each (n, h, w, k)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            # Watched here, not the variables: a model with every layer frozen has a gradient all the same.
            tape.watch(maps)
            logits = head(maps if len(maps) > 1 else maps[0], training=False)
            scores = [_score(logits, index) for index in range(classes)]
        cams = []
        gradients = [tape.gradient(score, maps) for score in scores]
        for branch, activation in enumerate(maps):
            per_class = [_grad_cam(activation, gradients[index][branch]) for index in range(classes)]
            cams.append(tf.stack(per_class, axis=1))  # (n, classes, h, w)
        return tf.cast(logits, tf.float32), cams

    return forward


def fused_map(cams: Sequence[tf.Tensor]) -> tf.Tensor:
    """The branches' maps (n, classes, h, w) as one, on the finest grid.

    A cell of a map is that cell's part of the score; cells of a coarse grid cover more of the image, so each map is
    multiplied by its number of cells (score per area) before the sum. The branch that spoke more counts more.
    """
    finest = max((cam.shape[2:] for cam in cams), key=lambda shape: shape[0])
    total = None
    for cam in cams:
        n, classes, height, width = cam.shape
        planes = tf.reshape(cam, (n * classes, height, width, 1)) * float(height * width)
        scaled = tf.reshape(tf.image.resize(planes, finest, method="bilinear"), (n, classes, *finest))
        total = scaled if total is None else total + scaled
    return total


def _score(logits: tf.Tensor, index: int) -> tf.Tensor:
    if logits.shape[1] == 1:
        return logits[:, 0] if index == 1 else -logits[:, 0]
    return logits[:, index]


def _grad_cam(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    activation, gradient = tf.cast(activation, tf.float32), tf.cast(gradient, tf.float32)
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)  # (n, 1, 1, k)
    return tf.nn.relu(tf.reduce_sum(weights * activation, axis=3))  # (n, h, w)
