"""EfficientNet-Lite0 and -Lite2, whose ImageNet weights come inside Python packages."""

from __future__ import annotations

import keras
from keras import layers

from core.models.architectures.graph import Graph, Moments, batch_norm, image_input, logits, standardised

EFFICIENTNET_LITE0_BLOCKS = (
    # (repeats, kernel, stride, expansion, filters): Table 1 of Tan & Le 2019, without squeeze-excitation and with the
    # first and last stage unscaled, as the Lite variants have it.
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

EFFICIENTNET_LITE2_BLOCKS = (
    # The same, 1.1 times as wide and 1.2 times as deep.
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)

EFFICIENTNET_LITE0_CUTS = ("block_0_out", "block_2_out", "block_4_out", "block_7_out", "block_10_out", "block_14_out")
"""The last layer of each group of blocks but the last."""


def efficientnet_lite0(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """EfficientNet-Lite0: EfficientNet-B0 (Tan & Le 2019) without squeeze-excitation, with ReLU6."""
    inputs, rgb = image_input(side, channels, columns)
    x = _stages(rgb, EFFICIENTNET_LITE0_BLOCKS)[-1]
    x = layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x)
    x = layers.ReLU(6.0, name="head_relu")(batch_norm("head_bn")(x))
    x = layers.GlobalAveragePooling2D(name="efficientnet_pool")(x)
    x = layers.Dropout(0.3, name="dropout_1")(x)
    return Graph(
        keras.Model(inputs, logits(x, outputs), name="efficientnet_lite0"),
        maps={"efficientnet_lite0": "head_relu"},
        blocks={"efficientnet_lite0": EFFICIENTNET_LITE0_CUTS},
    )


def efficientnet_lite2(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """EfficientNet-Lite2's maps from an eighth to a thirty-second of the side, each as its mean, maximum and spread,
    under one linear layer.

    A small finding fills a cell of the early maps and vanishes in the mean of the last. There is little to learn, so
    few cases do.
    """
    inputs, rgb = image_input(side, channels, columns)
    maps, features = {}, []
    for number, stage in enumerate(_stages(rgb, EFFICIENTNET_LITE2_BLOCKS)):
        if number < _FIRST_READ:
            continue
        name = f"stage_{number + 1}"
        maps[name] = f"{name}_map"
        # A layer of its own: the next stage reads what comes before it, the classifier what comes after.
        own = layers.Activation("linear", name=maps[name])(stage)
        features.append(standardised(Moments(name=f"{name}_pool", dtype="float32")(own), name))
    x = layers.Concatenate(name="stages")(features)
    return Graph(keras.Model(inputs, logits(x, outputs), name="efficientnet_lite2"), maps=maps, blocks={})


_FIRST_READ = 2
"""The first stage (from 0) that `efficientnet_lite2` reads: what lies before it has seen too little of the picture."""


def _stages(rgb: keras.KerasTensor, blocks: tuple[tuple[int, int, int, int, int], ...]) -> list[keras.KerasTensor]:
    """What each stage of inverted residuals gives, from the RGB image."""
    x = layers.Rescaling(255.0 / 128, -127.0 / 128, name="efficientnet_scale")(rgb)
    x = layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.ReLU(6.0, name="stem_relu")(batch_norm("stem_bn")(x))
    stages, number = [], 0
    for repeats, kernel, stride, expansion, filters in blocks:
        for repeat in range(repeats):
            x = _inverted_residual(x, number, kernel, stride if repeat == 0 else 1, expansion, filters)
            number += 1
        stages.append(x)
    return stages


def _inverted_residual(
    x: keras.KerasTensor, number: int, kernel: int, stride: int, expansion: int, filters: int
) -> keras.KerasTensor:
    name = f"block_{number}"
    shortcut, width = x, x.shape[-1]
    if expansion != 1:
        x = layers.Conv2D(width * expansion, 1, use_bias=False, name=f"{name}_expand")(x)
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(batch_norm(f"{name}_expand_bn")(x))
    x = layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(batch_norm(f"{name}_depthwise_bn")(x))
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = batch_norm(f"{name}_project_bn")(x)
    if stride == 1 and width == filters:
        return layers.Add(name=f"{name}_out")([x, shortcut])
    return layers.Activation("linear", name=f"{name}_out")(x)
