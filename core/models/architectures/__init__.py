"""The graphs: one function an architecture, intensity normalisation inside, linear outputs.

Each function takes
    side: rows of the input (64 or more), columns: 0 for as many; channels: 1 (grey) or 3 (RGB), values in [0, 1];
    outputs: 1 (two classes, one logit for the second) or the number of classes (one logit each);
and returns a `Graph`. Graphs are flat (no nested models), so that every last map is reachable, and layer names are
unique and stable: weights are stored under them.
"""

from core.models.architectures.efficientnet import (
    EFFICIENTNET_LITE0_BLOCKS,
    EFFICIENTNET_LITE2_BLOCKS,
    efficientnet_lite0,
    efficientnet_lite2,
    exam,
)
from core.models.architectures.from_scratch import cnn, cnn2, cnn3, cnn4, plain25, residual25
from core.models.architectures.graph import Graph
from core.models.architectures.transfer import (
    cnn_resnet50,
    densenet201,
    fusion,
    inceptionv3,
    resnet50_dense,
    resnet50_gap,
    vgg16_dense,
    vgg16_gap,
    vgg19,
)

__all__ = [
    "EFFICIENTNET_LITE0_BLOCKS",
    "EFFICIENTNET_LITE2_BLOCKS",
    "Graph",
    "cnn",
    "cnn2",
    "cnn3",
    "cnn4",
    "cnn_resnet50",
    "densenet201",
    "efficientnet_lite0",
    "efficientnet_lite2",
    "exam",
    "fusion",
    "inceptionv3",
    "plain25",
    "residual25",
    "resnet50_dense",
    "resnet50_gap",
    "vgg16_dense",
    "vgg16_gap",
    "vgg19",
]
