"""Pictures of a data set that are nearly the same: listed beside the manifest, side by side on the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from core.records import data_sets
from core.records.data_sets import VersionRow
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.settings import Settings
from train.datasets.duplicates import Looks, Pair
from train.datasets.manifest import read_manifest
from train.datasets.split import units_of
from train.datasets.staging import Progress


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two cases that are nearly the same picture. first, second: their files, in the store of data sets.

    correlation: of their fine structure, 0 to 1. labels, parts: of both; a part is a split, or "fold 3".
    is_together: something in the manifest keeps them in one part (group, patient).
    """

    first: str
    second: str
    correlation: float
    labels: tuple[str, str]
    parts: tuple[str, str]
    is_together: bool

    @property
    def is_across(self) -> bool:
        return self.parts[0] != self.parts[1]


def version_cases(db: Database, actor: Actor, version_id: int) -> tuple[VersionRow, pd.DataFrame]:
    """A version and its cases. Raises NotAllowed, NotFound."""
    require_permission_now(db, actor, "manage_data")
    row = data_sets.load_version(db, actor, version_id)
    path = data_sets.checked_manifest(db.settings, row.manifest_sha256)
    return row, read_manifest(path, root=data_sets.files_dir(db.settings)).cases


def near_duplicates(db: Database, actor: Actor, version_id: int, *, progress: Progress) -> list[NearDuplicate]:
    """The pairs of a version: those that leak first, then those of two labels, then the most alike.

    Raises NotAllowed, NotFound.
    """
    require_permission_now(db, actor, "manage_data")
    row, cases = version_cases(db, actor, version_id)
    looks = looks_of(db.settings, row.manifest_sha256, cases, progress)
    file, label, part, unit = cases["file"], cases["label"], parts_of(cases), units_of(cases)
    pairs = [
        NearDuplicate(
            file[pair.first],
            file[pair.second],
            pair.correlation,
            (label[pair.first], label[pair.second]),
            (part[pair.first], part[pair.second]),
            bool(unit[pair.first] == unit[pair.second]),
        )
        for pair in looks.pairs
    ]
    return sorted(pairs, key=lambda pair: (not pair.is_across, pair.labels[0] == pair.labels[1], -pair.correlation))


def parts_of(cases: pd.DataFrame) -> pd.Series:
    """The split of each case, or "fold 3"; of a version that has both, the split, which is what training takes."""
    return cases["split"] if "split" in cases else "fold " + cases["fold"]


def looks_of(settings: Settings, manifest_sha256: str, cases: pd.DataFrame, progress: Progress) -> Looks:
    """The list that was kept; where there is none, every file is looked at and the list is kept."""
    path = data_sets.pairs_path(settings, manifest_sha256)
    if not path.is_file():
        looks = look_at(settings, cases, progress)
        write_pairs(settings, manifest_sha256, cases["file"], looks)
        return looks
    place = {file: position for position, file in enumerate(cases["file"])}
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    pairs = [Pair(place[row["first"]], place[row["second"]], float(row["correlation"])) for row in rows]
    # A kept file is named by the hash of its content, and only what could be read became a case.
    return Looks(tuple(file.rpartition("/")[2].partition(".")[0] for file in cases["file"]), (), tuple(pairs))


def look_at(settings: Settings, cases: pd.DataFrame, progress: Progress) -> Looks:
    """Every kept file read once, and all compared."""
    files = list(cases["file"])
    sentence = "Comparing the pictures with each other"
    progress(sentence, 0.0)
    return Looks.at(files, data_sets.files_dir(settings), progress=lambda n, of: progress(sentence, n / max(of, 1)))


def write_pairs(settings: Settings, manifest_sha256: str, files: Sequence[str], looks: Looks) -> None:
    """List the pairs beside the manifest."""
    names = list(files)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("first", "second", "correlation"))
    writer.writerows((names[pair.first], names[pair.second], f"{pair.correlation:.4f}") for pair in looks.pairs)
    data_sets.write_once(data_sets.pairs_path(settings, manifest_sha256), text.getvalue().encode("utf-8"))
