"""Sheets of Excel workbooks as plain rows: "" where empty, numbers as floats, dates and times as themselves."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook

from core.errors import InvalidInput, NotFound

_UNPACKED_LIMIT = 4 << 30  # 5,000 rows of 561 columns are about 150 MB
_CELLS_LIMIT = 1 << 26  # of one sheet, by the estimate of `_extent`; of those 5,000 rows it is 11 million
_PLACE = re.compile(rb"""\br\s*=\s*["']\s*([A-Za-z]*)(\d*)""")
_ROW = re.compile(rb"[<:]row")
_PART_BYTES, _TAG_BYTES = 1 << 20, 1 << 24
_HEADER_WITHIN = 10
_SHEETS_NAMED = 20


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

    def required_index(self, *names: str) -> int:
        """Like `index`, but refuses a sheet without it."""
        place = self.index(*names)
        if place is None:
            raise InvalidInput(f"The sheet {self.title!r} has no column {names[0]}. Add it, spelled like this.")
        return place


def read_sheets(path: Path | bytes, titles: Sequence[str], *, header: str) -> tuple[Sheet, ...]:
    """The sheets with these titles (capitals, spaces and hyphens do not matter); `header` names a column they have.

    An empty list of titles means the first sheet that has the column. Raises `NotFound` or `InvalidInput`.
    """
    with _opened(path) as book:
        return _wanted(book, titles, header, _name(path))


def sheet_names(path: Path | bytes) -> tuple[str, ...]:
    """What the sheets of a workbook are called, in order. Raises `NotFound` or `InvalidInput`."""
    with _opened(path) as book:
        return tuple(book.sheet_names)


@contextmanager
def _opened(path: Path | bytes) -> Iterator[CalamineWorkbook]:
    if isinstance(path, Path) and not path.is_file():
        raise NotFound(f"There is no workbook {_name(path)}. Give the path of an .xlsx file.")
    try:
        with zipfile.ZipFile(path if isinstance(path, Path) else io.BytesIO(path)) as archive:
            _require_moderate(archive, _name(path))
        opened = (
            CalamineWorkbook.from_path(path)
            if isinstance(path, Path)
            else CalamineWorkbook.from_filelike(io.BytesIO(path))
        )
        with opened as book:
            yield book
    except (
        CalamineError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, OSError, EOFError
    ) as error:  # fmt: skip
        raise InvalidInput(
            f"{_name(path)} is not an Excel workbook that can be read (.xlsx, no password). Save it as one again."
        ) from error


def _require_moderate(archive: zipfile.ZipFile, name: str) -> None:
    """Refuses a workbook whose sheets would fill the memory: the reader has room for every cell up to the last one,
    also for those that a sheet leaves out. Only .xlsx says in a form that is looked at here where its cells are."""
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > _UNPACKED_LIMIT:
        raise InvalidInput(f"{name} unpacks to more than 4 GiB. Keep only the sheets that are needed.")
    names = {entry.filename for entry in entries}
    if "xl/workbook.xml" not in names or names & {"xl/workbook.bin", "content.xml"}:
        raise zipfile.BadZipFile("no .xlsx")
    for entry in entries:
        rows, columns = _extent(archive, entry)
        if rows * columns > _CELLS_LIMIT:
            raise InvalidInput(
                f"A sheet of {name} reaches to row {rows:,} and column {columns:,}, which is more than can be read. "
                "Delete the rows and columns behind the last one that is filled, or copy the table into a new workbook."
            )


