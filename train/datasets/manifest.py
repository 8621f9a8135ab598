"""The manifest of a data set: a CSV with one row an image, and the folder its files are in."""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from core.errors import InvalidInput, NotFound
from core.evaluation.tables.cells import (
    NO_CLASS,
    outer_stripped,
    require_classes,
    require_one_spelling,
    similar_ids,
    similar_ids_sentence,
    spelling,
    with_normal_ids,
    without_nobody,
)
from core.files import write_whole

NO_LABEL = "no label"
_COLUMNS = (
    "file", "label", "patient", "group", "split", "fold", "mask", "source", "md5", "sha256", "label_conflict_with",
    "modality", "laterality", "view", "exam", "density",
)  # fmt: skip
"""Columns with a meaning, found with other capital letters too."""
_OTHER_NAMES = {"patientid": "patient", "patientno": "patient", "patientnumber": "patient", "subjectid": "patient"}
_IDS, _HASHES = ("patient", "group"), ("md5", "sha256")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Cases to train or measure on.

    cases: a row an image: `file` (relative to `root`), `label`, and whatever else the CSV has (patient, group, split,
        mask with "|" between several, modality, laterality, view, magnification, source, …), all text, "" where empty.
    left_out: why rows of the CSV are not among the cases -> how many.
    sha256: over file names and labels of the cases, in order: the same cases give the same hash.
    lines: where each case stands in the CSV; the first row below the column names is line 2.
    remarks: sentences on patients and groups whose names may be one.
    """

    cases: pd.DataFrame
    root: Path
    left_out: Mapping[str, int]
    sha256: str
    lines: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()


def require_there(path: Path) -> None:
    """Raises NotFound where no file lies."""
    if not path.is_file():
        raise NotFound(f"There is no manifest at {path}. Give the path of a CSV file with the columns file,label.")


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Which rows of a manifest, and where their files are: `root` and `where` of `read_manifest`."""
    parser.add_argument("--root", type=Path, help="what a manifest's files are relative to (default: its folder)")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE[|VALUE]", help="keep only such rows"
    )


def read_manifest(
    path: Path,
    *,
    root: Path | None = None,
    where: Sequence[str] = (),
    allow_repeats: bool = False,
    allow_synonyms: bool = False,
) -> Manifest:
    """Read and check a manifest; `root` defaults to its folder, `where` keeps rows with COLUMN=VALUE, or
    one of several values with "|" between (all conditions).

    Rows without a label, and rows whose `label_conflict_with` names look-alikes of another label, are left out and
    counted. `allow_repeats` is for looking at a manifest that lists a file twice, `allow_synonyms` for who asks what
    each label means. Raises `NotFound` or `InvalidInput`.
    """
    require_there(path)
    cases = _cells(path)
    missing = {"file", "label"} - set(cases.columns)
    if missing:
        raise InvalidInput(f"{path.name} has no column {' and no column '.join(sorted(missing))}; both are needed.")
    cases = without_nobody(with_normal_ids(cases, _IDS), _IDS).assign(
        **{name: cases[name].str.lower() for name in _HASHES if name in cases}
    )
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals or column not in cases.columns:
            raise InvalidInput(f"--where needs COLUMN=VALUE with one of the columns: {', '.join(cases.columns)}.")
        cases = cases[cases[column].isin(value.split("|"))]
    cases = cases.assign(label=cases["label"].map(lambda label: "" if spelling(label) in NO_CLASS else label))
    left_out = {NO_LABEL: int((cases["label"] == "").sum())}
    cases = cases[cases["label"] != ""]
    if "label_conflict_with" in cases:
        left_out["look-alike with another label"] = int((cases["label_conflict_with"] != "").sum())
        cases = cases[cases["label_conflict_with"] == ""]
    if cases.empty:
        raise InvalidInput(f"{path.name} has no labelled row left to use.")
    lines = tuple(int(number) for number in cases.index)
    _require_labels(cases["label"], lines, allow_synonyms=allow_synonyms)
    cases = cases.reset_index(drop=True)
    for column in ("file", "mask"):
        if column in cases:
            cases[column] = cases[column].str.replace("\\", "/")
            _require_inside(cases[column], lines, path.name, column)
    if not allow_repeats:
        _require_once(cases["file"], lines, path.name)
    return Manifest(cases, root or path.parent, left_out, _digest(cases), lines, _remarks(cases, lines))


def _cells(path: Path) -> pd.DataFrame:
    """All cells as text without blanks around it; the index is the row as a spreadsheet counts it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [[outer_stripped(cell) for cell in row] for row in csv.reader(stream, strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path.name} is not a CSV file in UTF-8 ({type(error).__name__}).") from error
    if not rows or any("\0" in cell for row in rows for cell in row):
        raise InvalidInput(f"{path.name} is not a CSV file in UTF-8: it is empty, or no text.")
    names = _column_names([name or f"Unnamed: {place}" for place, name in enumerate(rows[0])])
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise InvalidInput(f"{path.name} has two columns {twice[0][:100]!r}. Give each column a name of its own.")
    body = {number: row for number, row in enumerate(rows[1:], start=2) if any(row)}
    for number, row in body.items():
        if any(row[len(names) :]):
            raise InvalidInput(
                f"Line {number} of {path.name} has {len(row)} cells and the header {len(names)}. Put a cell with a "
                "comma in it between quotes."
            )
        # A carriage return within a cell would be written without quotes, and end the row when it is read again.
        body[number] = [cell.replace("\r", "\n") for cell in (row + [""] * len(names))[: len(names)]]
    return pd.DataFrame(list(body.values()), columns=names, index=list(body), dtype=object)


def _column_names(header: Sequence[str]) -> list[str]:
    """The columns with a meaning as they are called here: a patient under "PatientID" is one that is never parted."""
    names = list(header)
    for place, name in enumerate(header):
        bare = name.casefold().replace("_", "").replace(" ", "")
        meant = name.casefold() if name.casefold() in _COLUMNS else _OTHER_NAMES.get(bare, name)
        if meant not in names:
            names[place] = meant
    return names


def _require_labels(labels: pd.Series, lines: Sequence[int], *, allow_synonyms: bool = False) -> None:
    line_of = dict(zip(reversed(labels.tolist()), reversed(lines), strict=True))
    if not allow_synonyms:
        require_classes(line_of, line_of, "line")
    require_one_spelling(line_of, line_of, "line", allow_synonyms=allow_synonyms)


def _remarks(cases: pd.DataFrame, lines: Sequence[int]) -> tuple[str, ...]:
    found = (
        similar_ids_sentence(similar_ids(cases[name], lines), f"{name}s", "line") for name in _IDS if name in cases
    )
    return tuple(sentence for sentence in found if sentence)


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
    if len(lines) == len(cases):
        _require_labels(cases["label"], lines)
    remarks = tuple(dict.fromkeys(remark for one in manifests for remark in one.remarks))
    return Manifest(cases, first.root, left_out, _digest(cases), lines, remarks)


def _digest(cases: pd.DataFrame) -> str:
    pairs = zip(cases["file"], cases["label"], strict=True)
    return hashlib.sha256("\n".join(f"{file}\t{label}" for file, label in pairs).encode()).hexdigest()


def write_manifest(cases: pd.DataFrame, path: Path) -> None:
    """Write a manifest, whole or not at all; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, cases.to_csv(index=False))


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
