"""A model measured in folds: out-of-fold scores, the folds' thresholds, weights of all cases, a card that says so."""

from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from core.evaluation.tables import of_cards
from core.evaluation.tables.scores import read_scores
from core.models import cards
from core.models.card_cases import measured_cases, read_cases
from core.settings import Settings
from core.types import Modality
from train.__main__ import main

FOLDS = 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures of 24 patients; the malignant ones have a bright blot."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(1)
    rows = []
    for number in range(48):
        label = ("malignant", "benign")[number // 2 % 2]
        pixels = np.asarray(Raster.fromarray((rng.random((9, 9)) * 160).astype(np.uint8)).resize((48, 48))).copy()
        if label == "malignant":
            row, column = rng.integers(4, 34, 2)
            pixels[row : row + 10, column : column + 10] = 250
        Raster.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "label": label, "patient": f"p{number // 2}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def card(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> cards.Card:
    out = tmp_path_factory.mktemp("weights")
    arguments = ["fit", "cnn", "--modality", "mammography", "--data", str(dataset / "manifest.csv"), "--out", str(out)]
    assert main([*arguments, "--init", "random", "--epochs", "2", "--side", "32", "--folds", str(FOLDS)]) == 0
    return cards.read_card(out / "mammography-cnn")


def test_every_case_is_scored_once_in_the_fold_that_did_not_train_on_it(card: cards.Card, dataset: Path) -> None:
    scores = cards.read_test_scores(card)
    assert scores is not None and list(scores.columns[:4]) == ["case", "patient", "label", "fold"]
    assert sorted(scores["case"]) == sorted(pd.read_csv(dataset / "manifest.csv")["file"])
    assert scores.groupby("patient")["fold"].nunique().max() == 1
    validation = pd.read_csv(card.folder / f"{card.weights_sha256[:8]}.validation_scores.csv")
    assert sorted(validation["case"]) == sorted(scores["case"])
    both = scores.merge(validation, on="case", suffixes=("", "_validated"))
    assert (both["fold"] != both["fold_validated"]).all()


def test_every_case_is_listed_with_its_fold_also_afterwards(card: cards.Card, dataset: Path, tmp_path: Path) -> None:
    listed = read_cases(card)
    scores = cards.read_test_scores(card)
    assert listed is not None and scores is not None and len(measured_cases(listed)) == len(listed)
    assert listed["split"].value_counts().to_dict() == {
        f"fold {fold}": n for fold, n in scores["fold"].value_counts().items()
    }
    folder = tmp_path / card.model_id
    shutil.copytree(card.folder, folder)
    next(folder.glob("*.cases.csv")).unlink()
    assert main(["cases", "--data", str(dataset), "--weights", str(tmp_path)]) == 0
    assert (folder / "card.json").read_bytes() == (card.folder / "card.json").read_bytes()  # with the hash of the list


def test_figures_at_the_threshold_use_each_folds_own(card: cards.Card) -> None:
    scores = cards.read_test_scores(card)
    assert scores is not None
    thresholds = card.folds.thresholds
    assert len(thresholds) == FOLDS and len(set(thresholds)) > 1
    called = scores["malignant"] >= scores["fold"].map(dict(enumerate(thresholds)))
    right = float((called == (scores["label"] == "malignant")).mean())
    assert of_cards.headline(card)["accuracy_at_threshold"].value == pytest.approx(right)


def test_the_card_says_that_the_shipped_weights_saw_all_cases(card: cards.Card) -> None:
    from core.models.inference import LoadedModel

    assert card.data.folds == FOLDS and card.data.split_by == f"patient, {FOLDS} folds"
    assert any("fitted on all cases" in limit for limit in card.limits)
    assert "fold" in card.calibration.fitted_on and len(card.folds.best_epochs) == FOLDS
    assert "--folds 3" in card.training.command and card.training.minutes > 0
    assert LoadedModel(card).card.has_weights


def test_the_number_of_a_fold_is_no_scorer(card: cards.Card) -> None:
    path = card.folder / f"{card.weights_sha256[:8]}.test_scores.csv"
    assert list(read_scores(path, positive="malignant").class_scorers) == ["malignant"]


def test_a_card_may_come_without_weights_and_says_how_to_get_them(dataset: Path, tmp_path: Path) -> None:
    arguments = ["fit", "cnn", "--modality", "mammography", "--data", str(dataset / "manifest.csv")]
    arguments += ["--init", "random", "--epochs", "1", "--side", "32", "--out", str(tmp_path), "--no-weights"]
    assert main([*arguments, "--why", "Small enough for a test."]) == 0
    settings = Settings(weights_dir=tmp_path)
    (card,) = cards.all_cards(settings)
    assert not card.has_weights and cards.live_cards(settings) == ()
    assert not list(tmp_path.rglob("*.safetensors"))
    assert len(card.weights_sha256) == 64 and of_cards.headline(card)["auc"].n > 0
    assert "weights not shipped: retrain in about a minute with `python -m train fit cnn" in cards.retrain_text(card)
    assert str(dataset) not in json.dumps(card.content()) and card.training.why == "Small enough for a test."


def test_a_leaking_split_is_on_the_card_for_ever(dataset: Path, tmp_path: Path) -> None:
    arguments = [
        "fit",
        "cnn",
        "--modality",
        "ultrasound",
        "--data",
        str(dataset / "manifest.csv"),
        "--split-by",
        "file",
    ]
    arguments += ["--init", "random", "--epochs", "1", "--side", "32", "--out", str(tmp_path), "--no-weights"]
    assert main(arguments) == 1
    assert main([*arguments, "--allow-leaks"]) == 0
    raw = json.loads((tmp_path / "ultrasound-cnn" / "card.json").read_text())
    assert raw["data"]["leaks"][0]["check"] == "patient in two splits"
    assert any(limit.startswith("Its split leaks") for limit in raw["limits"])


def test_a_budget_ends_training_between_epochs_and_the_card_says_so(dataset: Path, tmp_path: Path) -> None:
    arguments = ["fit", "cnn", "--modality", "ultrasound", "--data", str(dataset / "manifest.csv"), "--no-weights"]
    arguments += ["--init", "random", "--epochs", "9", "--side", "32", "--out", str(tmp_path)]
    assert main([*arguments, "--budget-minutes", "0.0001"]) == 0
    raw = json.loads((tmp_path / "ultrasound-cnn" / "card.json").read_text())
    assert len(raw["training"]["history"]) == 1 and raw["training"]["ended_by_budget"]
    assert any("ended by a budget" in limit for limit in raw["limits"])


def test_stopping_after_some_epochs_says_yes_at_the_last_of_them() -> None:
    from train.fitting.folds import after

    stop = after(3)
    assert [stop() for _ in range(4)] == [False, False, True, True]


def test_games_of_several_folds_count_by_their_cases() -> None:
    from train.fitting.folds import Localisation, pooled

    one = {"all": Localisation(10, {"fused": 0.5}, 0.2)}
    other = {"all": Localisation(30, {"fused": 0.9}, 0.4), "few": Localisation(2, {"fused": 1.0}, 0.5)}
    both = pooled([one, other, {}])
    assert both["all"].n == 40 and both["all"].hits["fused"] == pytest.approx(0.8)
    assert both["all"].centre == pytest.approx(0.35) and both["few"].n == 2


def test_a_run_goes_on_only_with_what_learnt_from_the_same_in_the_same_way(dataset: Path, tmp_path: Path) -> None:
    from train.publishing import pipeline
    from train.recipe.request import FitRequest

    request = FitRequest("fusion", Modality.ULTRASOUND, side=32, folds=FOLDS, data=dataset / "manifest.csv")
    backbones = [tmp_path / name for name in ("one", "other")]
    for path in backbones:
        path.write_text(path.name)
    loaded = pipeline.load_cases(request, request.config)
    masks = replace(loaded, squares=replace(loaded.squares, masks=1 - loaded.squares.masks))
    again = replace(loaded, prepared=replace(loaded.prepared, positive="benign"))
    cases = loaded.prepared.cases
    dealt = replace(loaded, prepared=replace(loaded.prepared, cases=cases.assign(fold=(cases["fold"] + 1) % FOLDS)))
    keys = [
        pipeline.run_key(request, request.config, loaded),
        *(pipeline.run_key(replace(request, backbone=path), request.config, loaded) for path in backbones),
        pipeline.run_key(replace(request, budget_minutes=5.0), request.config, loaded),
        pipeline.run_key(request, replace(request.config, batch=8), loaded),
        *(pipeline.run_key(request, request.config, other) for other in (masks, again, dealt)),
    ]
    assert len(set(keys)) == len(keys) and keys[0] == pipeline.run_key(request, request.config, loaded)


def test_that_a_budget_ended_a_fold_is_not_forgotten_by_the_process_that_goes_on(tmp_path: Path) -> None:
    from train.publishing.pipeline import Budget

    over = Budget(1e-9, 4, tmp_path)
    assert not over.ran_out and over.stop()() and over.ran_out
    again = Budget(1e-9, 4, tmp_path)
    assert again.on_card["ended_by_budget"] and again.limits
    assert not Budget(60.0, 4, tmp_path).ran_out and not Budget(None, 1, tmp_path).ran_out


def test_a_run_that_was_killed_goes_on_with_the_fold_it_stood_at(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.fitting import folds
    from train.fitting.fit import fit, logits_of
    from train.fitting.folds import cross_validate, stored
    from train.publishing import pipeline
    from train.recipe.request import FitRequest

    request = FitRequest(
        "cnn", Modality.MAMMOGRAPHY, init="random", epochs=1, side=32, folds=FOLDS, data=dataset / "manifest.csv"
    )
    loaded = pipeline.load_cases(request, request.config)
    fitted: list[str] = []
    # As of a network with a branch without which every logit is half of what it is.
    monkeypatch.setattr(folds, "logits_without", lambda graph, pixels: {"one": logits_of(stored(graph), pixels) / 2})

    def fit_one(squares: Any, folder: Path, stop: Any, head_epochs: int | None) -> Any:
        fitted.append(folder.name)
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return fit(request.config, squares, start=lambda graph: "random", folder=folder, stop=stop)

    with pytest.raises(KeyboardInterrupt):
        cross_validate(loaded.squares, FOLDS, fit_one, tmp_path / "work", key="k")
    assert sorted(path.name for path in (tmp_path / "work" / "fold0").glob("*.csv")) == [
        "test_logits.csv",
        "test_without_one_logits.csv",
        "validation_logits.csv",
    ]
    resumed = cross_validate(loaded.squares, FOLDS, fit_one, tmp_path / "work", key="k")
    assert fitted == ["fold0", "fold1", "fold2", "fold2", "all"]
    fitted[:] = [""] * 3
    whole = cross_validate(loaded.squares, FOLDS, fit_one, tmp_path / "work", key="another")
    assert fitted[3:] == ["fold0", "fold1", "fold2", "all"]  # of another run, nothing is taken
    pd.testing.assert_frame_equal(resumed.test_scores, whole.test_scores, atol=1e-5)
    assert resumed.thresholds == pytest.approx(whole.thresholds, abs=1e-5)
    pd.testing.assert_frame_equal(resumed.test_without["one"], whole.test_without["one"], atol=1e-5)
    assert list(whole.test_without["one"]["case"]) == list(whole.test_scores["case"])
    assert not np.allclose(whole.test_without["one"]["malignant"], whole.test_scores["malignant"])
    told = tmp_path / "work" / "fold1" / "fold.json"
    told.write_text(
        json.dumps({name: value for name, value in json.loads(told.read_text()).items() if name != "without"})
    )
    fitted[:] = [""] * 3
    cross_validate(loaded.squares, FOLDS, fit_one, tmp_path / "work", key="another")
    assert fitted[3:] == ["fold1", "all"]  # a fold of an earlier version did not leave its branches out


def test_folds_that_another_process_fits_give_the_same_model(
    card: cards.Card, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.publishing import pipeline
    from train.recipe.request import FitRequest

    request = FitRequest(
        "cnn", Modality.MAMMOGRAPHY, init="random", epochs=2, side=32, folds=FOLDS, data=dataset / "manifest.csv",
        out=tmp_path / "weights", work=tmp_path / "work",
    )  # fmt: skip
    fit, by = pipeline.fit, []
    main_thread = threading.current_thread()

    def counted(*arguments: Any, folder: Path, **more: Any) -> Any:
        by.append((folder.name, threading.current_thread() is main_thread))
        while folder.name == "fold0" and not (tmp_path / "work" / "fold2" / "fold.json").exists():
            time.sleep(0.05)
        return fit(*arguments, folder=folder, **more)

    monkeypatch.setattr(pipeline, "fit", counted)
    with ThreadPoolExecutor(1) as pool:
        leads = pool.submit(pipeline.train_model, request, tmp_path / "work")
        while not by:
            time.sleep(0.05)
        pipeline.join_folds(request, tmp_path / "work")
        leads.result(300)
    assert sorted(by) == [("all", False), ("fold0", False), ("fold1", True), ("fold2", True)]
    shared = cards.read_card(tmp_path / "weights" / "mammography-cnn")
    assert shared.folds.thresholds == pytest.approx(card.folds.thresholds, abs=1e-5)
    scores, expected = cards.read_test_scores(shared), cards.read_test_scores(card)
    assert scores is not None and expected is not None
    pd.testing.assert_frame_equal(scores, expected, atol=1e-5)


def test_frozen_views_are_made_once_for_all_folds(dataset: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from core.models.registry import architecture
    from train.datasets.cases import fold_splits
    from train.fitting.feature_cache import FeatureCache
    from train.fitting.folds import on_all_cases
    from train.fitting.inputs import Views
    from train.fitting.network import make_trainable
    from train.publishing import pipeline
    from train.recipe.request import FitRequest

    request = FitRequest(
        "efficientnet_lite0", Modality.MAMMOGRAPHY, init="random", side=32, folds=FOLDS, data=dataset / "manifest.csv"
    )
    squares = pipeline.load_cases(request, request.config).squares
    graph = architecture("efficientnet_lite0").build(side=32, channels=1, outputs=1)
    trainable = make_trainable(graph, frozen="blocks", freeze_batch_norm=False, unfreeze=2)
    config = replace(request.config, frozen="blocks", unfreeze=2, views=2)
    cache = FeatureCache(tmp_path)
    plain = Views(trainable, replace(squares, cases=squares.cases.drop(columns="fold"),
                                     splits=fold_splits(squares.cases, 1, FOLDS).to_numpy()), config, None)  # fmt: skip
    for splits in (fold_splits(squares.cases, number, FOLDS).to_numpy() for number in range(FOLDS)):
        views = Views(trainable, replace(squares, splits=splits), config, cache)
        assert len(views.cases) == (splits == "train").sum()
    Views(trainable, on_all_cases(squares), config, cache)
    assert len(list(tmp_path.glob("*/complete"))) == config.views
    views = Views(trainable, replace(squares, splits=fold_splits(squares.cases, 1, FOLDS).to_numpy()), config, cache)
    for one, other in zip(views.samples(1), plain.samples(1), strict=True):
        np.testing.assert_allclose(np.float32(one[0]), np.float32(other[0]), atol=1e-2)
