"""Everything that is trained, on what and why so: the table behind `python -m train all`. Loads no TensorFlow.

Side, epochs and what is frozen come from `train.recipe.recipes`; here stands what a model is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.errors import NotFound
from core.models.cards import read_card, read_test_scores
from core.settings import REPOSITORY
from core.types import Modality
from train.recipe.request import FitRequest

if TYPE_CHECKING:
    from core.models.ensemble import Method


@dataclass(frozen=True, slots=True)
class Collection:
    """Where in DATA a modality's manifest lies and which of its rows are used.

    options: of every training on it, fields of its request. external: rows that its models are measured on, never
    trained, of the same manifest or of `external_manifest` in DATA, and of those in `external_also` together. split_of:
    the shipped model whose split all models on it take up again where the manifest holds its test cases, so that they
    are compared on the same ones.
    """

    folder: str
    where: str
    options: Mapping[str, Any] = field(default_factory=dict)
    external: str = ""
    external_manifest: str = ""
    external_also: tuple[str, ...] = ()
    split_of: str = ""


_BUS_BRA = "ultrasound/bus_bra/manifest.csv"
_BREAKHIS = "histopathology/breakhis_100x/manifest.csv"

COLLECTIONS = {
    Modality.ULTRASOUND: Collection(
        "ultrasound",
        "source=BUSI",
        external="source=BUS-BRA",
        external_manifest=_BUS_BRA,
        split_of="ultrasound-cnn4",
    ),
    # 121 women, 39 malignant images: one split would rest on eight of them.
    Modality.MAMMOGRAPHY: Collection("mammography", "source=mini-MIAS", options={"folds": 5}),
    # 20 women: one split would rest on four of them.
    Modality.HISTOLOGY: Collection(
        "histopathology",
        "source=IDC (Cruz-Roa/Janowczyk)",
        options={"folds": 5},
        external="source=BreakHis",
        external_also=(_BREAKHIS,),
    ),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. options: further fields of its request. suffix: of the model's name.

    members: architectures of the same modality that an ensemble combines, by which method; () for a network. manifest:
    in DATA, "" for the modality's. also: further manifests in DATA, trained on together with it; where: the rows of all
    of them, "" for those of the modality, or all of another manifest. external: rows of the modality's manifest that it
    is measured on beside its own cases, "" for those of the modality's collection, or none where `where` is given.
    """

    modality: Modality
    architecture: str
    why: str
    ships_weights: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ""
    limits: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    method: Method = "weighted"
    manifest: str = ""
    also: tuple[str, ...] = ()
    where: str = ""
    external: str = ""

    @property
    def model_id(self) -> str:
        return f"{self.modality.value}-{self.architecture}{self.suffix}"


_FIRST = "One of the models that a site would use first, so its weights are shipped."
_TRANSFER = "Backbone frozen where weights for it are at hand, else trained whole on small squares to fit in minutes."
_SCRATCH = "Everything is learned from these cases; square and epochs are small enough for minutes on two cores."
_ABLATION = "The same configuration with and without skips, so that only the skips differ."
_LESSON = "Smaller squares and fewer epochs than the shipped model, because it is fitted twelve times in two splits."
_NOT_FOR_READING = "Made to show what the way of splitting does to the numbers; it is no model to read with."
_LESSON_OPTIONS = {"side": 128, "epochs": 12, "folds": 5}

_IN_BFLOAT16 = {"settings": ("precision=bfloat16",)}
"""Half the time on processors that compute in it, for networks that take long."""
_DEEP = ("resnet50_gap", "densenet201", "inceptionv3")

_TWO_COLLECTIONS = {
    "folds": 5,
    "unfreeze": "3",
    "epochs": 12,
    "settings": (
        "views=6",
        "learning_rate=3e-4",
        "patience=12",
        "balance_by=source",
        "class_weights=none",
        "head_epochs=20",
        "mask_weight=1.0",
    ),
}
"""Cases of two hospitals, drawn so that neither tells the class; folds, so that every case of both is tested."""

