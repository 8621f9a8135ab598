"""The hospital CNN and ResNet50 in one network: the CNN's feature maps are what ResNet50 reads."""

from __future__ import annotations

import keras
from keras import layers

from core.models.architectures.graph import SHORT_RUN_MOMENTUM, Graph, batch_norm, logits, standardised

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""(filters, blocks) of ResNet50's stages conv2 to conv5 (He et al. 2015, Table 1)."""


def cnn_resnet50(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """The convolutions of `cnn` in the place of ResNet50's own first layers, then its stages conv2 to conv5.

    ResNet50 begins with a convolution and a pooling that bring an image to a quarter of its side and 64 channels; it
    cannot read 128 maps as if they were an image. The CNN's third convolution stands at a quarter of the side too: one
    1 x 1 convolution fits its 128 channels to 64. Layers are named as in `cnn` and in `keras.applications.ResNet50`,
    so that trained weights of both can be carried over.
    """
    inputs = keras.Input((side, columns or side, channels), name="image")
    x = layers.Rescaling(2.0, -1.0, name="scale")(inputs)
    for number, filters in enumerate((32, 64, 128), start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
        if number < 3:
            x = layers.MaxPooling2D(name=f"pool_{number}")(x)
    x = layers.Conv2D(64, 1, use_bias=False, name="adapter_conv")(x)
    x = layers.ReLU(name="adapter_relu")(batch_norm("adapter_bn", SHORT_RUN_MOMENTUM)(x))
    blocks = ["conv_3"]
    for stage, (filters, count) in enumerate(STAGES, start=2):
        for block in range(1, count + 1):
            x = _bottleneck(x, f"conv{stage}_block{block}", filters, stage, first=block == 1)
        blocks.append(f"conv{stage}_block{count}_out")
    x = standardised(layers.GlobalAveragePooling2D(name="resnet50_pool")(x), "resnet50")
    x = layers.Dropout(0.5, name="dropout_1")(x)
    return Graph(
        keras.Model(inputs, logits(x, outputs), name="cnn_resnet50"),
        maps={"resnet50": blocks[-1]},
        blocks={"resnet50": tuple(blocks[:-1])},
    )


def _bottleneck(x: keras.KerasTensor, name: str, filters: int, stage: int, *, first: bool) -> keras.KerasTensor:
    """1 x 1, 3 x 3, 1 x 1 convolutions and the shortcut; the first block of stages 3 to 5 halves the maps."""
    strides = 2 if first and stage > 2 else 1
    shortcut = x
    if first:
        shortcut = layers.Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(x)
        shortcut = _norm(f"{name}_0_bn")(shortcut)
    x = layers.Conv2D(filters, 1, strides=strides, name=f"{name}_1_conv")(x)
    x = layers.ReLU(name=f"{name}_1_relu")(_norm(f"{name}_1_bn")(x))
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(x)
    x = layers.ReLU(name=f"{name}_2_relu")(_norm(f"{name}_2_bn")(x))
    x = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, _norm(f"{name}_3_bn")(x)])
    return layers.ReLU(name=f"{name}_out")(x)


def _norm(name: str) -> layers.BatchNormalization:
    # ResNet50's own epsilon: its stored statistics belong to it.
    return layers.BatchNormalization(momentum=SHORT_RUN_MOMENTUM, epsilon=1.001e-5, name=name)
