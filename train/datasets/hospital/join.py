"""Two Excel workbooks and folders of pictures of one hospital, linked into one data set.

`datacombined` describes images on two sheets, usually "Cancer" and "Non-Cancer"; `data_validation_x` says where the
file of each key once was. File names repeat from cancer patient to cancer patient, so a cancer row needs its key in the
validation workbook and is then found by the longest common tail of folders; names of non-cancer rows are unique.

Which pictures lie under a folder, by name: looked for once, asked often.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.errors import InvalidInput
from core.evaluation.tables.cells import normal_id
from core.evaluation.tables.workbooks import Sheet, read_sheets
from core.files import whole_file
from train.datasets.hospital.columns import KeyColumns, LinkColumns, validation_titles
from train.datasets.hospital.keys import (
    Key,
    full_ids,
    id_text,
    is_day,
    is_digits,
    key_of,
    name_text,
    plain,
    stem_text,
    without_zeros,
)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class PictureFiles:
    """The pictures under `root`, as paths relative to it with "/" between folders.

    by_name: the name as it stands in keys -> files. by_number: the same for names that are numbers, leading zeros off.
    sizes: file -> bytes.
    """

    root: Path
    by_name: dict[str, list[str]]
    by_number: dict[str, list[str]]
    sizes: dict[str, int]

    @classmethod
    def under(cls, root: Path) -> PictureFiles:
        """Look through `root` and its folders once; links to folders are not followed."""
        by_name: dict[str, list[str]] = {}
        by_number: dict[str, list[str]] = {}
        sizes: dict[str, int] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    file = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(file)
                    elif entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file():
                        sizes[file] = entry.stat().st_size
        for file in sorted(sizes):
            stem = stem_text(file.rpartition("/")[2])
            by_name.setdefault(stem, []).append(file)
            if is_digits(stem):
                by_number.setdefault(without_zeros(stem), []).append(file)
        return cls(root, by_name, by_number, sizes)

    def named(self, name: str) -> list[str]:
        """The files of this name; a name that is a number may have lost its leading zeros."""
        return self.by_name.get(name) or self.by_number.get(without_zeros(name), [])

    def shared_tail(self, file: str, folders: Sequence[str]) -> int:
        """How many folders the file's path and `folders` (capitals off) share, counted from their ends; at least the
        folder it lies in must be shared. A file directly under the root, which has no folder, counts as 1."""
        own = folders_of(file)[:-1]
        if not own:
            return 1
        shared = 0
        for here, there in zip(reversed(own), reversed(folders), strict=False):
            if here != there:
                break
            shared += 1
        return shared

    def one_of(self, files: Collection[str]) -> str | None:
        """The file, where there is one or all are copies of one; None where they are different pictures."""
        first, *others = sorted(files)
        if not others:
            return first
        if len({self.sizes[file] for file in files}) > 1 or self.sizes[first] == 0:
            return None
        if len({self._digest(file) for file in files}) > 1 or self._is_placeholder(first):
            return None
        return first

    def is_copy(self, file: str, *, of: Collection[str]) -> bool:
        """True where it is one of these files, or has the bytes of one."""
        alike = [other for other in of if self.sizes[other] == self.sizes[file]]
        return file in of or any(self._digest(other) == self._digest(file) for other in alike)

    def _is_placeholder(self, file: str) -> bool:
        """True where the same bytes lie under another name too: then they do not say which picture it is."""
        stem = stem_text(file.rpartition("/")[2])
        digest = self._digest(file)
        return any(
            size == self.sizes[file] and stem_text(other.rpartition("/")[2]) != stem and self._digest(other) == digest
            for other, size in self.sizes.items()
        )

    def _digest(self, file: str) -> bytes:
        return hashlib.sha256((self.root / file).read_bytes()).digest()


def folders_of(path: str) -> tuple[str, ...]:
    """The parts of a Windows or POSIX path without capitals and outer spaces."""
    parts = (normal_id(part).casefold() for part in path.strip().strip("\"'").replace("\\", "/").split("/"))
    return tuple(part for part in parts if part and part != ".")


NO_VALIDATION_ROW = "no validation row"
AMBIGUOUS = "ambiguous"
FILE_MISSING = "file missing"
INCOMPLETE = "incomplete key"
DUPLICATE = "duplicate key"
OTHER_ROW = "file of another row"


@dataclass(slots=True)
class Row:
    """One row of a sheet on its way to a file: in the end it has a `file` (relative to the images) or a `reason`."""

    sheet: Sheet
    place: int
    key: Key
    file: str = ""
    tail: int = 0
    reason: str = ""
    detail: str = ""

    def refuse(self, reason: str, detail: str = "") -> None:
        self.file, self.reason, self.detail = "", reason, detail


@dataclass(frozen=True, slots=True)
class Linked:
    """What became of every row of both sheets, in their order. images: the folder that `Row.file` is relative to."""

    cancer: tuple[Row, ...]
    non_cancer: tuple[Row, ...]
    images: Path

    def counts(self) -> dict[str, dict[str, Any]]:
        """`{"cancer": {"rows", "matched", "unmatched": {reason: n}}, "non_cancer": {…}}`."""
        return {"cancer": _counts(self.cancer), "non_cancer": _counts(self.non_cancer)}


@dataclass(slots=True)
class _Validation:
    """Keys of the validation workbook -> the paths it gives; `loose` forgives lost leading zeros."""

    exact: dict[str, set[str]] = field(default_factory=dict)
    loose: dict[tuple[str, str, str, str], set[str]] = field(default_factory=dict)
    paths: dict[str, set[str]] = field(default_factory=dict)


def link(combined: Path, validation: Path, images: Path, columns: LinkColumns | None = None) -> Linked:
    """Find the file of every row of `combined`. columns: what sheets and columns are called, where not as usual.

    Raises `NotFound` or `InvalidInput` with what to do.
    """
    if not images.is_dir():
        raise InvalidInput("--images must be the folder with the pictures (its sub-folders are searched too).")
    columns = columns or LinkColumns()
    sheets = columns.sheets
    titles = (sheets.cancer, sheets.non_cancer)
    cancer_sheet, other_sheet = read_sheets(combined, titles, header=columns.combined.name)
    (known_sheet,) = read_sheets(validation, validation_titles(sheets), header=columns.path)
    files = PictureFiles.under(images)
    cancer, non_cancer = _keys(cancer_sheet, columns.combined), _keys(other_sheet, columns.combined)
    if columns.is_by_path:
        full = full_ids(key.patient for key in (*cancer, *non_cancer))
        table = _validation_by_path(
            known_sheet, [_with_zeros(key, full) for key in (*cancer, *non_cancer)], columns.path
        )
    else:
        known = _validation_keys(known_sheet, columns.validation)
        full = full_ids(key.patient for key in (*cancer, *non_cancer, *known))
        table = _validation(known_sheet, [_with_zeros(key, full) for key in known], columns.path)
    cancer_rows = [Row(cancer_sheet, place, _with_zeros(key, full)) for place, key in enumerate(cancer)]
    other_rows = [Row(other_sheet, place, _with_zeros(key, full)) for place, key in enumerate(non_cancer)]
    _link_cancer(cancer_rows, table, files)
    taken = {row.file for row in cancer_rows if row.file}
    # A cancer row without a file may own any file of its name (its folder may be unknown, or called otherwise here):
    # none of them is safely called non-cancer. Of a key that repeats, the first row stands for all.
    doubtful = {without_zeros(row.key.name) for row in cancer_rows if not row.file and row.reason != DUPLICATE}
    _link_non_cancer(other_rows, table, files, taken=taken, doubtful=doubtful)
    return Linked(tuple(cancer_rows), tuple(other_rows), images)


def write_linked(linked: Linked, out: Path) -> None:
    """Write `CANCER.csv`, `NON CANCER.csv`, `manifest.csv` and `unmatched.csv` to `out`, made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("CANCER.csv", linked.cancer), ("NON CANCER.csv", linked.non_cancer)):
        _write_found(out / name, rows, linked.images)
    labelled = [(row, "malignant") for row in linked.cancer] + [(row, "not_malignant") for row in linked.non_cancer]
    _write(
        out / "manifest.csv",
        ("file", "label", "patient"),
        ((row.file, label, row.key.patient) for row, label in labelled if row.file),
    )
    _write(
        out / "unmatched.csv",
        ("sheet", "row", "UniqueKey", "reason", "detail"),
        (
            (row.sheet.title, row.sheet.numbers[row.place], row.key.text, row.reason, row.detail)
            for row, _ in labelled
            if not row.file
        ),
    )