_RSNA = "mammography/rsna/manifest.csv"
_VIEWS = ("chest_wall=left", "balance_by=machine", "class_weights=none", "mask_weight=0", "keep=auc")
"""Every chest wall on one side, machines balanced; columns make it portrait."""
_SCREENING = {
    "folds": 5,
    "side": 256,
    "unfreeze": "4",
    "epochs": 6,
    "settings": (
        *_VIEWS,
        "columns=160",
        "views=0",
        "depthwise=fixed",
        "learning_rate=2e-4",
        "weight_decay=1e-3",
        "head_epochs=15",
        "patience=20",
    ),
}
"""The few epochs before the cases are known by heart."""
_SCREENING_FUSION = {
    "folds": 5,
    "side": 256,
    "unfreeze": "1",
    "epochs": 5,
    "settings": (
        *_VIEWS,
        "columns=160",
        "views=2",
        "learning_rate=1e-4",
        "weight_decay=1e-3",
        "head_epochs=15",
        "attention_weight=0",
        "patience=20",
        "precision=bfloat16",
    ),
}
"""Two kept views, because what is frozen of the fusion takes longer than what learns."""
_SCREENING_FROM_NOTHING = {
    "cnn": {"side": 256, "epochs": 16, "settings": (*_VIEWS, "columns=160", "attention_weight=0", "patience=16")},
    "residual25": {"side": 128, "epochs": 12, "settings": (*_VIEWS, "columns=80", "attention_weight=0", "patience=12")},
}
"""An epoch of 25 layers costs five times one of the small CNN."""

BY_IMAGE, BY_GROUP = "-by-image", "-by-group"
LESSON = "efficientnet_lite0"
"""The network that is fitted to the same pictures, once split by image and once by group."""


def _ultrasound() -> tuple[Entry, ...]:
    def entry(architecture: str, why: str) -> Entry:
        return Entry(Modality.ULTRASOUND, architecture, why)

    return (
        # One split has 32 malignant validation cases, too few for a threshold.
        Entry(
            Modality.ULTRASOUND,
            "fusion",
            _FIRST,
            ships_weights=True,
            options={"folds": 4, **_IN_BFLOAT16},
        ),
        Entry(Modality.ULTRASOUND, "efficientnet_lite0", _FIRST, ships_weights=True, options={"folds": 4}),
        Entry(Modality.ULTRASOUND, "cnn", _FIRST, ships_weights=True, options={"folds": 4}),
        *(entry(name, _SCRATCH) for name in ("cnn2", "cnn3", "cnn4")),
        *(entry(name, _ABLATION) for name in ("plain25", "residual25")),
        *(entry(name, _TRANSFER) for name in ("vgg16_dense", "vgg16_gap", "vgg19", "resnet50_dense", "resnet50_gap")),
        *(entry(name, _TRANSFER) for name in ("densenet201", "inceptionv3")),
        Entry(
            Modality.ULTRASOUND,
            "efficientnet_lite0",
            "Trained on two hospitals together, because a model of one does not travel to the other.",
            ships_weights=True,
            options=_TWO_COLLECTIONS,
            suffix="-two-collections",
            also=(_BUS_BRA,),
            where="source=BUSI|BUS-BRA",
        ),
        Entry(
            Modality.ULTRASOUND,
            "efficientnet_lite2",
            "A second network for the same cases of two hospitals, fitted in minutes.",
            ships_weights=True,
            options={"folds": 5, "settings": ("balance_by=source",)},
            suffix="-two-collections",
            also=(_BUS_BRA,),
            where="source=BUSI|BUS-BRA",
        ),
    )


def _ensemble(modality: Modality, *members: str, suffix: str = "", method: Method = "weighted", why: str = "") -> Entry:
    why = why or "Weighted voting over the shipped models: they are at hand wherever it is asked."
    return Entry(modality, "ensemble", why, ships_weights=True, members=members, suffix=suffix, method=method)


