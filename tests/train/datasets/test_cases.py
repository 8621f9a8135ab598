"""What is trained on: labels, a split that does not leak, folds that part nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import made_card
from PIL import Image as Raster

from core.errors import InvalidInput
from core.types import Modality
from train.datasets.cases import data_of, fold_splits, prepare, split_sha256
from train.datasets.manifest import Manifest, read_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 different pictures of 20 patients, half of them malignant."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        coarse = Raster.fromarray((rng.random((12, 12)) * 255).astype(np.uint8))
        coarse.resize((96, 96)).save(tmp_path / f"{number}.png")
        rows.append(
            {"file": f"{number}.png", "label": ("benign", "malignant")[number // 2 % 2], "patient": f"p{number // 2}"}
        )
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def manifest(folder: Path, **columns: object) -> Manifest:
    table = pd.read_csv(folder / "manifest.csv", dtype=str).assign(**columns)
    table.to_csv(folder / "changed.csv", index=False)
    return read_manifest(folder / "changed.csv")


def test_a_split_by_patient_is_made_and_found_clean(folder: Path) -> None:
    prepared = prepare(manifest(folder), Modality.ULTRASOUND)
    assert prepared.leaks == () and prepared.split_by == "patient"
    assert prepared.cases.groupby("patient")["split"].nunique().max() == 1
    assert data_of(prepared)["leaks"] == []


def test_a_split_that_parts_patients_is_refused_unless_told_otherwise(folder: Path) -> None:
    data = manifest(folder, split=(["train", "validation", "test"] * 14)[:40])
    with pytest.raises(InvalidInput, match=r"patient .* are in more than one split"):
        prepare(data, Modality.ULTRASOUND)
    prepared = prepare(data, Modality.ULTRASOUND, allow_leaks=True)
    assert prepared.split_by == "the manifest's own split"
    assert data_of(prepared)["leaks"][0]["check"] == "patient in two splits"


def test_a_split_by_image_is_seen_to_leak(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="allow-leaks"):
        prepare(manifest(folder), Modality.ULTRASOUND, by="file")
    prepared = prepare(manifest(folder), Modality.ULTRASOUND, by="file", allow_leaks=True)
    assert prepared.leaks and prepared.split_by == "image, whatever it shows"
    # The bootstrap still draws patients: who belongs together does not depend on the split.
    assert prepared.cases["patient_key"].nunique() == 20


def test_nearly_the_same_picture_on_two_sides_is_a_leak_although_no_column_says_so(folder: Path) -> None:
    for number in range(1, 40, 2):
        picture = np.asarray(Raster.open(folder / f"{number - 1}.png"), np.float32)
        Raster.fromarray((picture * 0.9).astype(np.uint8)).save(folder / f"{number}.png")
    data = manifest(folder, patient=[f"p{number}" for number in range(40)])
    with pytest.raises(InvalidInput, match="nearly the same picture"):
        prepare(data, Modality.ULTRASOUND)
    with pytest.raises(InvalidInput, match="nearly the same picture"):
        prepare(data, Modality.ULTRASOUND, folds=4)


def test_folds_keep_patients_together_and_every_case_is_tested_and_validates_once(folder: Path) -> None:
    prepared = prepare(manifest(folder), Modality.MAMMOGRAPHY, folds=5)
    assert prepared.leaks == () and data_of(prepared)["folds"] == 5
    parts = pd.DataFrame({number: fold_splits(prepared.cases, number, 5) for number in range(5)})
    assert ((parts == "test").sum(axis=1) == 1).all() and ((parts == "validation").sum(axis=1) == 1).all()
    for number in range(5):
        assert parts[number].groupby(prepared.cases["patient"]).nunique().max() == 1


def test_a_manifest_may_bring_its_folds(folder: Path) -> None:
    folds = [str(number // 2 % 4) for number in range(40)]
    with pytest.raises(InvalidInput, match="No case of"):  # here a fold is one label
        prepare(manifest(folder, fold=folds), Modality.ULTRASOUND, folds=4)
    folds = [str(number // 4 % 5) for number in range(40)]
    prepared = prepare(manifest(folder, fold=folds), Modality.ULTRASOUND, folds=5)
    assert list(prepared.cases["fold"].astype(str)) == folds


def test_folds_beside_a_split_that_is_trained_on_are_left_out(folder: Path) -> None:
    parts = [("train", "train", "train", "validation", "test")[number // 4 % 5] for number in range(40)]
    plain = prepare(manifest(folder, split=parts), Modality.ULTRASOUND).cases
    prepared = prepare(manifest(folder, split=parts, fold=["0", "1"] * 20), Modality.ULTRASOUND)
    assert list(prepared.cases["split"]) == parts and "fold" not in prepared.cases
    assert split_sha256(prepared.cases) == split_sha256(plain)


def test_the_cases_of_a_model_of_one_split_are_known_again_beside_folds(folder: Path, tmp_path: Path) -> None:
    from train.publishing.backfill import same_cases

    parts = [("train", "train", "train", "validation", "test")[number // 4 % 5] for number in range(40)]
    data = manifest(folder, split=parts, fold=["0", "1"] * 20)
    cases = prepare(data, Modality.ULTRASOUND).cases
    card = made_card(tmp_path, data={"split_sha256": split_sha256(cases)})
    for name in ("test", "validation"):
        listed = cases.loc[cases["split"] == name, ["file"]].rename(columns={"file": "case"})
        listed.to_csv(tmp_path / f"{card.weights_sha256[:8]}.{name}_scores.csv", index=False)
    assert list(same_cases(card, data)["split"]) == parts


def test_the_hash_of_a_split_depends_on_the_division_alone(folder: Path) -> None:
    cases = prepare(manifest(folder), Modality.ULTRASOUND).cases
    assert split_sha256(cases) == split_sha256(cases.iloc[::-1])
    assert split_sha256(cases) != split_sha256(cases.assign(split=cases["split"].iloc[::-1].to_numpy()))


def test_files_that_are_missing_or_broken_are_counted_before_training(folder: Path) -> None:
    (folder / "3.png").unlink()
    (folder / "4.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match=r"1 files are not there.*1 files cannot be read"):
        prepare(manifest(folder), Modality.ULTRASOUND)


def test_a_label_that_names_the_positive_class_never_trains_as_negative(folder: Path) -> None:
    labels = pd.read_csv(folder / "manifest.csv", dtype=str)["label"].tolist()
    labels[2] = "malignant mass"
    with pytest.raises(InvalidInput, match="'malignant mass' names the positive class 'malignant'"):
        prepare(manifest(folder, label=labels), Modality.MAMMOGRAPHY)


def test_one_patient_in_two_forms_of_letters_stays_in_one_fold(folder: Path) -> None:
    forms = ["re\u0301my", "r\u00e9my", "r\u00e9my\u00a0", "r\u00e9m\uff59"]
    patients = [forms[number % 4] if number < 8 else f"p{number // 2}" for number in range(40)]
    prepared = prepare(manifest(folder, patient=patients), Modality.ULTRASOUND, folds=3)
    assert prepared.cases["patient_key"].nunique() == 17 and prepared.cases["fold"][:8].nunique() == 1
