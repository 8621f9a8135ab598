"""Which columns of a hospital's two workbooks make the key, as they usually are and as they can be set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.workbooks import read_headers

COMBINED_SHEETS = ("Cancer", "Non-Cancer")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # StudyDate, study_date and STUDY DATE are two words


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """The names of the four columns of the key, as `train.hospital_keys` puts it together."""

    name: str = "InputFileName"
    date: str = "StudyDate"
    time: str = "StudyTime"
    patient: str = "PatientID.x"


@dataclass(frozen=True, slots=True)
class LinkColumns:
    """combined: of both sheets of `datacombined`. validation, path: of `data_validation_x`."""

    combined: KeyColumns = KeyColumns()
    validation: KeyColumns = KeyColumns()
    path: str = "AbsolutePath"

    @property
    def is_complete(self) -> bool:
        keys = (self.combined, self.validation)
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


def headers_of(combined: Path, validation: Path) -> Headers:
    """Read the first rows of both workbooks. Raises `NotFound` or `InvalidInput` with what to do."""
    usual = KeyColumns()
    names = (usual.name, usual.date, usual.time, usual.patient)
    return Headers(
        read_headers(combined, COMBINED_SHEETS, like=names),
        read_headers(validation, (), like=(*names, LinkColumns().path)),
    )


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
        wanted = re.sub(r"[\W_]+", "", word).casefold()
        for column in columns:
            if re.sub(r"[\W_]+", "", column).casefold() == wanted:
                return column
        for column in columns:
            if wanted in (part.casefold() for part in _WORD.findall(column)):
                return column
    return ""
