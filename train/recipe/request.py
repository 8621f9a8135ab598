"""What a person asks of one training: the form fills it in, the command line is read into it, the job's row keeps it.

Loads no TensorFlow.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from core.errors import InvalidInput
from core.models.registry import ARCHITECTURES, architecture
from core.settings import REPOSITORY
from core.types import Modality
from train.recipe.recipes import FitConfig, in_regime, recipe, with_settings

INITS = ("offline", "imagenet", "random")
MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""It becomes a folder's name."""
WEIGHTS = REPOSITORY / "weights"
_SEEDS_MOST = 10
_LIMITS = {"epochs": (1, 100_000), "side": (32, 4096), "seed": (0, 2**31 - 1), "workers": (1, 64)}
_OPTIONS = {
    "root": "root", "also": "also", "init": "init", "seed": "seed", "epochs": "epochs", "side": "side",
    "folds": "folds", "unfreeze": "unfreeze", "name": "name", "positive": "positive", "why": "why", "where": "where",
    "settings": "set", "split_by": "split-by", "split_like": "split-like", "cnn": "cnn", "backbone": "backbone",
    "budget_minutes": "budget-minutes", "limits": "limit", "allow_leaks": "allow-leaks", "no_weights": "no-weights",
    "workers": "workers", "out": "out", "work": "work",
}  # fmt: skip
"""Field and option of the command line, in the order of printing; `seed` and `init` are always said."""
_MACHINE = {"data", "also", "root", "out", "work"}
"""Where things lie on the machine that trains: no part of what is asked, so a row does not keep it."""
_ADDED = {
    "where", "split_by", "split_like", "cnn", "backbone", "budget_minutes", "limits", "allow_leaks", "no_weights",
    "workers",
}  # fmt: skip
"""Rows of version 0.1.0 lack them; a row keeps those that say something."""


