"""What each architecture is trained with when nothing else is said: chosen for minutes on two cores without a GPU."""

from __future__ import annotations

from dataclasses import replace

from core.types import Modality
from train.config import FitConfig

_DEFAULTS = {
    # The backbones stay as they are: with some hundred cases, fine-tuning their last stages learned the training cases
    # by heart and generalised less than a head on good features. The head reads 2,560 of them, so its steps are small.
    "fusion": FitConfig(
        "fusion",
        "",
        side=160,
        frozen="backbone",
        views=2,
        epochs=80,
        learning_rate=1e-4,
        weight_decay=1e-2,
        mask_weight=0.0,
        attention_weight=0.3,
        patience=25,
    ),
    "cnn": FitConfig(
        "cnn", "", side=128, epochs=45, learning_rate=5e-4, attention_weight=0.1, patience=30, init="random"
    ),
    "efficientnet_lite0": FitConfig("efficientnet_lite0", "", side=224, epochs=20, mask_weight=1.0),
}


def recipe(architecture: str, modality: Modality, init: str, seed: int) -> FitConfig:
    """The training configuration of an architecture for a modality.

    Freezing makes sense only for layers that have learned something: with random weights everything is trained.
    """
    config = replace(_DEFAULTS[architecture], modality=modality.value, init=init, seed=seed)
    if init == "random":
        return replace(config, frozen="nothing", learning_rate=max(config.learning_rate, 5e-4))
    return config
