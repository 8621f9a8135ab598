"""docs/results.md: every model, its figures from its scores, what was published beside them, the two lessons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.evaluation.published import figures_of, published
from core.evaluation.statistics.metrics import evaluate_binary
from core.models import cards
from core.models.registry import ARCHITECTURES
from core.settings import REPOSITORY
from train.__main__ import main
from train.publishing.evaluate import measure
from train.publishing.results import as_text, breasts_of, difference_text, parts_table, results_page, table, why

CLASSES = ("benign", "malignant", "normal")


def write_model(
    weights: Path, model_id: str, architecture: str, *, skill: float, modality: str = "ultrasound", **data: object
) -> cards.Card:
    """A card with made-up scores of 90 cases; `skill` is how much its network knows."""
    rng = np.random.default_rng(len(model_id))
    labels = np.random.default_rng(7).integers(0, 3, 90)
    values = rng.dirichlet([1, 1, 1], 90) + skill * np.eye(3)[labels]
    values /= values.sum(1, keepdims=True)
    scores = pd.DataFrame({"case": [f"{n}.png" for n in range(90)], "patient": [f"p{n // 2}" for n in range(90)]})
    scores["label"] = [CLASSES[label] for label in labels]
    scores[list(CLASSES)] = values.round(6)
    counts = {name: int((scores["label"] == name).sum()) for name in CLASSES}
    raw = {
        "model_id": model_id,
        "title": architecture,
        "architecture": architecture,
        "modality": modality,
        "classes": CLASSES,
        "positive": "malignant",
        "input": {"side": 32, "channels": 1},
        "weights": {"sha256": "ab" * 32, "files": []},
        "calibration": {"slope": 1.0, "biases": [0, 0, 0], "samples": []},
        "threshold": {"value": 0.5, "rule": "made up"},
        "initialisation": "random",
        "training": {"minutes": 3.4, "command": "python -m train fit …"},
        "data": {"name": "BUSI", "n": 450, "patients": 300, "split_by": "group", "splits": {"test": counts}} | data,
        "limits": [],
    }
    folder = weights / model_id
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(raw))
    scores.to_csv(folder / "abababab.test_scores.csv", index=False)
    return cards.read_card(folder)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    write_model(tmp_path, "ultrasound-vgg19", "vgg19", skill=0.5)
    write_model(tmp_path, "ultrasound-residual25", "residual25", skill=1.0)
    write_model(tmp_path, "ultrasound-plain25", "plain25", skill=0.0)
    leaks = [{"check": "group in two splits", "n": 41, "sentence": "…"}]
    write_model(tmp_path, "ultrasound-efficientnet_lite0-by-image", "efficientnet_lite0", skill=1.0, leaks=leaks)
    write_model(tmp_path, "ultrasound-efficientnet_lite0-by-group", "efficientnet_lite0", skill=0.3)
    return tmp_path


def test_figures_come_from_the_scores_with_their_intervals(weights: Path) -> None:
    page = results_page(weights)
    card = cards.read_card(weights / "ultrasound-vgg19")
    scores = cards.read_test_scores(card)
    assert scores is not None
    area = evaluate_binary(
        (scores["label"] == "malignant").to_numpy().astype(int), scores["malignant"].to_numpy(), scores["patient"]
    )["auc"]
    row = next(line for line in page.splitlines() if line.startswith("| `ultrasound-vgg19`"))
    assert as_text(area) in row and "not shipped: about 3 min to train" in row
    assert page.count("Not trained yet") >= 3  # the models of ultrasound, and the two other modalities


def test_the_published_figure_stands_beside_ours_with_one_sentence(weights: Path) -> None:
    page = results_page(weights)
    row = next(line for line in page.splitlines() if line.startswith("| `ultrasound-vgg19`") and ".927" in line)
    assert "kappa" in row and "Ours is of BUSI, split by group, from random weights" in row
    assert row.rstrip(" |").endswith(".")
    card = cards.read_card(weights / "ultrasound-vgg19")
    (hospital,) = figures_of("cnn2", "ultrasound")
    assert "and ultrasound instead of mammography" in why(card, hospital)


def test_the_two_lessons_are_tables_with_a_paired_difference(weights: Path) -> None:
    lessons = results_page(weights).split("## Two lessons")[1].split("## What figures")[0]
    assert "| by image | `ultrasound-efficientnet_lite0-by-image` | 41 |" in lessons
    assert "| with skips | `ultrasound-residual25` | 0 |" in lessons
    first, second = (cards.read_card(weights / f"ultrasound-{name}25") for name in ("residual", "plain"))
    sentence = difference_text(first, second)
    assert sentence in lessons and "On the 90 cases" in sentence and "+0." in sentence
    rest = results_page(weights).replace(lessons, "")
    assert "by-image" not in rest  # what leaks on purpose is not among the models


def test_scores_on_another_collection_are_shown_apart(weights: Path) -> None:
    assert "No model has been measured on another collection" in results_page(weights)
    folder = weights / "ultrasound-vgg19"
    scores = pd.read_csv(folder / "abababab.test_scores.csv").assign(source="Elsewhere")
    scores.to_csv(folder / "abababab.on-12345678.test_scores.csv", index=False)
    elsewhere = results_page(weights).split("## On other collections")[1]
    assert "| `ultrasound-vgg19` | Elsewhere | 90 " in elsewhere


def test_models_of_other_cases_stand_in_a_table_of_their_own(weights: Path) -> None:
    write_model(weights, "ultrasound-cnn", "cnn", skill=0.5, name="BUS-BRA", n=90)
    lines = results_page(weights).splitlines()
    at = {
        start: next(n for n, one in enumerate(lines) if one.startswith(start))
        for start in ("BUS-BRA: ", "| `ultrasound-cnn`", "BUSI: ", "| `ultrasound-vgg19`")
    }
    assert list(at.values()) == sorted(at.values())


def with_columns(card: cards.Card, **columns: object) -> pd.DataFrame:
    path = card.folder / "abababab.test_scores.csv"
    scores = pd.read_csv(path).assign(**columns)
    scores.to_csv(path, index=False)
    return scores


def test_each_hospital_has_its_figures_from_fifty_cases_on(weights: Path) -> None:
    card = cards.read_card(weights / "ultrasound-vgg19")
    scores = with_columns(card, source=["A"] * 50 + ["B"] * 40)
    rows = [line for line in parts_table([card]) if "| source " in line]
    assert len(rows) == 1, "B has 40 cases"
    part = scores[:50]
    benign = part[part["label"] != "normal"]
    expected = [measure(card, one).scorers[0].measures["auc"] for one in (part, benign)]
    assert rows[0].startswith(f"| `ultrasound-vgg19` | source A | 50 ({(part['label'] == 'malignant').sum()}) | ")
    assert f"| {as_text(expected[0])} | {as_text(expected[1])} |" in rows[0]
    with_columns(card, source=["A"] * 40 + ["B"] * 50)
    assert [line.split(" | ")[1] for line in parts_table([card]) if "| source " in line] == ["source B"]
    with_columns(card, source="A")
    assert parts_table([card]) == ["No model has test cases of several hospitals, or of breasts with several views."], (
        "one hospital is the whole, which stands above"
    )


def test_a_breast_is_the_mean_of_its_views_and_positive_where_one_of_them_is() -> None:
    card = cards.read_card(REPOSITORY / "weights" / "mammography-exam-rsna")
    views = pd.DataFrame(
        [
            ("a", "1", "L", "not_malignant", 0, 0.8, 0.2),
            ("b", "1", "L", "malignant", 0, 0.4, 0.6),
            ("c", "1", "R", "not_malignant", 0, 0.9, 0.1),
            ("d", "2", "L", "not_malignant", 1, 0.7, 0.3),
        ],
        columns=["case", "patient", "laterality", "label", "fold", "not_malignant", "malignant"],
    )
    breasts = breasts_of(card, views).set_index(["patient", "laterality"])
    assert breasts["malignant"].round(6).to_dict() == {("1", "L"): 0.4, ("1", "R"): 0.1, ("2", "L"): 0.3}
    assert breasts["label"].to_dict() == {
        ("1", "L"): "malignant",
        ("1", "R"): "not_malignant",
        ("2", "L"): "not_malignant",
    }
    assert breasts["fold"].to_dict() == {("1", "L"): 0, ("1", "R"): 0, ("2", "L"): 1}


def test_every_published_figure_is_of_a_network_that_is_here() -> None:
    known = {entry.id for entry in ARCHITECTURES}
    for figure in published().figures:
        assert set(figure.architectures) <= known and figure.reason and (figure.measures or figure.words)
        assert all(0 < value <= 1 for value in figure.measures.values())
    assert figures_of("vgg19", "ultrasound")[0].measures["macro_auc"] == 0.927
    assert figures_of("fusion", "mammography")[0].words and not figures_of("cnn4", "ultrasound")
    assert {one.modality for one in published().ceilings} >= {"ultrasound", "mammography", "histology"}
    assert published().without_counterpart


def test_a_bar_in_a_cell_does_not_end_the_cell() -> None:
    assert table(("a",), [("x|y",)])[-1] == "| x\\|y |"


def test_the_page_in_the_repository_is_what_the_command_writes(tmp_path: Path) -> None:
    assert main(["results", "--out", str(tmp_path / "results.md")]) == 0
    written = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert written == (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8"), "run python -m train results"
