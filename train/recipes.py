"""What each architecture is trained with when nothing else is said: chosen for minutes on two cores without a GPU."""

from __future__ import annotations

from dataclasses import replace

from core.types import Modality
from train.config import FitConfig

_DEFAULTS = {
    "fusion": FitConfig("fusion", "", side=144, epochs=20, views=4, learning_rate=4e-4, weight_decay=1e-3),
    "cnn": FitConfig("cnn", "", side=128, epochs=45, learning_rate=1e-3, patience=15, init="random"),
    "efficientnet_lite0": FitConfig("efficientnet_lite0", "", side=224, epochs=20, mask_weight=1.0),
}


def recipe(architecture: str, modality: Modality, init: str, seed: int) -> FitConfig:
    """The training configuration of an architecture for a modality.

    A frozen stem (`views` > 0) makes sense only for a stem that has learned something: with random weights everything
    is trained.
    """
    config = replace(_DEFAULTS[architecture], modality=modality.value, init=init, seed=seed)
    if init == "random":
        return replace(config, views=0, learning_rate=max(config.learning_rate, 5e-4))
    return config
