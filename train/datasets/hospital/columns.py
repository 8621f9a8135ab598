"""On which sheets, in which columns of a hospital's two workbooks the key stands: as usual, and as it can be set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import InvalidInput
from core.evaluation.tables.workbooks import read_headers, sheet_names

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # StudyDate, study_date and STUDY DATE are two words


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """The names of the four columns of the key, as `train.datasets.hospital.keys` puts it together."""

    name: str = "InputFileName"
    date: str = "StudyDate"
    time: str = "StudyTime"
    patient: str = "PatientID.x"


@dataclass(frozen=True, slots=True)
class LinkSheets:
    """cancer, non_cancer: of `datacombined`. validation: of `data_validation_x`, "" for the first with the column.

    Capitals, spaces and hyphens do not matter. Raises InvalidInput where one sheet is to be both.
    """

    cancer: str = "Cancer"
    non_cancer: str = "Non-Cancer"
    validation: str = ""

    def __post_init__(self) -> None:
        if self.cancer and self.cancer == self.non_cancer:
            raise InvalidInput(
                f"The sheet {self.cancer} cannot hold both the cancer rows and the others. Name another."
            )


@dataclass(frozen=True, slots=True)
class LinkColumns:
    """combined: of both sheets of `datacombined`. validation, path: of `data_validation_x`. sheets: they stand on.

    is_by_path: `data_validation_x` has the path alone, so that the patient and the file's name are read from it.
    """

    combined: KeyColumns = KeyColumns()
    validation: KeyColumns = KeyColumns()
    path: str = "AbsolutePath"
    sheets: LinkSheets = LinkSheets()
    is_by_path: bool = False

    @property
    def is_complete(self) -> bool:
        keys = (self.combined,) if self.is_by_path else (self.combined, self.validation)
        return bool(self.path) and all((key.name and key.date and key.time and key.patient) for key in keys)


@dataclass(frozen=True, slots=True)
class Headers:
    """The names of all columns of both workbooks, in order; no cell of a patient is among them."""

    combined: tuple[str, ...]
    validation: tuple[str, ...]

    def likely(self) -> LinkColumns:
        """The usual names where they are there, else a name that sounds like it, else ""."""
        return LinkColumns(
            _likely(self.combined), _likely(self.validation), _one(self.validation, ("AbsolutePath", "path"))
        )


@dataclass(frozen=True, slots=True)
class SheetNames:
    """What the sheets of both workbooks are called, in order."""

    combined: tuple[str, ...]
    validation: tuple[str, ...]

    def likely(self) -> LinkSheets:
        """The usual names as they are written here, "" where they are not."""
        usual = LinkSheets()
        return LinkSheets(_same(self.combined, usual.cancer), _same(self.combined, usual.non_cancer))


def sheets_of(combined: Path, validation: Path) -> SheetNames:
    """Raises `NotFound` or `InvalidInput` with what to do."""
    return SheetNames(sheet_names(combined), sheet_names(validation))


def headers_of(combined: Path, validation: Path, sheets: LinkSheets | None = None) -> Headers:
    """Read the first rows of both workbooks. Raises `NotFound` or `InvalidInput` with what to do."""
    usual, sheets = KeyColumns(), sheets or LinkSheets()
    names = (usual.name, usual.date, usual.time, usual.patient)
    return Headers(
        read_headers(combined, (sheets.cancer, sheets.non_cancer), like=names),
        read_headers(validation, validation_titles(sheets), like=(*names, LinkColumns().path)),
    )


def validation_titles(sheets: LinkSheets) -> tuple[str, ...]:
    """For `read_sheets`: none means the first sheet that has the column."""
    return (sheets.validation,) if sheets.validation else ()


def _likely(columns: Sequence[str]) -> KeyColumns:
    return KeyColumns(
        _one(columns, ("InputFileName", "filename", "file")),
        _one(columns, ("StudyDate", "date")),
        _one(columns, ("StudyTime", "time")),
        _one(columns, ("PatientID.x", "PatientID", "patient")),
    )


def _one(columns: Sequence[str], words: Sequence[str]) -> str:
    """The first column that is called like the first word, else has it as a word; else the same with the next word."""
    for word in words:
        if same := _same(columns, word):
            return same
        wanted = word.casefold()
        for column in columns:
            if wanted in (part.casefold() for part in _WORD.findall(column)):
                return column
    return ""


def _same(names: Sequence[str], wanted: str) -> str:
    """The first of these names that differs from the wanted one in capitals, spaces and hyphens at most, else ""."""
    folded = {re.sub(r"[\W_]+", "", name).casefold(): name for name in reversed(names)}
    return folded.get(re.sub(r"[\W_]+", "", wanted).casefold(), "")
