"""What an architecture function returns, and the parts that several graphs are made of."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers


@dataclass(frozen=True, slots=True)
class Graph:
    """A built network.

    model: (n, rows, columns, channels) -> logits (n, outputs), float32.
    maps: name of the layer whose output is the last convolution map, for each branch.
    blocks: for each branch, the layers where its backbone can be cut, from the input to the end, the same number for
        each. Cut at `blocks[branch][-n]`, the last n blocks lie behind the cut; what lies before can stay frozen and be
        computed once. Empty for graphs that are trained whole.
    """

    model: keras.Model
    maps: dict[str, str]
    blocks: dict[str, tuple[str, ...]]

    def cuts(self, last_blocks: int) -> dict[str, str]:
        """Branch -> the layer to cut at so that the `last_blocks` (from 1) of each backbone lie behind it.

        Empty where nothing lies before such a cut: the graph is then trained whole.
        """
        return {branch: names[-last_blocks] for branch, names in self.blocks.items() if last_blocks <= len(names)}


def image_input(side: int, channels: int, columns: int = 0) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input (n, side, columns or side, channels) and the same as RGB: a grey image three times."""
    inputs = keras.Input((side, columns or side, channels), name="image")
    if channels == 3:
        return inputs, inputs
    return inputs, layers.Concatenate(name="grey_to_rgb")([inputs, inputs, inputs])


def caffe(rgb: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """RGB in [0, 1] to BGR minus Caffe's means (in units of 0-255): what VGG and the first ResNet learned from."""
    scaled = layers.Rescaling(255.0, [-123.68, -116.779, -103.939], name=name)(rgb)
    return scaled[..., ::-1]


def batch_norm(name: str, momentum: float = 0.99) -> layers.BatchNormalization:
    return layers.BatchNormalization(momentum=momentum, epsilon=1e-3, name=name)


def grid(x: keras.KerasTensor, cells: int, name: str = "flat") -> keras.KerasTensor:
    """Average maps (n, h, w, k) down to at most `cells` x `cells`, then flatten.

    A dense layer on flattened maps has as many weights as the image has pixels; on a coarse grid it has the same number
    at any input side, and still knows where in the image something was.
    """
    size = -(-int(x.shape[1]) // cells)
    if size > 1:
        x = layers.AveragePooling2D(size, padding="same", name="grid")(x)
    return layers.Flatten(name=name)(x)


class Moments(layers.Layer):  # type: ignore[misc]
    """Maps (n, h, w, k) -> mean, maximum and standard deviation of each, (n, 3k) float32."""

    def call(self, maps: keras.KerasTensor) -> keras.KerasTensor:
        maps = keras.ops.cast(maps, "float32")
        # Of a map that is nowhere anything the root has no slope: a little is added.
        spread = keras.ops.sqrt(keras.ops.var(maps, axis=(1, 2)) + 1e-6)
        return keras.ops.concatenate([keras.ops.mean(maps, axis=(1, 2)), keras.ops.max(maps, axis=(1, 2)), spread], -1)


def standardised(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Features (n, k) with mean 0 and variance 1 each, and none beyond 4.

    Training gives the "…_norm" after a pretrained backbone's "…_pool" its statistics from the training cases. An image
    unlike these may give one feature fifty standard deviations; it must not decide alone.
    """
    return keras.ops.clip(batch_norm(f"{name}_norm", SHORT_RUN_MOMENTUM)(x), -4.0, 4.0)


def logits(x: keras.KerasTensor, outputs: int) -> keras.KerasTensor:
    return layers.Dense(outputs, name="logits", dtype="float32")(x)


SHORT_RUN_MOMENTUM = 0.95
"""Of running batch statistics: some hundred cases give thirty steps an epoch, and Keras's 0.99 would need ten epochs
to forget where it started."""


def settle_quickly(model: keras.Model) -> None:
    """Let a published backbone's batch normalisation follow short runs (used only where it is trained)."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = SHORT_RUN_MOMENTUM
