"""What an outline network is asked to do, how it is fitted and measured: on lesions made in code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_lesions import SHAPE, ellipse, picture
from PIL import Image as Raster

from core.errors import InvalidInput, ModelUnavailable
from core.findings.outlines import Outline
from core.models.outline_card import FILE, read_outline_card
from core.types import Modality
from train.publishing.outline_table import outline_page, summary
from train.recipe.outline import OutlineConfig, OutlineRequest


def given(**changed: object) -> dict[str, object]:
    return {"modality": Modality.ULTRASOUND, "data": Path("m.csv")} | changed


def test_what_would_be_ignored_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no --set, --folds"):
        OutlineRequest.from_arguments(given(folds=5, settings=["mixup=0.2"]))
    with pytest.raises(InvalidInput, match="reads ultrasound"):
        OutlineRequest.from_arguments(given(modality=Modality.MAMMOGRAPHY))
    with pytest.raises(InvalidInput, match="offline or --init random"):
        OutlineRequest.from_arguments(given(init="imagenet"))
    for side in (32, 225, 1056):
        with pytest.raises(InvalidInput, match="steps of 32"):
            OutlineRequest.from_arguments(given(side=side))
    with pytest.raises(InvalidInput, match="number of epochs is 0"):
        OutlineRequest.from_arguments(given(epochs=0))
    request = OutlineRequest.from_arguments(given(side=64, epochs=1, folds=0, settings=[]))
    assert (request.config.side, request.config.epochs, request.name) == (64, 1, "ultrasound-outline")


def test_the_outcome_of_a_picture() -> None:
    from train.publishing.outline import outcome

    first, second, beside = ellipse(40, 30, (60, 60)), ellipse(40, 30, (60, 220)), ellipse(40, 30, (160, 150))
    truth = first | second
    found = outcome(truth, (Outline(first, 0.9), Outline(beside, 0.8)))
    assert (found["lesions"], found["found"], found["false"]) == (2, 1, 1)
    assert found["dice"] == pytest.approx(0.5, abs=0.01) and found["iou"] == pytest.approx(1 / 3, abs=0.01)
    missed = outcome(truth, ())
    assert (missed["dice"], missed["found"], missed["false"]) == (0, 0, 0) and math.isnan(missed["hd95"])
    normal = outcome(np.zeros(SHAPE, bool), (Outline(first, 0.9),))
    assert math.isnan(normal["dice"]) and (normal["lesions"], normal["false"]) == (0, 1)


def test_the_table_counts_lesions_and_normal_pictures_apart() -> None:
    nothing = np.nan
    rows = [
        ("a", "benign", 0.8, 0.6, 0.1, 2, 1, 0),
        ("b", "malignant", 0.0, 0.0, nothing, 1, 0, 1),
        ("c", "normal", nothing, nothing, nothing, 0, 0, 2),
    ]
    columns = ["patient", "label", "dice", "iou", "hd95", "lesions", "found", "false"]
    cases = pd.DataFrame(rows, columns=columns).assign(fitted_on="all", source="made")
    found = summary(cases)
    assert (found["dice"].value, found["dice"].n) == (0.4, 2)
    assert (found["hd95"].value, found["hd95"].n) == (0.1, 1)
    assert (found["found"].value, found["found"].n) == (pytest.approx(1 / 3), 3)
    assert (found["false_in_abnormal"].value, found["false_in_normal"].value) == (0.5, 1.0)
    assert "| all | - | made | 3 | .400 " in outline_page(cases)[-1]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two epochs on sixteen pictures, through the command."""
    from train.__main__ import main

    folder = tmp_path_factory.mktemp("outline")
    rows = []
    for number in range(20):
        mask = ellipse(60 + number, 50, (90, 80 + 7 * number))
        pixels = picture(mask if number % 5 else np.zeros(SHAPE, bool), seed=number)
        Raster.fromarray(np.round(pixels * 255).astype(np.uint8)).save(folder / f"{number}.png")
        Raster.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{number}_mask.png")
        label = "normal" if number % 5 == 0 else ("benign", "malignant")[number % 2]
        rows.append({"file": f"{number}.png", "label": label, "patient": f"p{number}",
                     "mask": f"{number}_mask.png" if number % 5 else "", "source": "made"})  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    status = main(["fit", "outline", "--modality", "ultrasound", "--data", str(folder / "manifest.csv"), "--init",
                   "random", "--side", "64", "--epochs", "2", "--out", str(folder / "weights"),
                   "--work", str(folder / "work")])  # fmt: skip
    assert status == 0
    return folder


def test_a_training_leaves_a_card_weights_and_a_row_for_every_test_picture(fitted: Path) -> None:
    card = read_outline_card(fitted / "weights" / "ultrasound-outline")
    assert card.weights.files and all((card.folder / name).is_file() for name in card.weights.files)
    assert len(card.training.history) == 2 and card.input.side == 64
    assert all(row["loss"] > 0 for row in card.training.history), "fewer cases than a batch are trained on too"
    cases = pd.read_csv(card.folder / card.cases)
    assert len(cases) == sum(card.data.cases_in("test").values()) > 0
    assert set(cases["case"]) <= set(pd.read_csv(fitted / "manifest.csv")["file"])


def test_a_training_that_was_killed_goes_on_and_ends_the_same(fitted: Path) -> None:
    before = read_outline_card(fitted / "weights" / "ultrasound-outline").weights.sha256
    from train.__main__ import main

    again = ["fit", "outline", "--modality", "ultrasound", "--data", str(fitted / "manifest.csv"), "--init",
             "random", "--side", "64", "--epochs", "2", "--out", str(fitted / "again"),
             "--work", str(fitted / "work")]  # fmt: skip
    assert main(again) == 0
    assert read_outline_card(fitted / "again" / "ultrasound-outline").weights.sha256 == before


def test_the_network_answers_for_every_pixel_of_a_picture(fitted: Path) -> None:
    from core.models.loaded import load_outline
    from core.serving.inference import Here
    from core.types import Image

    card = read_outline_card(fitted / "weights" / "ultrasound-outline")
    image = Image(picture(ellipse()), "0" * 64, Modality.ULTRASOUND)
    answer = Here().outline(card, image, lambda place: None)
    assert answer.shape == SHAPE and 0 <= answer.min() <= answer.max() <= 1
    assert load_outline(card) is load_outline(card)


def test_a_card_of_another_network_or_a_damaged_one_is_refused(fitted: Path, tmp_path: Path) -> None:
    raw = json.loads((fitted / "weights" / "ultrasound-outline" / FILE).read_text())
    for name, content in (("other", json.dumps(raw)), ("broken", "{"), ("odd", json.dumps(raw | {"level": 1.0}))):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(content)
        with pytest.raises(ModelUnavailable):
            read_outline_card(tmp_path / name)


def test_the_side_is_said_in_a_refusal() -> None:
    with pytest.raises(InvalidInput, match="not 100"):
        OutlineConfig(side=100)
