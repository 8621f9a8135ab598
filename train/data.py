"""The manifest of a data set: a CSV with one row an image, and the folder its files are in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from core.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Manifest:
    """Cases to train or measure on.

    cases: a row an image: `file` (relative to `root`), `label`, and whatever else the CSV has (patient, group, split,
        mask, modality, laterality, view, magnification, source, …), all text, "" where empty.
    left_out: why rows of the CSV are not among the cases -> how many.
    sha256: over file names and labels of the cases, in order: the same cases give the same hash.
    """

    cases: pd.DataFrame
    root: Path
    left_out: Mapping[str, int]
    sha256: str


def read_manifest(path: Path, *, root: Path | None = None, where: Sequence[str] = ()) -> Manifest:
    """Read and check a manifest; `root` defaults to its folder, `where` keeps rows with COLUMN=VALUE (all of them).

    Rows without a label, and rows whose `label_conflict_with` names look-alikes of another label, are left out and
    counted. Raises `NotFound` or `InvalidInput`.
    """
    if not path.is_file():
        raise NotFound(f"There is no manifest at {path}. Give the path of a CSV file with the columns file,label.")
    try:
        cases = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InvalidInput(f"{path.name} is not a CSV file in UTF-8 ({type(error).__name__}).") from error
    missing = {"file", "label"} - set(cases.columns)
    if missing:
        raise InvalidInput(f"{path.name} has no column {' and no column '.join(sorted(missing))}; both are needed.")
    cases = cases.apply(lambda column: column.str.strip())
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals or column not in cases.columns:
            raise InvalidInput(f"--where needs COLUMN=VALUE with one of the columns: {', '.join(cases.columns)}.")
        cases = cases[cases[column] == value]
    left_out = {"no label": int((cases["label"] == "").sum())}
    cases = cases[cases["label"] != ""]
    if "label_conflict_with" in cases:
        left_out["look-alike with another label"] = int((cases["label_conflict_with"] != "").sum())
        cases = cases[cases["label_conflict_with"] == ""]
    if cases.empty:
        raise InvalidInput(f"{path.name} has no labelled row left to use.")
    _demand_usable_files(cases["file"], path.name)
    digest = hashlib.sha256("\n".join(f"{f}\t{k}" for f, k in zip(cases["file"], cases["label"], strict=True)).encode())
    return Manifest(cases.reset_index(drop=True), root or path.parent, left_out, digest.hexdigest())


def _demand_usable_files(files: pd.Series, name: str) -> None:
    for number, file in enumerate(files, start=1):
        parts = PurePosixPath(file.replace("\\", "/")).parts
        if not parts or ".." in parts or parts[0] == "/" or ":" in parts[0]:
            raise InvalidInput(
                f"Case {number} of {name} names a file outside the data set's folder. Use relative paths."
            )
    repeated = int(files.duplicated().sum())
    if repeated:
        raise InvalidInput(f"{name} names {repeated} files more than once. Keep one row a file.")
