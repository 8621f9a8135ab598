"""What a person asks of one training job, and the command that is the same thing. Loads no TensorFlow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.errors import InvalidInput
from core.models.registry import ARCHITECTURES
from core.types import Modality
from train.recipes import recipe

INITS = ("offline", "imagenet", "random")
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LIMITS = {"epochs": (1, 500), "side": (32, 1024), "seed": (0, 2**31 - 1)}


@dataclass(frozen=True, slots=True)
class FitRequest:
    """One run of `python -m train fit`. epochs, side: None for the recipe's. folds: 0, or 3 to 10.

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
        if len(self.why) > 500:
            raise InvalidInput("The reason is longer than 500 letters. Shorten it.")
        if self.positive.startswith("-") or self.why.startswith("-"):
            raise InvalidInput("The reason and the positive label may not begin with '-'.")

    @property
    def model_id(self) -> str:
        """The model's name: the one that was given, or modality and architecture."""
        return self.name or f"{self.modality.value}-{self.architecture}"

    @property
    def n_epochs(self) -> int:
        """Of one run at most; training ends earlier where the validation loss no longer falls."""
        return self.epochs or recipe(self.architecture, self.modality, self.init, self.seed).epochs

    @property
    def n_side(self) -> int:
        """Pixels of the square input."""
        return self.side or recipe(self.architecture, self.modality, self.init, self.seed).side

    @property
    def runs(self) -> int:
        """How many networks are fitted: one, or one a fold and one on all cases."""
        return self.folds + 1 if self.folds else 1

    def arguments(self, manifest: str | Path, root: str | Path) -> list[str]:
        """What follows `python -m train`."""
        words = ["fit", self.architecture, "--modality", self.modality.value]
        words += ["--data", str(manifest), "--root", str(root), "--init", self.init, "--seed", str(self.seed)]
        for option in ("epochs", "side", "folds", "name", "positive", "why"):
            if getattr(self, option):
                words += [f"--{option}", str(getattr(self, option))]
        return words

    def command(self, manifest: str | Path, root: str | Path) -> str:
        """The same training from a terminal."""
        return shlex.join(["python", "-m", "train", *self.arguments(manifest, root)])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "modality": self.modality.value}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> FitRequest:
        return cls(**{**kept, "modality": Modality(kept["modality"])})
