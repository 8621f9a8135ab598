"""An ensemble as a published model: made of its members' scores, live through its members' predictions."""

from __future__ import annotations

import json
import re
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from page_site import release
from PIL import Image as Raster

from core.errors import InvalidInput
from core.models import cards
from core.models.calibration import log_odds
from core.models.card_cases import read_cases
from core.models.cards import read_card
from core.models.ensemble import Ensemble
from core.models.loaded import load_model
from core.settings import Settings
from core.types import Image, Modality
from train.__main__ import main
from train.publishing import publish
from train.publishing.backfill import amend
from train.publishing.ensembles import ensemble_title, is_made, make_ensemble

MEMBERS = ("one", "other")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(4)
    rows = []
    for number in range(60):
        pixels = np.asarray(Raster.fromarray((rng.random((9, 9)) * 160).astype(np.uint8)).resize((48, 48))).copy()
        if number % 2:
            row, column = rng.integers(4, 34, 2)
            pixels[row : row + 10, column : column + 10] = 250
        Raster.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "label": ("benign", "malignant")[number % 2], "patient": f"p{number}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def weights(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small networks of different squares, and their ensemble."""
    out = tmp_path_factory.mktemp("weights")
    for name, side in zip(MEMBERS, ("32", "48"), strict=True):
        words = ["fit", "cnn2", "--modality", "ultrasound", "--data", str(dataset / "manifest.csv"), "--name", name]
        assert main([*words, "--out", str(out), "--init", "random", "--epochs", "2", "--side", side]) == 0
    assert main(["ensemble", *MEMBERS, "--name", "both", "--out", str(out), "--method", "weighted"]) == 0
    return out


def test_the_card_names_members_with_their_weights_and_what_was_fitted_on_validation(weights: Path) -> None:
    card = cards.read_card(weights / "both")
    hashes = {name: cards.read_card(weights / name).weights_sha256 for name in MEMBERS}
    assert {one.model_id: one.weights_sha256 for one in card.members} == hashes
    assert sum(card.ensemble.weights) == pytest.approx(1)
    assert card.ensemble.validation_n == sum(card.data.cases_in("validation").values())
    assert card.has_weights and not list(card.folder.glob("*.safetensors"))
    assert card.model_id in {live.model_id for live in cards.runnable_cards(Settings(weights_dir=weights))}
    assert is_made(MEMBERS, "weighted", weights, name="both")
    assert not is_made(MEMBERS, "soft", weights, name="both")


@pytest.mark.parametrize(
    ("model_id", "title"),
    [
        ("x-ensemble", "Ensemble of 2 (soft voting)"),
        ("x-ensemble-two-sites", "Ensemble of 2 (soft voting, two sites)"),
        ("both", "Ensemble of 2 (soft voting)"),
    ],
)
def test_two_ensembles_of_one_kind_are_told_apart_by_their_titles(model_id: str, title: str) -> None:
    assert ensemble_title(model_id, "x", 2, "soft") == title


