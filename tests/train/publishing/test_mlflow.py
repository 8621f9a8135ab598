"""What MLflow is told of a run, with MLflow itself and a store in a folder; and that its absence costs nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from train.__main__ import main


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(30):
        label = ("malignant", "benign")[number % 2]
        pixels = rng.normal(150 if label == "malignant" else 90, 12, (48, 64)).clip(0, 255)
        Raster.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"name{number}.png")
        rows.append({"file": f"name{number}.png", "label": label, "patient": f"person{number // 2}"})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    words = ["fit", "cnn", "--modality", "ultrasound", "--data", str(tmp_path / "manifest.csv"), "--init", "random"]
    return [*words, "--epochs", "2", "--side", "64", "--out", str(tmp_path / "weights")]


def test_parameters_epochs_measures_and_artefacts_are_there_and_names_are_not(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("SecondRead")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "ultrasound-cnn"
    assert run.data.params["architecture"] == "cnn" and run.data.params["epochs"] == "2"
    losses = client.get_metric_history(run.info.run_id, "validation_loss")
    assert [one.step for one in losses] == [1, 2]
    assert 0 <= run.data.metrics["test.auc"] <= 1
    names = {artefact.path for artefact in client.list_artifacts(run.info.run_id)}
    assert "card.json" in names and any(name.endswith(".safetensors") for name in names)
    (scores,) = (name for name in names if name.endswith(".test_scores.csv"))
    text = Path(client.download_artifacts(run.info.run_id, scores)).read_text()
    assert "malignant" in text and "name" not in text and "person" not in text


def test_a_server_that_is_away_or_a_missing_package_costs_a_line_in_the_log(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(arguments) == 0
    assert "MLflow was not told" in caplog.text and (tmp_path / "weights/ultrasound-cnn/card.json").is_file()
    caplog.clear()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main([*arguments, "--name", "again"]) == 0
    assert "pip install -r requirements-mlflow.txt" in caplog.text
