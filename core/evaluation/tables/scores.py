"""Reads a table of per-case scores: a shipped test set, a job's, a reader study, another system's output.

Columns `case,patient,label`, then scorers and subgroups. Everything a person can get wrong in such a file is refused
with a sentence that names the row as a spreadsheet counts it (the header is row 1) and never repeats a cell.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import InvalidInput, NotFound

KEYS = ("case", "patient", "label")
BOOKKEEPING = ("fold", "seed", "split")
"""Columns that are numbers but never scores."""
MAX_ROWS = 100_000
MAX_BYTES = 256 * 1024 * 1024
MISSING = ("", "NA")
"""What an absent score looks like: an empty cell, or R's word for it."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """One scorer's probability for each class: probabilities (n, classes), NaN rows where it has no scores."""

    classes: tuple[str, ...]
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """One row a case.

    cases, patients, labels: (n,) text. positive: the label that counts as positive, None where only classes are
    compared. is_positive: (n,) bool, None with it. scorers: name -> (n,) float64 in [0, 1], NaN where the scorer has
    no score, in the order of the columns. class_scorers: those that gave a probability for each class. subgroups: all
    other columns, as text, one row a case. sha256: of the file.
    """

    cases: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    positive: str | None
    is_positive: np.ndarray | None
    scorers: Mapping[str, np.ndarray]
    class_scorers: Mapping[str, ClassScores] = field(default_factory=dict)
    subgroups: pd.DataFrame = field(default_factory=pd.DataFrame)
    sha256: str = ""

    @property
    def n(self) -> int:
        return len(self.cases)

    @property
    def positives(self) -> int | None:
        return None if self.is_positive is None else int(self.is_positive.sum())


def read_scores(
    source: Path | bytes, *, positive: str | None = None, scorers: Sequence[str] | None = None
) -> ScoreTable:
    """Read and check a CSV file (UTF-8, commas).

    positive: the label that counts as positive; not needed where labels are 0 and 1. scorers: names of columns, or of
    models with columns `model:class`; by default the columns whose values are mostly numbers within [0, 1], and the
    columns `model:class` as one scorer a model. Columns named as the labels are one scorer's probabilities of them:
    it has the name of its positive column.
    """
    data = _bytes_of(source)
    cells = _cells(data)
    _check_keys(cells)
    labels, positive_label = _labels(cells, positive)
    classes = tuple(sorted(set(labels)))
    names = [name for name in cells.columns if name not in KEYS]
    groups = _class_groups(names, classes)
    if scorers is None:
        names = [name for name in names if name not in BOOKKEEPING and _is_mostly_scores(cells[name])]
        groups = {name: columns for name, columns in groups.items() if set(columns) <= set(names)}
        of_classes = {column for columns in groups.values() for column in columns}
        wanted = list(dict.fromkeys(_owner(name, groups) if name in of_classes else name for name in names))
    else:
        wanted = _named(scorers, names, groups)
    if not wanted:
        raise InvalidInput(
            "No column holds scores: mostly numbers between 0 and 1. Divide percentages by 100, or name the scorers."
        )
    found, of_classes_found = _read_scorers(cells, wanted, groups, classes, positive_label)
    used = set(wanted) | {column for name in wanted for column in groups.get(name, ())}
    return ScoreTable(
        cases=cells["case"].to_numpy(str),
        patients=cells["patient"].to_numpy(str),
        labels=labels,
        positive=positive_label,
        is_positive=None if positive_label is None else labels == positive_label,
        scorers=found,
        class_scorers=of_classes_found,
        subgroups=cells[[name for name in cells.columns if name not in KEYS and name not in used]],
        sha256=hashlib.sha256(data).hexdigest(),
    )


def label_names(data: bytes) -> tuple[str, ...]:
    """The different labels of a table, sorted, for the question which of them is positive; refuses as `read_scores`.

    Empty where the labels are 0 and 1: 1 is positive then.
    """
    cells = _cells(_bytes_of(data))
    _check_keys(cells)
    labels, positive = _labels(cells, None)
    return () if positive is not None else tuple(sorted(set(labels)))


def safe_csv(table: pd.DataFrame) -> str:
    """CSV text that starts no formula in a spreadsheet: an apostrophe goes before text that would (OWASP)."""

    def plain(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and starts_formula(value) else value

    safe = table.rename(columns=plain)
    for position, kind in enumerate(safe.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            safe.isetitem(position, safe.iloc[:, position].astype(object).map(plain))
    return str(safe.to_csv(index=False))


def starts_formula(text: str) -> bool:
    """Whether a spreadsheet would compute the cell instead of showing it; a plain negative number is harmless."""
    return text.startswith(FORMULA_STARTS) and np.isnan(_number(text))


# ---- from bytes to cells -----------------------------------------------------------------------------------------


def _bytes_of(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        if not source.is_file():
            raise NotFound("There is no such file of scores. Give the path of a CSV file.")
        if source.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"The file is larger than {MAX_BYTES // 2**20} MB. Keep the columns that are needed.")
        data = source.read_bytes()
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"The file is larger than {MAX_BYTES // 2**20} MB. Keep the columns that are needed.")
    # A carriage return alone ends a line too; counting before parsing keeps a huge file from filling the memory.
    if max(data.count(b"\n"), data.count(b"\r")) > MAX_ROWS + 1:
        raise InvalidInput(f"The table has more than {MAX_ROWS:,} rows. Give the test cases only, one row a case.")
    return data


def _cells(data: bytes) -> pd.DataFrame:
    """All cells as stripped text; the index is the row as a spreadsheet counts it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("The file is not UTF-8 text. Save the table as CSV (UTF-8), not as a workbook.") from None
    if "\0" in text:
        raise InvalidInput("The file is not text. Save the table as CSV (UTF-8), not as a workbook.")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        raise InvalidInput("The file is not a CSV table: its quotes do not match. Save it as CSV again.") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if not any(header):
        raise InvalidInput("The file has no header. The first row names the columns: case,patient,label and scorers.")
    _check_header(header)
    body: list[list[str]] = []
    numbers: list[int] = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise InvalidInput(f"Row {number} has {len(row)} cells and the header {len(header)}. Make them equal.")
        body.append([cell.strip() for cell in row])
        numbers.append(number)
    if not body:
        raise InvalidInput("The table has a header and no cases. Add one row a case.")
    return pd.DataFrame(body, columns=header, index=numbers, dtype=object)


