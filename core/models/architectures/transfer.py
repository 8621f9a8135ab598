"""Published backbones, without their tops, under a small classifier: what transfer learning starts from.

Inception-v3's convolutions (Szegedy et al. 2015) are ours, with stable names:
`keras.applications.InceptionV3` leaves its layers unnamed, so that their numbers go on from one graph to the next in a
process; weights are stored under names. Here the convolutions are numbered from 1 in the order in which that function
makes them: `train.fitting.pretrained` relies on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import keras
from keras import layers

from core.models.architectures.graph import (
    SHORT_RUN_MOMENTUM,
    Graph,
    batch_norm,
    caffe,
    grid,
    image_input,
    logits,
    settle_quickly,
    standardised,
)

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


VGG19_L2 = 1e-3

VGG_BLOCKS = ("block1_pool", "block2_pool", "block3_pool", "block4_pool")
RESNET50V2_BLOCKS = ("pool1_pool", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out")
RESNET50_BLOCKS = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out")
DENSENET_BLOCKS = ("pool1", "pool2_pool", "pool3_pool", "pool4_pool")


def fusion(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """VGG16 (Simonyan & Zisserman 2014) and ResNet50V2 (He et al. 2016), pooled, concatenated, dense layers."""
    inputs, rgb = image_input(side, channels, columns)
    vgg = keras.applications.VGG16(include_top=False, weights=None, input_tensor=caffe(rgb, "vgg_scale"))
    resnet = keras.applications.ResNet50V2(
        include_top=False, weights=None, input_tensor=layers.Rescaling(2.0, -1.0, name="resnet_scale")(rgb)
    )
    # Caffe's VGG16 gives activations tens of times larger than ResNet50V2's: feature by feature normalised, both
    # branches are heard.
    pooled = layers.Concatenate(name="fused")(
        [
            batch_norm(f"{name}_norm")(layers.GlobalAveragePooling2D(name=f"{name}_pool")(output))
            for name, output in (("vgg16", vgg.output), ("resnet50v2", resnet.output))
        ]
    )
    # An image unlike the training cases may give one feature fifty standard deviations; it must not decide alone.
    x = layers.Dropout(0.5, name="dropout_1")(keras.ops.clip(pooled, -4.0, 4.0))
    x = layers.Dense(256, activation="relu", name="dense_1")(x)
    x = layers.Dropout(0.5, name="dropout_2")(x)
    return Graph(
        keras.Model(inputs, logits(x, outputs), name="fusion"),
        maps={"vgg16": "block5_conv3", "resnet50v2": "post_relu"},
        blocks={"vgg16": VGG_BLOCKS, "resnet50v2": RESNET50V2_BLOCKS},
    )


def vgg16_dense(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """VGG16 (Simonyan & Zisserman 2014) under a dense layer with batch normalisation and dropout."""
    inputs, backbone = _vgg(keras.applications.VGG16, side, channels, columns)
    return _dense_head("vgg16", inputs, backbone, outputs, cells=4, last="block5_conv3", blocks=VGG_BLOCKS)


def vgg16_gap(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """VGG16 under global average pooling and dropout."""
    inputs, backbone = _vgg(keras.applications.VGG16, side, channels, columns)
    return _pooled_head("vgg16", inputs, backbone, outputs, name="vgg16_gap", last="block5_conv3", blocks=VGG_BLOCKS)


def resnet50_dense(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """ResNet50 (He et al. 2015) under a dense layer with batch normalisation and dropout."""
    inputs, backbone = _resnet50(side, channels, columns)
    return _dense_head("resnet50", inputs, backbone, outputs, cells=2, last="conv5_block3_out", blocks=RESNET50_BLOCKS)


def resnet50_gap(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """ResNet50 under global average pooling and dropout."""
    inputs, backbone = _resnet50(side, channels, columns)
    return _pooled_head(
        "resnet50", inputs, backbone, outputs, name="resnet50_gap", last="conv5_block3_out", blocks=RESNET50_BLOCKS
    )


def vgg19(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """VGG19 (Simonyan & Zisserman 2014), flattened, batch normalisation, dense with L2, dropout, softmax."""
    inputs, backbone = _vgg(keras.applications.VGG19, side, channels, columns)
    x = standardised(grid(backbone, 4, "vgg19_pool"), "vgg19")
    x = layers.Dense(256, activation="relu", kernel_regularizer=keras.regularizers.L2(VGG19_L2), name="dense_1")(x)
    x = layers.Dropout(0.5, name="dropout_1")(x)
    model = keras.Model(inputs, logits(x, outputs), name="vgg19")
    return Graph(model, {"vgg19": "block5_conv4"}, {"vgg19": VGG_BLOCKS})


def densenet201(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """DenseNet201 (Huang et al. 2016) under global average pooling and a dense layer."""
    inputs, rgb = image_input(side, channels, columns)
    # The mean and the spread of ImageNet's colours, as torch states them.
    scaled = layers.Rescaling(
        [1 / 0.229, 1 / 0.224, 1 / 0.225], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], name="densenet_scale"
    )(rgb)
    backbone = keras.applications.DenseNet201(include_top=False, weights=None, input_tensor=scaled)
    settle_quickly(backbone)
    return _pooled_head(
        "densenet201",
        inputs,
        backbone.output,
        outputs,
        name="densenet201",
        last="relu",
        blocks=DENSENET_BLOCKS,
        dense=256,
    )


def inceptionv3(*, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
    """Inception-v3 (Szegedy et al. 2015) under global average pooling and a dense layer."""
    inputs, rgb = image_input(side, channels, columns)
    maps, blocks = inception_v3_maps(layers.Rescaling(2.0, -1.0, name="inception_scale")(rgb))
    return _pooled_head(
        "inceptionv3", inputs, maps, outputs, name="inceptionv3", last=blocks[-1], blocks=blocks[:-1], dense=256
    )


def _vgg(
    build: Callable[..., keras.Model], side: int, channels: int, columns: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    inputs, rgb = image_input(side, channels, columns)
    return inputs, build(include_top=False, weights=None, input_tensor=caffe(rgb, "vgg_scale")).output


def _resnet50(side: int, channels: int, columns: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    inputs, rgb = image_input(side, channels, columns)
    backbone = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=caffe(rgb, "resnet_scale"))
    settle_quickly(backbone)
    return inputs, backbone.output


def _dense_head(
    branch: str,
    inputs: keras.KerasTensor,
    maps: keras.KerasTensor,
    outputs: int,
    *,
    cells: int,
    last: str,
    blocks: tuple[str, ...],
) -> Graph:
    x = standardised(grid(maps, cells, f"{branch}_pool"), branch)
    x = layers.Dense(256, use_bias=False, name="dense_1")(x)
    x = layers.ReLU(name="dense_1_relu")(batch_norm("dense_1_bn", SHORT_RUN_MOMENTUM)(x))
    x = layers.Dropout(0.5, name="dropout_1")(x)
    model = keras.Model(inputs, logits(x, outputs), name=f"{branch}_dense")
    return Graph(model, {branch: last}, {branch: blocks})


def _pooled_head(
    branch: str,
    inputs: keras.KerasTensor,
    maps: keras.KerasTensor,
    outputs: int,
    *,
    name: str,
    last: str,
    blocks: tuple[str, ...],
    dense: int = 0,
) -> Graph:
    """Global average pooling, a dense layer of that width where one is asked for, dropout."""
    x = standardised(layers.GlobalAveragePooling2D(name=f"{branch}_pool")(maps), branch)
    if dense:
        x = layers.Dense(dense, activation="relu", name="dense_1")(x)
    x = layers.Dropout(0.5, name="dropout_1")(x)
    return Graph(keras.Model(inputs, logits(x, outputs), name=name), {branch: last}, {branch: blocks})


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
