"""The audit of a data set finds every leak that was planted, and finds none where none is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from train.__main__ import main
from train.datasets.duplicates import Looks, Pair, grouped, near_duplicate_pairs, traces_of
from train.datasets.leakage import LeakageReport, check_leakage, leaks
from train.datasets.manifest import read_manifest

SIZE = (96, 120)


def texture(seed: int) -> np.ndarray:
    """A picture like no other: random spots of several sizes."""
    rng = np.random.default_rng(seed)
    picture = np.zeros(SIZE, np.float32)
    for cells in (4, 8, 16, 32):
        spots = Raster.fromarray(rng.random((cells, cells), np.float32))
        picture += np.asarray(spots.resize(SIZE[::-1], Raster.Resampling.BICUBIC))
    return (picture / 4 * 255).clip(0, 255).astype(np.uint8)


class Dataset:
    """Pictures and rows in the making: 30 patients with two different pictures each, cleanly split."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, str]] = []
        for number in range(60):
            split = "test" if number < 20 else "validation" if number < 40 else "train"
            self.add(f"{number}.png", texture(number), split=split, patient=f"p{number // 2}", label="ab"[number % 2])

    def add(self, file: str, pixels: np.ndarray, **row: str) -> None:
        Raster.fromarray(pixels).save(self.folder / file)
        self.rows.append({"file": file, "label": "a", "patient": "", **row})

    def write(self) -> Path:
        path = self.folder / "manifest.csv"
        pd.DataFrame(self.rows).fillna("").to_csv(path, index=False)
        return path

    def leakage(self) -> LeakageReport:
        return check_leakage(read_manifest(self.write(), allow_repeats=True))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


def found(result: LeakageReport, severity: str) -> dict[str, int]:
    return {finding.check: finding.n for finding in result.findings if finding.severity == severity}


def test_a_clean_split_has_no_leak(dataset: Dataset) -> None:
    result = dataset.leakage()
    assert found(result, "leak") == {} and not result.is_leaking and result.verdict.startswith("No leak")
    assert set(found(result, "warning")) == {"tiny test split", "few test cases"}
    assert result.counts.loc["train"].to_dict() == {"a": 10, "b": 10}


def test_a_patient_in_two_splits_is_a_leak_told_by_line(dataset: Dataset) -> None:
    dataset.rows[40]["patient"] = "p3"
    result = dataset.leakage()
    assert found(result, "leak") == {"patient in two splits": 1}
    assert result.findings[0].lines == ((8, 9, 42),)
    assert "p3" not in json.dumps(result.to_json())


def test_a_group_in_two_splits_is_a_leak(dataset: Dataset) -> None:
    for row in (0, 30):
        dataset.rows[row]["group"] = "g1"
    assert found(dataset.leakage(), "leak") == {"group in two splits": 1}


def test_the_same_bytes_under_two_names_are_a_leak(dataset: Dataset) -> None:
    dataset.add("copy.png", texture(0), split="train")
    assert found(dataset.leakage(), "leak") == {"file content in two splits": 1}


def test_one_file_listed_in_two_splits_is_a_leak(dataset: Dataset) -> None:
    dataset.rows.append({**dataset.rows[0], "split": "train"})
    assert set(found(dataset.leakage(), "leak")) == {"patient in two splits", "file content in two splits"}


@pytest.mark.parametrize("change", ["compressed", "smaller", "darker", "noisy", "written on"])
def test_a_picture_that_was_saved_anew_is_still_found(dataset: Dataset, change: str) -> None:
    pixels = texture(0)
    raster = Raster.fromarray(pixels)
    if change == "compressed":
        raster.save(dataset.folder / "new.jpg", quality=40)
        dataset.rows.append({"file": "new.jpg", "label": "a", "patient": "", "split": "train"})
    else:
        rng = np.random.default_rng(0)
        written_on = pixels.copy()
        written_on[4:8, 4:24] = 255
        altered = {
            "smaller": np.asarray(raster.resize((80, 64))),
            "darker": (pixels * 0.7).astype(np.uint8),
            "noisy": (pixels + rng.normal(0, 6, SIZE)).clip(0, 255).astype(np.uint8),
            "written on": written_on,
        }
        dataset.add("new.png", altered[change], split="train")
    assert found(dataset.leakage(), "leak") == {"near-duplicates across splits": 1}


def test_look_alikes_in_one_split_are_a_note_and_join_a_group(dataset: Dataset) -> None:
    dataset.add("new.png", (texture(45) * 0.8).astype(np.uint8), split="train", label="b")
    result = dataset.leakage()
    assert not result.is_leaking and found(result, "note") == {"near-duplicates": 1}
    cases = read_manifest(dataset.write()).cases
    traces = traces_of(list(cases["file"]), dataset.folder)
    group = grouped(cases, near_duplicate_pairs(traces))
    assert group[45] == group[60] != "" and (group != "").sum() == 2


def test_groups_are_joined_through_look_alikes() -> None:
    cases = pd.DataFrame({"file": list("abcde"), "group": ["g", "", "h", "h", ""]})
    joined = grouped(cases, [Pair(0, 1, 1.0), Pair(1, 2, 1.0)])
    assert joined[:4].nunique() == 1 and joined[4] == ""


