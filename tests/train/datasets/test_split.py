"""Splits and folds: nobody is on two sides, classes keep their shares, a seed says it all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from core.errors import InvalidInput
from train.__main__ import main
from train.datasets.manifest import read_manifest
from train.datasets.split import balanced_subset, fold_cases, split_cases, units_of


@pytest.fixture
def cases() -> pd.DataFrame:
    """600 cases of 200 patients; a quarter malignant."""
    patients = np.repeat(np.arange(200), 3)
    return pd.DataFrame(
        {
            "file": [f"{number}.png" for number in range(600)],
            "label": np.where(patients % 4 == 0, "malignant", "benign"),
            "patient": [f"p{patient}" for patient in patients],
        }
    )


def test_no_patient_is_in_two_splits_and_classes_keep_their_shares(cases: pd.DataFrame) -> None:
    split = split_cases(cases)
    assert split.groupby(cases["patient"]).nunique().max() == 1
    shares = pd.crosstab(split, cases["label"], normalize="columns")
    for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        assert shares.loc[name].to_numpy() == pytest.approx([share, share], abs=0.02)


def test_a_seed_gives_the_same_split_again_and_another_seed_another(cases: pd.DataFrame) -> None:
    assert split_cases(cases, seed=3).equals(split_cases(cases.copy(), seed=3))
    assert not split_cases(cases, seed=3).equals(split_cases(cases, seed=4))


def test_cases_are_joined_through_patients_groups_and_equal_files() -> None:
    cases = pd.DataFrame(
        {
            "file": list("abcdefg"),
            "label": ["x"] * 7,
            "patient": ["1", "1", "2", "", "3", "4", ""],
            "group": ["", "g", "g", "", "", "", ""],
            "md5": ["", "", "", "m", "", "m", ""],
        }
    )
    units = units_of(cases)
    assert units[[0, 1, 2]].nunique() == 1  # a and b by patient, b and c by group
    assert units[3] == units[5]  # the same bytes
    assert units.nunique() == 4  # empty cells join nothing


def test_folds_hold_every_case_once_and_part_no_patient(cases: pd.DataFrame) -> None:
    folds = fold_cases(cases, 5, seed=1)
    assert sorted(folds.unique()) == [0, 1, 2, 3, 4]
    assert folds.groupby(cases["patient"]).nunique().max() == 1
    assert (pd.crosstab(folds, cases["label"])["malignant"] == 30).all()
    with pytest.raises(InvalidInput, match="folds"):
        fold_cases(cases, 1)
    with pytest.raises(InvalidInput, match="200 patients"):
        fold_cases(cases, 201)


def test_splitting_by_file_parts_patients_when_it_is_asked_for(cases: pd.DataFrame) -> None:
    assert split_cases(cases, by="file").groupby(cases["patient"]).nunique().max() > 1
    with pytest.raises(InvalidInput, match="no column 'group'"):
        split_cases(cases, by="group")


def test_shares_that_are_no_shares_are_refused(cases: pd.DataFrame) -> None:
    for fractions in ((0.5, 0.5), (0.6, 0.2, 0.3), (1.2, -0.1, -0.1)):
        with pytest.raises(InvalidInput, match="add up to 1"):
            split_cases(cases, fractions=fractions)


def test_a_balanced_subset_has_as_many_of_each_label(cases: pd.DataFrame) -> None:
    subset = balanced_subset(cases, 100, seed=5)
    assert subset["label"].value_counts().to_dict() == {"benign": 100, "malignant": 100}
    assert list(subset.columns) == list(cases.columns) and list(subset.index) == list(range(200))
    assert subset["file"].is_unique and subset.equals(balanced_subset(cases, 100, seed=5))
    assert not subset["file"].equals(balanced_subset(cases, 100, seed=6)["file"])
    with pytest.raises(InvalidInput, match="'malignant' has 150"):
        balanced_subset(cases, 151)


def test_groups_and_copies_of_the_ultrasound_data_stay_together(test_data: Path) -> None:
    cases = read_manifest(test_data / "data" / "ultrasound" / "manifest.csv", where=["source=BUSI"]).cases
    for assigned in (split_cases(cases), fold_cases(cases)):
        for column in ("group", "md5"):
            assert assigned.groupby(cases[column]).nunique().max() == 1
        shares = pd.crosstab(assigned, cases["label"], normalize="index")
        one_group = 4 / assigned.value_counts().min()  # what moving one group of four would change
        assert (shares.max() - shares.min()).max() < max(0.05, one_group)


def test_the_command_writes_the_split_and_keeps_copies_together(tmp_path: Path, test_data: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(30):
        raster = Raster.fromarray(rng.integers(0, 255, (40, 50), dtype=np.uint8))
        for copy in ("", "_copy"):
            raster.save(tmp_path / f"{number}{copy}.png")
    rows = [f"{number}{copy}.png,{'ab'[number % 2]}" for copy in ("", "_copy") for number in range(30)]
    (tmp_path / "manifest.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    for options, column in (([], "split"), (["--folds", "3"], "fold"), (["--look-alikes"], "split")):
        out = tmp_path / "out.csv"
        base = ["split", "--data", str(tmp_path / "manifest.csv"), "--root", str(tmp_path), "--out", str(out)]
        assert main([*base, *options]) == 0
        written = pd.read_csv(out, dtype=str, keep_default_na=False)
        assert written.groupby("sha256")[column].nunique().max() == 1
        if options == ["--look-alikes"]:
            assert (written.groupby("group").size() == 2).all()


def test_as_many_folds_as_patients_and_as_many_cases_as_the_rarer_label_has_are_allowed(cases: pd.DataFrame) -> None:
    assert fold_cases(cases, 2).nunique() == 2 and fold_cases(cases, 200).between(0, 199).all()
    for per_class in (1, 150):
        subset = balanced_subset(cases, per_class)
        assert subset["label"].value_counts().to_dict() == {"benign": per_class, "malignant": per_class}
    with pytest.raises(InvalidInput, match="1 to 150 a label"):
        balanced_subset(cases, 0)


def test_a_subset_is_that_of_seed_0_where_none_is_given(cases: pd.DataFrame) -> None:
    drawn = balanced_subset(cases, 5)
    assert drawn.equals(balanced_subset(cases, 5, seed=0)) and not drawn.equals(balanced_subset(cases, 5, seed=1))
