"""The knobs of one training run, saved on the card, and what each architecture is trained with when nothing else is
said: chosen for minutes on two cores without a GPU. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from core.errors import InvalidInput
from core.models.registry import architecture
from core.types import Modality

CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "constant"),
    "keep": ("loss", "accuracy", "auc"),
    "class_weights": ("root", "balanced", "none"),
    "augmentation": ("modality", "none"),
    "chest_wall": ("left", ""),
    "depthwise": ("learned", "fixed"),
    "classifier": ("steps", "regression"),
    "precision": ("float32", "bfloat16"),
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
    precision: what layers compute in while they learn; weights, losses and what is measured afterwards are float32.
        "bfloat16" takes a little more than half the time where the processor multiplies it natively, else more.
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
    precision: str = "float32"
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


def _scratch(architecture_id: str, *, side: int, epochs: int, learning_rate: float = 5e-4) -> FitConfig:
    """For a network that learns everything from the cases."""
    return FitConfig(
        architecture_id,
        "",
        side=side,
        epochs=epochs,
        learning_rate=learning_rate,
        attention_weight=0.1,
        patience=epochs,  # the learning rate falls to the end: let it
        init="random",
    )


def _on_backbone(architecture_id: str, *, side: int, learning_rate: float = 3e-4) -> FitConfig:
    """For a head on a backbone that stays as it is; its maps are computed once a view, so an epoch takes seconds."""
    return FitConfig(
        architecture_id,
        "",
        side=side,
        frozen="backbone",
        views=2,
        epochs=50,
        learning_rate=learning_rate,
        weight_decay=1e-2,
        mask_weight=0.0,
        attention_weight=0.3,
        patience=15,
    )


def _by_regression(architecture_id: str) -> FitConfig:
    """One linear layer on features of a backbone that stays as it is has an optimum: no epochs."""
    return FitConfig(
        architecture_id,
        "",
        side=224,
        frozen="backbone",
        views=1,
        epochs=1,
        classifier="regression",
        class_weights="none",
        mask_weight=0.0,
        attention_weight=0.0,
    )


_DEFAULTS = {
    # Learned whole: a head on frozen backbones, and their last stages alone, stayed behind by far. On small squares,
    # because every epoch runs VGG16 both ways.
    "fusion": FitConfig(
        "fusion",
        "",
        side=128,
        views=3,
        head_epochs=40,
        epochs=24,
        learning_rate=1e-4,
        weight_decay=1e-3,
        attention_weight=0.3,
        patience=24,
    ),
    "cnn": FitConfig(
        "cnn", "", side=128, epochs=45, learning_rate=5e-4, attention_weight=0.1, patience=30, init="random"
    ),
    "efficientnet_lite0": FitConfig("efficientnet_lite0", "", side=224, epochs=20, mask_weight=1.0),
    "efficientnet_lite2": _by_regression("efficientnet_lite2"),
    "exam": _by_regression("exam"),
    "cnn2": _scratch("cnn2", side=128, epochs=30),
    "cnn3": _scratch("cnn3", side=224, epochs=20),  # the side of its publication
    "cnn4": _scratch("cnn4", side=128, epochs=40, learning_rate=1e-3),
    # The same for both, or the comparison would be of something else than the skips.
    "plain25": _scratch("plain25", side=96, epochs=30),
    "residual25": _scratch("residual25", side=96, epochs=30),
    "vgg16_dense": _on_backbone("vgg16_dense", side=160),
    "vgg16_gap": _on_backbone("vgg16_gap", side=160, learning_rate=1e-3),
    # As it was published: SGD with momentum, the epoch of the best validation accuracy.
    "vgg19": replace(
        _on_backbone("vgg19", side=128, learning_rate=5e-3), optimizer="sgd", keep="accuracy", weight_decay=0.0
    ),
    "resnet50_dense": _on_backbone("resnet50_dense", side=160),
    "resnet50_gap": _on_backbone("resnet50_gap", side=160, learning_rate=1e-3),
    "densenet201": _on_backbone("densenet201", side=160),
    "inceptionv3": _on_backbone("inceptionv3", side=160),
    "cnn_resnet50": _scratch("cnn_resnet50", side=96, epochs=20),
}

_WHOLE = {
    # A large network that learns everything costs a hundred times a head on kept features: small squares, few epochs.
    "vgg16_dense": {"side": 96, "epochs": 15},
    "vgg16_gap": {"side": 96, "epochs": 15},
    "vgg19": {"side": 96, "epochs": 15},
    "resnet50_dense": {"side": 96, "epochs": 15},
    "resnet50_gap": {"side": 96, "epochs": 15},
    # The lowest validation loss is that of the first epochs, which call everything benign.
    "densenet201": {"side": 96, "epochs": 16, "keep": "accuracy", "patience": 16},
    "inceptionv3": {"side": 128, "epochs": 12},
    "efficientnet_lite2": {"side": 128, "epochs": 20, "classifier": "steps"},
    "exam": {"side": 128, "epochs": 20, "classifier": "steps"},
}
"""What changes for these where nothing was learned before."""

_MODALITY = {
    # Few cases and no outlines: fine-tuning learns them by heart, so the head alone is fitted.
    ("fusion", Modality.MAMMOGRAPHY): {
        "frozen": "backbone",
        "views": 2,
        "head_epochs": 60,
        "epochs": 30,
        "weight_decay": 1e-2,
        "mask_weight": 0.0,
    },
    ("efficientnet_lite0", Modality.MAMMOGRAPHY): {
        "side": 384,  # a lesion of a screening mammogram is small
        "frozen": "backbone",
        "views": 3,
        "head_epochs": 60,
        "epochs": 30,
        "weight_decay": 1e-2,
        "mask_weight": 0.0,
    },
    # As wide and high as a breast is, all facing one way.
    ("efficientnet_lite2", Modality.MAMMOGRAPHY): {"side": 320, "columns": 192, "chest_wall": "left"},
    ("exam", Modality.MAMMOGRAPHY): {"side": 320, "columns": 192, "chest_wall": "left"},
    # Tiles have no outlines to learn from, and texture asks little more of the backbones than their last blocks.
    ("fusion", Modality.HISTOLOGY): {
        "frozen": "blocks",
        "unfreeze": 1,
        "views": 4,
        "head_epochs": 40,
        "epochs": 20,
        "mask_weight": 0.0,
    },
}
"""What changes for a modality, where something was learned before."""


def is_pretrained(architecture_id: str, init: str) -> bool:
    """Whether `init` has anything learned for the architecture."""
    return init == "imagenet" or (init == "offline" and architecture(architecture_id).offline is not None)


def recipe(architecture_id: str, modality: Modality, init: str, seed: int) -> FitConfig:
    """The training configuration of an architecture for a modality.

    Freezing makes sense only for layers that have learned something: where nothing is carried over (`init` "random", or
    "offline" for an architecture that no package carries weights of) everything is trained.
    """
    config = replace(_DEFAULTS[architecture_id], modality=modality.value, init=init, seed=seed)
    if not is_pretrained(architecture_id, init):
        rate = max(config.learning_rate, 5e-4)
        config = replace(config, frozen="nothing", learning_rate=rate)
        return replace(config, **_WHOLE.get(architecture_id, {}))  # type: ignore[arg-type]
    return replace(config, **_MODALITY.get((architecture_id, modality), {}))  # type: ignore[arg-type]


def in_regime(config: FitConfig, unfreeze: str) -> FitConfig:
    """The recipe in another regime. unfreeze: "0" for features of a frozen backbone, how many last blocks learn, "all".

    Raises InvalidInput where nothing was learned before: what is frozen would stay random.
    """
    if unfreeze != "all" and not (unfreeze.isascii() and unfreeze.isdigit()):
        raise InvalidInput(f"--unfreeze takes a number of last blocks or the word all, not {unfreeze!r}.")
    if config.classifier == "regression" and unfreeze != "0":
        config = replace(config, classifier="steps", epochs=20)
    if unfreeze == "all":
        return config if config.frozen == "nothing" else replace(_tuned(config), frozen="nothing")
    if not is_pretrained(config.architecture, config.init):
        raise InvalidInput(
            f"With --init {config.init}, {config.architecture} starts from random weights, so nothing of it can stay "
            "frozen. Leave --unfreeze out, or say --unfreeze all."
        )
    if unfreeze == "0":
        return config if config.frozen == "backbone" else replace(config, **_FEATURES)  # type: ignore[arg-type]
    return replace(_tuned(config), frozen="blocks", unfreeze=int(unfreeze), views=min(config.views, 3))


def _tuned(config: FitConfig) -> FitConfig:
    """Small steps after a head that fits its features, or the first ones would destroy what the backbone knows."""
    if config.frozen == "nothing" and config.head_epochs:
        return config
    return replace(
        config,
        learning_rate=min(config.learning_rate, 1e-4),
        epochs=min(config.epochs, 24),
        head_epochs=config.head_epochs or 40,
        weight_decay=min(config.weight_decay, 1e-3),
    )


_FEATURES = {
    "frozen": "backbone",
    "views": 3,
    "head_epochs": 60,
    "epochs": 30,
    "weight_decay": 1e-2,
    "mask_weight": 0.0,
}
"""What changes where only the classifier learns: its epochs take seconds, so many are affordable."""
