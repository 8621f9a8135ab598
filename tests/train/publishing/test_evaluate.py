"""`python -m train evaluate`: the right cases, the model's words, every measure, and no shipped score replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from core.commands.metrics import as_json
from core.errors import InvalidInput
from core.evaluation.statistics.summary import evaluate_table
from core.evaluation.tables import of_cards
from core.evaluation.tables.scores import read_scores
from core.models import cards
from core.models.cards import ThresholdOnCard
from core.types import Modality
from train.__main__ import main
from train.datasets.manifest import read_manifest
from train.publishing.evaluate import as_classes, measure, patient_score, select
from train.recipe.request import FitRequest


def picture(rng: np.random.Generator, is_bright: bool) -> Raster.Image:
    pixels = np.asarray(Raster.fromarray((rng.random((9, 9)) * 160).astype(np.uint8)).resize((48, 48))).copy()
    if is_bright:
        row, column = rng.integers(4, 34, 2)
        pixels[row : row + 10, column : column + 10] = 250
    return Raster.fromarray(np.stack([pixels] * 3, axis=2))


def write_dataset(folder: Path, labels: tuple[str, str], n: int, seed: int, **columns: list[str]) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        picture(rng, number // 2 % 2 == 1).save(folder / f"{seed}_{number}.png")
        rows.append(
            {"file": f"{seed}_{number}.png", "label": labels[number // 2 % 2], "patient": f"{seed}p{number // 4}"}
        )
    pd.DataFrame(rows).assign(**columns).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("own") / "data", ("non_idc", "idc"), 60, 1)


@pytest.fixture(scope="module")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(
        tmp_path_factory.mktemp("other") / "data",
        ("benign", "malignant"),
        24,
        2,
        magnification=["40X", "100X"] * 12,
        source=["Elsewhere"] * 24,
    )


@pytest.fixture(scope="module")
def fitted(own_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights")
    arguments = [
        "fit",
        "cnn",
        "--modality",
        "histology",
        "--data",
        str(own_data),
        "--out",
        str(out),
        "--init",
        "random",
    ]
    assert main([*arguments, "--epochs", "2", "--side", "32"]) == 0
    return out


@pytest.fixture
def weights(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "weights"))


def card_of(weights: Path) -> cards.Card:
    return cards.read_card(weights / "histology-cnn")


def evaluated(capsys: pytest.CaptureFixture[str], weights: Path, data: Path, *options: str) -> dict:
    assert main(["evaluate", "histology-cnn", "--data", str(data), "--weights", str(weights), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_its_own_test_cases_give_the_cards_numbers_and_the_cards_scores_stay(
    weights: Path, own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = card_of(weights)
    before = {path.name: path.read_bytes() for path in card.folder.iterdir()}
    found = evaluated(capsys, weights, own_data)
    assert {path.name: path.read_bytes() for path in card.folder.iterdir()} == before
    assert found["n"] == of_cards.headline(card)["auc"].n and any("reproduced" in note for note in found["notes"])
    for name, estimate in of_cards.headline(card).items():
        if name in found["intervals"]:
            assert found["intervals"][name][0] == pytest.approx(estimate.low, abs=0.02), name
    assert found["auc"] == pytest.approx(of_cards.headline(card)["auc"].value, abs=1e-3)


def test_another_data_set_is_measured_whole_and_kept_beside_the_cards_scores(
    weights: Path, other_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = card_of(weights)
    own = card.folder / f"{card.weights_sha256[:8]}.test_scores.csv"
    before = own.read_bytes()
    found = evaluated(capsys, weights, other_data)
    assert own.read_bytes() == before
    (retained,) = card.folder.glob("*.on-*.test_scores.csv")
    table = pd.read_csv(retained)
    assert len(table) == found["n"] == 24 and set(table["label"]) == {"idc", "non_idc"}
    assert set(table["magnification"]) == {"40X", "100X"} and set(table["source"]) == {"Elsewhere"}
    assert {"patient_score", "patient_score_40X", "patient_score_at_threshold"} <= set(found["intervals"])


def test_two_manifests_are_measured_together(
    weights: Path, other_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, root = pd.read_csv(other_data), ("--root", str(other_data.parent))
    table[:10].to_csv(tmp_path / "first.csv", index=False)
    table[10:].to_csv(tmp_path / "second.csv", index=False)
    found = evaluated(capsys, weights, tmp_path / "first.csv", "--also", str(tmp_path / "second.csv"), *root)
    assert found["n"] == 24 and found["auc"] == evaluated(capsys, weights, other_data)["auc"]


def test_the_measures_are_those_of_core_metrics_under_the_same_names(
    weights: Path, other_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(capsys, weights, other_data, "--out", str(tmp_path / "scores.csv"))
    threshold = card_of(weights).threshold.value
    table = read_scores(tmp_path / "scores.csv", positive="idc", scorers=None)
    (same,) = as_json(evaluate_table(table, threshold=threshold), with_pairs=False)["scorers"].values()
    for name, value in same.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=1e-5), name
    order = [same["classes"].index(name) for name in found["classes"]]  # the card's classes, there alphabetical
    assert found["confusion_matrix"] == np.array(same["confusion_matrix"])[np.ix_(order, order)].tolist()
    assert {"accuracy", "kappa", "mcc", "brier", "ece", "macro_f1", "weighted_f1", "sensitivity_at_threshold"} <= set(
        found
    )
    assert found["scorers"]["histology-cnn"]["auc"] == found["auc"]


def test_text_names_the_model_and_the_confusion_matrix(
    weights: Path, other_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "histology-cnn", "--data", str(other_data), "--weights", str(weights)]
    assert main([*arguments, "--out", str(tmp_path / "s.csv")]) == 0
    text = capsys.readouterr().out
    assert "majority_accuracy" in text and "Rows: true class" in text and "all its cases are measured" in text


def test_a_split_that_holds_what_the_model_was_trained_on_is_told(
    weights: Path, own_data: Path, tmp_path: Path
) -> None:
    card, table = card_of(weights), pd.read_csv(own_data)
    table.assign(split="test").to_csv(tmp_path / "all_test.csv", index=False)
    chosen = select(card, read_manifest(tmp_path / "all_test.csv"), "test")
    assert not chosen.is_own and "too good" in chosen.notes[0]
    assert select(card, read_manifest(own_data), "validation").notes[-1].startswith(str(card.data.n // 5)[:1])
    trained = select(card, read_manifest(own_data), "train")
    assert len(trained.cases) == sum(card.data.cases_in("train").values())


def begins_with_the_cnn(weights: Path, data: Path, **options: object) -> int:
    """How many cases a network that begins with the fitted CNN would be made from."""
    from train.publishing.pipeline import load_cases

    request = FitRequest(
        "cnn_resnet50", Modality.HISTOLOGY, data=data, out=weights, cnn="histology-cnn", init="random", side=32,
        no_weights=True, **options,
    )  # fmt: skip
    return len(load_cases(request, request.config).squares)


def test_no_network_begins_with_one_that_has_learnt_from_what_it_would_be_measured_on(
    weights: Path, own_data: Path, other_data: Path
) -> None:
    card = card_of(weights)
    assert begins_with_the_cnn(weights, other_data) == 24
    assert begins_with_the_cnn(weights, own_data, split_like="histology-cnn") == card.data.n
    refused = r"histology-cnn has learnt from \d+ of the cases .* --split-like histology-cnn\."
    with pytest.raises(InvalidInput, match=refused):
        begins_with_the_cnn(weights, own_data, seed=3)
    n_known = card.data.n - sum(card.data.cases_in("test").values())
    with pytest.raises(InvalidInput, match=f"has learnt from {n_known} of the cases"):
        begins_with_the_cnn(weights, own_data, folds=3)


@pytest.mark.parametrize(("split", "is_refused"), [("train", False), ("validation", False), ("test", True)])
def test_what_chose_its_epoch_may_choose_again_and_is_not_tested(
    weights: Path, own_data: Path, other_data: Path, tmp_path: Path, split: str, is_refused: bool
) -> None:
    own, others = pd.read_csv(own_data), pd.read_csv(other_data)
    chosen = own[own["file"].isin(pd.read_csv(next(card_of(weights).folder.glob("*.validation_scores.csv")))["case"])]
    others = others.replace({"benign": "non_idc", "malignant": "idc"})
    others["split"] = ["train"] * 12 + ["train" if split == "validation" else "validation"] * 4 + ["test"] * 8
    for data, table in ((own_data, chosen), (other_data, others)):
        for file in table["file"]:
            shutil.copy(data.parent / file, tmp_path / file)
    table = pd.concat([chosen.assign(split=split), others])[["file", "label", "patient", "split"]]
    table.to_csv(tmp_path / "again.csv", index=False)
    if is_refused:
        with pytest.raises(InvalidInput, match=f"has learnt from {len(chosen)} of the cases"):
            begins_with_the_cnn(weights, tmp_path / "again.csv")
    else:
        assert begins_with_the_cnn(weights, tmp_path / "again.csv") == len(table)


def test_a_network_measured_in_folds_has_learnt_from_all_its_cases(weights: Path, own_data: Path) -> None:
    card = card_of(weights)
    text = json.loads((card.folder / "card.json").read_text())
    text["data"]["folds"] = 5
    (card.folder / "card.json").write_text(json.dumps(text))
    with pytest.raises(InvalidInput, match=r"would be too good. Begin with a network of other cases\.$"):
        begins_with_the_cnn(weights, own_data)


def test_cases_that_a_model_knows_are_told_under_any_name_and_their_scores_are_not_kept_beside_the_card(
    weights: Path, own_data: Path, other_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card, table = card_of(weights), pd.read_csv(own_data)
    for file in table["file"]:
        shutil.copy(own_data.parent / file, tmp_path / f"renamed_{file}")
    for file in pd.read_csv(other_data)["file"]:
        shutil.copy(other_data.parent / file, tmp_path / file)
    renamed = table.assign(file="renamed_" + table["file"])
    part = renamed[renamed["label"] == "idc"]
    pd.concat([part, renamed[:3]]).drop_duplicates().to_csv(tmp_path / "part.csv", index=False)
    n_test = sum(card.data.cases_in("test").values())
    found = evaluated(capsys, weights, tmp_path / "part.csv")
    (told,) = (note for note in found["notes"] if "too good" in note)
    n_seen = int(told.split()[0])
    assert found["n"] - n_test <= n_seen < found["n"]
    assert not list(card.folder.glob("*.on-*")) and any("--out" in note for note in found["notes"])

    own = [shutil.copy(own_data.parent / file, tmp_path / file) for file in table["file"]]
    both = pd.concat([table, pd.read_csv(other_data).replace({"benign": "non_idc", "malignant": "idc"})])
    both[["file", "label", "patient"]].to_csv(tmp_path / "both.csv", index=False)
    assert len(own) == card.data.n
    for split in ("train", "validation", "test"):
        chosen = select(card, read_manifest(tmp_path / "both.csv"), split)
        assert len(chosen.cases) == sum(card.data.cases_in(split).values()), split
        assert any("24 cases of the manifest are none of the model's own" in note for note in chosen.notes)
        assert chosen.n_seen == (0 if split == "test" else len(chosen.cases))
    whole = select(card, read_manifest(tmp_path / "both.csv"), "all")
    assert len(whole.cases) == card.data.n + 24 and whole.n_seen == card.data.n - n_test


def test_of_a_model_measured_in_folds_every_own_case_was_trained_on(weights: Path, own_data: Path) -> None:
    path = card_of(weights).folder / "card.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"data": raw["data"] | {"folds": 5}}))
    chosen = select(card_of(weights), read_manifest(own_data), "validation")
    assert chosen.cases.empty is False and chosen.n_seen == len(chosen.cases) and "too good" in chosen.notes[-1]


def in_folds(weights: Path, data: Path) -> cards.Card:
    """The model as if it had been measured in folds on all these cases."""
    card = card_of(weights)
    path = card.folder / f"{card.weights_sha256[:8]}.test_scores.csv"
    every = pd.read_csv(data).rename(columns={"file": "case"})
    every.assign(fold=0, non_idc=0.5, idc=0.5).to_csv(path, index=False)
    return card


def test_stored_scores_are_not_said_to_be_reproduced(
    weights: Path, own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_folds(weights, own_data)
    notes = evaluated(capsys, weights, own_data)["notes"]
    assert notes[-1] == "These are the out-of-fold scores of the card; they were not computed anew."


def test_scores_in_folds_are_not_taken_for_other_pictures_of_the_same_names(
    weights: Path, own_data: Path, tmp_path: Path
) -> None:
    card, rng = in_folds(weights, own_data), np.random.default_rng(9)
    for file in pd.read_csv(own_data)["file"]:
        picture(rng, False).save(tmp_path / file)
    shutil.copy(own_data, tmp_path / "manifest.csv")
    chosen = select(card, read_manifest(tmp_path / "manifest.csv"), "all")
    assert chosen.stored is None and not chosen.is_own and chosen.n_seen == 60
    assert any(note.startswith("60 files are called like cases of the model") for note in chosen.notes)
    assert not any("too good" in note for note in chosen.notes)
    for file in pd.read_csv(own_data)["file"]:
        (tmp_path / file).unlink()
    assert select(card, read_manifest(tmp_path / "manifest.csv"), "all").stored is not None  # only the names are there


def test_a_model_measured_in_folds_keeps_its_out_of_fold_scores(weights: Path, own_data: Path) -> None:
    card = in_folds(weights, own_data)
    chosen = select(card, read_manifest(own_data), "test")
    assert chosen.stored is not None and len(chosen.stored) == 60 and chosen.is_own
    assert list(chosen.stored["case"]) == list(chosen.cases["file"])


def test_labels_get_the_models_words_and_a_strange_one_is_refused(weights: Path) -> None:
    card = card_of(weights)
    labels = pd.Series(["benign", "malignant", "no finding", "idc", "Normal"])
    assert list(as_classes(card, labels, {})) == ["non_idc", "idc", "non_idc", "idc", "non_idc"]
    with pytest.raises(InvalidInput, match="knows no label 'atypical'"):
        as_classes(card, pd.Series(["atypical"]), {})
    assert list(as_classes(card, pd.Series(["atypical"]), {"atypical": "idc"})) == ["idc"]
    with pytest.raises(InvalidInput, match="no class 'cancer'"):
        as_classes(card, pd.Series(["atypical"]), {"atypical": "cancer"})


def test_without_cases_of_every_class_the_positive_one_is_measured_against_the_rest(weights: Path) -> None:
    card = card_of(weights)
    scores = pd.DataFrame({"case": list("abcd"), "patient": list("abcd"), "label": ["idc", "other", "idc", "other"]})
    result = measure(card, scores.assign(non_idc=[0.1, 0.9, 0.2, 0.8], idc=[0.9, 0.1, 0.8, 0.2]))
    assert result.scorers[0].measures["auc"].value == 1 and result.scorers[0].matrix is None
    assert result.scorers[0].measures["majority_accuracy"].value == 0.5


def test_the_patient_score_counts_patients_not_tiles() -> None:
    right = np.array([True] * 9 + [False])  # one patient with nine tiles, all right; one with one tile, wrong
    estimate = patient_score(right, np.array(["a"] * 9 + ["b"]))
    assert estimate.value == 0.5 and estimate.n == 2 and estimate.low == 0 and estimate.high == 1


def test_the_patient_score_is_also_given_at_the_threshold_of_the_card(weights: Path) -> None:
    card = card_of(weights).model_copy(update={"threshold": ThresholdOnCard(value=0.3)})
    scores = pd.DataFrame(
        {"case": list("abcd"), "patient": list("ppqq"), "label": ["idc", "idc", "non_idc", "non_idc"]}
    )
    positive = np.array([0.9, 0.35, 0.2, 0.4])
    found = measure(card, scores.assign(non_idc=1 - positive, idc=positive)).scorers[0].measures
    assert found["patient_score"].value == pytest.approx((0.5 + 1) / 2)  # most probable class: one of p is missed
    assert found["patient_score_at_threshold"].value == pytest.approx((1 + 0.5) / 2)  # one of q is called too


def test_files_that_are_not_there_are_counted(
    weights: Path, other_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "histology-cnn", "--data", str(other_data), "--weights", str(weights)]
    assert main([*arguments, "--root", str(weights)]) == 1
    assert "24 of 24 files are not there" in capsys.readouterr().err
    assert main(["evaluate", "../x", "--data", str(other_data), "--weights", str(weights)]) == 1


def test_the_distance_from_the_training_images_is_fitted_again_and_measured(
    own_data: Path, other_data: Path, fitted: Path, tmp_path: Path
) -> None:
    weights, data = tmp_path / "weights", tmp_path / "data"
    shutil.copytree(fitted, weights)
    for folder, source in (("own", own_data.parent), ("histopathology", other_data.parent)):
        shutil.copytree(source, data / folder)
    table = pd.read_csv(data / "histopathology" / "manifest.csv")
    files = "histopathology/strange/" + table["file"]
    (data / "histopathology" / "strange").mkdir()
    for file, name in zip(table["file"], files, strict=True):
        with Raster.open(data / "histopathology" / file) as picture_there:
            Raster.eval(picture_there, lambda value: 255 - value).save(data / name)
    table.assign(file=files).to_csv(data / "histopathology" / "manifest.csv", index=False)
    folder = card_of(weights).folder
    before = cards.read_card(folder).training_distance
    assert before is not None and before.measured == {}

    assert main(["distance", "--data", str(data), "--weights", str(weights)]) == 0
    after = cards.read_card(folder).training_distance
    assert after is not None and (after.n_fitted, after.n_level) == (before.n_fitted, before.n_level)
    assert after.own_beyond is not None
    assert after.measured["histology: strange"].auroc > 0.9 and after.measured["histology: strange"].n == len(table)
    assert after.measured["its own, inverted"].beyond > 0.5
    assert main(["distance", "--data", str(tmp_path / "weights"), "--weights", str(weights)]) == 1


def test_of_a_model_in_folds_the_distance_is_measured_on_no_picture_that_it_was_fitted_on(
    weights: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.publishing import distances

    card = in_folds(weights, own_data)
    path = card.folder / f"{card.weights_sha256[:8]}.test_scores.csv"
    scores = pd.read_csv(path)
    scores.assign(fold=np.arange(len(scores)) % 3).to_csv(path, index=False)
    first, read, read_case = set(scores["case"][::3]), [], distances.read_case
    monkeypatch.setattr(distances, "read_case", lambda file, kind: read.append(file.name) or read_case(file, kind))
    found, _ = distances._measured(card, read_manifest(own_data), own_data.parent)
    assert set(read) == first and found["its own, inverted"].n == len(first)
