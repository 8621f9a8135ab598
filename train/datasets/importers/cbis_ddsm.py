"""CBIS-DDSM: case-description CSVs with a row an abnormality, and images as TCIA or a JPEG copy lays them out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from core.errors import InvalidInput, NotFound
from train.datasets.importers.imported import PICTURES, Imported, pictures_under
from train.datasets.split import split_cases

_LIST = re.compile(r"(mass|calc)_case_description_(train|test)_set", re.IGNORECASE)
_PATHOLOGY = {"BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign", "MALIGNANT": "malignant"}
_VALIDATION_SHARE = 0.2


def read(source: Path, out: Path) -> Imported:
    """A row an image: malignant when any of its abnormalities is. The official test patients stay the test split.

    Validation is taken from the official training patients. A patient who is in both official parts (masses in one,
    calcifications in the other) goes to test whole.
    """
    lists = [path for path in sorted(source.rglob("*.csv")) if _LIST.search(path.stem)]
    if not lists:
        raise NotFound("There is no mass_case_description_train_set.csv (or calc_…, …_test_set.csv) in the folder.")
    table = pd.concat([_read_list(path) for path in lists], ignore_index=True)
    known = _Pictures(source)
    rows, missing = [], 0
    for path, lesions in table.groupby("image_file_path", sort=False):
        file = known.find(str(path))
        if file:
            rows.append({"file": file, **_row(lesions)})
        else:
            missing += 1
    cases = pd.DataFrame(rows)
    notes = [f"{missing} images of the lists are not in the folder."] if missing else []
    if len(cases):
        cases["split"], moved = _split(cases)
        if moved:
            notes.append(f"{moved} patients are in both official parts; all their images are test cases here.")
    return Imported(cases.drop(columns="official_split", errors="ignore"), source, tuple(notes))


def _read_list(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.columns = [column.strip().replace(" ", "_").lower() for column in table.columns]
    needed = {"patient_id", "left_or_right_breast", "image_view", "pathology", "image_file_path"}
    if not needed <= set(table.columns):
        raise InvalidInput(f"{path.name} lacks the columns {', '.join(sorted(needed - set(table.columns)))}.")
    table["image_file_path"] = table["image_file_path"].str.strip(" \t\r\n\"'").str.replace("\\", "/")
    table["official_split"] = "test" if "test_set" in path.stem.lower() else "train"
    table["kind"] = "mass" if path.stem.lower().startswith("mass") else "calcification"
    return table


def _row(lesions: pd.DataFrame) -> dict[str, str]:
    first = lesions.iloc[0]
    unknown = set(lesions["pathology"].str.strip()) - set(_PATHOLOGY)
    if unknown:
        raise InvalidInput(f"CBIS-DDSM's pathology is one of {', '.join(_PATHOLOGY)}; the lists have another word.")
    labels = {_PATHOLOGY[value.strip()] for value in lesions["pathology"]}
    density = next((first[name] for name in ("breast_density", "breast_density_") if name in lesions), "")
    return {
        "label": "malignant" if "malignant" in labels else "benign",
        "patient": first["patient_id"].strip(),
        "laterality": first["left_or_right_breast"].strip()[:1].upper(),
        "view": first["image_view"].strip().upper(),
        "density_acr": density,
        "abnormality": "|".join(sorted(set(lesions["kind"]))),
        "official_split": "test" if (lesions["official_split"] == "test").any() else "train",
        "modality": "mammography",
        "source": "CBIS-DDSM",
    }


def _split(cases: pd.DataFrame) -> tuple[pd.Series, int]:
    parts = cases.groupby("patient")["official_split"].nunique()
    tested = set(cases.loc[cases["official_split"] == "test", "patient"])
    split = pd.Series("test", index=cases.index)
    training = cases[~cases["patient"].isin(tested)]
    if len(training):
        split.loc[training.index] = split_cases(training, fractions=(1 - _VALIDATION_SHARE, _VALIDATION_SHARE, 0))
    return split, int((parts > 1).sum())


class _Pictures:
    """Where an image of the lists lies: at its path, or alone in the folder named like the case, or like the series."""

    def __init__(self, source: Path) -> None:
        files = pictures_under(source, (*PICTURES, ".dcm"))
        self.files = set(files)
        self.by_folder: dict[str, list[str]] = {}
        for file in files:
            for folder in Path(file).parent.parts:
                self.by_folder.setdefault(folder, []).append(file)

    def find(self, path: str) -> str | None:
        """The image's file under the source; None when it is not there, or when several could be it."""
        parts = Path(path).parts
        for start in range(len(parts)):
            if (tail := "/".join(parts[start:])) in self.files and (start == 0 or len(parts) - start > 1):
                return tail
        return _only(self.by_folder, parts[:-1])


def _only(by_folder: Mapping[str, list[str]], folders: Sequence[str]) -> str | None:
    for folder in (*folders[:1], *reversed(folders[1:])):
        found = by_folder.get(folder, [])
        if len(found) == 1:
            return found[0]
    return None
