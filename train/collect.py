"""From a zip, a folder, linked workbooks or this site's own reads to a data set: kept, split, audited, then a row.

The row comes last, in one transaction: an import that is refused or interrupted removes what it had kept, and what a
killed one left is swept at a later import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import InvalidInput
from core.records import data_sets
from core.records.db import Database
from core.records.permissions import Person, demand
from core.types import Modality
from core.undo import undone_by
from train.found_cases import cases_in
from train.keep import Kept, keep_cases
from train.look_alikes import grouped
from train.near_duplicates import look_at
from train.split import SPLITS
from train.staging import Progress, folder_below_root, unpacked
from train.versions import SplitRequest, divided, judged, list_pairs

REFUSED_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of an archive or a folder. notes: sentences on what was left out.

    refused: (name as it was given, why), the first `REFUSED_SHOWN`; for the person who added them, kept nowhere.
    """

    version_id: int
    notes: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()


def add_zip(
    db: Database, person: Person, archive: Path, *, name: str, modality: Modality, seed: int, progress: Progress
) -> Collected:
    """A data set from an uploaded zip. Raises NotAllowed, InvalidInput, UnreadableImage, Conflict."""
    demand(person, "manage_data")
    with unpacked(archive, db.settings, progress) as (folder, notes):
        return _add_source(db, person, folder, notes, name, modality, seed, progress, "zip")


def add_folder(
    db: Database, person: Person, folder: str, *, name: str, modality: Modality, seed: int, progress: Progress
) -> Collected:
    """A data set from a folder on this server, given relative to the site's data root.

    Raises NotAllowed, InvalidInput, NotFound, Conflict.
    """
    demand(person, "manage_data")
    source = folder_below_root(db.settings, folder)
    return _add_source(db, person, source, [], name, modality, seed, progress, "folder")


def add_kept(
    db: Database,
    person: Person,
    keep: Callable[[Kept], None],
    *,
    notes: list[str],
    name: str,
    modality: Modality,
    seed: int,
    progress: Progress,
    origin: str,
) -> Collected:
    """A data set from whatever `keep` puts into a `Kept`; it removes all of that again when it does not come to one.

    Raises NotAllowed, InvalidInput, Conflict.
    """
    demand(person, "manage_data")
    name = data_sets.demand_free_name(db, person, name)
    data_sets.sweep(db)
    kept = Kept(notes)
    with undone_by(lambda: data_sets.release(db, kept.names)):
        keep(kept)
        version_id = _create(db, person, kept, name, modality, seed, progress, origin)
    data_sets.release(db, kept.names)  # pictures that are in no case after all
    progress("Done", 1.0)
    return Collected(version_id, tuple(kept.notes), tuple(kept.refused[:REFUSED_SHOWN]))


def _add_source(
    db: Database,
    person: Person,
    source: Path,
    notes: list[str],
    name: str,
    modality: Modality,
    seed: int,
    progress: Progress,
    origin: str,
) -> Collected:
    cases, root = cases_in(source, notes)
    return add_kept(
        db,
        person,
        lambda kept: keep_cases(db, cases, root, kept, modality=modality, progress=progress),
        notes=notes,
        name=name,
        modality=modality,
        seed=seed,
        progress=progress,
        origin=origin,
    )


def _create(
    db: Database, person: Person, kept: Kept, name: str, modality: Modality, seed: int, progress: Progress, origin: str
) -> int:
    cases = kept.cases
    looks = look_at(db.settings, cases, progress)
    if looks.unreadable:
        kept.notes.append(
            f"{len(looks.unreadable)} pictures left out: it cannot be read, or is too small to be a breast."
        )
        places = [place for place in range(len(cases)) if place not in set(looks.unreadable)]
        cases, looks = cases.iloc[places].reset_index(drop=True), looks.chosen(places)
        if cases["label"].nunique() < 2:
            raise InvalidInput("Fewer than two labels are left, and a data set needs two. " + kept.notes[-1])
    if "source" not in cases:
        cases = cases.assign(source=name)
    if "split" in cases and cases["split"].isin(SPLITS).all():
        split: dict[str, Any] = {"kind": "as the manifest says"}
    else:
        request = SplitRequest(seed)
        cases = divided(cases.assign(group=grouped(cases, looks.pairs)), request)
        split = request.to_json()
    progress("Looking for leaks", 0.95)
    made = judged(db.settings, cases, looks)
    version_id = data_sets.create_data_set(
        db, person, name=name, modality=modality, manifest=made.manifest, split=split, counts=made.counts,
        found=made.audit, origin=origin,
    )  # fmt: skip
    list_pairs(db.settings, made, cases, looks)
    return version_id
