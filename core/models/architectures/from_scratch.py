"""Networks that learn everything from the cases: the hospital CNNs, and the ablation of skip connections."""

from __future__ import annotations

import keras
from keras import layers

from core.models.architectures.graph import SHORT_RUN_MOMENTUM, Graph, batch_norm, grid, logits

FILTERS_25 = (16, 32, 64, 128, 256)
"""Of the five stages of `plain25` and `residual25`: four convolutions and one max-pooling each, 25 layers."""


def cnn(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """Three convolution + max-pooling pairs, dense, dropout."""
    inputs = keras.Input((side, columns or side, channels), name="image")
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
    return Graph(keras.Model(inputs, logits(x, outputs), name="cnn"), maps={"cnn": "conv_3"}, blocks={})


def cnn2(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """The hospital CNN: two convolution + max-pooling pairs, dense, one sigmoid unit for two classes."""
    inputs, x = _scaled(side, channels, columns)
    for number, filters in enumerate((32, 64), start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(x)
    x = layers.Dense(128, activation="relu", name="dense_1")(grid(x, 8))
    return Graph(keras.Model(inputs, logits(x, outputs), name="cnn2"), maps={"cnn": "conv_2"}, blocks={})


def cnn3(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """Three convolution + max-pooling pairs (32, 64, 128), dense, softmax (224 x 224 where it was published).

    A softmax over two classes is the sigmoid of the difference of its two logits: with `outputs` = 1 that difference
    is what the network gives.
    """
    inputs, x = _scaled(side, channels, columns)
    for number, filters in enumerate((32, 64, 128), start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(x)
    x = layers.Dense(128, activation="relu", name="dense_1")(grid(x, 7))
    return Graph(keras.Model(inputs, logits(x, outputs), name="cnn3"), maps={"cnn": "conv_3"}, blocks={})


def cnn4(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """Four convolutions with batch normalisation, each with a max-pooling, dense, dropout."""
    inputs, x = _scaled(side, channels, columns)
    for number, filters in enumerate((32, 64, 128, 256), start=1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{number}")(x)
        x = batch_norm(f"conv_{number}_bn", SHORT_RUN_MOMENTUM)(x)
        x = layers.ReLU(name=f"conv_{number}_relu")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(x)
    x = layers.Dropout(0.5, name="dropout_1")(grid(x, 4))
    x = layers.Dense(128, activation="relu", name="dense_1")(x)
    x = layers.Dropout(0.5, name="dropout_2")(x)
    return Graph(keras.Model(inputs, logits(x, outputs), name="cnn4"), maps={"cnn": "conv_4_relu"}, blocks={})


def plain25(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """Twenty convolutions and five max-poolings in a row."""
    return _twenty_five("plain25", side, channels, outputs, columns, skips=False)


def residual25(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """`plain25` with a skip connection over every two convolutions (He et al. 2015)."""
    return _twenty_five("residual25", side, channels, outputs, columns, skips=True)


def _twenty_five(name: str, side: int, channels: int, outputs: int, columns: int, *, skips: bool) -> Graph:
    """The skips add no weights (new channels are filled with zeros): both networks have the same layers and variables,
    start alike and differ in the additions alone. No batch normalisation, which would do part of the skips' work.
    """
    inputs, x = _scaled(side, channels, columns)
    number = 0
    for stage, filters in enumerate(FILTERS_25, start=1):
        for _ in range(2):
            shortcut = x
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number + 1}")(x)
            x = layers.Conv2D(filters, 3, padding="same", name=f"conv_{number + 2}")(x)
            number += 2
            if skips:
                x = layers.Add(name=f"add_{number}")([x, _widened(shortcut, filters)])
            x = layers.ReLU(name=f"conv_{number}_relu")(x)
        x = layers.MaxPooling2D(name=f"pool_{stage}")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    x = layers.Dropout(0.3, name="dropout_1")(x)
    return Graph(keras.Model(inputs, logits(x, outputs), name=name), maps={name: f"conv_{number}_relu"}, blocks={})


def _widened(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """Zeros as further channels, up to `filters` (the identity shortcut "A" of He et al. 2015)."""
    missing = filters - int(x.shape[-1])
    return keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, missing]]) if missing else x


def _scaled(side: int, channels: int, columns: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input (n, side, columns or side, channels) in [0, 1] and the same in [-1, 1]."""
    inputs = keras.Input((side, columns or side, channels), name="image")
    return inputs, layers.Rescaling(2.0, -1.0, name="scale")(inputs)
