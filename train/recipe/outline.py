"""What one training of the outline network is asked to do. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import InvalidInput
from core.models.registry import OUTLINE
from core.types import Modality
from train.recipe.request import INITS, MODEL_ID, WEIGHTS


@dataclass(frozen=True, slots=True)
class OutlineConfig:
    """How the outline network is fitted.

    side: of the square input in pixels, a multiple of 32. views: of each case, computed once (the first unchanged).
    learning_rate: at the start, falling to 0 along a cosine. average: decay of the moving average of weights.
    """

    side: int = 224
    epochs: int = 12
    batch: int = 16
    views: int = 6
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    average: float = 0.98
    seed: int = 0

    def __post_init__(self) -> None:
        if self.side % 32 or not 64 <= self.side <= 1024:
            raise InvalidInput(
                f"The outline network reads squares of 64 to 1024 pixels in steps of 32, not {self.side}."
            )
        if not 1 <= self.epochs <= 1000:
            raise InvalidInput(f"The number of epochs is {self.epochs}; it can be 1 to 1000.")


_NOT_OURS: Mapping[str, Any] = {
    "cnn": None, "backbone": None, "positive": None, "unfreeze": None, "settings": [], "folds": 0, "split_by": None,
    "split_like": None, "allow_leaks": False, "no_weights": False, "why": "", "limits": [],
}  # fmt: skip
"""Options of `fit` that the outline network does not know, and what they hold where nobody gave them."""


@dataclass(frozen=True, slots=True)
class OutlineRequest:
    """One run of `python -m train fit outline`; paths as in `train.recipe.request.FitRequest`.

    budget_minutes: all its fits together, each an equal part. Raises InvalidInput for what cannot be run.
    """

    config: OutlineConfig
    data: Path
    also: tuple[Path, ...] = ()
    root: Path | None = None
    where: tuple[str, ...] = ()
    name: str = f"ultrasound-{OUTLINE}"
    out: Path = WEIGHTS
    init: str = "offline"
    work: Path | None = None
    budget_minutes: float | None = None

    def __post_init__(self) -> None:
        if not MODEL_ID.fullmatch(self.name):
            raise InvalidInput("--name becomes a folder: letters, digits, dots, dashes and underscores, at most 100.")
        if self.init not in INITS or self.init == "imagenet":
            raise InvalidInput("The outline network starts from --init offline or --init random.")
        if self.budget_minutes is not None and not self.budget_minutes > 0:
            raise InvalidInput("--budget-minutes must be more than 0.")

    @classmethod
    def from_arguments(cls, given: Mapping[str, Any]) -> OutlineRequest:
        """From the options of `python -m train fit`, of which it refuses those that would be ignored."""
        if given["modality"] is not Modality.ULTRASOUND:
            raise InvalidInput("The outline network reads ultrasound. Say --modality ultrasound.")
        odd = [name for name, absent in _NOT_OURS.items() if given.get(name, absent) not in (absent, None)]
        if odd:
            options = ", ".join("--" + {"settings": "set", "limits": "limit"}.get(name, name.replace("_", "-"))
                                for name in odd)  # fmt: skip
            raise InvalidInput(f"The outline network has no {options}. Leave it out.")
        usual = OutlineConfig()
        config = OutlineConfig(
            side=given.get("side") or usual.side,
            epochs=given["epochs"] if given.get("epochs") is not None else usual.epochs,
            seed=given.get("seed") or 0,
        )
        return cls(
            config,
            given["data"],
            tuple(given.get("also") or ()),
            given.get("root"),
            tuple(given.get("where") or ()),
            given.get("name") or f"ultrasound-{OUTLINE}",
            given.get("out") or WEIGHTS,
            given.get("init") or "offline",
            given.get("work"),
            given.get("budget_minutes"),
        )

    def to_command(self) -> str:
        """The command line without where things lie on the machine that trained."""
        parts = [
            "python -m train fit",
            OUTLINE,
            "--modality ultrasound",
            f"--data DATA/{self.data.parent.name}/{self.data.name}",
        ]
        parts += [f"--also DATA/{path.parent.name}/{path.name}" for path in self.also]
        parts += [f"--where '{condition}'" for condition in self.where]
        parts += [f"--init {self.init}", f"--side {self.config.side}", f"--epochs {self.config.epochs}",
                  f"--seed {self.config.seed}"]  # fmt: skip
        return " ".join(parts)
