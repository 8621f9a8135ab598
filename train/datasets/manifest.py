"""The manifest of a data set: a CSV with one row an image, and the folder its files are in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from core.errors import InvalidInput, NotFound
from core.evaluation.tables.labels import require_one_spelling
from core.files import write_whole

NO_LABEL = "no label"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Cases to train or measure on.

    cases: a row an image: `file` (relative to `root`), `label`, and whatever else the CSV has (patient, group, split,
        mask with "|" between several, modality, laterality, view, magnification, source, …), all text, "" where empty.
    left_out: why rows of the CSV are not among the cases -> how many.
    sha256: over file names and labels of the cases, in order: the same cases give the same hash.
    lines: where each case stands in the CSV; the first row below the column names is line 2.
    """

    cases: pd.DataFrame
    root: Path
    left_out: Mapping[str, int]
    sha256: str
    lines: tuple[int, ...] = ()


def read_manifest(
    path: Path, *, root: Path | None = None, where: Sequence[str] = (), allow_repeats: bool = False
) -> Manifest:
    """Read and check a manifest; `root` defaults to its folder, `where` keeps rows with COLUMN=VALUE, or
    one of several values with "|" between (all conditions).

    Rows without a label, and rows whose `label_conflict_with` names look-alikes of another label, are left out and
    counted. `allow_repeats` is for looking at a manifest that lists a file twice. Raises `NotFound` or `InvalidInput`.
    """
    if not path.is_file():
        raise NotFound(f"There is no manifest at {path}. Give the path of a CSV file with the columns file,label.")
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig", "index_col": False}
    try:
        _require_different_names(pd.read_csv(path, header=None, nrows=1, **options), path.name)
        cases = pd.read_csv(path, **options)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InvalidInput(f"{path.name} is not a CSV file in UTF-8 ({type(error).__name__}).") from error
    cases.columns = [str(name).strip() for name in cases.columns]
    missing = {"file", "label"} - set(cases.columns)
    if missing:
        raise InvalidInput(f"{path.name} has no column {' and no column '.join(sorted(missing))}; both are needed.")
    # A carriage return within a cell would be written without quotes, and end the row when it is read again.
    cases = cases.fillna("").apply(lambda column: column.str.strip().str.replace("\r", "\n", regex=False))
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals or column not in cases.columns:
            raise InvalidInput(f"--where needs COLUMN=VALUE with one of the columns: {', '.join(cases.columns)}.")
        cases = cases[cases[column].isin(value.split("|"))]
    left_out = {NO_LABEL: int((cases["label"] == "").sum())}
    cases = cases[cases["label"] != ""]
    if "label_conflict_with" in cases:
        left_out["look-alike with another label"] = int((cases["label_conflict_with"] != "").sum())
        cases = cases[cases["label_conflict_with"] == ""]
    if cases.empty:
        raise InvalidInput(f"{path.name} has no labelled row left to use.")
    lines = tuple(int(position) + 2 for position in cases.index)
    require_one_spelling(
        cases["label"], dict(zip(reversed(cases["label"].tolist()), reversed(lines), strict=True)), "line"
    )
    cases = cases.reset_index(drop=True)
    for column in ("file", "mask"):
        if column in cases:
            cases[column] = cases[column].str.replace("\\", "/")
            _require_inside(cases[column], lines, path.name, column)
    if not allow_repeats:
        _require_once(cases["file"], lines, path.name)
    return Manifest(cases, root or path.parent, left_out, _digest(cases), lines)


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """Several collections as one, their files relative to the same root. Raises `InvalidInput` where they are not."""
    if len(manifests) == 1:
        return manifests[0]
    first = manifests[0]
    if any(one.root.resolve() != first.root.resolve() for one in manifests):
        raise InvalidInput("Several manifests need one --root that the files of all of them are relative to.")
    cases = pd.concat([one.cases for one in manifests], ignore_index=True).fillna("")
    if cases["file"].duplicated().any():
        raise InvalidInput("Two of the manifests name the same file. Leave it out of one of them with --where.")
    left_out: dict[str, int] = {}
    for one in manifests:
        for reason, n in one.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + n
    lines = tuple(line for one in manifests for line in one.lines)
    return Manifest(cases, first.root, left_out, _digest(cases), lines)


def _digest(cases: pd.DataFrame) -> str:
    pairs = zip(cases["file"], cases["label"], strict=True)
    return hashlib.sha256("\n".join(f"{file}\t{label}" for file, label in pairs).encode()).hexdigest()


def write_manifest(cases: pd.DataFrame, path: Path) -> None:
    """Write a manifest, whole or not at all; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, cases.to_csv(index=False))


def _require_different_names(header: pd.DataFrame, name: str) -> None:
    """header: one row with the names as they are written; pandas would rename the second of two equal ones."""
    names = [str(one).strip() for one in header.iloc[0]] if len(header) else []
    twice = sorted({one for one in names if one and names.count(one) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InvalidInput(f"{name} has two columns {twice[0][:100]!r}. Give each column a name of its own.")


def _require_inside(files: pd.Series, lines: Sequence[int], name: str, column: str) -> None:
    for line, file in zip(lines, files, strict=True):
        if column == "file" and not PurePosixPath(file).parts:
            raise InvalidInput(f"Line {line} of {name} names no file. Fill the column file or leave the row out.")
        if any(_is_outside(PurePosixPath(one).parts) for one in (file.split("|") if column == "mask" else [file])):
            raise InvalidInput(
                f"Line {line} of {name} names a {column} outside the data set's folder. Use relative paths."
            )


def _is_outside(parts: tuple[str, ...]) -> bool:
    return ".." in parts or parts[:1] in (("/",), ("//",)) or ":" in "".join(parts[:1])


def _require_once(files: pd.Series, lines: Sequence[int], name: str) -> None:
    repeated = files.map(lambda file: str(PurePosixPath(file))).duplicated()
    if repeated.any():
        raise InvalidInput(
            f"{name} names {int(repeated.sum())} files more than once, first on line {lines[int(repeated.argmax())]}. "
            "Keep one row a file."
        )
