"""Reads a table of per-case scores: a shipped test set, a job's, a reader study, another system's output.

Columns `case,patient,label`, then scorers and subgroups. Everything a person can get wrong in such a file is refused
with a sentence that names the row as a spreadsheet counts it (the header is row 1) and never repeats a cell.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from core.errors import InvalidInput, NotFound
from core.evaluation.tables.cells import (
    BENIGN,
    ILL,
    NEGATIVE,
    NO_CLASS,
    NORMAL,
    denies,
    meaning,
    meaning_of_column,
    names_nobody,
    normal_id,
    number_of,
    outer_stripped,
    require_classes,
    require_one_spelling,
    require_positive_apart,
    similar_ids,
    similar_ids_sentence,
    spelling,
    with_normal_ids,
)

KEYS = ("case", "patient", "label")
BOOKKEEPING = ("fold", "seed", "split")
"""Columns that are numbers but never scores."""
MAX_ROWS = 100_000
MAX_BYTES = 256 * 1024 * 1024
MAX_COLUMNS = 5_000
MAX_LETTERS = 1_000
"""Of one cell. Texts of a column are kept side by side in memory, each with as much room as the longest."""
MISSING = ("", "NA")
"""What an absent score looks like: an empty cell, or R's word for it."""
_NOTHING = (*NO_CLASS, "none")
"""What people and programs write into a cell that is empty."""
_OTHER_SIGNS = {0x2212: "-", 0x2013: "-", 0xB7: ".", 0x22C5: ".", 0x66B: ".", 0x3B: ".", 0xFF0E: "."}
_WORD_FROM = 3
"""Letters of a label from which a column's name that begins or ends with it is taken for its name."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Commas(StrEnum):
    """What the commas in the numbers of a column can be, by where they stand in all of them."""

    DECIMALS = "decimals"
    THOUSANDS = "thousands"
    EITHER = "either"


_COMMAS_SENTENCE = {
    Commas.DECIMALS: "its decimals are written with commas. Write them with points.",
    Commas.THOUSANDS: "the commas in its numbers part thousands. If it holds scores, bring them to 0 to 1 first.",
    Commas.EITHER: "the commas in its numbers may part thousands or begin decimals, so nobody can know what they are. "
    "Write decimals with points and thousands without commas.",
}
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")


class Scale(StrEnum):
    """What the numbers of a column are, where they are not probabilities."""

    PER_CENT = "per cent"
    LOG_ODDS = "log odds"

    def to_probability(self, values: np.ndarray) -> np.ndarray:
        """values (n,): in per cent divided by 100, log odds (logits) through the logistic function."""
        return values / 100 if self is Scale.PER_CENT else np.asarray(expit(values))


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """One scorer's probability for each class: probabilities (n, classes), NaN rows where it has no scores."""

    classes: tuple[str, ...]
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A column of numbers that was not taken as scores. name: of the column, or of the model of `model:class` columns.

    low, high: its range. scale: what its numbers would be, if they are scores; None where they cannot be. commas: what
    commas in its numbers are. no_numbers: how many of its cells are neither empty nor numbers. other_label: the label
    that it is named for, where another one counts as positive. is_empty: it holds nothing, and has no range.
    has_some_signs: some of its numbers have a sign of per cent, and others none.
    """

    name: str
    low: float
    high: float
    scale: Scale | None
    commas: Commas | None = None
    no_numbers: int = 0
    other_label: str = ""
    is_empty: bool = False
    has_some_signs: bool = False

    def __str__(self) -> str:
        what = f"The column {self.name!r} was not taken as scores"
        if self.other_label:
            return f"{what} of the positive label: by its name they are those of {self.other_label!r}."
        if self.is_empty:
            return f"{what}: it holds no value in any row. If a scorer's are missing, fill them in."
        if self.commas is not None:
            return f"{what}: {_COMMAS_SENTENCE[self.commas]}"
        if self.no_numbers:
            cells = "1 of its cells is" if self.no_numbers == 1 else f"{self.no_numbers} of its cells are"
            return f"{what}: {cells} no number. If it holds scores, correct them or leave these cells empty."
        if self.has_some_signs:
            return f"{what}: some of its numbers have a sign of per cent and others none. Write all in one way."
        what = f"{what}, which lie between 0 and 1: its numbers run from {self.low:g} to {self.high:g}. If it holds"
        if self.scale is None:
            return f"{what} scores, bring them to 0 to 1 first."
        how = "divided by 100" if self.scale is Scale.PER_CENT else "turned into probabilities"
        return f"{what} scores in {self.scale}, say so, and they are {how}."


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """One row a case.

    cases, patients, labels: (n,) text. positive: the label that counts as positive, None where only classes are
    compared. is_positive: (n,) bool, None with it. scorers: name -> (n,) float64 in [0, 1], NaN where the scorer has
    no score, in the order of the columns. class_scorers: those that gave a probability for each class. subgroups: all
    other columns, as text, one row a case. left_out: those of them that hold numbers, which may be scores on another
    scale, or nothing at all. remarks: sentences on names of cases and patients that may be one. sha256: of the file and
    of what was said of its scales.
    """

    cases: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    positive: str | None
    is_positive: np.ndarray | None
    scorers: Mapping[str, np.ndarray]
    class_scorers: Mapping[str, ClassScores] = field(default_factory=dict)
    subgroups: pd.DataFrame = field(default_factory=pd.DataFrame)
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def n(self) -> int:
        return len(self.cases)

    @property
    def positives(self) -> int | None:
        return None if self.is_positive is None else int(self.is_positive.sum())


def read_scores(
    source: Path | bytes,
    *,
    positive: str | None = None,
    scorers: Sequence[str] | None = None,
    scales: Mapping[str, Scale] | None = None,
) -> ScoreTable:
    """Read and check a CSV file (UTF-8, commas).

    positive: the label that counts as positive; not needed where labels are 0 and 1. scorers: names of columns, or of
    models with columns `model:class`; by default the columns whose values are mostly numbers within [0, 1], and the
    columns `model:class` as one scorer a model. Columns named as the labels are one scorer's probabilities of them:
    it has the name of its positive column. scales: columns or models whose numbers are no probabilities -> what they
    are; they are scorers, too.
    """
    data = _bytes_of(source)
    cells = _checked_cells(data)
    labels, positive_label = _labels(cells, positive)
    classes = tuple(sorted(set(labels.tolist())))
    names = [name for name in cells.columns if name not in KEYS]
    groups = _class_groups(names, classes)
    scaled = _scaled(cells, scales or {}, groups)
    left_out: tuple[LeftOut, ...] = ()
    if scorers is None:
        numbers = [name for name in names if name not in BOOKKEEPING]
        names = [name for name in numbers if name in scaled or _is_mostly_scores(cells[name])]
        left_out = _left_out(cells, [name for name in numbers if name not in names], groups)
        groups = {name: columns for name, columns in groups.items() if set(columns) <= set(names)}
        of_classes = {column for columns in groups.values() for column in columns}
        of_others = _of_other_labels(cells, [name for name in names if name not in of_classes], classes, positive_label)
        left_out, names = (
            (*left_out, *of_others),
            [name for name in names if name not in {one.name for one in of_others}],
        )
        model_of = {column: model for model, columns in groups.items() for column in columns}
        wanted = list(dict.fromkeys(model_of.get(name, name) for name in names))
    else:
        wanted = _named(scorers, names, groups)
        _require_of_positive(cells, wanted, classes, positive_label)
    if not wanted:
        words = [str(one) for one in left_out[:3]] or ["Divide percentages by 100, or name the scorers."]
        raise InvalidInput(" ".join(["No column holds scores: mostly numbers between 0 and 1.", *words]))
    found, of_classes_found = _read_scorers(cells, wanted, groups, classes, positive_label, scaled)
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
        left_out=left_out,
        remarks=_remarks(cells),
        sha256=hashlib.sha256(
            data + "".join(f"\0{name}\0{scale}" for name, scale in sorted(scaled.items())).encode()
        ).hexdigest(),
    )


def left_out_columns(data: bytes) -> tuple[LeftOut, ...]:
    """The columns that `read_scores` does not take as scores by itself, for the question what they are."""
    cells = _checked_cells(_bytes_of(data))
    labels, _ = _labels(cells, None)
    names = [name for name in cells.columns if name not in (*KEYS, *BOOKKEEPING) and not _is_mostly_scores(cells[name])]
    return _left_out(cells, names, _class_groups(list(cells.columns), tuple(sorted(set(labels.tolist())))))


def label_names(data: bytes) -> tuple[str, ...]:
    """The different labels of a table, sorted, for the question which of them is positive; refuses as `read_scores`.

    Empty where the labels are 0 and 1: 1 is positive then.
    """
    cells = _checked_cells(_bytes_of(data))
    labels, positive = _labels(cells, None)
    return () if positive is not None else tuple(sorted(set(labels.tolist())))


def safe_csv(table: pd.DataFrame) -> str:
    """CSV text that starts no formula in a spreadsheet: an apostrophe goes before text that would (OWASP).

    A carriage return becomes a line feed, which is written in quotes: alone and unquoted it ends a row, so that what
    stands behind it begins a cell.
    """

    def plain(value: object) -> object:
        if not isinstance(value, str):
            return value
        value = f"'{value}" if starts_formula(value) else value
        return value.replace("\r\n", "\n").replace("\r", "\n")

    safe = table.rename(columns=plain)
    for position, kind in enumerate(safe.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            safe.isetitem(position, safe.iloc[:, position].astype(object).map(plain))
    return str(safe.to_csv(index=False))


def starts_formula(text: str) -> bool:
    """Whether a spreadsheet would compute the cell instead of showing it; a plain negative number is harmless."""
    return text.startswith(FORMULA_STARTS) and np.isnan(number_of(text))


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


def csv_cells(data: bytes, needed: str = "case,patient,label and scorers") -> pd.DataFrame:
    """All cells of a CSV file as stripped text; the index is the row as a spreadsheet counts it.

    needed: the columns in words, for who sent no header. Raises InvalidInput with the row for what is no table.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("The file is not UTF-8 text. Save the table as CSV (UTF-8), not as a workbook.") from None
    if "\0" in text:
        raise InvalidInput("The file is not text. Save the table as CSV (UTF-8), not as a workbook.")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        what = "its quotes do not match"
        what = f"a cell is far too long, or {what}" if "limit" in str(error) else what
        raise InvalidInput(f"The file is not a CSV table: {what}. Save it as CSV again.") from None
    header = [outer_stripped(name) for name in rows[0]] if rows else []
    if not any(header):
        raise InvalidInput(f"The file has no header. The first row names the columns: {needed}.")
    _check_header(header)
    body: list[list[str]] = []
    numbers: list[int] = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(outer_stripped(cell) for cell in row):
            continue
        if len(row) != len(header):
            raise InvalidInput(f"Row {number} has {len(row)} cells and the header {len(header)}. Make them equal.")
        cells = [outer_stripped(cell) for cell in row]
        if max(map(len, cells)) > MAX_LETTERS:
            raise InvalidInput(f"A cell in row {number} is longer than {MAX_LETTERS:,} letters. Shorten it.")
        body.append(cells)
        numbers.append(number)
    if not body:
        raise InvalidInput("The table has a header and no cases. Add one row a case.")
    return pd.DataFrame(body, columns=header, index=numbers, dtype=object)


