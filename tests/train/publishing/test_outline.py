"""What an outline network is asked to do, how it is fitted and measured: on lesions made in code."""

from __future__ import annotations

import json
import math
import shutil
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
    assert "| all | made | 3 | .400 " in outline_page(cases)[-1]
    assert "| all, 6 epochs | made | 3 | .400 " in outline_page(cases.assign(epochs=6))[-1]


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
                     "mask": f"{number}_mask.png" if number % 5 else "", "source": "AB"[number % 4 // 2]})  # fmt: skip
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


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_nothing_is_trained_where_a_split_has_no_outlined_lesion(fitted: Path, tmp_path: Path, name: str) -> None:
    from train.publishing.outline import load_outline_cases

    rows = pd.read_csv(fitted / "manifest.csv", dtype=str, keep_default_na=False)
    rows["split"] = ["train", "validation", "test", "train", "train"] * 4
    is_there = rows["split"] == name
    rows.loc[is_there, "mask"], rows.loc[is_there, "label"] = "", "normal"
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    request = OutlineRequest(OutlineConfig(side=64), tmp_path / "manifest.csv", init="random", root=fitted)
    with pytest.raises(InvalidInput, match=f"No picture of the part '{name}'"):
        load_outline_cases(request)


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


def alone(fitted: Path, weights: Path, page: Path, *more: str) -> list[str]:
    return ["outlines", "--alone", "A", "--epochs", "1", "--data", str(fitted / "manifest.csv"), "--weights",
            str(weights), "--out", str(page), *more]  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Path:
    names = ("outlines", "proposed descriptors")
    (tmp_path / "page.md").write_text("\n".join(f"<!-- {one} -->\n<!-- end of {one} -->" for one in names))
    return tmp_path / "page.md"


def test_a_network_of_one_collection_adds_its_rows_and_leaves_the_weights(
    fitted: Path, tmp_path: Path, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from train.__main__ import main

    weights = tmp_path / "weights"
    shutil.copytree(fitted / "weights", weights)
    before = read_outline_card(weights / "ultrasound-outline")
    known = pd.read_csv(before.folder / before.cases, dtype={"case": str})
    assert "other hospitals" not in before.measured
    for _ in range(2):  # the second time its rows are replaced
        assert main(alone(fitted, weights, page, "--work", str(tmp_path / "work"))) == 0
    card = read_outline_card(weights / "ultrasound-outline")
    assert card.weights == before.weights and card.measured["own test cases"] == before.measured["own test cases"]
    rows = pd.read_csv(card.folder / card.cases, dtype={"case": str})
    own, added = rows[rows["fitted_on"] == "all"], rows[rows["fitted_on"] == "A"]
    assert len(own) + len(added) == len(rows) and own.reset_index(drop=True)["dice"].equals(known["dice"])
    listed = pd.read_csv(fitted / "manifest.csv", dtype=str).set_index("file")["source"]
    of_a = added["case"].map(listed) == "A"
    assert set(added["case"][~of_a]) == set(listed.index[listed == "B"]), "everything of the other collection"
    assert set(added["case"][of_a]) <= set(own["case"]) and set(own["epochs"]) == {2} and set(added["epochs"]) == {1}
    assert card.measured["other hospitals"]["found"].n == int(added["lesions"][~of_a].sum())
    assert "| A, 1 epoch | B | 10 |" in page.read_text()
    for wrong, sentence in (("C", "They are: A, B"), ("A", "not the pictures, or not the split")):
        words = alone(fitted, weights, page, *(["--where", "source=A"] if wrong == "A" else []))
        words[2] = wrong
        assert main(words) == 1
        assert sentence in capsys.readouterr().err
    assert main(["outlines", "--alone", "A", "--weights", str(weights), "--out", str(page)]) == 1
    assert "name them with --data" in capsys.readouterr().err


def test_what_is_outlined_out_of_fold_was_never_learnt_from(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.publishing import outline

    request = OutlineRequest(OutlineConfig(side=64, epochs=1), fitted / "manifest.csv", init="random")
    learnt: list[set[str]] = []
    asked: list[set[str]] = []
    fit, propose = outline.fit_outline, outline._proposed

    def seen(config, squares, views, chosen, validation, **more):  # type: ignore[no-untyped-def]
        learnt.append(set(squares.cases["file"].iloc[[*chosen, *validation]]))
        return fit(config, squares, views, chosen, validation, **more)

    def proposed(graph, loaded, chosen, least_peak):  # type: ignore[no-untyped-def]
        asked.append(set(loaded.squares.cases["file"].iloc[chosen]))
        return propose(graph, loaded, chosen, least_peak)

    monkeypatch.setattr(outline, "fit_outline", seen)
    monkeypatch.setattr(outline, "_proposed", proposed)
    found = outline.out_of_fold(request, 3, tmp_path)
    listed = pd.read_csv(fitted / "manifest.csv", dtype=str)
    assert set(found) == set(listed["file"]) == set.union(*asked) and len(asked) == 3
    for one, others in zip(asked, learnt, strict=True):
        assert not one & others and one | others == set(listed["file"])
    assert all(one.mask is None or one.mask.shape == SHAPE for one in found.values())
    with pytest.raises(InvalidInput, match="must be 3 or more"):
        outline.out_of_fold(request, 2, tmp_path)


def test_the_shipped_network_outlines_its_own_test_cases_alone(fitted: Path) -> None:
    from train.publishing.outline import by_shipped

    card = read_outline_card(fitted / "weights" / "ultrasound-outline")
    request = OutlineRequest(OutlineConfig(side=64), fitted / "manifest.csv", init="random")
    assert set(by_shipped(card, request)) == set(pd.read_csv(card.folder / card.cases, dtype=str)["case"])