def _check_header(header: Sequence[str]) -> None:
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise InvalidInput("The columns are not separated by commas. Save the table as CSV with commas.")
    for position, name in enumerate(header, start=1):
        if not name:
            raise InvalidInput(f"Column {position} has no name. Name every column in the first row.")
        if starts_formula(name):
            raise InvalidInput(
                f"The name of column {position} begins like a spreadsheet's formula. Begin it with a letter."
            )
        if len(name) > 100:
            raise InvalidInput(f"The name of column {position} is longer than 100 letters. Shorten it.")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InvalidInput(f"Two columns are named {twice[0]!r}. Give each its own name.")
    absent = [name for name in KEYS if name not in header]
    if absent:
        reason = " Where every case is a patient of its own, repeat the case there." if "patient" in absent else ""
        raise InvalidInput(f"The column {absent[0]!r} is missing; a table of scores has case, patient, label.{reason}")


def _check_keys(cells: pd.DataFrame) -> None:
    for name in KEYS:
        empty = cells.index[cells[name] == ""]
        if len(empty):
            raise InvalidInput(f"Row {empty[0]} has no {name}. Fill it in or leave the row out.")
        for number, text in cells[name].items():
            if starts_formula(text):
                raise InvalidInput(
                    f"The {name} in row {number} begins like a spreadsheet's formula. Begin it with a letter or digit."
                )
    again = cells["case"].duplicated()
    if again.any():
        second = cells.index[again][0]
        first = cells.index[cells["case"] == cells["case"][second]][0]
        raise InvalidInput(f"Rows {first} and {second} name the same case. Keep one of them.")


