"""What one training of the outline network is asked to do. Loads no TensorFlow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from core.errors import InvalidInput
from core.models.live import OUTLINE_NETWORK
from core.models.outline_card import OutlineCard
from core.models.registry import OUTLINE
from core.types import Modality
from train.recipe.request import INITS, MODEL_ID, WEIGHTS, FitRequest, moved


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
    "split_like": None, "allow_leaks": False, "no_weights": False, "why": "", "limits": [], "workers": 1,
    "join": False,
}  # fmt: skip
"""Options of `fit` that the outline network does not know, and what they hold where nobody gave them."""


STARTS = tuple(one for one in INITS if one != "imagenet")
"""What the outline network can start from."""


@dataclass(frozen=True, slots=True)
class OutlineRequest:
    """One run of `python -m train fit outline`; paths as in `train.recipe.request.FitRequest`, with which it shares
    what the queue asks of a training. Raises InvalidInput for what cannot be run.
    """

    architecture: ClassVar[str] = OUTLINE
    modality: ClassVar[Modality] = Modality.ULTRASOUND
    folds: ClassVar[int] = 0
    trials: ClassVar[int] = 0
    runs: ClassVar[int] = 1
    workers: ClassVar[int] = 1

    config: OutlineConfig
    data: Path = Path("manifest.csv")
    also: tuple[Path, ...] = ()
    root: Path | None = None
    where: tuple[str, ...] = ()
    name: str = OUTLINE_NETWORK
    out: Path = WEIGHTS
    init: str = "offline"
    work: Path | None = None
    budget_minutes: float | None = None

    def __post_init__(self) -> None:
        if not MODEL_ID.fullmatch(self.name):
            raise InvalidInput("--name becomes a folder: letters, digits, dots, dashes and underscores, at most 100.")
        if self.init not in STARTS:
            raise InvalidInput("The outline network starts from --init offline or --init random.")
        if self.budget_minutes is not None and not self.budget_minutes > 0:
            raise InvalidInput("--budget-minutes must be more than 0.")

    @property
    def model_id(self) -> str:
        """The network's name."""
        return self.name

    @property
    def seed(self) -> int:
        """What chance is drawn from."""
        return self.config.seed

    @property
    def n_epochs(self) -> int:
        """Of the run, at most."""
        return self.config.epochs

    @property
    def n_pixels(self) -> int:
        """Of one input."""
        return self.config.side**2

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
            given.get("name") or OUTLINE_NETWORK,
            given.get("out") or WEIGHTS,
            given.get("init") or "offline",
            given.get("work"),
            given.get("budget_minutes"),
        )

    def to_arguments(self) -> list[str]:
        """What follows `python -m train`; `from_arguments` is the way back."""
        words = ["fit", OUTLINE, "--modality", self.modality.value, "--data", str(self.data)]
        for path in self.also:
            words += ["--also", str(path)]
        words += ["--root", str(self.root)] if self.root is not None else []
        for condition in self.where:
            words += ["--where", condition]
        words += ["--init", self.init, "--side", str(self.config.side), "--epochs", str(self.config.epochs)]
        words += ["--seed", str(self.config.seed)]
        words += ["--name", self.name] if self.name != OUTLINE_NETWORK else []
        words += ["--budget-minutes", f"{self.budget_minutes:g}"] if self.budget_minutes is not None else []
        words += ["--out", str(self.out)] if self.out != WEIGHTS else []
        return words + (["--work", str(self.work)] if self.work is not None else [])

    def to_command(self) -> str:
        """The same training from a terminal."""
        return shlex.join(["python", "-m", "train", *self.to_arguments()])

    def portable(self) -> OutlineRequest:
        """The same training on another machine: DATA stands for where the files are."""
        root = (self.root or self.data.parent).resolve()
        return replace(
            self, data=moved(self.data, root), also=tuple(moved(path, root) for path in self.also), root=Path("DATA"),
            out=WEIGHTS, work=None, budget_minutes=None,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What a row of the queue keeps."""
        asked = {"architecture": OUTLINE, "modality": self.modality.value, "init": self.init}
        return {**asked, "side": self.config.side, "epochs": self.config.epochs, "seed": self.config.seed}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> OutlineRequest:
        """Of a row of the queue. Raises InvalidInput."""
        numbers = {name: stored[name] for name in ("side", "epochs", "seed") if name in stored}
        if not all(type(value) is int for value in numbers.values()):
            raise InvalidInput("The training cannot be read: side, epochs and seed are whole numbers.")
        return cls(OutlineConfig(**numbers), init=str(stored.get("init", "offline")))


def request_like(
    card: OutlineCard, data: Path, *, also: tuple[Path, ...], root: Path | None, where: tuple[str, ...],
    epochs: int | None,
) -> OutlineRequest:  # fmt: skip
    """The recipe of an outline network again, for so many epochs (None: the recipe's). Raises InvalidInput."""
    usual = OutlineConfig()
    extra = card.training.model_extra or {}
    config = OutlineConfig(
        side=card.input.side, epochs=usual.epochs if epochs is None else epochs, seed=int(extra.get("seed", 0))
    )
    return OutlineRequest(config, data, also, root, where, init=card.training.init or "offline")


Request = FitRequest | OutlineRequest
"""What the queue of trainings holds."""
