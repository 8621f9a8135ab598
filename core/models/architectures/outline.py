"""The outline network: a small decoder on EfficientNet-Lite0 that says for each cell how likely a lesion covers it."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from core.models.architectures.efficientnet import efficientnet_lite0
from core.models.architectures.graph import SHORT_RUN_MOMENTUM, batch_norm

OUTLINE_STRIDE = 4
"""Pixels of the input along one side of a cell."""
_SKIPS = ("block_2_out", "block_4_out", "block_10_out", "block_15_out")
"""The last maps at a quarter, an eighth, a sixteenth and a thirty-second of the input's side."""
_FILTERS = (32, 48, 64, 96)


@dataclass(frozen=True, slots=True)
class OutlineGraph:
    """model: (n, side, side, 1) in [0, 1] -> logits (n, side / 4, side / 4, 1), float32.

    backbone: the whole EfficientNet-Lite0 whose layers `model` shares: starting weights are put into it. cut: the
    layer up to which training may leave it as it is and compute it once.
    """

    model: keras.Model
    backbone: keras.Model
    cut: str


def outline_network(*, side: int) -> OutlineGraph:
    """A feature pyramid (Lin et al. 2017) from the coarsest map to a quarter of the side. side: a multiple of 32.

    Each step doubles the coarser map, adds the finer one brought to as many filters, and refines the sum with a
    separable convolution; the coarsest map first hears of the whole picture through its mean.
    """
    backbone = efficientnet_lite0(side=side, channels=1, outputs=1).model
    maps = [
        layers.ReLU(name=f"lateral_{number}_relu")(
            batch_norm(f"lateral_{number}_bn", SHORT_RUN_MOMENTUM)(
                layers.Conv2D(filters, 1, use_bias=False, name=f"lateral_{number}")(backbone.get_layer(skip).output)
            )
        )
        for number, (skip, filters) in enumerate(zip(_SKIPS, _FILTERS, strict=True))
    ]
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="whole_picture")(maps[-1])
    x = layers.Add(name="with_whole_picture")([maps[-1], layers.Dense(_FILTERS[-1], name="whole_picture_dense")(mean)])
    for number in range(len(maps) - 2, -1, -1):
        x = layers.Conv2D(_FILTERS[number], 1, name=f"narrow_{number}")(x)
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"double_{number}")(x)
        x = layers.Add(name=f"sum_{number}")([x, maps[number]])
        for step in range(2):
            name = f"refine_{number}_{step}"
            x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
            x = layers.Conv2D(_FILTERS[number], 1, use_bias=False, name=f"{name}_pointwise")(x)
            x = layers.ReLU(name=f"{name}_relu")(batch_norm(f"{name}_bn", SHORT_RUN_MOMENTUM)(x))
    x = layers.Dropout(0.1, name="outline_dropout")(x)
    logits = layers.Conv2D(1, 3, padding="same", name="outline_logits", dtype="float32")(x)
    return OutlineGraph(keras.Model(backbone.input, logits, name="outline"), backbone, _SKIPS[0])
