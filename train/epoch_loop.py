"""The epochs of a training: train, judge on the validation cases, keep, and know when to end."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from core.models.architectures import Graph
from core.models.inference import device_name
from core.models.weights import state_of
from train.batches import Fresh, Views
from train.checkpoint import Checkpoint, Progress
from train.config import FitConfig
from train.network import MovingAverage, class_loss
from train.squares import Squares
from train.step_file import StepFile

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EpochLoop:
    """The epochs of one run, from the last one that was kept to the last one there is.

    step: takes one step, gives its loss. judge: logits of the validation cases now. steps: of one epoch.
    """

    graph: Graph
    config: FitConfig
    folder: Path
    source: Fresh | Views
    validation: Squares
    average: MovingAverage
    checkpoint: Checkpoint
    step: Callable[..., tf.Tensor]
    judge: Callable[[], np.ndarray]
    steps: int

    def run(self, stop: Callable[[], bool], told: Callable[[Mapping[str, float]], None]) -> Progress:
        """See `train.fit.fit`; where the run ended, with its best epoch."""
        progress = self.checkpoint.restore()
        self.average.steps = progress.average_steps
        for row in progress.history:
            told(row)
        is_over = any(stop() for _ in progress.history) or _is_patience_over(progress.history, self.config)
        (self.folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in progress.history))
        within = StepFile(self.folder, device_name())
        for epoch in range(len(progress.history) + 1, 1 if is_over else self.config.epochs + 1):
            self._epoch(epoch, progress, within)
            told(progress.history[-1])
            if _is_patience_over(progress.history, self.config) or stop():
                break
        return progress

    def _epoch(self, epoch: int, progress: Progress, within: StepFile) -> None:
        """Train one epoch, judge it, and keep it and where the run stands."""
        began = time.monotonic()
        loss = self._train(epoch, within)
        self.average.swapped()
        row = _validate(self.judge(), self.validation)
        if _cost(row, self.config) < progress.best[0]:
            progress.best = (_cost(row, self.config), epoch, state_of(self.graph.model))
        self.average.swapped()
        row = {"epoch": epoch, "loss": loss, **row, "seconds": time.monotonic() - began}
        progress.history.append({name: round(float(value), 5) for name, value in row.items()})
        progress.average_steps = self.average.steps
        self.checkpoint.save(progress)
        with (self.folder / "epochs.jsonl").open("a") as file:
            file.write(json.dumps(progress.history[-1]) + "\n")
        log.info("%s", " ".join(f"{name} {value:g}" for name, value in progress.history[-1].items()))

    def _train(self, epoch: int, within: StepFile) -> float:
        losses = []
        for number, batch in enumerate(self.source.epoch(epoch)):
            losses.append(float(self.step(batch, _learning_rate(self.config, (epoch - 1) + number / self.steps))))
            self.average.update()
            within.tell(epoch, number + 1, self.steps)
        return float(np.mean(losses))


def _cost(row: dict[str, float], config: FitConfig) -> float:
    """What the kept epoch has least of; of epochs that are alike in accuracy, the one with the lower loss."""
    if config.keep == "loss":
        return row["validation_loss"]
    # An accuracy changes in steps of one case; the loss, made this small, decides between equal ones only.
    return -row["validation_accuracy"] + 1e-6 * min(row["validation_loss"], 10.0)


def _is_patience_over(history: list[dict[str, float]], config: FitConfig) -> bool:
    losses = [row["validation_loss"] for row in history]
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= config.patience


def _learning_rate(config: FitConfig, progress: float) -> float:
    """Linear warm-up over the first epoch, then a cosine down to 2 %, or constant (progress in epochs)."""
    if progress < 1:
        return config.learning_rate * max(progress, 0.02)
    if config.schedule == "constant":
        return config.learning_rate
    share = (progress - 1) / max(1, config.epochs - 1)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(share, 1)))))


def _validate(logits: np.ndarray, cases: Squares) -> dict[str, float]:
    loss = float(class_loss(tf.constant(logits), tf.constant(cases.labels), tf.ones(len(cases.classes)), 0.0))
    positive = cases.labels == cases.positive
    score = logits[:, 0] if logits.shape[1] == 1 else tf.nn.softmax(logits).numpy()[:, cases.positive]
    accuracy = ((logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(1)) == cases.labels
    return {
        "validation_loss": loss,
        "validation_auc": float(roc_auc_score(positive, score)),
        "validation_accuracy": float(accuracy.mean()),
    }
