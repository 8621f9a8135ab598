"""Training from a manifest to a model that reads, on squares small enough for seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from core.errors import ModelUnavailable
from core.evaluation.tables import of_cards
from core.models import cards
from core.models.registry import architecture
from core.settings import Settings
from core.types import Image, Modality
from train.__main__ import main


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 grey pictures; "malignant" ones have a bright blot, which their mask outlines."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        label = ("malignant", "benign", "normal")[number % 3]
        pixels = rng.normal(90, 12, (48, 64)).clip(0, 255)
        mask = np.zeros((48, 64), np.uint8)
        if label != "normal":
            row, column = rng.integers(6, 34), rng.integers(6, 50)
            mask[row : row + 9, column : column + 9] = 255
            pixels[mask > 0] = 240 if label == "malignant" else 10
        Raster.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        Raster.fromarray(mask).save(folder / f"{number}_mask.png")
        mask_name = f"{number}_mask.png" if label != "normal" else ""
        rows.append({"file": f"{number}.png", "label": label, "patient": f"p{number // 2}", "mask": mask_name})
    rows.append({"file": "0.png", "label": "", "patient": "p0", "mask": ""})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def fitted(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    arguments = ["fit", "cnn", "--modality", "ultrasound", "--data", str(dataset / "manifest.csv"), "--out", str(out)]
    assert main([*arguments, "--init", "random", "--epochs", "14", "--side", "64"]) == 0
    return out


def test_a_card_tells_what_the_model_was_made_from(fitted: Path) -> None:
    raw = json.loads((fitted / "ultrasound-cnn" / "card.json").read_text())
    assert raw["classes"] == ["benign", "malignant", "normal"] and raw["positive"] == "malignant"
    assert raw["initialisation"] == "random"
    assert raw["data"]["n"] == 60 and raw["data"]["left_out"]
    assert sum(sum(split.values()) for split in raw["data"]["splits"].values()) == 60
    assert raw["training"]["epochs"] == 14 and len(raw["training"]["history"]) <= 14
    assert len(raw["calibration"]["samples"]) == 200
    assert 0 < raw["threshold"]["value"] < 1


def test_a_card_calls_only_cases_with_a_licence_those_of_a_public_collection(fitted: Path) -> None:
    from train.publishing.pipeline import population_limit

    (told,) = (one for one in cards.read_card(fitted / "ultrasound-cnn").limits if one.startswith("Trained on"))
    assert "names no public collection" in told and "is not known" in told
    public = "Trained on 2 cases of a public collection, not on a screening population."
    assert population_limit(pd.DataFrame({"licence": ["CC BY 4.0", "CC0"]}), 2) == public
    for some in ({"licence": ["CC BY 4.0", ""]}, {"licence": [" ", ""]}, {"label": ["benign", "malignant"]}):
        assert "names no public collection" in population_limit(pd.DataFrame(some), 2)


def test_what_each_branch_adds_is_on_the_card_and_measured_again_on_one_that_does_not_say_it(
    dataset: Path, tmp_path: Path
) -> None:
    arguments = ["fit", "fusion", "--modality", "ultrasound", "--data", str(dataset / "manifest.csv")]
    assert main([*arguments, "--out", str(tmp_path), "--init", "random", "--epochs", "1", "--side", "64"]) == 0
    path = tmp_path / "ultrasound-fusion" / "card.json"
    raw = json.loads(path.read_text())
    assert set(raw["branches"]) == {"vgg16", "resnet50v2"}
    path.write_text(json.dumps({key: value for key, value in raw.items() if key != "branches"}))
    assert main(["amend", "--weights", str(tmp_path)]) == 0
    assert "branches" not in json.loads(path.read_text())
    assert main(["amend", "--weights", str(tmp_path), "--data", str(dataset)]) == 0
    for branch, one in json.loads(path.read_text())["branches"].items():
        assert one == pytest.approx(raw["branches"][branch], abs=2e-3)
    written = path.stat().st_mtime_ns
    assert main(["amend", "--weights", str(tmp_path), "--data", str(dataset)]) == 0
    assert path.stat().st_mtime_ns == written


def test_measured_numbers_come_from_the_test_scores(fitted: Path) -> None:
    (card,) = cards.runnable_cards(Settings(weights_dir=fitted))
    headline = of_cards.headline(card)
    scores = cards.read_test_scores(card)
    assert scores is not None and set(card.classes) <= set(scores.columns)
    assert headline["auc"].n == len(scores)
    assert headline["auc"].value > 0.8  # the blot is easy to see


def test_no_patient_of_the_test_scores_is_in_the_training_split(fitted: Path, dataset: Path) -> None:
    (card,) = cards.runnable_cards(Settings(weights_dir=fitted))
    tested = set(cards.read_test_scores(card)["patient"])  # type: ignore[index]
    validated = set(pd.read_csv(next(card.folder.glob("*.validation_scores.csv")))["patient"])
    assert not tested & validated
    assert len(tested) + len(validated) < 30


def test_the_published_model_gives_the_scores_on_its_card(fitted: Path, dataset: Path) -> None:
    from core.models.inference import LoadedModel

    (card,) = cards.runnable_cards(Settings(weights_dir=fitted))
    model = LoadedModel(card)
    scores = cards.read_test_scores(card)
    assert scores is not None
    for row in scores.head(3).itertuples():
        pixels = np.asarray(Raster.open(dataset / row.case), np.float32) / 255
        prediction, explanation = model.read(Image(pixels, "0" * 64, Modality.ULTRASOUND))
        assert prediction.malignant == pytest.approx(row.malignant, abs=2e-3)
        low, high = prediction.interval
        assert low <= prediction.malignant <= high and high > low
        assert set(explanation.maps) == {"cnn", "fused"}


def test_the_published_model_knows_a_picture_unlike_its_own(fitted: Path, dataset: Path) -> None:
    from core.models.inference import LoadedModel

    (card,) = cards.runnable_cards(Settings(weights_dir=fitted))
    named = card.training_distance
    assert named is not None and (card.folder / named.file).is_file()
    assert (named.n_fitted, named.n_level) == tuple(
        sum(card.data.cases_in(split).values()) for split in ("train", "validation")
    )
    model, scores = LoadedModel(card), cards.read_validation_scores(card)
    assert scores is not None

    def distance(pixels: np.ndarray) -> float:
        prediction, _ = model.read(Image(pixels.astype(np.float32), "0" * 64, Modality.ULTRASOUND))
        assert prediction.training_distance is not None
        return prediction.training_distance

    own = [np.asarray(Raster.open(dataset / case), np.float32) / 255 for case in scores["case"]]
    assert np.mean([distance(pixels) <= 1.02 for pixels in own]) >= 0.9  # stored in float16, computed by other steps
    assert all(distance(1 - pixels) > 1 for pixels in own)


def test_a_column_to_balance_by_that_is_not_there_is_said_before_a_picture_is_read(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(dataset / "manifest.csv", keep_default_na=False)
    table.to_csv(tmp_path / "manifest.csv", index=False)
    arguments = ["fit", "cnn", "--modality", "ultrasound", "--data", str(tmp_path / "manifest.csv"), "--init", "random"]
    assert main([*arguments, "--set", "balance_by=machine", "--out", str(tmp_path)]) == 1
    assert "no column 'machine' to balance by" in capsys.readouterr().err


def test_changed_weights_are_refused(fitted: Path, tmp_path: Path) -> None:
    from core.models.inference import LoadedModel

    folder = tmp_path / "ultrasound-cnn"
    shutil.copytree(fitted / "ultrasound-cnn", folder)
    shard = next(folder.glob("*-00001.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelUnavailable, match="not the ones"):
        LoadedModel(cards.read_card(folder))


def test_two_labels_give_one_logit_for_the_positive_one(dataset: Path, tmp_path: Path) -> None:
    arguments = ["fit", "cnn", "--modality", "mammography", "--data", str(dataset / "manifest.csv")]
    arguments += ["--name", "mammography-cnn-second-try"]
    assert main([*arguments, "--init", "random", "--epochs", "1", "--side", "64", "--out", str(tmp_path)]) == 0
    raw = json.loads((tmp_path / "mammography-cnn-second-try" / "card.json").read_text())
    assert raw["title"] == f"{architecture('cnn').title} (second try)"
    assert raw["classes"] == ["not_malignant", "malignant"]


def test_a_leaking_split_is_refused(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(dataset / "manifest.csv", keep_default_na=False)
    table = table[table["label"] != ""]
    table["split"] = [("train", "validation", "test")[number % 3] for number in range(len(table))]
    path = tmp_path / "leaking.csv"
    table.to_csv(path, index=False)
    arguments = ["fit", "cnn", "--modality", "ultrasound", "--data", str(path), "--root", str(dataset)]
    assert main([*arguments, "--init", "random", "--out", str(tmp_path / "weights")]) == 1
    assert "in more than one split" in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()