def _counts(rows: Sequence[Row]) -> dict[str, Any]:
    reasons = Counter(row.reason for row in rows if not row.file)
    return {"rows": len(rows), "matched": sum(bool(row.file) for row in rows), "unmatched": dict(reasons)}


def _keys(sheet: Sheet, columns: KeyColumns) -> list[Key]:
    if not sheet.columns:
        raise InvalidInput(f"The sheet {sheet.title!r} has no column {columns.name} in its first rows.")
    places = [sheet.required_index(name) for name in (columns.name, columns.date, columns.time)]
    places.append(sheet.required_index(columns.patient, *(("PatientID",) if columns == KeyColumns() else ())))
    return [key_of(*(cells[place] for place in places)) for cells in sheet.rows]


def _validation_keys(sheet: Sheet, columns: KeyColumns) -> list[Key]:
    """From the four columns, or else from a column `UniqueKey` that is already put together."""
    whole = sheet.index("UniqueKey")
    if sheet.index(columns.name) is not None or whole is None:
        return _keys(sheet, columns)
    keys = []
    for cells in sheet.rows:
        # The first and last parts may hold hyphens themselves; date and time never do.
        parts = plain(cells[whole]).rsplit("-", 3)
        keys.append(key_of(*parts) if len(parts) == 4 else Key("", "", "", ""))
    return keys


