"""A search tries settings on the validation cases, ends hopeless trials, and fits the best one with several seeds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from made_images import blots
from PIL import Image as Raster
from sklearn.metrics import roc_auc_score

from core.settings import REPOSITORY
from train.__main__ import main


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 grey pictures; the "malignant" ones have a bright blot."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = []
    for number, (label, pixels) in enumerate(blots(bright=200, dark=60)):
        Raster.fromarray(pixels).save(folder / f"{number}.png")
        split = ("train", "train", "train", "validation", "test")[(number // 4) % 5]
        rows.append({"file": f"{number}.png", "label": label, "patient": f"p{number // 4}", "split": split})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


def arguments(dataset: Path, out: Path, work: Path, *more: str) -> list[str]:
    words = ["search", "cnn", "--modality", "ultrasound", "--data", str(dataset / "manifest.csv"), "--out", str(out)]
    return [*words, "--init", "random", "--epochs", "2", "--side", "32", "--work", str(work), *more]


def card(out: Path) -> dict[str, object]:
    return json.loads((out / "ultrasound-cnn" / "card.json").read_text())  # type: ignore[no-any-return]


def test_a_killed_search_goes_on_with_what_it_had_tried_and_publishes_the_best_of_its_seeds(
    dataset: Path, tmp_path: Path
) -> None:
    work, out = tmp_path / "work", tmp_path / "weights"
    words = arguments(dataset, out, work, "--trials", "3", "--refits", "2")
    process = subprocess.Popen([sys.executable, "-m", "train", *words], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(trials := read_trials(work)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    over = [trial for trial in trials if trial["state"] != "running"]
    assert len(over) >= 1 and not out.exists()

    assert main(words) == 0

    found = card(out)["training"]["search"]  # type: ignore[index]
    assert found["trials"][: len(over)] == over
    ended = [trial for trial in found["trials"] if trial["state"] in ("complete", "pruned")]
    assert len(ended) == 3 and len({tuple(trial["settings"]) for trial in ended}) == 3
    best = max((trial for trial in ended if trial["state"] == "complete"), key=lambda trial: trial["validation_auc"])
    training = card(out)["training"]
    for setting in best["settings"]:
        name, value = setting.split("=")
        assert training[name] == float(value)  # type: ignore[index]
    assert [refit["seed"] for refit in found["refits"]] == [0, 1]
    (retained,) = (refit for refit in found["refits"] if refit["kept"])
    assert retained["validation_loss"] == min(refit["validation_loss"] for refit in found["refits"])
    assert training["seed"] == retained["seed"]  # type: ignore[index]
    scores = pd.read_csv(next((out / "ultrasound-cnn").glob("*.test_scores.csv")))
    assert retained["test_auc"] == pytest.approx(
        roc_auc_score(scores["label"] == "malignant", scores["malignant"]), abs=1e-4
    )
    assert any("best of 3" in limit or "best of 4" in limit for limit in card(out)["limits"])  # type: ignore[attr-defined]


def read_trials(work: Path) -> list[dict[str, object]]:
    path = work / "trials.json"
    return json.loads(path.read_text()) if path.is_file() else []  # type: ignore[no-any-return]


def test_what_a_search_cannot_do_is_said_before_anything_is_read(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(dataset, tmp_path, tmp_path / "w", "--folds", "3")) == 1
    assert "leave out --folds" in capsys.readouterr().err
    assert main(arguments(dataset, tmp_path, tmp_path / "w", "--trials", "0")) == 1
    assert "--trials can be 1 to 200" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
