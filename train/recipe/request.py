"""What a person asks of one training job, and the command that is the same thing. Loads no TensorFlow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import InvalidInput
from core.models.registry import ARCHITECTURES
from core.types import Modality
from train.recipe.config import FitConfig, with_settings
from train.recipe.recipes import in_regime, recipe

INITS = ("offline", "imagenet", "random")
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SEEDS_MOST = 10
_LIMITS = {"epochs": (1, 500), "side": (32, 1024), "seed": (0, 2**31 - 1)}


@dataclass(frozen=True, slots=True)
class FitRequest:
    """One run of `python -m train fit`, or of `search` where there are trials.

    epochs, side: None for the recipe's. folds: 0, or 3 to 10. unfreeze: "" for the recipe's regime, else see
    `in_regime`. settings: "name=value", see `with_settings`. refits: seeds that a search fits its best settings with.
    Raises InvalidInput for what cannot be run.
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

    def __post_init__(self) -> None:
        known = [entry.id for entry in ARCHITECTURES]
        if self.architecture not in known:
            raise InvalidInput(f"There is no architecture {self.architecture!r}. Known: {', '.join(known)}.")
        if self.init not in INITS:
            raise InvalidInput(f"A training starts from {', '.join(INITS)}, not from {self.init!r}.")
        for field, (low, high) in _LIMITS.items():
            value = getattr(self, field)
            if value is not None and not low <= value <= high:
                raise InvalidInput(f"The number of {field} is {value}; it can be {low} to {high}.")
        if self.folds and not 3 <= self.folds <= 10:
            raise InvalidInput(f"{self.folds} folds cannot be made; choose 3 to 10, or 0 for a plain split.")
        if not _MODEL_ID.fullmatch(self.model_id):
            raise InvalidInput(
                "The model's name may have letters, digits, '-', '_' and '.', and begins with a letter or a digit."
            )
        if not 0 <= self.trials <= 200 or not 1 <= self.refits <= 10:
            raise InvalidInput("A search has 1 to 200 trials, and fits the best one again with 1 to 10 seeds.")
        if self.trials and self.folds:
            raise InvalidInput("A search chooses on one validation split: say 0 folds.")
        _ = self.config  # refuses a regime or a setting that cannot be
        if len(self.why) > 500:
            raise InvalidInput("The reason is longer than 500 letters. Shorten it.")
        if self.positive.startswith("-") or self.why.startswith("-"):
            raise InvalidInput("The reason and the positive label may not begin with '-'.")

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
    def n_side(self) -> int:
        """Pixels of the square input."""
        return self.config.side

    @property
    def runs(self) -> int:
        """How many networks are fitted: one, or one a fold and one on all cases, or one a trial and one a refit."""
        if self.trials:
            return self.trials + self.refits
        return self.folds + 1 if self.folds else 1

    def arguments(self, manifest: str | Path, root: str | Path) -> list[str]:
        """What follows `python -m train`."""
        words = ["search" if self.trials else "fit", self.architecture, "--modality", self.modality.value]
        words += ["--data", str(manifest), "--root", str(root), "--init", self.init, "--seed", str(self.seed)]
        for option in ("epochs", "side", "folds", "unfreeze", "name", "positive", "why"):
            if getattr(self, option):
                words += [f"--{option}", str(getattr(self, option))]
        for setting in self.settings:
            words += ["--set", setting]
        if self.trials:
            words += ["--trials", str(self.trials), "--refits", str(self.refits)]
        return words

    def command(self, manifest: str | Path, root: str | Path) -> str:
        """The same training from a terminal."""
        return shlex.join(["python", "-m", "train", *self.arguments(manifest, root)])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "modality": self.modality.value, "settings": list(self.settings)}

    @classmethod
    def from_json(cls, retained: Mapping[str, Any]) -> FitRequest:
        settings = tuple(retained.get("settings", ()))
        return cls(**{**retained, "modality": Modality(retained["modality"]), "settings": settings})


def with_seeds(request: FitRequest, words: str) -> list[FitRequest]:
    """The same request once for every seed in "0, 1, 2"; several get the seed into their name. Raises InvalidInput."""
    parts = [part.strip() for part in words.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise InvalidInput(f"Seeds are whole numbers with commas between, each once, such as 0, 1, 2; not {words!r}.")
    if len(parts) > _SEEDS_MOST:
        raise InvalidInput(f"{len(parts)} seeds are more than {_SEEDS_MOST}. Name fewer.")
    if len(parts) == 1:
        return [replace(request, seed=int(parts[0]))]
    return [replace(request, seed=int(part), name=f"{request.model_id}-seed{int(part)}") for part in parts]