PROGRAMME: tuple[Entry, ...] = (
    *_ultrasound(),
    _ensemble(Modality.ULTRASOUND, "fusion", "efficientnet_lite0"),
    _ensemble(
        Modality.ULTRASOUND,
        "efficientnet_lite0-two-collections",
        "efficientnet_lite2-two-collections",
        suffix="-two-collections",
    ),
    Entry(Modality.MAMMOGRAPHY, "fusion", _FIRST, ships_weights=True),
    Entry(Modality.MAMMOGRAPHY, "efficientnet_lite0", _FIRST, ships_weights=True),
    Entry(Modality.MAMMOGRAPHY, "cnn", _FIRST, ships_weights=True),
    # The CNN of ultrasound was fitted in folds: between them it has learnt from every case that this one is tested on.
    Entry(
        Modality.ULTRASOUND,
        "cnn_resnet50",
        "Begins with the convolutions of a fitted CNN, that of mammograms; trained whole on small squares.",
        options={"cnn": "mammography-cnn"},
    ),
    Entry(
        Modality.MAMMOGRAPHY,
        "efficientnet_lite0",
        "Trained on digital screening mammograms, which the films of mini-MIAS say nothing of.",
        ships_weights=True,
        options=_SCREENING,
        suffix="-rsna",
        manifest=_RSNA,
    ),
    Entry(
        Modality.MAMMOGRAPHY,
        "efficientnet_lite2",
        "A second network for the same views, of another kind, because two that err differently are better than one.",
        ships_weights=True,
        options={"folds": 5},
        suffix="-rsna",
        manifest=_RSNA,
    ),
    Entry(
        Modality.MAMMOGRAPHY,
        "exam",
        "Whether a classifier for each kind of view knows more of a breast than one for all views.",
        ships_weights=True,
        options={"folds": 5},
        suffix="-rsna",
        manifest=_RSNA,
    ),
    Entry(
        Modality.MAMMOGRAPHY,
        "fusion",
        "VGG16 and ResNet50V2 on the views that the other networks learn from, their last blocks learnt.",
        options=_SCREENING_FUSION,
        suffix="-rsna",
        manifest=_RSNA,
    ),
    *(
        Entry(Modality.MAMMOGRAPHY, name, _SCRATCH, options={"folds": 5, **how}, suffix="-rsna", manifest=_RSNA)
        for name, how in _SCREENING_FROM_NOTHING.items()
    ),
    _ensemble(Modality.MAMMOGRAPHY, "fusion", "efficientnet_lite0", "cnn"),
    _ensemble(
        Modality.MAMMOGRAPHY,
        "efficientnet_lite0-rsna",
        "efficientnet_lite2-rsna",
        suffix="-rsna",
        method="soft",
        why="Two networks that err differently, each with the same say.",
    ),
    Entry(Modality.HISTOLOGY, "fusion", _FIRST, ships_weights=True),
    Entry(Modality.HISTOLOGY, "efficientnet_lite0", _FIRST, ships_weights=True),
    Entry(Modality.HISTOLOGY, "cnn4", _FIRST, ships_weights=True),
    _ensemble(Modality.HISTOLOGY, "fusion", "efficientnet_lite0"),
    *(
        Entry(
            Modality.HISTOLOGY,
            name,
            "The architectures that are published on BreakHis, measured on it by patient.",
            ships_weights=name == "efficientnet_lite0",
            options={"folds": 5, **(_IN_BFLOAT16 if name in _DEEP else {})},
            suffix="-breakhis",
            manifest=_BREAKHIS,
            also=("histopathology/manifest.csv",),
            where="source=BreakHis",
            external=COLLECTIONS[Modality.HISTOLOGY].where,
        )
        for name in ("efficientnet_lite0", "cnn4", "vgg19", *_DEEP)
    ),
    Entry(
        Modality.ULTRASOUND,
        LESSON,
        _LESSON,
        options={**_LESSON_OPTIONS, "split_by": "file", "allow_leaks": True},
        suffix=BY_IMAGE,
        limits=(_NOT_FOR_READING,),
    ),
    Entry(Modality.ULTRASOUND, LESSON, _LESSON, options=_LESSON_OPTIONS, suffix=BY_GROUP, limits=(_NOT_FOR_READING,)),
)


def manifest_of(entry: Entry, data: Path) -> Path:
    """The manifest that an entry is trained on, in a folder that holds those of the three modalities."""
    collection = COLLECTIONS[entry.modality]
    name = entry.manifest or f"{collection.folder}/manifest.csv"
    path = data / name
    if not path.is_file():
        raise NotFound(
            f"There is no {name} in the folder given with --data. It holds a folder for each "
            f"modality ({', '.join(one.folder for one in COLLECTIONS.values())}), each with its manifest.csv."
        )
    return path


