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
    pooled = {}
    for name, stage in _stages_read(rgb).items():
        # A layer of its own: the next stage reads what comes before it, the classifier what comes after.
        pooled[name] = _moments(layers.Activation("linear", name=f"{name}_map")(stage), name)
    x = layers.Concatenate(name="stages")([standardised(values, name) for name, values in pooled.items()])
    maps = {name: f"{name}_map" for name in pooled}
    return Graph(keras.Model(inputs, logits(x, outputs), name="efficientnet_lite2"), maps=maps, blocks={})


def exam(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """One breast's views: the same columns for every view, a classifier for craniocaudal and one for lateral ones.

    The view-wise model of Wu et al. (2020) with the columns of `efficientnet_lite2`. The two classifiers are one that
    they share and what each adds, which the penalty holds down: w (x + a v x) with v = -1 or 1. With two channels the
    second says the view (`core.imaging.preprocess.with_view`); without it, or where it is not known (v = 0), the shared
    one answers. The plane travels with the last map, because all that the classifier reads comes from maps.
    """
    if channels == 2:
        inputs = keras.Input((side, columns or side, channels), name="image")
        rgb = layers.Concatenate(name="grey_to_rgb")([inputs[..., :1]] * 3)
        plane = inputs[..., 1:]
    else:
        inputs, rgb = image_input(side, channels, columns)
        plane = keras.ops.zeros_like(inputs[..., :1]) + 0.5
    pooled, width = {}, 0
    for name, stage in _stages_read(rgb).items():
        width = stage.shape[-1]
        is_last = name == f"stage_{len(EFFICIENTNET_LITE2_BLOCKS)}"
        own = (
            layers.Concatenate(name=f"{name}_map")([stage, keras.ops.cast(plane[:, ::32, ::32], stage.dtype)])
            if is_last
            else layers.Activation("linear", name=f"{name}_map")(stage)
        )
        pooled[name] = _moments(own, name)
    *others, last = (standardised(values, name) for name, values in pooled.items())
    of_plane = slice(width, width + 1)  # of each of the three moments; the view is no finding: no map shows it
    view = keras.ops.stop_gradient(2 * list(pooled.values())[-1][:, of_plane] - 1)
    moments = [last[:, first : first + width] for first in range(0, 3 * (width + 1), width + 1)]
    x = layers.Concatenate(name="stages")([*others, *moments])
    x = layers.Concatenate(name="heads")([x, _OWN_OF_A_VIEW * view * x, view])
    return Graph(
        keras.Model(inputs, logits(x, outputs), name="exam"), maps={name: f"{name}_map" for name in pooled}, blocks={}
    )


_OWN_OF_A_VIEW = 0.3
"""How easily a view's classifier leaves the shared one: 1 as easily as that one learns. RSNA's screening mammograms
gave, out of fold for a breast, .667 at 0.15, .665 at 0.3, .662 at 0.5 and .648 with two that share nothing."""


def _stages_read(rgb: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    stages = _stages(rgb, EFFICIENTNET_LITE2_BLOCKS)
    return {f"stage_{number + 1}": stage for number, stage in enumerate(stages) if number >= _FIRST_READ}


def _moments(own: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return Moments(name=f"{name}_pool", dtype="float32")(own)


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
