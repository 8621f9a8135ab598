"""What test cases are grouped by: words of the manifest and how much of the picture a lesion covers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from core.evaluation.statistics.subgroups import subgroups
from core.evaluation.tables.scores import read_scores
from train.datasets.cases import lesion_size, with_subgroups


def drawn(folder: Path, name: str, rows: int, *, side: int = 100) -> str:
    mask = np.zeros((side, side), np.uint8)
    mask[:rows] = 255
    Raster.fromarray(mask).save(folder / name)
    return name


def test_words_are_kept_and_numbers_notes_and_single_values_are_not(tmp_path: Path) -> None:
    scores = pd.DataFrame({"case": list("badce"), "patient": list("21435"), "label": list("xyxyx"), "x": [0.1] * 5})
    cases = pd.DataFrame(
        {
            "file": list("abcdef"), "label": list("yxyxxx"), "density": ["A", "B", "A", "B", "", "C"],
            "view": ["CC"] * 6, "n_masks": list("121211"), "note": ["one", "two"] * 3, "patient": list("123456"),
        }
    )  # fmt: skip
    grouped = with_subgroups(scores, cases, tmp_path)
    assert list(grouped.columns) == ["case", "patient", "label", "x", "density"]
    assert list(grouped["density"]) == ["B", "A", "B", "A", ""]  # by case, not by place


def test_a_column_that_could_name_a_patient_is_left_out(tmp_path: Path) -> None:
    scores = pd.DataFrame({"case": list("abcd"), "patient": list("1122"), "label": list("xyxy"), "x": [0.1] * 4})
    cases = pd.DataFrame({"file": list("abcd"), "label": list("xyxy"), "called": ["Anna", "Anna", "Bea", "Bea"]})
    assert "called" not in with_subgroups(scores, cases, tmp_path)
    apart = scores.assign(patient=list("1234"))
    assert "called" in with_subgroups(apart, cases, tmp_path)  # two patients each: a group


@pytest.mark.parametrize(("rows", "words"), [(1, "under 2 %"), (2, "2 to 10 %"), (9, "2 to 10 %"), (10, "over 10 %")])
def test_the_size_of_a_lesion_is_its_share_of_the_picture(tmp_path: Path, rows: int, words: str) -> None:
    assert lesion_size(tmp_path, drawn(tmp_path, "m.png", rows), "benign") == f"{words} of the picture"


def test_several_outlines_count_together_and_none_is_no_size(tmp_path: Path) -> None:
    both = f"{drawn(tmp_path, 'm.png', 1)}|{drawn(tmp_path, 'n.png', 12)}"
    assert lesion_size(tmp_path, both, "malignant") == "over 10 % of the picture"
    assert lesion_size(tmp_path, "", "normal") == "none"
    assert lesion_size(tmp_path, "", "malignant") == ""
    assert lesion_size(tmp_path, "absent.png", "malignant") == ""


def test_a_table_with_subgroups_is_read_with_the_same_scorers(tmp_path: Path) -> None:
    scores = pd.DataFrame(
        {"case": list("abcd"), "patient": list("abcd"), "label": [0, 1, 0, 1], "model": [0.1, 0.9, 0.2, 0.8]}
    )
    cases = pd.DataFrame({"file": list("abcd"), "label": list("0101"), "view": ["CC", "MLO"] * 2})
    table = read_scores(with_subgroups(scores, cases, tmp_path).to_csv(index=False).encode())
    assert list(table.scorers) == ["model"] and list(table.subgroups.columns) == ["view"]


@pytest.mark.parametrize(
    ("positives", "others", "is_said"), [(5, 5, True), (4, 20, False), (20, 4, False), (2, 40, False)]
)
def test_of_a_subgroup_with_fewer_than_five_of_a_class_nothing_is_said(
    positives: int, others: int, is_said: bool
) -> None:
    labels = np.array([True] * positives + [False] * others)
    (found,) = subgroups("site", np.array(["a"] * len(labels), object), labels, np.linspace(0, 1, len(labels)))
    assert (found.auc is not None) is is_said and (found.positives, found.n) == (positives, positives + others)


@pytest.mark.parametrize(("patients", "is_said"), [(5, True), (4, False)])
def test_of_a_subgroup_whose_class_is_of_fewer_than_five_patients_nothing_is_said(patients: int, is_said: bool) -> None:
    labels = np.array([True] * 10 + [False] * 30)
    people = np.array([f"p{number % patients}" for number in range(10)] + [f"n{number}" for number in range(30)])
    (found,) = subgroups("site", np.array(["a"] * 40, object), labels, np.linspace(0, 1, 40), people)
    assert (found.auc is not None) is is_said
