"""A training that is killed in the middle and started again ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_images import blots
from PIL import Image as Raster

from core.settings import REPOSITORY
from train.__main__ import main
from train.fitting.checkpoint import Checkpoint, Progress

EPOCHS = 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 grey pictures; the "malignant" ones have a bright blot."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = []
    for number, (label, pixels) in enumerate(blots()):
        Raster.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "label": label, "patient": f"p{number // 4}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


def arguments(dataset: Path, out: Path, work: Path) -> list[str]:
    data = ["--modality", "ultrasound", "--data", str(dataset / "manifest.csv"), "--out", str(out)]
    return ["fit", "cnn", *data, "--init", "random", "--epochs", str(EPOCHS), "--side", "32", "--work", str(work)]


def epochs(work: Path) -> list[dict[str, float]]:
    path = work / "epochs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def without_seconds(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_killed_training_goes_on_after_its_last_epoch_to_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    assert main(arguments(dataset, tmp_path / "whole", tmp_path / "work of whole")) == 0
    command = [sys.executable, "-m", "train", *arguments(dataset, tmp_path / "killed", tmp_path / "work")]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(epochs(tmp_path / "work")) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = epochs(tmp_path / "work")
    assert 2 <= len(before) < EPOCHS and not (tmp_path / "killed" / "ultrasound-cnn" / "card.json").exists()
    began = (tmp_path / "work" / "state.safetensors").stat().st_mtime

    assert main(arguments(dataset, tmp_path / "killed", tmp_path / "work")) == 0

    after = epochs(tmp_path / "work")
    assert after[: len(before)] == before  # seconds and all: these epochs were not trained again
    assert without_seconds(after) == without_seconds(epochs(tmp_path / "work of whole"))
    assert (tmp_path / "work" / "state.safetensors").stat().st_mtime > began
    cards = [json.loads((tmp_path / name / "ultrasound-cnn" / "card.json").read_text()) for name in ("whole", "killed")]
    assert cards[0]["weights"]["sha256"] == cards[1]["weights"]["sha256"]
    assert cards[0]["training"]["best_epoch"] == cards[1]["training"]["best_epoch"]


class Number:
    """As much of a variable as a checkpoint needs."""

    def __init__(self, value: float) -> None:
        self.value = np.float32(value)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.asarray(self.value)

    def assign(self, value: np.ndarray) -> None:
        assert value.shape == ()
        self.value = np.float32(value)


def test_a_checkpoint_of_another_run_is_not_taken_up(tmp_path: Path) -> None:
    variable = Number(1)
    state = {"a": np.ones(3, np.float32)}
    Checkpoint(tmp_path, "one", [variable]).save(Progress([{"epoch": 1}], (0.5, 1, state), 4))
    variable.value = np.float32(7)
    retained = Checkpoint(tmp_path, "one", [variable]).restore()
    assert variable.value == 1 and retained.best[:2] == (0.5, 1) and retained.average_steps == 4
    assert retained.best[2]["a"].tolist() == [1, 1, 1]
    variable.value = np.float32(7)
    assert Checkpoint(tmp_path, "two", [variable]).restore().history == [] and variable.value == 7
    assert list(tmp_path.iterdir()) == []


def test_only_the_best_epochs_weights_stay_on_disk(tmp_path: Path) -> None:
    state = {"a": np.ones(3, np.float32)}
    checkpoint = Checkpoint(tmp_path, "one", [Number(1)])
    checkpoint.save(Progress([{"epoch": 1}], (0.5, 1, state), 1))
    checkpoint.save(Progress([{"epoch": 1}, {"epoch": 2}], (0.5, 1, state), 2))
    assert (tmp_path / "best-0001.safetensors").is_file()
    checkpoint.save(Progress([{"epoch": 1}, {"epoch": 2}, {"epoch": 3}], (0.4, 3, state), 3))
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-0003.safetensors"]