_NOT_RSNA = (
    "ultrasound/manifest.csv", _BUS_BRA, "histopathology/manifest.csv", "mammography/mias1024/manifest.csv"
)  # fmt: skip


def distilled_on(entry: Entry) -> tuple[str, ...]:
    """The manifests in DATA on whose pictures a fusion's ResNet50V2 is distilled: it is tested on none of them."""
    return _NOT_RSNA if entry.manifest == _RSNA else (_RSNA,)


def backbone_name(entry: Entry) -> str:
    """The name of the file that holds the backbone of a fusion."""
    return "backbone-not-rsna.safetensors" if distilled_on(entry) == _NOT_RSNA else "backbone.safetensors"


def distil_arguments(entry: Entry, data: Path, out: Path) -> list[str]:
    """The arguments of `python -m train` that make the backbone of a fusion."""
    manifests = [text for name in distilled_on(entry) for text in ("--data", str(data / name))]
    modality = Modality.MAMMOGRAPHY.value
    # As the one that the published fusion of RSNA starts from.
    how = ["--steps", "320", "--side", "112"] if distilled_on(entry) == _NOT_RSNA else []
    return ["distil", "--modality", modality, "--root", str(data), *manifests, *how, "--out", str(out)]


def request_of(
    entry: Entry, data: Path, out: Path, budget_minutes: float | None = None, backbone: Path | None = None
) -> FitRequest:
    """The training that makes an entry's model; `backbone` is for those that can start from it."""
    collection, manifest = COLLECTIONS[entry.modality], manifest_of(entry, data)
    asked: dict[str, Any] = dict(entry.options)
    if "folds" not in asked:
        asked = {**asked, **collection.options, **_split_options(collection, manifest, out)}
    where = entry.where or ("" if entry.manifest else collection.where)
    return FitRequest(
        entry.architecture,
        entry.modality,
        name=entry.model_id,
        data=manifest,
        root=data,
        also=tuple(data / one for one in entry.also),
        where=(where,) if where else (),
        out=out,
        no_weights=not entry.ships_weights,
        backbone=backbone if entry.architecture == "fusion" else None,
        budget_minutes=budget_minutes,
        why=entry.why,
        limits=entry.limits,
        **asked,
    )


def arguments_of(
    entry: Entry, data: Path, out: Path, budget_minutes: float | None = None, backbone: Path | None = None
) -> list[str]:
    """The arguments of `python -m train` that make an entry's model."""
    if entry.members:
        members = [f"{entry.modality.value}-{member}" for member in entry.members]
        how = [] if entry.method == "weighted" else ["--method", entry.method]
        return ["ensemble", *members, *how, "--name", entry.model_id, "--out", str(out), "--why", entry.why]
    return request_of(entry, data, out, budget_minutes, backbone).to_arguments()


def _split_options(collection: Collection, manifest: Path, out: Path) -> dict[str, str]:
    for weights in (out, REPOSITORY / "weights") if collection.split_of else ():
        folder = weights / collection.split_of
        if (folder / "card.json").is_file():
            scores = read_test_scores(read_card(folder))
            files = pd.read_csv(manifest, dtype=str, usecols=["file"])["file"]
            is_held = scores is not None and set(scores["case"]) <= set(files)
            return {"split_like": collection.split_of} if is_held else {}
    return {}


def external_arguments(entry: Entry, data: Path, out: Path) -> list[str] | None:
    """The arguments that measure an entry's model on cases of another collection, None where there is none."""
    collection = COLLECTIONS[entry.modality]
    where = entry.external or ("" if entry.where or entry.manifest else collection.external)
    if not where or not entry.ships_weights:
        return None
    name = f"{collection.folder}/manifest.csv"
    if not entry.external:
        name = collection.external_manifest or name
    also = () if entry.external else collection.external_also
    return [
        "evaluate", entry.model_id, "--weights", str(out), "--data", str(data / name),
        *(text for one in also for text in ("--also", str(data / one))), "--root", str(data), "--where", where,
    ]  # fmt: skip