def _labels(cells: pd.DataFrame, positive: str | None) -> tuple[np.ndarray, str | None]:
    """(n,) text labels, "0" and "1" where they are numbers, and the positive one, if it is known."""
    labels = cells["label"].to_numpy(str)
    different = sorted(set(labels))
    numbers = {text: _number(text) for text in different}
    if all(not np.isnan(value) for value in numbers.values()):
        strange = [text for text, value in numbers.items() if value not in (0, 1)]
        if strange:
            row = cells.index[labels == strange[0]][0]
            raise InvalidInput(f"The label in row {row} is a number other than 0 and 1. Use 0 and 1, or class names.")
        labels = np.array([str(int(numbers[text])) for text in labels])
        different, positive = sorted(set(labels)), positive if positive is not None else "1"
    known = ", ".join(different) if len(different) <= 10 else f"{len(different)} different ones"
    if len(different) < 2:
        raise InvalidInput(f"All {len(labels)} cases have the same label. Measures need positive and negative cases.")
    if positive is not None and positive not in different:
        raise InvalidInput(f"No case is labelled {positive!r}. The labels are: {known}.")
    return labels, positive


# ---- from cells to scorers ---------------------------------------------------------------------------------------


def _class_groups(names: Sequence[str], classes: tuple[str, ...]) -> dict[str, list[str]]:
    """Model -> its columns `model:class`, where these name every label; "" -> columns that are named as the labels."""
    groups: dict[str, list[str]] = {}
    for name in names:
        model, colon, _ = name.rpartition(":")
        if colon and model:
            groups.setdefault(model, []).append(name)
    complete = {
        model: columns
        for model, columns in groups.items()
        if set(classes) <= {column.rpartition(":")[2] for column in columns}
    }
    if set(classes) <= set(names):
        complete[""] = list(classes)
    return complete


def _owner(column: str, groups: Mapping[str, Sequence[str]]) -> str:
    return next(model for model, columns in groups.items() if column in columns)


def _named(scorers: Sequence[str], names: Sequence[str], groups: Mapping[str, list[str]]) -> list[str]:
    for name in scorers:
        if name not in names and (name not in groups or not name):
            known = ", ".join([*names, *(model for model in groups if model)][:40])
            raise InvalidInput(f"There is no column of scores {name!r}. The columns are: {known}.")
    return list(dict.fromkeys(scorers))


def _read_scorers(
    cells: pd.DataFrame,
    wanted: Sequence[str],
    groups: Mapping[str, list[str]],
    classes: tuple[str, ...],
    positive: str | None,
) -> tuple[dict[str, np.ndarray], dict[str, ClassScores]]:
    scorers: dict[str, np.ndarray] = {}
    of_classes: dict[str, ClassScores] = {}
    for name in wanted:
        if name in cells.columns:
            if positive is None:
                raise InvalidInput(
                    f"Labels are class names, and {name!r} is one score a case: say which label counts as positive. "
                    f"The labels are: {', '.join(classes[:10])}."
                )
            scorers[name] = _column(cells, name)
            continue
        columns = groups[name]
        suffixes = tuple(column.rpartition(":")[2] for column in columns)
        values = np.column_stack([_column(cells, column) for column in columns])
        values[np.isnan(values).any(axis=1)] = np.nan
        shown = name or (positive if positive is not None else "probabilities")
        of_classes[shown] = ClassScores(suffixes, values)
        if positive is not None:
            scorers[shown] = values[:, suffixes.index(positive)]
    for name, values in scorers.items():
        if np.isnan(values).all():
            raise InvalidInput(f"The column {name!r} holds no score at all. Leave it out.")
    return scorers, of_classes


def _is_mostly_scores(column: pd.Series) -> bool:
    values = np.array([_number(text) for text in column if text not in MISSING])
    return len(values) > 0 and float(((values >= 0) & (values <= 1)).mean()) > 0.5


def _column(cells: pd.DataFrame, name: str) -> np.ndarray:
    """(n,) float64; NaN for an absent score; everything else that is no number in [0, 1] is refused."""
    texts = cells[name].to_numpy(object)
    values = np.array([_number(text) for text in texts])
    absent = np.isin(texts.astype(str), MISSING)
    wrong = np.flatnonzero(~absent & ~((values >= 0) & (values <= 1)))
    if len(wrong):
        row = cells.index[wrong[0]]
        what = "is not a number" if np.isnan(values[wrong[0]]) else "lies outside 0 to 1"
        raise InvalidInput(f"The score in row {row}, column {name!r}, {what}. Correct it, or leave the cell empty.")
    return np.where(absent, np.nan, values)


def _number(text: str) -> float:
    """NaN for everything that is not a number in digits."""
    try:
        return float(text) if "_" not in text else float("nan")
    except ValueError:
        return float("nan")
