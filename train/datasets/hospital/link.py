"""A hospital's workbooks and pictures on their way into a data set: what the join would give, then the data set.

Of the workbooks only labels and, hashed with the site's key, patients are kept. What is shown of rows without a picture
is the row's number, which the person finds in the own workbook, and the reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from core.errors import InvalidInput
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.types import Modality
from train.datasets.hospital.columns import Headers, LinkColumns, LinkSheets, SheetNames, headers_of, sheets_of
from train.datasets.hospital.join import Linked, link
from train.datasets.ingest import Ingested, NewDataSet, add_cases
from train.datasets.staging import Progress, folder_below_root, new_folder, unpack

LABELS = {"cancer": "malignant", "non_cancer": "not_malignant"}


@dataclass(frozen=True, slots=True)
class Sources:
    """The two workbooks and the folder with the pictures."""

    combined: Path
    validation: Path
    images: Path


@dataclass(frozen=True, slots=True)
class Preview:
    """What a join gives. counts: as `train link --json` prints them. unmatched: sheet, row, reason, detail."""

    counts: Mapping[str, Mapping[str, object]]
    unmatched: pd.DataFrame

    @property
    def n_matched(self) -> int:
        return sum(int(str(part["matched"])) for part in self.counts.values())


def unpack_images(db: Database, actor: Actor, archive: Path, *, progress: Progress) -> Path:
    """The pictures of an uploaded zip in a folder that is there until `add_linked`, or for a day.

    Raises NotAllowed, UnreadableImage, InvalidInput.
    """
    require_permission_now(db, actor, "manage_data")
    folder = new_folder(db.settings)
    try:
        unpack(archive, folder, db.settings, progress)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def images_below_root(db: Database, actor: Actor, folder: str) -> Path:
    """A folder of pictures on this server. Raises NotAllowed, InvalidInput, NotFound."""
    require_permission_now(db, actor, "manage_data")
    return folder_below_root(db.settings, folder)


def sheets_in(db: Database, actor: Actor, combined: Path, validation: Path) -> SheetNames:
    """What the sheets are called. Raises NotAllowed, NotFound, InvalidInput."""
    require_permission_now(db, actor, "manage_data")
    return sheets_of(combined, validation)


def columns_in(
    db: Database, actor: Actor, combined: Path, validation: Path, sheets: LinkSheets | None = None
) -> Headers:
    """What the columns of these sheets are called. Raises NotAllowed, NotFound, InvalidInput."""
    require_permission_now(db, actor, "manage_data")
    return headers_of(combined, validation, sheets)


def preview(db: Database, actor: Actor, sources: Sources, columns: LinkColumns) -> Preview:
    """Join, and tell what became of every row; nothing is kept. Raises NotAllowed, NotFound, InvalidInput."""
    require_permission_now(db, actor, "manage_data")
    linked = _link(sources, columns)
    rows = [
        (row.sheet.title, row.sheet.numbers[row.place], row.reason, row.detail)
        for row in (*linked.cancer, *linked.non_cancer)
        if not row.file
    ]
    return Preview(linked.counts(), pd.DataFrame(rows, columns=["sheet", "row", "reason", "detail"]))


def add_linked(
    db: Database,
    actor: Actor,
    sources: Sources,
    columns: LinkColumns,
    *,
    name: str,
    modality: Modality,
    seed: int,
    progress: Progress,
) -> Ingested:
    """Join once more and make a data set of the rows that have a picture; an unpacked zip is gone afterwards.

    Raises NotAllowed, NotFound, InvalidInput, Conflict.
    """
    require_permission_now(db, actor, "manage_data")
    progress("Joining the workbooks with the pictures", 0.0)
    linked = _link(sources, columns)
    cases = _cases(linked)
    if cases.empty:
        raise InvalidInput("No row of the workbooks found its picture. Look at the reasons, and at the key's columns.")
    notes = [
        f"{part['matched']} of {part['rows']} {what.replace('_', '-')} rows found their picture."
        for what, part in linked.counts().items()
    ]
    new = NewDataSet(name, modality, seed, progress)
    found = add_cases(db, actor, new, cases, sources.images, notes=notes, origin="workbooks")
    if sources.images.is_relative_to(db.settings.state_dir):
        shutil.rmtree(sources.images, ignore_errors=True)
    return found


def _link(sources: Sources, columns: LinkColumns) -> Linked:
    if not columns.is_complete:
        raise InvalidInput("Choose all of the key's columns: file name, date, time, patient, and the path.")
    return link(sources.combined, sources.validation, sources.images, columns)


def _cases(linked: Linked) -> pd.DataFrame:
    rows = [
        (row.file, LABELS[what], row.key.patient)
        for what, part in (("cancer", linked.cancer), ("non_cancer", linked.non_cancer))
        for row in part
        if row.file
    ]
    return pd.DataFrame(rows, columns=["file", "label", "patient"])