def _with_zeros(key: Key, full: Mapping[str, str]) -> Key:
    written = full.get(key.patient) if key.is_bare_number else None
    return replace(key, patient=written) if written else key


def _validation(sheet: Sheet, keys: Iterable[Key], path_column: str) -> _Validation:
    where = sheet.required_index(path_column)
    table = _Validation()
    for key, cells in zip(keys, sheet.rows, strict=True):
        if not key.is_complete:
            continue
        table.exact.setdefault(key.text, set()).add(key.text)
        table.loose.setdefault(key.loose, set()).add(key.text)
        path = plain(cells[where])
        table.paths.setdefault(key.text, set()).update([path] if path else [])
    return table


def _validation_by_path(sheet: Sheet, keys: Iterable[Key], path_column: str) -> _Validation:
    """As `_validation`, for a sheet of paths alone: a path belongs to a key whose file it names and whose patient's
    number is one of its folders. A folder that is a day (YYYYMMDD) must be the key's."""
    where = sheet.required_index(path_column)
    by_name: dict[str, set[Key]] = {}
    for key in keys:
        if key.is_complete:
            by_name.setdefault(without_zeros(key.name), set()).add(key)
    table = _Validation()
    for cells in sheet.rows:
        path = plain(cells[where])
        *folders, last = ("", *(id_text(part) for part in folders_of(path)))
        days = {folder for folder in folders if is_day(folder)}
        for key in by_name.get(without_zeros(name_text(last)), ()):
            is_patients = any(without_zeros(folder) == without_zeros(key.patient) for folder in folders)
            if is_patients and (not days or key.date in days or key.patient in days):
                table.exact.setdefault(key.text, set()).add(key.text)
                table.loose.setdefault(key.loose, set()).add(key.text)
                table.paths.setdefault(key.text, set()).add(path)
    return table


def _paths(key: Key, table: _Validation) -> tuple[set[str], str]:
    """The paths of a key, or why there are none."""
    if not key.is_complete:
        return set(), INCOMPLETE
    found = table.exact.get(key.text) or table.loose.get(key.loose, set())
    if not found:
        return set(), NO_VALIDATION_ROW
    if len(found) > 1:
        return set(), AMBIGUOUS
    return table.paths[next(iter(found))], ""


def _refuse_repeats(rows: Sequence[Row]) -> None:
    """The first row of a key stands for all of them: they describe the same image."""
    first: dict[str, int] = {}
    for row in rows:
        number = row.sheet.numbers[row.place]
        if row.key.is_complete and first.setdefault(row.key.text, number) != number:
            row.refuse(DUPLICATE, f"the same key as row {first[row.key.text]}")


def _link_cancer(rows: Sequence[Row], table: _Validation, files: PictureFiles) -> None:
    _refuse_repeats(rows)
    for row in rows:
        if row.reason:
            continue
        paths, reason = _paths(row.key, table)
        if reason:
            row.refuse(reason)
        elif not paths:
            row.refuse(FILE_MISSING, "the validation row gives no path")
        else:
            _find_by_tail(row, paths, files)
    _settle_claims(rows)


