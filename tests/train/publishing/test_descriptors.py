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
from core.findings.ultrasound_descriptors import WORDS
from train.datasets.manifest import Manifest, read_manifest
from train.publishing.descriptors import (
    across,
    as_categories,
    finding_scores,
    in_folds,
    measure_cases,
    numbers_of,
    replaced,
    with_known_scores,
)
from train.publishing.proposed_descriptors import (
    MeasuredProposals,
    Proposed,
    measure_proposals,
    proposed_page,
    transferred,
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


def test_scores_of_other_scorers_are_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    keys = pd.DataFrame({"case": ["b", "a"], "patient": ["p", "q"], "label": ["benign", "malignant"]})
    first, again = keys.assign(one=[0.1, 0.2]), keys.iloc[1:].assign(other=0.7)
    assert with_known_scores(path, first) is first
    first.to_csv(path, index=False)
    both = with_known_scores(path, again)
    assert both.columns.tolist() == ["case", "patient", "label", "one", "other"] and both["case"].tolist() == ["b", "a"]
    assert both["one"].tolist() == [0.1, 0.2] and both["other"].fillna(0).tolist() == [0, 0.7]
    assert with_known_scores(path, keys.assign(one=[0.3, 0.4]))["one"].tolist() == [0.3, 0.4]


def lesions(folder: Path) -> tuple[Manifest, dict[str, Proposed]]:
    """Four lesions that readers drew as ellipses; a network draws the first smaller, spikes on the second, beside the
    third and nothing in the fourth."""
    rows = []
    for name, label in zip("abcd", ("benign", "malignant") * 2, strict=True):
        mask = ellipse()
        Raster.fromarray(np.round(picture(mask) * 255).astype(np.uint8)).save(folder / f"{name}.png")
        Raster.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}_mask.png")
        rows.append({"file": f"{name}.png", "label": label, "mask": f"{name}_mask.png", "source": "made"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    proposed = {
        "a.png": Proposed(ellipse(70, 45), 1), "b.png": Proposed(spiky(8, 0.5, 9), 1),
        "c.png": Proposed(ellipse(60, 40, (150, 60)), 2), "d.png": Proposed(None, 0),
    }  # fmt: skip
    return read_manifest(folder / "manifest.csv"), proposed


def test_lesions_are_measured_in_what_a_network_proposes_and_those_without_are_counted(tmp_path: Path) -> None:
    manifest, proposed = lesions(tmp_path)
    found = measure_proposals(manifest, proposed)
    assert found.measured["case"].tolist() == ["a.png", "b.png", "c.png"]
    measured = found.measured.set_index("case")
    assert measured.loc["b.png", "margin"] == "spiculated", "what the reader drew is an ellipse"
    assert measured.loc["a.png", "orientation.width_to_depth"] == pytest.approx(70 / 45, abs=0.05)
    assert found.lesions["is_outlined"].tolist() == [True, True, True, False]
    assert found.lesions["is_lesion"].tolist() == [True, True, False, False]
    del proposed["a.png"]  # nobody was asked about it, so it is not one without an outline
    assert measure_proposals(manifest, proposed).lesions["case"].tolist() == ["b.png", "c.png", "d.png"]


def test_on_the_shipped_network_s_test_cases_nothing_of_their_patients_was_fitted(tmp_path: Path) -> None:
    measured = numbers(600)
    folds = measured.pop("fold").to_numpy()
    measured = measured.drop(columns="image").assign(**dict.fromkeys(WORDS, ""))
    card = made_card(tmp_path)
    keys = measured[["case", "patient", "label"]]
    image = np.random.default_rng(2).random(len(keys)).round(3)
    keys.assign(fold=folds, benign=1 - image, malignant=image).to_csv(
        tmp_path / "eeeeeeee.test_scores.csv", index=False
    )
    lesions = keys.assign(source=measured["source"], is_outlined=True, is_lesion=True)
    chosen = np.arange(len(measured)) % 5 == 0  # the other lesion of each of these patients is among the others
    shipped = MeasuredProposals(lesions[chosen], own := measured[chosen])
    cases, scores = transferred(measured, shipped, card)
    assert cases["case"].tolist() == own["case"].tolist() and set(scores) == {"image model", "descriptors", "both"}
    turned = measured.assign(
        label=np.where(measured["patient"].isin(own["patient"]), "benign", measured["label"])
    )  # another truth of the tested patients
    again = transferred(turned, shipped, card)[1]
    assert all(np.array_equal(scores[name], again[name]) for name in scores)
    other = measured.assign(label=np.where(measured["patient"].isin(own["patient"]), measured["label"], "benign"))
    other.loc[other.index[3], "label"] = "malignant"
    changed = transferred(other, shipped, card)[1]
    assert not np.array_equal(scores["descriptors"], changed["descriptors"]), "the others' truth is what is fitted"
    lesions.loc[0, "is_outlined"] = False
    unseen, shipped = MeasuredProposals(lesions, measured), MeasuredProposals(lesions[chosen], own)
    page = "\n".join(proposed_page(shipped, measured, card, unseen))
    assert "| the shipped network, its own test cases | A | benign | 30 | .033 (" in page
    assert "| a network fitted without them | B | benign | 150 | .000 (" in page
    assert page.count("| descriptors | A |") == 2 and "| descriptors | A | 300 |" in page
    alone = "\n".join(proposed_page(shipped, measured, card))
    assert "fitted without them" not in alone and alone.count("| descriptors | A | 60 |") == 2