def _extent(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """No fewer than the rows and columns that a reader will find in this part of a workbook.

    A row or cell says where it is (`r="AB12"`), or else lies behind the one before. So a sheet reaches no further than
    the last place that is named and all its rows, or the cells of its fullest row, beyond it.
    """
    last_row = last_column = n_rows = n_cells = fullest = 0
    for text in _whole_tags(archive, entry):
        found = _PLACE.findall(text)
        last_row = max([last_row, *map(_row_number, {digits for _, digits in found})])
        last_column = max([last_column, *map(_column_number, {letters for letters, _ in found})])
        first, *others = _ROW.split(text)
        n_rows += len(others)
        for cells in (n_cells + _count_cells(first), *map(_count_cells, others)):
            fullest, n_cells = max(fullest, cells), cells
    return (last_row + n_rows, last_column + fullest) if n_rows else (0, 0)


def _whole_tags(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content, about a mebibyte at a time, cut before a tag only."""
    rest = b""
    with archive.open(entry) as file:
        while part := file.read(_PART_BYTES):
            text = rest + part
            end = max(0, text.rfind(b"<"))
            if end == 0 and len(text) > _TAG_BYTES:
                raise zipfile.BadZipFile("a tag without an end")
            if end:
                yield text[:end]
            rest = text[end:]
    yield rest


def _count_cells(text: bytes) -> int:
    return text.count(b"<c") + text.count(b":c")


def _row_number(digits: bytes) -> int:
    """As large as it is written up to 18 digits; more stand for a row that no sheet has."""
    return int(digits[:18] or b"0")


def _column_number(letters: bytes) -> int:
    """A is 1, Z 26, AA 27. More than nine letters stand for a column that no sheet has: a reader may lose count."""
    number = 0
    for letter in letters[:9].upper():
        number = 26 * number + letter - 64
    return number


def read_headers(path: Path, titles: Sequence[str], *, like: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns of these sheets (or of the first sheet that has any), each once, in order.

    like: names that they usually have. Of a sheet's first rows, the one with most of these is the header; without any
    of them, the one with most cells of text. Raises `NotFound` or `InvalidInput`.
    """
    with _opened(path) as book:
        wanted = _titles(book, titles, _name(path)) or book.sheet_names
        found: dict[str, None] = {}
        for title in wanted:
            lines = book.get_sheet_by_name(title).to_python(skip_empty_area=False, nrows=_HEADER_WITHIN)
            names = _likely_header(lines, {_folded(name) for name in like})
            found |= dict.fromkeys(names)
            if names and not titles:
                break
    return tuple(found)


def _name(path: Path | bytes) -> str:
    """What to call it in a sentence; an upload lies on the disk without its name."""
    return path.name if isinstance(path, Path) and path.suffix else "the workbook"


def _likely_header(lines: Sequence[Sequence[Any]], usual: set[str]) -> tuple[str, ...]:
    def score(cells: Sequence[Any]) -> tuple[int, int]:
        texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
        return sum(_folded(cell) in usual for cell in texts), len(texts)

    best = max(lines, key=score, default=())
    return _unique(best) if score(best)[1] else ()


def _wanted(book: CalamineWorkbook, titles: Sequence[str], header: str, name: str) -> tuple[Sheet, ...]:
    if not titles:
        for title in book.sheet_names:
            sheet = _read(book.get_sheet_by_name(title), header)
            if sheet.columns:
                return (sheet,)
        raise InvalidInput(f"No sheet of {name} has a column {header}.")
    return tuple(_read(book.get_sheet_by_name(title), header) for title in _titles(book, titles, name))


def _titles(book: CalamineWorkbook, titles: Sequence[str], name: str) -> list[str]:
    """The titles as the workbook writes them. Raises InvalidInput where one is not there."""
    by_title = {_folded(title): title for title in reversed(book.sheet_names)}
    exact = set(book.sheet_names)
    missing = [title for title in titles if title not in exact and _folded(title) not in by_title]
    if missing:
        there = ", ".join(book.sheet_names[:_SHEETS_NAMED]) + (" …" if len(book.sheet_names) > _SHEETS_NAMED else "")
        raise InvalidInput(
            f"{name} has no sheet {' and no sheet '.join(missing)}. Its sheets: {there}. Say which of them it is."
        )
    return [title if title in exact else by_title[_folded(title)] for title in titles]


def _read(worksheet: CalamineSheet, header: str) -> Sheet:
    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = []
    numbers: list[int] = []
    for number, cells in _filled(worksheet.to_python(skip_empty_area=False)):
        if columns:
            rows.append(tuple(cells))
            numbers.append(number)
        elif any(_folded(cell) == _folded(header) for cell in cells):
            columns = _unique(cells)
        elif number >= _HEADER_WITHIN:
            break
    return Sheet(worksheet.name, columns, tuple(rows), tuple(numbers))


def _filled(lines: Sequence[Sequence[Any]]) -> Iterator[tuple[int, Sequence[Any]]]:
    for number, cells in enumerate(lines, start=1):
        if any(cell != "" for cell in cells):
            yield number, cells


def _unique(cells: Sequence[Any]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for number, cell in enumerate(cells, start=1):
        base = str(cell).strip() if cell != "" else f"column {number}"
        name, copy = base, 2
        while name in names:
            name, copy = f"{base} ({copy})", copy + 1
        names[name] = None
    return tuple(names)


def _folded(text: object) -> str:
    return re.sub(r"[\W_]+", "", str(text)).casefold()