def _find_by_tail(row: Row, paths: Iterable[str], files: PictureFiles) -> None:
    """Into `row.file` the file with the longest common tail with any of `paths`, or the reason why there is none."""
    candidates = files.named(row.key.name)
    if not candidates:
        return row.refuse(FILE_MISSING, "no file of this name")
    best: dict[str, int] = {}
    for path in paths:
        folders = _stated_folders(path, row.key.name)
        tails = {file: files.shared_tail(file, folders) for file in candidates}
        longest = max(tails.values())
        if longest > 0:
            best.update({file: longest for file, tail in tails.items() if tail == longest})
    if not best:
        return row.refuse(FILE_MISSING, "files of this name lie in other folders only")
    file = files.one_of(best)
    if file is None:
        return row.refuse(AMBIGUOUS, f"{len(best)} files fit equally well")
    row.file, row.tail = file, best[file]


def _stated_folders(path: str, name: str) -> tuple[str, ...]:
    """Folders of a path of another machine, Windows or not; the path may end in the file or in its folder."""
    parts = folders_of(path)
    if not parts:
        return ()
    is_file = name_text(parts[-1]) == name or stem_text(parts[-1]) != "".join(parts[-1].split()).upper()
    return parts[:-1] if is_file else parts


def _settle_claims(rows: Sequence[Row]) -> None:
    """A file that several keys claim belongs to the one with the longest tail; to none when that is a tie."""
    claims: dict[str, list[Row]] = {}
    for row in rows:
        if row.file:
            claims.setdefault(row.file, []).append(row)
    for rivals in claims.values():
        longest = max(row.tail for row in rivals)
        is_tie = sum(row.tail == longest for row in rivals) > 1
        for row in rivals:
            if row.tail < longest:
                row.refuse(FILE_MISSING, "the nearest file of this name belongs to another key")
            elif is_tie:
                row.refuse(AMBIGUOUS, "another key leads to the same file")


def _link_non_cancer(
    rows: Sequence[Row], table: _Validation, files: PictureFiles, *, taken: set[str], doubtful: set[str]
) -> None:
    _refuse_repeats(rows)
    names = Counter(without_zeros(row.key.name) for row in rows if not row.reason)
    for row in rows:
        if row.reason:
            continue
        if not row.key.name:
            row.refuse(INCOMPLETE, "no InputFileName")
            continue
        candidates = files.named(row.key.name)
        free = [file for file in candidates if not files.is_copy(file, of=taken.intersection(candidates))]
        if names[without_zeros(row.key.name)] > 1:
            row.refuse(AMBIGUOUS, "several rows have this InputFileName")
        elif not candidates:
            row.refuse(FILE_MISSING, "no file of this name")
        elif not free:
            row.refuse(OTHER_ROW, "the only file of this name belongs to a cancer row")
        else:
            _choose(row, free, table, files, is_doubtful=without_zeros(row.key.name) in doubtful)


def _choose(row: Row, candidates: Sequence[str], table: _Validation, files: PictureFiles, *, is_doubtful: bool) -> None:
    row.file = "" if is_doubtful else files.one_of(candidates) or ""
    if row.file:
        return
    # The name alone does not settle it; the validation workbook may know the folder.
    paths, _ = _paths(row.key, table)
    if paths:
        _find_by_tail(row, paths, files)
    if row.file not in candidates:
        rival = "; a cancer row without a file has this name too" if is_doubtful else ""
        row.refuse(AMBIGUOUS, f"files of this name: {len(candidates)}{rival}")


def _write_found(path: Path, rows: Sequence[Row], images: Path) -> None:
    sheet = rows[0].sheet if rows else None
    columns = sheet.columns if sheet else ()
    retained = [place for place, name in enumerate(columns) if name not in ("UniqueKey", "ImagePath")]
    _write(
        path,
        (*(columns[place] for place in retained), "UniqueKey", "ImagePath"),
        (
            (
                *(plain(row.sheet.rows[row.place][place]) for place in retained),
                row.key.text,
                str(images / Path(*row.file.split("/"))),
            )
            for row in rows
            if row.file
        ),
    )


def _write(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A CSV file in UTF-8, whole or not at all."""
    with whole_file(path) as half, half.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(tuple(header))
        writer.writerows(rows)