@dataclass(frozen=True)
class FitRequest:
    """One run of `python -m train fit`, or of `search` where there are trials.

    epochs, side: None for the recipe's. folds: 0, or 3 and more. unfreeze: "" for the recipe's regime, else see
    `in_regime`. settings: "name=value", see `with_settings`. refits: seeds that a search fits its best settings with.
    where: "column=value", rows of the manifest to use. split_by: the one column that keeps cases together, "" for all
    that say so. split_like: the model whose split is taken up again. cnn, backbone: what the network begins with.
    limits: sentences for the card. workers: processes that fit the one network together (`train.fitting.workers`).
    data: the manifest; also: further ones; root: what their files are relative to, None for its folder.
    out: folder of weights. work: working files that outlive the run, None for none. Raises InvalidInput for what cannot
    be run.
    """

    architecture: str
    modality: Modality
    init: str = "offline"
    epochs: int | None = None
    side: int | None = None
    seed: int = 0
    folds: int = 0
    name: str = ""
    positive: str = ""
    why: str = ""
    unfreeze: str = ""
    settings: tuple[str, ...] = ()
    trials: int = 0
    refits: int = 3
    where: tuple[str, ...] = ()
    split_by: str = ""
    split_like: str = ""
    cnn: str = ""
    backbone: Path | None = None
    allow_leaks: bool = False
    no_weights: bool = False
    budget_minutes: float | None = None
    limits: tuple[str, ...] = ()
    workers: int = 1
    data: Path = Path("manifest.csv")
    also: tuple[Path, ...] = ()
    root: Path | None = None
    out: Path = WEIGHTS
    work: Path | None = None

    def __post_init__(self) -> None:
        for is_wrong, sentence in self._refusals():
            if is_wrong:
                raise InvalidInput(sentence)
        config = self.config  # refuses a regime or a setting that cannot be
        if self.workers > 1 and (self.runs > 1 or config.classifier != "steps" or self.workers > config.batch):
            raise InvalidInput(
                "Several workers fit one network step by step: leave out folds and trials, have the classifier fitted "
                f"in steps, and no more workers than the {config.batch} cases of a batch."
            )

    def _refusals(self) -> Iterable[tuple[bool, str]]:
        known = [entry.id for entry in ARCHITECTURES]
        yield (
            self.architecture not in known,
            f"There is no architecture {self.architecture!r}. Known: {', '.join(known)}.",
        )
        yield (
            self.architecture in known and not architecture(self.architecture).reads(self.modality),
            f"{self.architecture} reads the views of a mammogram, so it cannot be fitted to {self.modality}.",
        )
        yield self.init not in INITS, f"A training starts from {', '.join(INITS)}, not from {self.init!r}."
        for field, (low, high) in _LIMITS.items():
            value = getattr(self, field)
            is_wrong = value is not None and not low <= value <= high
            yield is_wrong, f"The number of {field} is {value}; it can be {low} to {high}."
        yield (
            bool(self.folds) and not 3 <= self.folds <= 100,
            f"{self.folds} folds cannot be made; choose 3 to 10, or 0 for a plain split.",
        )
        yield (
            not MODEL_ID.fullmatch(self.model_id),
            "The model's name may have letters, digits, '-', '_' and '.', and begins with a letter or a digit.",
        )
        yield (
            not 0 <= self.trials <= 200 or not 1 <= self.refits <= 10,
            "A search has 1 to 200 trials, and fits the best one again with 1 to 10 seeds.",
        )
        yield bool(self.trials and self.folds), "A search chooses on one validation split: leave out --folds (0 folds)."
        yield len(self.why) > 500, "The reason is longer than 500 letters. Shorten it."
        yield (
            self.positive.startswith("-") or self.why.startswith("-"),
            "The reason and the positive label may not begin with '-'.",
        )
        yield (
            self.backbone is not None and (self.init != "offline" or self.architecture != "fusion"),
            "--backbone goes with --init offline and the architecture fusion.",
        )
        yield (
            bool(self.cnn) and (self.architecture != "cnn_resnet50" or not MODEL_ID.fullmatch(self.cnn)),
            "--cnn names a fitted CNN in the weights folder and goes with the architecture cnn_resnet50.",
        )
        yield (
            self.budget_minutes is not None and not self.budget_minutes > 0,
            "--budget-minutes must be more than 0.",
        )
        yield (
            bool(self.split_like) and not MODEL_ID.fullmatch(self.split_like),
            "--split-like names a model of the weights folder.",
        )
        yield (
            bool(self.split_like and (self.folds or self.split_by)),
            "--split-like takes up a split that is there; leave out --folds and --split-by.",
        )

    @property
    def model_id(self) -> str:
        """The model's name: the one that was given, or modality and architecture."""
        return self.name or f"{self.modality.value}-{self.architecture}"

    @property
    def config(self) -> FitConfig:
        """The recipe with everything that was asked for. Raises InvalidInput."""
        config = recipe(self.architecture, self.modality, self.init, self.seed)
        config = with_settings(in_regime(config, self.unfreeze) if self.unfreeze else config, self.settings)
        return replace(config, epochs=self.epochs or config.epochs, side=self.side or config.side)

    @property
    def n_epochs(self) -> int:
        """Of one run at most; training ends earlier where the validation loss no longer falls."""
        return self.config.epochs

    @property
    def n_pixels(self) -> int:
        """Of one input."""
        return self.config.side * (self.config.columns or self.config.side)

    @property
    def runs(self) -> int:
        """How many networks are fitted: one, or one a fold and one on all cases, or one a trial and one a refit."""
        if self.trials:
            return self.trials + self.refits
        return self.folds + 1 if self.folds else 1

    def to_arguments(self) -> list[str]:
        """What follows `python -m train`; `from_arguments` is the way back."""
        words = ["search" if self.trials else "fit", self.architecture, "--modality", self.modality.value]
        words += ["--data", str(self.data)]
        for field, option in _OPTIONS.items():
            value = getattr(self, field)
            if value is True:
                words.append(f"--{option}")
            elif (value and value != _DEFAULTS[field]) or field in ("seed", "init"):
                for one in value if isinstance(value, tuple) else (value,):
                    words += [f"--{option}", f"{one:g}" if isinstance(one, float) else str(one)]
        if self.trials:
            words += ["--trials", str(self.trials), "--refits", str(self.refits)]
        return words

    def to_command(self) -> str:
        """The same training from a terminal."""
        return shlex.join(["python", "-m", "train", *self.to_arguments()])

    def portable(self) -> FitRequest:
        """The same training on another machine: DATA stands for where the files are; what the card says is left out."""
        root = (self.root or self.data.parent).resolve()
        return replace(
            self, data=moved(self.data, root), also=tuple(moved(path, root) for path in self.also), root=Path("DATA"),
            out=WEIGHTS, work=None, why="", limits=(),
            budget_minutes=None, no_weights=False, backbone=self.backbone and Path(self.backbone.name),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What a row keeps."""
        dumped = _ADAPTER.dump_python(self, mode="json", exclude=_MACHINE)
        return {
            name: value for name, value in dumped.items() if name not in _ADDED or (value and value != _DEFAULTS[name])
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> FitRequest:
        """Of a row of this version or an earlier one."""
        return _read(stored)

    @classmethod
    def from_arguments(cls, given: Mapping[str, Any]) -> FitRequest:
        """Of what the command line was read into: `vars()` of it; what was left out is None. Raises InvalidInput."""
        names = {field.name for field in fields(cls)}
        return _read({name: value for name, value in given.items() if name in names and value is not None})


_ADAPTER = TypeAdapter(FitRequest)
_DEFAULTS = {field.name: field.default for field in fields(FitRequest)}


def _read(values: Mapping[str, Any]) -> FitRequest:
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"The training cannot be read: {field}: {first['msg']}.") from error


def moved(path: Path, root: Path) -> Path:
    """Where a file lies on another machine, where DATA stands for the folder that holds all of them."""
    inside = path.resolve().is_relative_to(root)
    return Path("DATA", path.resolve().relative_to(root).as_posix() if inside else path.name)


def seeds_of(words: str) -> list[int]:
    """The seeds in "0, 1, 2". Raises InvalidInput."""
    parts = [part.strip() for part in words.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise InvalidInput(f"Seeds are whole numbers with commas between, each once, such as 0, 1, 2; not {words!r}.")
    if len(parts) > _SEEDS_MOST:
        raise InvalidInput(f"{len(parts)} seeds are more than {_SEEDS_MOST}. Name fewer.")
    return [int(part) for part in parts]


def with_seeds(request: FitRequest, words: str) -> list[FitRequest]:
    """The same request once for every seed in "0, 1, 2"; several get the seed into their name. Raises InvalidInput."""
    seeds = seeds_of(words)
    if len(seeds) == 1:
        return [replace(request, seed=seeds[0])]
    return [replace(request, seed=seed, name=f"{request.model_id}-seed{seed}") for seed in seeds]