def _check_header(header: Sequence[str]) -> None:
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise InvalidInput("The columns are not separated by commas. Save the table as CSV with commas.")
    if len(header) > MAX_COLUMNS:
        raise InvalidInput(f"The table has more than {MAX_COLUMNS:,} columns. Keep the columns that are needed.")
    for position, name in enumerate(header, start=1):
        if not name:
            raise InvalidInput(f"Column {position} has no name. Name every column in the first row.")
        if starts_formula(name):
            raise InvalidInput(
                f"The name of column {position} begins like a spreadsheet's formula. Begin it with a letter."
            )
        if len(name) > 100:
            raise InvalidInput(f"The name of column {position} is longer than 100 letters. Shorten it.")
    twice = [name for name, n in Counter(map(normal_id, header)).items() if n > 1]
    if twice:
        raise InvalidInput(f"Two columns are named {twice[0]!r}. Give each its own name.")


def _checked_cells(data: bytes) -> pd.DataFrame:
    """As `csv_cells`, of a table of scores: cases and patients in the form in which names are compared."""
    cells = with_normal_ids(csv_cells(data), ("case", "patient"))
    _check_keys(cells)
    return cells


def _check_keys(cells: pd.DataFrame) -> None:
    absent = [name for name in KEYS if name not in cells]
    if absent:
        reason = " Where every case is a patient of its own, repeat the case there." if "patient" in absent else ""
        raise InvalidInput(f"The column {absent[0]!r} is missing; a table of scores has case, patient, label.{reason}")
    for name in KEYS:
        empty = cells.index[cells[name] == ""]
        if len(empty):
            raise InvalidInput(f"Row {empty[0]} has no {name}. Fill it in or leave the row out.")
        for number, text in cells[name].items():
            if starts_formula(text):
                raise InvalidInput(
                    f"The {name} in row {number} begins like a spreadsheet's formula. Begin it with a letter or digit."
                )
    nobody = cells.index[cells["patient"].map(names_nobody)]
    if len(nobody):
        raise InvalidInput(
            f"The patient in row {nobody[0]} says that nobody knows who it is, and all such rows would count as one "
            "patient. Where every case is a patient of its own, repeat the case there."
        )
    if len(cells) > 1 and cells["patient"].nunique() == 1:
        raise InvalidInput(
            f"All {len(cells)} cases are of one patient. Intervals draw patients, and of one they would say that "
            "nothing is left to chance. Name each patient; where every case is a patient of its own, repeat the case."
        )
    again = cells["case"].duplicated()
    if again.any():
        second = cells.index[again][0]
        first = cells.index[cells["case"] == cells["case"][second]][0]
        raise InvalidInput(f"Rows {first} and {second} name the same case. Keep one of them.")


