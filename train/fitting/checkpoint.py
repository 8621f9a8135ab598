"""Where a run stands after an epoch, on disk: a run that was killed goes on from there and ends as if it had not been.

Everything that an epoch changes is kept: the learned variables and the moving average, the optimiser, moving statistics
and random states of layers, the epochs' log, and which epoch was the best. What is drawn anew each epoch is drawn from
seeds that depend on nothing but the epoch's number.

How far a run is within its epoch: a small file that who watches may read. Loads no TensorFlow.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from core.files import whole_file, write_whole

log = logging.getLogger(__name__)

FILE = "state.safetensors"


@dataclass(slots=True)
class Progress:
    """history: a row an epoch. best: validation loss, epoch and state of the best one (see `state_of`)."""

    history: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, int, dict[str, np.ndarray]] = (np.inf, 0, {})
    average_steps: int = 0


class Checkpoint:
    """In `folder`, for one run. variables: all that changes, in an order that is always the same.

    key: names what is trained on what; a checkpoint of anything else is not taken up.
    """

    def __init__(self, folder: Path, key: str, variables: Sequence[Any]) -> None:
        self.folder, self.key = folder, key
        self.variables = list({id(variable): variable for variable in variables}.values())

    def save(self, progress: Progress) -> None:
        """Write the state after the last epoch in `progress`, in one step."""
        loss, epoch, state = progress.best
        best = self._best(epoch)
        if epoch == len(progress.history):
            _write(state, best, {})
        about = {"key": self.key, "history": progress.history, "best_loss": loss, "best_epoch": epoch}
        about["average_steps"] = progress.average_steps
        arrays = {f"{number:05d}": np.asarray(variable) for number, variable in enumerate(self.variables)}
        _write(arrays, self.folder / FILE, {"about": json.dumps(about)})
        for old in self.folder.glob("best-*.safetensors"):
            if old != best:
                old.unlink()

    def restore(self) -> Progress:
        """Put the variables back to the last saved epoch; empty progress where there is none of this run."""
        path = self.folder / FILE
        if not path.is_file():
            return Progress()
        with safe_open(path, framework="numpy") as retained:
            about = json.loads((retained.metadata() or {}).get("about", "{}"))
            names = list(retained.keys())
            if about.get("key") != self.key or len(names) != len(self.variables):
                log.info("another run was here: beginning from the start")
                self._clear()
                return Progress()
            for name in names:
                self.variables[int(name)].assign(retained.get_tensor(name))
        with safe_open(self._best(about["best_epoch"]), framework="numpy") as retained:
            state = {name: retained.get_tensor(name) for name in retained.keys()}  # noqa: SIM118  (not a dict)
        log.info("going on after epoch %d", len(about["history"]))
        best = (float(about["best_loss"]), int(about["best_epoch"]), state)
        return Progress(about["history"], best, about["average_steps"])

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:04d}.safetensors"

    def _clear(self) -> None:
        for old in (self.folder / FILE, *self.folder.glob("best-*.safetensors")):
            old.unlink(missing_ok=True)


def _write(arrays: dict[str, np.ndarray], path: Path, metadata: dict[str, str]) -> None:
    with whole_file(path) as half:
        save_file({name: np.array(values, order="C") for name, values in arrays.items()}, half, metadata)


STEP_FILE = "step.json"
_STEP_SECONDS = 1.0


class StepFile:
    """Written at most once a second, always whole. device: what computes, in words."""

    def __init__(self, folder: Path, device: str = "") -> None:
        self.path = folder / STEP_FILE
        self.device = device
        self._last = 0.0

    def report(self, epoch: int, step: int, steps: int) -> None:
        """epoch and step from 1."""
        if time.monotonic() - self._last < _STEP_SECONDS:
            return
        self._last = time.monotonic()
        told = {"epoch": epoch, "step": step, "steps": steps, "device": self.device}
        write_whole(self.path, json.dumps(told), durable=False)


def newest_step(work: Path) -> tuple[str, Mapping[str, Any]] | None:
    """Part ("" or the name of its folder) and {"epoch", "step", "steps", "device"}, told last in a working folder."""
    found = [path for path in (work / STEP_FILE, *work.glob(f"*/{STEP_FILE}")) if path.is_file()]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # a run has just removed its folder
        return ("" if path.parent == work else path.parent.name), told
    return None