def test_the_same_picture_with_two_labels_is_a_conflict(dataset: Dataset) -> None:
    dataset.add("copy.png", texture(45), split="train", label="a")
    dataset.add("darker.png", (texture(47) * 0.8).astype(np.uint8), split="train", label="a")
    result = dataset.leakage()
    assert found(result, "warning")["conflicting labels"] == 2


def test_the_same_picture_with_one_label_is_no_conflict_and_each_other_label_is(dataset: Dataset) -> None:
    for number, label in enumerate("bb"):
        dataset.add(f"copy{number}.png", texture(45), split="train", label=label)  # as 45.png
    assert "conflicting labels" not in found(dataset.leakage(), "warning")
    for number, label in enumerate("abb"):
        dataset.add(f"other{number}.png", texture(90), split="train", label=label)
    assert found(dataset.leakage(), "warning")["conflicting labels"] == 2


def test_cases_of_a_split_that_is_none_of_the_three_are_counted(dataset: Dataset) -> None:
    for number in (40, 41, 42):
        dataset.rows[number]["split"] = "holdout"
    assert found(dataset.leakage(), "warning")["unknown split"] == 3


def test_missing_and_unreadable_files_are_counted(dataset: Dataset) -> None:
    (dataset.folder / "0.png").unlink()
    (dataset.folder / "1.png").write_text("no picture")
    (dataset.folder / "2.png").write_bytes((dataset.folder / "2.png").read_bytes()[:200])
    warnings = found(dataset.leakage(), "warning")
    assert warnings["missing files"] == 1 and warnings["unreadable files"] == 2


def test_pictures_of_one_grey_are_no_look_alikes(dataset: Dataset) -> None:
    for number, split in enumerate(("train", "test")):
        dataset.add(f"grey{number}.png", np.full(SIZE, 90 + number, np.uint8), split=split)
    assert found(dataset.leakage(), "leak") == {}


def test_without_a_split_the_one_of_training_is_judged(dataset: Dataset) -> None:
    for row in dataset.rows:
        row.pop("split")
    result = dataset.leakage()
    assert not result.has_split and "no split" in found(result, "note")
    assert result.to_json()["split"].startswith("made by training")


def test_other_spellings_of_the_splits_are_understood(dataset: Dataset) -> None:
    for row in dataset.rows:
        row["split"] = {"train": "Training", "validation": "val", "test": "TEST"}[row["split"]]
    dataset.rows[40]["patient"] = "p3"
    result = dataset.leakage()
    assert result.is_leaking and "unknown split" not in found(result, "warning")


def test_missing_patients_unbalanced_and_single_labels_are_warned_of(dataset: Dataset) -> None:
    for number, row in enumerate(dataset.rows):
        row.update(patient="", label="b" if number % 10 == 0 else "a")
    assert {"no patients", "class balance"} <= set(found(dataset.leakage(), "warning"))
    for row in dataset.rows:
        row["label"] = "a"
    assert "one label" in found(dataset.leakage(), "warning")


def test_columns_alone_show_leaks_without_reading_a_file() -> None:
    cases = pd.DataFrame({"patient": ["1", "1", "", ""], "split": ["train", "test", "train", "test"]})
    assert [finding.check for finding in leaks(cases)] == ["patient in two splits"]


def test_the_command_exits_3_on_leaks_and_prints_json(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--data", str(dataset.write())]) == 0
    assert "No leak found" in capsys.readouterr().out
    dataset.rows[40]["patient"] = "p3"
    assert main(["audit", "--data", str(dataset.write()), "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["leaking"] and answer["verdict"].startswith("LEAKING")
    assert answer["findings"][0]["check"] == "patient in two splits"


def test_ultrasound_split_by_group_is_clean_and_split_by_file_is_not(test_data: Path) -> None:
    data = test_data / "data"
    manifest = read_manifest(data / "ultrasound" / "manifest.csv", root=data, where=["source=BUSI"])
    looks = Looks.at(list(manifest.cases["file"]), data)
    assert not check_leakage(manifest, looks=looks).is_leaking
    group = manifest.cases["group"]
    assert len(looks.pairs) > 100 and all(group[pair.first] == group[pair.second] for pair in looks.pairs)
    by_file = replace(manifest, cases=manifest.cases.drop(columns=["group", "md5"]))
    assert check_leakage(by_file, looks=looks).is_leaking


def test_mammograms_of_different_women_are_no_look_alikes(test_data: Path) -> None:
    data = test_data / "data"
    manifest = read_manifest(data / "mammography" / "manifest.csv", root=data, where=["source=mini-MIAS"])
    assert near_duplicate_pairs(traces_of(list(manifest.cases["file"]), data)) == []


def test_patients_that_may_be_one_are_warned_of_with_the_splits_they_are_in(dataset: Dataset) -> None:
    dataset.rows[0]["patient"], dataset.rows[59]["patient"] = "A07", "a7"
    dataset.rows[58]["split"] = "\uff34\uff52\uff41\uff49\uff4e"
    report = dataset.leakage()
    assert not report.is_leaking and set(report.counts.index) == {"train", "validation", "test"}
    (found,) = [one for one in report.findings if one.check == "patients that may be one"]
    assert (found.severity, found.n, found.lines) == ("warning", 1, ((2, 61),))
    assert "1 times they are in more than one split" in found.sentence