def _labels(cells: pd.DataFrame, positive: str | None) -> tuple[np.ndarray, str | None]:
    """(n,) text labels, "0" and "1" where they are numbers, and the positive one, if it is known."""
    labels = cells["label"].to_numpy(str)
    different = sorted(set(labels.tolist()))
    numbers = {text: number_of(text) for text in different}
    if all(not np.isnan(value) for value in numbers.values()):
        strange = [text for text, value in numbers.items() if value not in (0, 1)]
        if strange:
            row = cells.index[labels == strange[0]][0]
            raise InvalidInput(f"The label in row {row} is a number other than 0 and 1. Use 0 and 1, or class names.")
        labels = np.array([str(int(numbers[text])) for text in labels])
        different, positive = sorted(set(labels.tolist())), positive if positive is not None else "1"
    else:
        row_of = dict(zip(reversed(labels.tolist()), reversed(cells.index.tolist()), strict=True))
        require_classes(different, row_of)
        require_one_spelling(different, row_of)
    known = ", ".join(different)
    if len(different) > 10 or len(known) > 400:
        known = f"{len(different)} different ones"
    if len(different) < 2:
        which = f"All {len(labels)} cases have the same label" if len(labels) > 1 else "The table has one case only"
        raise InvalidInput(f"{which}. Measures need positive and negative cases.")
    if positive is not None and positive not in different:
        raise InvalidInput(f"No case is labelled {positive!r}. The labels are: {known}.")
    if positive is not None:
        require_positive_apart(
            different, positive, dict(zip(reversed(labels.tolist()), reversed(cells.index.tolist()), strict=True))
        )
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
        if {spelling(label) for label in classes} <= {spelling(column.rpartition(":")[2]) for column in columns}
    }
    by_spelling = {spelling(name): name for name in names}
    if all(spelling(label) in by_spelling for label in classes):
        complete[""] = [by_spelling[spelling(label)] for label in classes]
    return complete


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
    scaled: Mapping[str, Scale],
) -> tuple[dict[str, np.ndarray], dict[str, ClassScores]]:
    labels = {spelling(label): label for label in classes}
    scorers: dict[str, np.ndarray] = {}
    of_classes: dict[str, ClassScores] = {}
    for name in wanted:
        if name in cells.columns:
            if positive is None:
                raise InvalidInput(
                    f"Labels are class names, and {name!r} is one score a case: say which label counts as positive. "
                    f"The labels are: {', '.join(classes[:10])}."
                )
            scorers[name] = _column(cells, name, scaled.get(name))
            continue
        columns = groups[name]
        suffixes = tuple(column.rpartition(":")[2] for column in columns)
        suffixes = tuple(labels.get(spelling(suffix), suffix) for suffix in suffixes)
        if len(set(suffixes)) < len(suffixes):
            raise InvalidInput(f"Two columns of {name or 'the labels'} are of one class. Leave one of them out.")
        values = np.column_stack([_column(cells, column, scaled.get(column)) for column in columns])
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
    values = np.array([number_of(text) for text in column if text not in MISSING])
    return len(values) > 0 and float(((values >= 0) & (values <= 1)).mean()) > 0.5


