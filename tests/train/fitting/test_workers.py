"""One fit on two processes gives what one process gives; it outlives the loss of one of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_images import blots
from PIL import Image as Raster
from safetensors.numpy import load_file

from core.settings import REPOSITORY
from train.__main__ import main
from train.commands.fit import working_folder
from train.fitting.workers import LOST


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 grey pictures; the "malignant" ones have a bright blot, of which some have a mask."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = []
    for number, (label, pixels) in enumerate(blots(bright=200, dark=60)):
        Raster.fromarray(pixels).save(folder / f"{number}.png")
        mask = ""
        if label == "malignant" and number % 3:
            mask = f"{number}-mask.png"
            Raster.fromarray(np.where(pixels > 190, 255, 0).astype(np.uint8)).save(folder / mask)
        split = ("train", "train", "train", "validation", "test")[(number // 4) % 5]
        rows.append(
            {"file": f"{number}.png", "label": label, "patient": f"p{number // 4}", "split": split, "mask": mask}
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


def arguments(dataset: Path, folder: Path, epochs: int) -> list[str]:
    words = ["fit", "cnn", "--modality", "ultrasound", "--data", str(dataset / "manifest.csv")]
    words += ["--out", str(folder / "weights"), "--work", str(folder / "work"), "--init", "random"]
    words += ["--epochs", str(epochs), "--side", "32"]
    for setting in ("optimizer=sgd", "dropout=0", "mixup=0.2", "batch=9", "patience=500"):
        words += ["--set", setting]
    return words


def on_two(words: list[str], folder: Path) -> list[subprocess.Popen[bytes]]:
    folder.mkdir(exist_ok=True)
    addresses = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            addresses.append(f"127.0.0.1:{probe.getsockname()[1]}")
    found = []
    for rank in range(2):
        of_all = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        with (folder / f"words-{rank}.txt").open("ab") as output:
            found.append(
                subprocess.Popen(
                    [sys.executable, "-m", "train", *words], cwd=REPOSITORY, stdout=output, stderr=output,
                    env={**os.environ, "TF_CONFIG": json.dumps(of_all)},
                )
            )  # fmt: skip
    return found


def weights_and_history(out: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    card = json.loads((out / "ultrasound-cnn" / "card.json").read_text())
    weights: dict[str, np.ndarray] = {}
    for path in (out / "ultrasound-cnn").glob("*-0*.safetensors"):
        weights |= load_file(path)
    assert weights
    return weights, card["training"]["history"]


def test_two_processes_fit_what_one_fits_and_go_on_after_one_was_killed(dataset: Path, tmp_path: Path) -> None:
    words = arguments(dataset, tmp_path / "two", epochs=6)
    lines = tmp_path / "two" / "work" / "epochs.jsonl"
    leader, other = on_two(words, tmp_path / "two")
    deadline = time.monotonic() + 240
    while not lines.exists() or not lines.read_text():
        assert leader.poll() is None and time.monotonic() < deadline, (tmp_path / "two" / "words-0.txt").read_text()
        time.sleep(0.02)
    other.kill()
    assert leader.wait(120) != 0  # it says so; it does not wait for ever, and does not go on alone
    if leader.returncode > 0:  # TensorFlow did not end it
        assert (tmp_path / "two" / "words-0.txt").read_text().strip().endswith(LOST)
    assert not (tmp_path / "two" / "weights").exists()
    had = lines.read_text().splitlines()
    assert 1 <= len(had) < 6

    for process in (again := on_two(words, tmp_path / "two")):
        assert process.wait(240) == 0, (tmp_path / "two" / f"words-{again.index(process)}.txt").read_text()[-3000:]
    assert f"going on after epoch {len(had)}" in (tmp_path / "two" / "words-1.txt").read_text()
    assert main(arguments(dataset, tmp_path / "one", epochs=6)) == 0
    (expected, before), (found, after) = (weights_and_history(tmp_path / name / "weights") for name in ("one", "two"))
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
    for row, other_row in zip(before, after, strict=True):
        assert other_row["loss"] == pytest.approx(row["loss"], abs=2e-5)


def test_what_several_workers_cannot_do_is_refused(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_two = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": %s}}'
    monkeypatch.setenv("TF_CONFIG", of_two % 0)
    assert main([*arguments(dataset, tmp_path, 1), "--folds", "3"]) == 1
    assert "leave out folds and trials" in capsys.readouterr().err
    words = arguments(dataset, tmp_path, 1)
    at = words.index("--work")
    assert main([*words[:at], *words[at + 2 :]]) == 1
    assert "name it with --work" in capsys.readouterr().err
    assert main([*arguments(dataset, tmp_path, 1), "--workers", "3"]) == 1
    assert "TF_CONFIG names 2 workers, and 3 were asked for" in capsys.readouterr().err
    assert main(["search", *arguments(dataset, tmp_path, 1)[1:]]) == 1
    assert "share it with --join" in capsys.readouterr().err
    monkeypatch.setenv("TF_CONFIG", of_two % 2)
    assert main(arguments(dataset, tmp_path, 1)) == 1
    assert "TF_CONFIG cannot be read" in capsys.readouterr().err


def test_one_process_at_a_time_works_in_a_working_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    is_in = threading.Event()

    def work() -> None:
        with working_folder(tmp_path / "work"):
            is_in.set()

    with working_folder(tmp_path / "work"):
        second = threading.Thread(target=work, daemon=True)
        second.start()
        assert not is_in.wait(0.5) and "waiting until it ends" in caplog.text
    assert is_in.wait(30)
