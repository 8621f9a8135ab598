"""The knobs of one training run, saved on the card. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Every knob of one training run; saved on the card.

    init: "imagenet", "offline" or "random" (what that was is said on the card).
    side: pixels of the square input.
    views: where something is frozen, how many augmented views of each case are computed once and kept.
    frozen: what stays as it started: "nothing", "stem" (the first stages) or "backbone" (all up to the last maps).
    head_epochs: epochs in which, with pretrained weights, the classifier alone is fitted first.
    learning_rate: peak of a cosine schedule with one epoch of warm-up (AdamW). weight_decay: decoupled.
    mask_weight: weight of the lesion-mask target beside the class target (0 where the data has no masks).
    attention_weight: weight of the share of each Grad-CAM map that lies outside the lesion.
    average: decay of the moving average of the weights that is evaluated and kept.
    patience: epochs without a better validation loss before stopping.
    """

    architecture: str
    modality: str
    init: str = "offline"
    side: int = 224
    epochs: int = 30
    batch: int = 16
    frozen: str = "nothing"
    views: int = 4
    head_epochs: int = 0
    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    mask_weight: float = 0.5
    attention_weight: float = 0.5
    average: float = 0.98
    patience: int = 10
    seed: int = 0