def _scaled(cells: pd.DataFrame, scales: Mapping[str, Scale], groups: Mapping[str, list[str]]) -> dict[str, Scale]:
    """Column -> its scale; a scale said of one column of a model is that of all its columns."""
    found: dict[str, Scale] = {}
    for name, scale in scales.items():
        columns = [columns for model, columns in groups.items() if name in (model, *columns)]
        if not columns and (name not in cells.columns or name in KEYS):
            raise InvalidInput(f"There is no column of scores {name!r} to take as {scale}.")
        for column in columns[0] if columns else [name]:
            found[column] = scale
    return found


def _left_out(cells: pd.DataFrame, names: Iterable[str], groups: Mapping[str, Sequence[str]]) -> tuple[LeftOut, ...]:
    """Of these columns, that hold no probabilities, those that are mostly numbers, and those that hold nothing; one for
    the columns of a model."""
    found: dict[str, list[float]] = {}
    commas: dict[str, Commas] = {}
    no_numbers: Counter[str] = Counter()
    empty: dict[str, None] = {}
    signs: dict[str, bool] = {}
    for name in names:
        model = next((model for model, columns in groups.items() if model and name in columns), name)
        texts = [text for text in cells[name] if text not in MISSING]
        if all(text.casefold() in _NOTHING for text in texts):
            empty[model] = None
            continue
        of_column = _commas(texts)
        values = [value for text in texts if np.isfinite(value := _score(_pointed(text, of_column)))]
        meant = [value for text in texts if np.isfinite(value := _score(_meant(_pointed(text, of_column))))]
        n_real = sum(text.casefold() not in _NOTHING for text in texts)
        # Some fractions among words are scores of which most are unreadable; whole numbers among words are grades.
        if len(meant) > 0.5 * n_real or any(0 < value < 1 for value in meant):
            found.setdefault(model, []).extend(meant)
            no_numbers[model] += len(texts) - len(values) if len(values) <= 0.5 * len(texts) else 0
            signs[model] = signs.get(model, False) or _has_some_signs(texts)
            if of_column is not None:
                commas[model] = of_column
    left_out = []
    for name, values in found.items():
        low, high = min(values), max(values)
        scale = Scale.LOG_ODDS if low < 0 else Scale.PER_CENT if high <= 100 else None
        scale = None if name in commas or no_numbers[name] or signs[name] else scale
        left_out.append(LeftOut(name, low, high, scale, commas.get(name), no_numbers[name], has_some_signs=signs[name]))
    return (*left_out, *(LeftOut(name, 0, 0, None, is_empty=True) for name in empty if name not in found))


