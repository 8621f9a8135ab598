"""The worth of descriptors on lesions of which it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import made_card
from made_lesions import ellipse, picture, spiky
from PIL import Image as Raster

from core.errors import InvalidInput
from core.evaluation.statistics.agreement import weighted_kappa
from core.evaluation.statistics.intervals import Bootstrap
from core.evaluation.tables.cohort import FINDING_SCORERS
from train.datasets.manifest import read_manifest
from train.publishing.descriptors import (
    across,
    as_categories,
    finding_scores,
    in_folds,
    measure_cases,
    numbers_of,
    replaced,
)


def numbers(n: int = 120) -> pd.DataFrame:
    """Half of them malignant with a larger margin.lobes, in four folds and two collections; the echo tells nothing."""
    rng = np.random.default_rng(0)
    malignant = np.arange(n) % 2 == 1
    return pd.DataFrame({
        "case": [f"{number}.png" for number in range(n)], "patient": [f"p{number // 2}" for number in range(n)],
        "label": np.where(malignant, "malignant", "benign"), "source": np.where(np.arange(n) < n // 2, "A", "B"),
        "fold": np.arange(n) // 2 % 4, "image": rng.normal(size=n),
        "margin.lobes": rng.normal(size=n) + 2 * malignant, "echo pattern.level": rng.normal(size=n),
    })  # fmt: skip


def auc(cases: pd.DataFrame, scores: np.ndarray) -> float:
    positive = (cases["label"] == "malignant").to_numpy()
    return float((scores[positive][:, None] > scores[~positive][None]).mean())


def test_lesions_of_a_manifest_are_measured_in_their_outlines(tmp_path: Path) -> None:
    rows = []
    for name, label, mask in (("a", "benign", ellipse()), ("b", "malignant", spiky(8, 0.5, 9))):
        Raster.fromarray(np.round(picture(mask) * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
        Raster.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"{name}_mask.png")
        rows.append({"file": f"{name}.png", "label": label, "mask": f"{name}_mask.png", "source": "made"})
    rows.append({"file": "c.png", "label": "normal", "mask": "", "source": "made"})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    found = measure_cases(read_manifest(tmp_path / "manifest.csv")).set_index("case")
    assert found["shape"].to_dict() == {"a.png": "oval", "b.png": "irregular"}
    assert found["margin"].to_dict() == {"a.png": "circumscribed", "b.png": "spiculated"}
    assert found.loc["a.png", "orientation.width_to_depth"] == pytest.approx(80 / 50, abs=0.05)
    assert not [name for name in numbers_of(found) if name.startswith("size")]


def test_a_manifest_without_outlines_is_refused(tmp_path: Path) -> None:
    pd.DataFrame([{"file": "a.png", "label": "benign"}]).to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(InvalidInput, match="no column mask"):
        measure_cases(read_manifest(tmp_path / "manifest.csv"))


def test_a_model_of_the_other_folds_finds_what_tells_and_nothing_where_nothing_does() -> None:
    cases = numbers()
    assert auc(cases, in_folds(cases, ["margin.lobes", "echo pattern.level"])) > 0.85
    assert 0.3 < auc(cases, in_folds(cases, ["echo pattern.level"])) < 0.7


def test_a_fold_s_own_labels_do_not_reach_its_scores() -> None:
    cases = numbers()
    other = cases.assign(label=np.where(cases["fold"] == 0, "benign", cases["label"]))
    own = (cases["fold"] == 0).to_numpy()
    before, after = in_folds(cases, ["margin.lobes"]), in_folds(other, ["margin.lobes"])
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


def test_across_fits_on_one_collection_and_scores_only_the_others() -> None:
    cases = numbers()
    others, scores = across(cases, ["margin.lobes"], "A")
    assert others.tolist() == (cases["source"] == "B").tolist()
    changed = cases.assign(label=np.where(others, "benign", cases["label"]))
    assert np.array_equal(across(changed, ["margin.lobes"], "A")[1], scores)


def test_categories_are_given_as_often_as_the_readers_gave_them() -> None:
    given = np.array(["2"] * 40 + ["3"] * 30 + ["4"] * 20 + ["5"] * 10)
    found = as_categories(np.random.default_rng(0).permutation(100).astype(float), given)
    assert np.bincount(found).tolist() == [40, 30, 20, 10]


def test_weighted_kappa_is_that_of_scikit_learn_and_one_for_the_same() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(1)
    one = rng.integers(0, 4, 200)
    other = np.where(rng.random(200) < 0.6, one, rng.integers(0, 4, 200))
    bootstrap = Bootstrap(np.arange(200) // 2, 200, resamples=200)
    found = weighted_kappa(one, other, 4, bootstrap)
    assert found.value == pytest.approx(cohen_kappa_score(one, other, weights="quadratic"), abs=1e-6)
    assert found.low < found.value < found.high < 1
    assert weighted_kappa(one, one, 4, bootstrap).value == 1
    assert np.isnan(weighted_kappa(np.ones(200, int), np.ones(200, int), 4, bootstrap).value)


def test_only_the_named_place_of_a_page_is_written_and_a_page_without_it_refused() -> None:
    page = "before\n<!-- x -->\nold\n<!-- end of x -->\nafter\n"
    assert replaced(page, "x", ["new"]) == "before\n<!-- x -->\nnew\n<!-- end of x -->\nafter\n"
    with pytest.raises(InvalidInput, match="no place for y"):
        replaced(page, "y", [])


def test_scores_for_the_comparison_are_those_of_the_page_by_the_image_model_s_cases(tmp_path: Path) -> None:
    measured = numbers()
    folds = measured.pop("fold").to_numpy()
    measured = measured.drop(columns="image")
    card = made_card(tmp_path)
    odd = pd.DataFrame({"case": "no outline", "patient": "x", "label": "benign"}, index=[0])
    keys = pd.concat([odd, measured[["case", "patient", "label"]].iloc[::-1]])
    keys.assign(fold=[0, *folds[::-1]], benign=0.4, malignant=0.6).to_csv(
        tmp_path / "eeeeeeee.test_scores.csv", index=False
    )
    found = finding_scores(measured, card)
    assert list(found.columns) == ["case", "patient", "label", *FINDING_SCORERS] and len(found) == len(measured)
    expected = in_folds(measured.assign(fold=folds), numbers_of(measured))
    assert found.set_index("case")[FINDING_SCORERS[0]][measured["case"]].to_numpy() == pytest.approx(expected, abs=1e-5)
