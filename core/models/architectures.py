"""The graphs: one function an architecture, intensity normalisation inside, linear outputs.

Each function takes
    side: pixels of the square input, channels: 1 (grey) or 3 (RGB), values in [0, 1];
    outputs: 1 (two classes, one logit for the second) or the number of classes (one logit each);
and returns a `Graph`. Graphs are flat (no nested models), so that every last map is reachable, and layer names are
unique and stable: weights are stored under them.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

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


@dataclass(frozen=True, slots=True)
class Graph:
    """A built network.

    model: (n, side, side, channels) -> logits (n, outputs), float32.
    maps: name of the layer whose output is the last convolution map, for each branch.
    stems: name of the layer where each branch can be cut: what lies before can stay frozen and be computed once.
        Empty for graphs that are trained whole.
    """

    model: keras.Model
    maps: dict[str, str]
    stems: dict[str, str]


def fusion(*, side: int, channels: int, outputs: int) -> Graph:
    """VGG16 (Simonyan & Zisserman 2014) and ResNet50V2 (He et al. 2016), pooled, concatenated, dense layers."""
    inputs, rgb = _input(side, channels)
    vgg = keras.applications.VGG16(include_top=False, weights=None, input_tensor=_caffe(rgb))
    resnet = keras.applications.ResNet50V2(
        include_top=False, weights=None, input_tensor=layers.Rescaling(2.0, -1.0, name="resnet_scale")(rgb)
    )
    # Caffe's VGG16 gives activations tens of times larger than ResNet50V2's: feature by feature normalised, both
    # branches are heard.
    pooled = layers.Concatenate(name="fused")(
        [
            _batch_norm(f"{name}_norm")(layers.GlobalAveragePooling2D(name=f"{name}_pool")(output))
            for name, output in (("vgg16", vgg.output), ("resnet50v2", resnet.output))
        ]
    )
    # An image unlike the training cases may give one feature fifty standard deviations; it must not decide alone.
    x = layers.Dropout(0.5, name="dropout_1")(keras.ops.clip(pooled, -4.0, 4.0))
    x = layers.Dense(256, activation="relu", name="dense_1")(x)
    x = layers.Dropout(0.5, name="dropout_2")(x)
    return Graph(
        keras.Model(inputs, _logits(x, outputs), name="fusion"),
        maps={"vgg16": "block5_conv3", "resnet50v2": "post_relu"},
        stems={"vgg16": "block4_pool", "resnet50v2": "conv3_block4_out"},
    )


def cnn(*, side: int, channels: int, outputs: int) -> Graph:
    """Three convolution + max-pooling pairs, dense, dropout."""
    inputs = keras.Input((side, side, channels), name="image")
    x = layers.Rescaling(2.0, -1.0, name="scale")(inputs)
    for number, filters in enumerate((32, 64, 128), start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(x)
    # Pooling to a coarse grid before the dense layer keeps the layer small at any input side.
    x = layers.AveragePooling2D(side // 8 // 4, name="grid")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dropout(0.5, name="dropout_1")(x)
    x = layers.Dense(128, activation="relu", name="dense_1")(x)
    x = layers.Dropout(0.5, name="dropout_2")(x)
    return Graph(keras.Model(inputs, _logits(x, outputs), name="cnn"), maps={"cnn": "conv_3"}, stems={})


def efficientnet_lite0(*, side: int, channels: int, outputs: int) -> Graph:
    """EfficientNet-Lite0: EfficientNet-B0 (Tan & Le 2019) without squeeze-excitation, with ReLU6."""
    inputs, rgb = _input(side, channels)
    x = layers.Rescaling(255.0 / 128, -127.0 / 128, name="efficientnet_scale")(rgb)
    x = layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.ReLU(6.0, name="stem_relu")(_batch_norm("stem_bn")(x))
    number = 0
    for repeats, kernel, stride, expansion, filters in EFFICIENTNET_LITE0_BLOCKS:
        for repeat in range(repeats):
            x = _inverted_residual(x, number, kernel, stride if repeat == 0 else 1, expansion, filters)
            number += 1
    x = layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x)
    x = layers.ReLU(6.0, name="head_relu")(_batch_norm("head_bn")(x))
    x = layers.GlobalAveragePooling2D(name="efficientnet_pool")(x)
    x = layers.Dropout(0.3, name="dropout_1")(x)
    return Graph(
        keras.Model(inputs, _logits(x, outputs), name="efficientnet_lite0"),
        maps={"efficientnet_lite0": "head_relu"},
        stems={"efficientnet_lite0": "block_2_out"},
    )


def _input(side: int, channels: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    inputs = keras.Input((side, side, channels), name="image")  # (n, side, side, channels)
    if channels == 3:
        return inputs, inputs
    return inputs, layers.Concatenate(name="grey_to_rgb")([inputs, inputs, inputs])


def _caffe(rgb: keras.KerasTensor) -> keras.KerasTensor:
    """RGB in [0, 1] to the BGR means that VGG16 was trained with (Caffe's, in units of 0-255)."""
    scaled = layers.Rescaling(255.0, [-123.68, -116.779, -103.939], name="vgg_scale")(rgb)
    return scaled[..., ::-1]


def _logits(x: keras.KerasTensor, outputs: int) -> keras.KerasTensor:
    return layers.Dense(outputs, name="logits", dtype="float32")(x)


def _batch_norm(name: str) -> layers.BatchNormalization:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)


def _inverted_residual(
    x: keras.KerasTensor, number: int, kernel: int, stride: int, expansion: int, filters: int
) -> keras.KerasTensor:
    name = f"block_{number}"
    shortcut, width = x, x.shape[-1]
    if expansion != 1:
        x = layers.Conv2D(width * expansion, 1, use_bias=False, name=f"{name}_expand")(x)
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(_batch_norm(f"{name}_expand_bn")(x))
    x = layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(_batch_norm(f"{name}_depthwise_bn")(x))
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = _batch_norm(f"{name}_project_bn")(x)
    if stride == 1 and width == filters:
        return layers.Add(name=f"{name}_out")([x, shortcut])
    return layers.Activation("linear", name=f"{name}_out")(x)