def test_a_card_gets_the_title_that_tells_its_ensemble_apart(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "weights"
    shutil.copytree(weights, copy)
    card = make_ensemble(MEMBERS, "soft", copy, name="ultrasound-ensemble-new").parent
    content = json.loads((card / "card.json").read_text())
    (card / "card.json").write_text(json.dumps({**content, "title": "Ensemble of 2 (soft voting)"}))
    assert "Title: Ensemble of 2 (soft voting, new)." in amend(card)
    assert read_card(card).title == content["title"] == "Ensemble of 2 (soft voting, new)"
    assert amend(card) == []


def test_an_ensemble_never_takes_the_name_of_a_member(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "weights"
    shutil.copytree(weights, copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(InvalidInput, match="one is one of the members"):
        make_ensemble(MEMBERS, "soft", copy, name="one")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_two_that_are_published_under_one_name_at_once_leave_one_whole_model(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, other_is_done, write = tmp_path / "weights", threading.Event(), publish.write_card
    shutil.copytree(weights, copy)

    def slow_write(folder: Path, card: dict) -> None:
        if card["ensemble"]["method"] == "soft":
            other_is_done.wait(2)  # which it is not before this one is, or comes between
        write(folder, card)

    monkeypatch.setattr(publish, "write_card", slow_write)
    first = threading.Thread(target=lambda: make_ensemble(MEMBERS, "soft", copy, name="new"))
    first.start()
    while not list(copy.glob("new/*.validation_scores.csv")):
        assert first.is_alive()
    make_ensemble(MEMBERS, "weighted", copy, name="new")
    other_is_done.set()
    first.join(60)
    card = cards.read_card(copy / "new")
    assert cards.read_test_scores(card) is not None and read_cases(card) is not None
    assert len(list(card.folder.iterdir())) == 4


def test_a_model_is_published_only_when_nobody_else_publishes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun = threading.Event()

    def begin(_: object) -> None:
        has_begun.set()
        raise InvalidInput("Far enough.")

    def attempt() -> None:
        with pytest.raises(InvalidInput):
            publish.publish(SimpleNamespace(model_id="one"), {}, tmp_path)

    monkeypatch.setattr(publish, "to_float16", begin)
    waiting = threading.Thread(target=attempt)
    with publish.publishing(tmp_path):
        waiting.start()
        assert not has_begun.wait(0.5)
    assert has_begun.wait(60)
    waiting.join(60)


def test_it_lists_the_cases_of_its_members_also_afterwards(weights: Path, dataset: Path, tmp_path: Path) -> None:
    listed = [read_cases(cards.read_card(weights / name)) for name in (*MEMBERS, "both")]
    assert listed[0] is not None and listed[0].equals(listed[1]) and listed[0].equals(listed[2])
    again = tmp_path / "weights"
    shutil.copytree(weights, again)
    for path in again.glob("*/*.cases.csv"):
        path.unlink()
    assert main(["cases", "both", "--data", str(dataset), "--weights", str(again)]) == 1  # its members' come first
    assert main(["cases", "--data", str(dataset), "--weights", str(again)]) == 0
    assert (again / "both" / "card.json").read_bytes() == (weights / "both" / "card.json").read_bytes()


def test_its_test_scores_are_the_members_combined_and_calibrated(weights: Path) -> None:
    card = cards.read_card(weights / "both")
    tables = {name: cards.read_test_scores(cards.read_card(weights / name)) for name in MEMBERS}
    combined = Ensemble.from_card(card.ensemble.model_dump()).combine(tables)  # type: ignore[arg-type]
    expected = card.calibration.probabilities(log_odds(combined[list(card.classes)].to_numpy()))
    scores = cards.read_test_scores(card)
    assert scores is not None
    np.testing.assert_allclose(scores[list(card.classes)].to_numpy(), expected, atol=2e-6)


def test_a_live_ensemble_answers_what_its_table_says(weights: Path, dataset: Path) -> None:
    card = cards.read_card(weights / "both")
    scores = cards.read_test_scores(card)
    assert scores is not None
    model = load_model(card)
    for row in scores.head(3).itertuples():
        pixels = np.asarray(Raster.open(dataset / row.case), np.float32) / 255
        prediction, explanation = model.read(Image(pixels, "0" * 64, Modality.ULTRASOUND))
        assert prediction.model_id == "both" and prediction.weights_sha256 == card.weights_sha256
        assert prediction.malignant == pytest.approx(row.malignant, abs=5e-3)
        assert prediction.interval[0] <= prediction.malignant <= prediction.interval[1]
        assert "fused" in explanation.maps


def test_evaluate_scores_an_ensemble_by_its_members(weights: Path, dataset: Path) -> None:
    words = ["evaluate", "both", "--data", str(dataset / "manifest.csv"), "--weights", str(weights)]
    out = weights.parent / "scores.csv"
    assert main([*words, "--out", str(out)]) == 0
    fresh, stored = pd.read_csv(out), cards.read_test_scores(cards.read_card(weights / "both"))
    assert stored is not None
    np.testing.assert_allclose(fresh["malignant"], stored["malignant"], atol=1e-4)


def test_an_ensemble_whose_member_changed_is_not_live(weights: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(weights, tmp_path / "weights"))
    raw = json.loads((copy / "one" / "card.json").read_text())
    raw["weights"]["sha256"] = "0" * 64
    (copy / "one" / "card.json").write_text(json.dumps(raw))
    assert not cards.read_card(copy / "both").has_weights
    assert not is_made(MEMBERS, "weighted", copy, name="both")


def test_models_that_tell_other_classes_apart_are_not_combined(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ensemble", "one", "both", "--name", "x", "--out", str(weights)]) == 1
    assert "cannot be a member" in capsys.readouterr().err
    assert main(["ensemble", "one", "../two", "--name", "x", "--out", str(weights)]) == 1


def test_an_ensemble_leaks_where_any_of_its_members_does_and_says_each_leak_once(tmp_path: Path) -> None:
    shared, own = "3 patients lie in two splits.", "2 pictures are nearly the same."
    for name, sha256, leaks in (("one", "ab", []), ("other", "cd", [shared]), ("third", "ef", [shared, own])):
        release(tmp_path, f"ultrasound-{name}", sha256=sha256 * 32, leaks=leaks)
        scores = tmp_path / f"ultrasound-{name}" / f"{sha256 * 4}.validation_scores.csv"
        scores.write_text(re.sub(r"^c(\d+),p", r"v\1,q", scores.read_text(), flags=re.MULTILINE))
    expected = {("one", "other"): (shared,), ("other", "third"): (shared, own), ("third", "one"): (shared, own)}
    for members, leaks in expected.items():
        names = [f"ultrasound-{member}" for member in members]
        assert main(["ensemble", *names, "--name", "all", "--out", str(tmp_path), "--method", "soft"]) == 0
        made = cards.read_card(tmp_path / "all")
        assert cards.leaks_of(made) == leaks and "leaks" in made.limits[0]