def _commas(texts: Sequence[str]) -> Commas | None:
    """None where no number has one. "1,000" alone may be a thousand or one."""
    with_commas = [text for text in texts if "," in text and np.isfinite(_score(text.replace(",", "")))]
    if not with_commas:
        return None
    if not all(_THOUSANDS.fullmatch(text.removesuffix("%").rstrip()) for text in with_commas):
        return Commas.DECIMALS
    has_points = any("." in text and np.isfinite(_score(text.replace(",", ""))) for text in texts)
    return Commas.THOUSANDS if has_points or any(text.count(",") > 1 for text in with_commas) else Commas.EITHER


def _pointed(text: str, commas: Commas | None) -> str:
    """A number as a program writes it: with a point before its decimals and nothing between its thousands."""
    if commas is Commas.DECIMALS and "," in text:
        return text.replace(".", "").replace(",", ".")
    return text.replace(",", "") if commas is not None else text


def _meant(text: str) -> str:
    """A number without what people and programs put around and into one: quotes, brackets, "~", "<", other points and
    minus signs, gaps between thousands."""
    text = text.strip("'\"\u2019()[]~\u2248<>\u2264\u2265 ").translate(_OTHER_SIGNS)
    return re.sub(r"(?<=\d)[\s'\u2019](?=\d{3})", "", text)


