"""Sheets of Excel workbooks as plain rows, read one row at a time."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from core.errors import InvalidInput, NotFound

_HEADER_WITHIN = 10


@dataclass(frozen=True, slots=True)
class Sheet:
    """columns: unique names, in order. rows: cells, one for each column. numbers: the rows as Excel counts them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    numbers: tuple[int, ...]

    def index(self, *names: str) -> int | None:
        """Where the first of these columns is, whatever its capitals and spaces; None when there is none."""
        known = {_folded(column): place for place, column in reversed(list(enumerate(self.columns)))}
        return next((known[_folded(name)] for name in names if _folded(name) in known), None)

    def demand(self, *names: str) -> int:
        """Like `index`, but refuses a sheet without it."""
        place = self.index(*names)
        if place is None:
            raise InvalidInput(f"The sheet {self.title!r} has no column {names[0]}. Add it, spelled like this.")
        return place


def read_sheets(path: Path, titles: Sequence[str], *, header: str) -> tuple[Sheet, ...]:
    """The sheets with these titles (capitals, spaces and hyphens do not matter); `header` names a column they have.

    An empty list of titles means the first sheet that has the column. Raises `NotFound` or `InvalidInput`.
    """
    if not path.is_file():
        raise NotFound(f"There is no workbook {path.name}. Give the path of an .xlsx file.")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise InvalidInput(f"{path.name} is not an Excel workbook (.xlsx). Save it as one again.") from error
    try:
        if not titles:
            return (_first_with(book, header, path.name),)
        by_title = {_folded(sheet.title): sheet for sheet in book.worksheets}
        missing = [title for title in titles if _folded(title) not in by_title]
        if missing:
            raise InvalidInput(f"{path.name} has no sheet {' and no sheet '.join(missing)}. Rename its sheets so.")
        return tuple(_read(by_title[_folded(title)], header) for title in titles)
    finally:
        book.close()


def _first_with(book: Any, header: str, name: str) -> Sheet:
    for worksheet in book.worksheets:
        sheet = _read(worksheet, header)
        if sheet.index(header) is not None:
            return sheet
    raise InvalidInput(f"No sheet of {name} has a column {header}.")


def _read(worksheet: Any, header: str) -> Sheet:
    worksheet.reset_dimensions()  # the size a workbook states of itself is often wrong
    lines = worksheet.iter_rows(values_only=True)
    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = []
    numbers: list[int] = []
    for number, cells in _filled(lines):
        if not columns:
            if any(_folded(cell) == _folded(header) for cell in cells):
                columns = _unique(cells)
            elif number >= _HEADER_WITHIN:
                break
            continue
        width = len(columns)
        rows.append(tuple(cells[:width]) + (None,) * (width - len(cells)))
        numbers.append(number)
    return Sheet(worksheet.title, columns, tuple(rows), tuple(numbers))


def _filled(lines: Iterator[tuple[Any, ...]]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    for number, cells in enumerate(lines, start=1):
        if any(cell is not None and cell != "" for cell in cells):
            yield number, cells


def _unique(cells: Sequence[Any]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for number, cell in enumerate(cells, start=1):
        base = str(cell).strip() if cell is not None else f"column {number}"
        name, copy = base, 2
        while name in names:
            name, copy = f"{base} ({copy})", copy + 1
        names[name] = None
    return tuple(names)


def _folded(text: object) -> str:
    return re.sub(r"[\W_]+", "", str(text or "")).casefold()
