"""Published backbones, without their tops, under a small classifier: what transfer learning starts from."""

from __future__ import annotations

from collections.abc import Callable

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
from core.models.architectures.inception import inception_v3_maps

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