def _has_some_signs(texts: Sequence[str]) -> bool:
    """Whether numbers other than 0 are written with a sign of per cent and without one."""
    signed = {text.endswith("%") for text in texts if np.isfinite(value := _score(text)) and value}
    return len(signed) == 2


def _of_other_labels(
    cells: pd.DataFrame, names: Iterable[str], classes: Sequence[str], positive: str | None
) -> tuple[LeftOut, ...]:
    """Columns that by their names give the probability of a label that is not the positive one."""
    found = []
    for name in names:
        label = _other_label(name, classes, positive)
        if label:
            values = [number_of(text) for text in cells[name]]
            found.append(LeftOut(name, float(np.nanmin(values)), float(np.nanmax(values)), None, other_label=label))
    return tuple(found)


def _other_label(name: str, classes: Sequence[str], positive: str | None) -> str:
    """The label that a column is named for, wholly, behind a colon or at either end, unless it is the positive one.

    "p_benign", "net:not_malignant"; where 1 or a word for illness is positive, also "normal". "" for other names.
    """
    if positive is None:
        return ""
    last = name.rpartition(":")[2]
    others = {spelling(label): label for label in classes if label != positive}
    if label := others.get(spelling(name)) or others.get(spelling(last)):
        return label
    words, wanted = meaning_of_column(name), (ILL,) if positive == "1" else meaning(positive)
    if any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1)):
        return last if denies(name, positive) else ""
    known = {meaning(label): label for label in others.values() if len(label) >= _WORD_FROM}
    if wanted == (ILL,):
        known |= {(word,): word for word in (BENIGN, NORMAL, NEGATIVE) if (word,) not in known}
    ends = {words[:n] for n in range(1, 4)} | {words[-n:] for n in range(1, 4)}
    return next((label for one, label in known.items() if one in ends), "")


def _require_of_positive(
    cells: pd.DataFrame, wanted: Iterable[str], classes: Sequence[str], positive: str | None
) -> None:
    """Refuse a scorer whose name says that it scores another label than the positive one."""
    for name in wanted:
        label = _other_label(name, classes, positive) if name in cells.columns else ""
        if label:
            raise InvalidInput(
                f"The column {name!r} holds by its name the scores of {label!r}, and {positive!r} counts as positive. "
                "Choose the column of the positive label, or rename this one if it is that."
            )


def _remarks(cells: pd.DataFrame) -> tuple[str, ...]:
    """Sentences on patients and cases that may be one."""
    patients = similar_ids(cells["patient"], cells.index)
    cases = [group for group in similar_ids(cells["case"], cells.index) if group not in patients]
    found = similar_ids_sentence(patients, "patients"), similar_ids_sentence(cases, "cases")
    return tuple(sentence for sentence in found if sentence)


def _score(text: str) -> float:
    """As `_number`, of a cell that may end in a sign of per cent."""
    return number_of(text.removesuffix("%").rstrip())


def _column(cells: pd.DataFrame, name: str, scale: Scale | None = None) -> np.ndarray:
    """(n,) float64; NaN for an absent score; everything else that is no number in [0, 1] is refused."""
    texts = cells[name].to_numpy(object)
    values = np.array([_score(text) if scale is Scale.PER_CENT else number_of(text) for text in texts])
    if scale is not None:
        values = scale.to_probability(values)
    absent = np.isin(texts.astype(str), MISSING)
    if scale is Scale.PER_CENT and _has_some_signs(texts.tolist()):
        raise InvalidInput(
            f"Some scores of the column {name!r} have a sign of per cent and others none. Write all in one way."
        )
    wrong = np.flatnonzero(~absent & ~((values >= 0) & (values <= 1)))
    if len(wrong):
        row = cells.index[wrong[0]]
        what = "is not a number" if np.isnan(values[wrong[0]]) else "lies outside 0 to 1"
        raise InvalidInput(
            f"The score in row {row}, column {name!r}, {what}. Correct it, leave the cell empty, or say what the "
            "column holds, if these are per cent or log odds."
        )
    return np.where(absent, np.nan, values)
