"""Inception-v3's convolutions (Szegedy et al. 2015) with stable names.

`keras.applications.InceptionV3` leaves its layers unnamed, so that their numbers go on from one graph to the next in a
process; weights are stored under names. Here the convolutions are numbered from 1 in the order in which that function
makes them: `train.fitting.pretrained` relies on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import keras
from keras import layers

from core.models.architectures.graph import SHORT_RUN_MOMENTUM

SMALLEST = 75
"""Below this side the last modules have nothing left to look at: smaller squares are enlarged to it."""

Kernel = tuple[int, int]


def inception_v3_maps(x: keras.KerasTensor) -> tuple[keras.KerasTensor, tuple[str, ...]]:
    """Values in [-1, 1] (n, side, side, 3) -> maps (n, h, w, 2048), and the names of the eleven modules' outputs."""
    if int(x.shape[1]) < SMALLEST:
        x = layers.Resizing(SMALLEST, SMALLEST, name="enlarged")(x)
    build = _Modules()
    x = build.convolved(x, 32, (3, 3), strides=2, padding="valid")
    x = build.convolved(x, 32, (3, 3), padding="valid")
    x = layers.MaxPooling2D(3, strides=2, name="pool_1")(build.convolved(x, 64, (3, 3)))
    x = build.convolved(x, 80, (1, 1), padding="valid")
    x = layers.MaxPooling2D(3, strides=2, name="pool_2")(build.convolved(x, 192, (3, 3), padding="valid"))
    for pooled in (32, 64, 64):
        x = build.small_kernels(x, pooled)
    x = build.halved_early(x)
    for width in (128, 160, 160, 192):
        x = build.long_kernels(x, width)
    x = build.halved_late(x)
    for _ in range(2):
        x = build.spread_kernels(x)
    return x, tuple(build.modules)


class _Modules:
    """The kinds of Inception modules; counts convolutions and modules to name them."""

    def __init__(self) -> None:
        self.numbers: Iterator[int] = itertools.count(1)
        self.modules: list[str] = []

    def convolved(
        self, x: keras.KerasTensor, filters: int, kernel: Kernel, strides: int = 1, padding: str = "same"
    ) -> keras.KerasTensor:
        """Convolution, batch normalisation, ReLU."""
        name = f"inception_{next(self.numbers)}"
        x = layers.Conv2D(filters, kernel, strides, padding, use_bias=False, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(scale=False, momentum=SHORT_RUN_MOMENTUM, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def chained(self, x: keras.KerasTensor, *steps: tuple[int, Kernel], halved: bool = False) -> keras.KerasTensor:
        """Convolutions in a row; the last one halves the maps if `halved`."""
        for number, (filters, kernel) in enumerate(steps, start=1):
            last = halved and number == len(steps)
            x = self.convolved(x, filters, kernel, 2 if last else 1, "valid" if last else "same")
        return x

    def joined(self, *branches: keras.KerasTensor) -> keras.KerasTensor:
        """The branches side by side: a module's output."""
        self.modules.append(f"mixed{len(self.modules)}")
        return layers.Concatenate(name=self.modules[-1])(list(branches))

    def small_kernels(self, x: keras.KerasTensor, pooled: int) -> keras.KerasTensor:
        """Figure 5 of the paper, with one 5 x 5."""
        return self.joined(
            self.chained(x, (64, (1, 1))),
            self.chained(x, (48, (1, 1)), (64, (5, 5))),
            self.chained(x, (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
            self.averaged(x, pooled),
        )

    def halved_early(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self.joined(
            self.chained(x, (384, (3, 3)), halved=True),
            self.chained(x, (64, (1, 1)), (96, (3, 3)), (96, (3, 3)), halved=True),
            self.largest(x),
        )

    def long_kernels(self, x: keras.KerasTensor, width: int) -> keras.KerasTensor:
        """Figure 6: 7 x 7 as 1 x 7 and 7 x 1."""
        across, down = (1, 7), (7, 1)
        return self.joined(
            self.chained(x, (192, (1, 1))),
            self.chained(x, (width, (1, 1)), (width, across), (192, down)),
            self.chained(x, (width, (1, 1)), (width, down), (width, across), (width, down), (192, across)),
            self.averaged(x, 192),
        )

    def halved_late(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self.joined(
            self.chained(x, (192, (1, 1)), (320, (3, 3)), halved=True),
            self.chained(x, (192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3)), halved=True),
            self.largest(x),
        )

    def spread_kernels(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Figure 7: the last convolutions of two branches lie side by side."""
        module = len(self.modules)
        first = self.chained(x, (320, (1, 1)))
        second = self.chained(x, (384, (1, 1)))
        second_halves = [self.convolved(second, 384, (1, 3)), self.convolved(second, 384, (3, 1))]
        third = self.chained(x, (448, (1, 1)), (384, (3, 3)))
        third_halves = [self.convolved(third, 384, (1, 3)), self.convolved(third, 384, (3, 1))]
        return self.joined(
            first,
            layers.Concatenate(name=f"mixed{module}_second")(second_halves),
            layers.Concatenate(name=f"mixed{module}_third")(third_halves),
            self.averaged(x, 192),
        )

    def averaged(self, x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
        name = f"mixed{len(self.modules)}_average"
        x = layers.AveragePooling2D(3, strides=1, padding="same", name=name)(x)
        return self.convolved(x, filters, (1, 1))

    def largest(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.MaxPooling2D(3, strides=2, name=f"mixed{len(self.modules)}_largest")(x)
