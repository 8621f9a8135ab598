"""The knobs of one training run, saved on the card. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from core.errors import InvalidInput

CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "constant"),
    "keep": ("loss", "accuracy", "auc"),
    "class_weights": ("root", "balanced", "none"),
    "augmentation": ("modality", "none"),
    "chest_wall": ("left", ""),
    "depthwise": ("learned", "fixed"),
    "classifier": ("steps", "regression"),
}


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Every knob of one training run; saved on the card.

    init: "imagenet", "offline" or "random" (what that was is said on the card).
    side: rows of the input in pixels. columns: 0 for as many. chest_wall: "left" turns every breast so that its
        chest wall lies there, "" leaves it as it lies.
    views: where something is frozen, how many augmented views of each case are computed once and kept; 0 keeps none,
        and what is frozen reads newly augmented cases every epoch.
    frozen: what stays as it started: "nothing", "backbone" (all up to the last maps), or "blocks" (all of the backbone
        but its last `unfreeze` blocks). Batch normalisation that came with statistics always stays in inference mode.
    depthwise: "learned", or "fixed" where depthwise filters stay as they started too: on processors their gradients
        cost a third of a step, and the 1 x 1 convolutions around them learn.
    head_epochs: epochs in which, with pretrained weights, the classifier alone is fitted first.
    classifier: fitted by "steps" of the optimiser, or by logistic "regression" on features of a frozen backbone, where
        nothing but one linear layer reads them; there are no epochs then. penalty: its L2 penalty a case on
        standardised features (mean loss + penalty / 2 times the squared weights).
    learning_rate: peak. schedule: "cosine" falls to 2 % of it by the last epoch, "constant" stays; both begin with one
        epoch of warm-up. optimizer: "adamw" (decoupled weight_decay) or "sgd" (Nesterov momentum 0.9).
    dropout: rate of every dropout layer; None for the architecture's own.
    mixup: Beta(mixup, mixup) draws by how much two cases are mixed (Zhang et al. 2017); 0 mixes none.
    class_weights: by "root" of the inverse frequency, by the inverse frequency ("balanced"), or "none".
    balance_by: a column of the manifest ("machine", "source"); classes are weighed within each of its values, and its
        values against each other, so that none of them tells the class. "" weighs classes over all cases.
    augmentation: the preset of the "modality", or "none".
    mask_weight: weight of the lesion-mask target beside the class target (0 where the data has no masks).
    attention_weight: weight of the share of each Grad-CAM map that lies outside the lesion.
    average: decay of the moving average of the weights that is evaluated and kept.
    patience: epochs without a better validation loss before stopping.
    keep: what of the validation cases chooses the epoch that is kept: the lowest "loss", the highest "accuracy" or the
        highest "auc". Where cases are drawn balanced (balance_by) and the validation cases are not, the loss is lowest
        before anything is learnt, and the area under the ROC curve chooses better.
    """

    architecture: str
    modality: str
    init: str = "offline"
    side: int = 224
    columns: int = 0
    chest_wall: str = ""
    balance_by: str = ""
    epochs: int = 30
    batch: int = 16
    frozen: str = "nothing"
    unfreeze: int = 0
    depthwise: str = "learned"
    views: int = 4
    head_epochs: int = 0
    classifier: str = "steps"
    penalty: float = 1.0
    optimizer: str = "adamw"
    learning_rate: float = 3e-4
    schedule: str = "cosine"
    weight_decay: float = 1e-4
    dropout: float | None = None
    label_smoothing: float = 0.05
    mixup: float = 0.0
    class_weights: str = "root"
    augmentation: str = "modality"
    mask_weight: float = 0.5
    attention_weight: float = 0.5
    average: float = 0.98
    patience: int = 10
    keep: str = "loss"
    seed: int = 0


SETTABLE = {
    "columns": (int, 0, 4096),
    "batch": (int, 2, 256),
    "views": (int, 0, 16),
    "head_epochs": (int, 0, 500),
    "penalty": (float, 1e-6, 1e6),
    "learning_rate": (float, 1e-7, 1.0),
    "weight_decay": (float, 0.0, 1.0),
    "dropout": (float, 0.0, 0.9),
    "label_smoothing": (float, 0.0, 0.5),
    "mixup": (float, 0.0, 10.0),
    "mask_weight": (float, 0.0, 10.0),
    "attention_weight": (float, 0.0, 10.0),
    "average": (float, 0.0, 0.9999),
    "patience": (int, 1, 500),
}
"""Numbers that `--set NAME=VALUE` changes: type, lowest, highest. Beside them every word of `CHOICES`."""


def with_settings(config: FitConfig, settings: Iterable[str]) -> FitConfig:
    """The configuration with these "name=value" changed. Raises InvalidInput for a name or value that cannot be."""
    for setting in settings:
        name, _, value = (part.strip() for part in setting.partition("="))
        if name in CHOICES:
            if value not in CHOICES[name]:
                raise InvalidInput(f"{name} can be {' or '.join(CHOICES[name])}, not {value!r}.")
            if name == "chest_wall" and value and config.modality != "mammography":
                raise InvalidInput("Only a mammogram has a chest wall to turn to one side: leave out chest_wall.")
            config = replace(config, **{name: value})  # type: ignore[arg-type]
        elif name == "balance_by":
            config = replace(config, balance_by=value)
        elif name in SETTABLE:
            kind, low, high = SETTABLE[name]
            try:
                number = kind(value)
            except ValueError:
                number = None
            if number is None or not low <= number <= high:
                raise InvalidInput(f"{name} can be {low:g} to {high:g}, not {value!r}.")
            config = replace(config, **{name: number})
        else:
            known = ", ".join(
                field.name for field in fields(config) if field.name in {*SETTABLE, *CHOICES, "balance_by"}
            )
            raise InvalidInput(f"No setting is called {name!r}. Settings: {known}.")
    if config.classifier == "regression" and config.frozen != "backbone":
        raise InvalidInput("classifier=regression fits a classifier on a backbone that stays as it is: --unfreeze 0.")
    return config
