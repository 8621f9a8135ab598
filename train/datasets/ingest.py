"""From a zip, a folder, linked workbooks or this site's own reads to a data set: kept, split, audited, then a row.

The row comes last, in one transaction: an import that is refused or interrupted removes what it had kept, and what a
killed one left is swept at a later import.

Where pictures wait on their way into a data set: a zip is unpacked in the state folder, a folder is only named.

What a server that was killed left half unpacked is removed a day later.

Which cases a folder holds: what its manifest says, or else its class folders; pictures and DICOM files alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InvalidInput
from core.evaluation.tables.cells import require_one_spelling
from core.files import undone_by
from core.imaging.sniff import HEAD_BYTES, kind_of
from core.records import data_sets
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.types import Modality
from core.wording import how_many
from train.datasets.deidentify import IngestedPictures, ingest_cases
from train.datasets.duplicates import grouped
from train.datasets.importers import class_folders, dicom_folder
from train.datasets.importers.imported import PICTURES, in_counting_order, pictures_under
from train.datasets.leakage import with_split
from train.datasets.manifest import read_manifest
from train.datasets.near_duplicates import look_at
from train.datasets.split import SPLITS
from train.datasets.staging import Progress, folder_below_root, unpacked
from train.datasets.versions import SplitRequest, divided, judged, list_pairs

MANIFESTS = ("manifest.csv", "cases.csv")
LABELS_MOST = 20
"""More class folders than this are no classes: folders named after patients must not become labels."""


def cases_in(source: Path, notes: list[str]) -> tuple[pd.DataFrame, Path]:
    """The cases of a folder (text, "" where unknown) and what their `file` is relative to; remarks go to `notes`.

    Raises InvalidInput with what to do.
    """
    folder = _without_wrapping(source)
    manifest = next((folder / name for name in MANIFESTS if (folder / name).is_file()), None)
    if manifest is not None:
        read = read_manifest(manifest)
        notes += [f"{how_many(n, 'row')} left out: {reason}." for reason, n in read.left_out.items() if n]
        notes += read.remarks
        return read.cases, folder
    files = sorted([*pictures_under(source), *dicom_files_under(source)], key=in_counting_order)
    if not files:
        raise InvalidInput(
            f"No picture was found ({', '.join(PICTURES)}, DICOM). Put them into one folder a class, or add a "
            "manifest.csv."
        )
    cases = _by_known_labels(files, notes)
    if cases is None:
        imported = class_folders.cases_of(files, source)
        notes += imported.notes
        cases = imported.cases.fillna("").astype(str)
    cases = cases[cases["label"] != ""].reset_index(drop=True)
    first = {label: int(place) + 1 for place, label in reversed(list(cases["label"].items()))}
    require_one_spelling(first, first, "picture")
    if cases["label"].nunique() > LABELS_MOST:
        raise InvalidInput(
            f"The pictures lie in {cases['label'].nunique()} folders, too many to be classes. Put them into one folder "
            "a class (benign, malignant, …), or add a manifest.csv."
        )
    return cases, source


def dicom_files_under(folder: Path) -> list[str]:
    """Files that are DICOM by content or by name; relative, "/" between folders, none hidden.

    Those by name alone are refused later, with their sentence.
    """
    found = []
    for path in folder.rglob("*"):
        if path.name.startswith(".") or path.name == "DICOMDIR" or path.suffix.lower() in PICTURES:
            continue
        if path.is_file() and (path.suffix.lower() in (".dcm", ".dicom") or _is_dicom(path)):
            found.append(path.relative_to(folder).as_posix())
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return kind_of(stream.read(HEAD_BYTES)) == "DICOM"


def _without_wrapping(source: Path) -> Path:
    """Past folders that hold nothing but one folder, as an archive's own outer folder does."""
    folder = source
    while not any(path.is_file() for path in folder.iterdir()):
        inside = [path for path in folder.iterdir() if path.is_dir()]
        if len(inside) != 1:
            break
        folder = inside[0]
    return folder


def _by_known_labels(files: list[str], notes: list[str]) -> pd.DataFrame | None:
    """Labels from the deepest folder named like a class, where DICOM lies below a folder a patient; else None."""
    words = dicom_folder.CLASS_FOLDERS
    labels = [
        next((words[part.casefold()] for part in reversed(Path(file).parts[:-1]) if part.casefold() in words), "")
        for file in files
    ]
    has_pictures = any(Path(file).suffix.lower() in PICTURES for file in files)
    if has_pictures or len(set(labels) - {""}) < 2:
        return None
    if n := labels.count(""):
        notes.append(f"{how_many(n, 'file lies', 'files lie')} in no folder that is named like a class: left out.")
    return pd.DataFrame({"file": files, "label": labels})


REFUSED_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of an archive or a folder. notes: sentences on what was left out.

    refused: (name as it was given, why), the first `REFUSED_SHOWN`; for the person who added them, kept nowhere.
    """

    version_id: int
    notes: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NewDataSet:
    """What is asked for. seed: of its split, where the cases have none. progress: hears how far it is."""

    name: str
    modality: Modality
    seed: int
    progress: Progress


def add_zip(
    db: Database, actor: Actor, archive: Path, *, name: str, modality: Modality, seed: int, progress: Progress
) -> Ingested:
    """A data set from an uploaded zip. Raises NotAllowed, InvalidInput, UnreadableImage, Conflict."""
    require_permission_now(db, actor, "manage_data")
    with unpacked(archive, db.settings, progress) as (folder, notes):
        return _add_source(db, actor, folder, notes, NewDataSet(name, modality, seed, progress), "zip")


def add_folder(
    db: Database, actor: Actor, folder: str, *, name: str, modality: Modality, seed: int, progress: Progress
) -> Ingested:
    """A data set from a folder on this server, given relative to the site's data root.

    Raises NotAllowed, InvalidInput, NotFound, Conflict.
    """
    require_permission_now(db, actor, "manage_data")
    source = folder_below_root(db.settings, folder)
    return _add_source(db, actor, source, [], NewDataSet(name, modality, seed, progress), "folder")


def add_data_set(
    db: Database,
    actor: Actor,
    new: NewDataSet,
    put_pictures: Callable[[IngestedPictures], None],
    *,
    notes: list[str],
    origin: str,
) -> Ingested:
    """A data set from whatever `put_pictures` puts into an `IngestedPictures`; all of that is removed again when it
    does not come to one.

    Raises NotAllowed, InvalidInput, Conflict.
    """
    require_permission_now(db, actor, "manage_data")
    new = replace(new, name=data_sets.require_free_name(db, actor, new.name))
    data_sets.sweep(db)
    retained = IngestedPictures(notes)
    with undone_by(lambda: data_sets.delete_unused(db, retained.names)):
        put_pictures(retained)
        version_id = _create(db, actor, new, retained, origin)
    data_sets.delete_unused(db, retained.names)  # pictures that are in no case after all
    new.progress("Done", 1.0)
    return Ingested(version_id, tuple(retained.notes), tuple(retained.refused[:REFUSED_SHOWN]))


def _add_source(db: Database, actor: Actor, source: Path, notes: list[str], new: NewDataSet, origin: str) -> Ingested:
    return add_cases(db, actor, new, *cases_in(source, notes), notes=notes, origin=origin)


def add_cases(
    db: Database, actor: Actor, new: NewDataSet, cases: pd.DataFrame, root: Path, *, notes: list[str], origin: str
) -> Ingested:
    """As `add_data_set`, of cases whose files lie below `root`."""
    require_permission_now(db, actor, "manage_data")

    def put_pictures(retained: IngestedPictures) -> None:
        ingest_cases(db, cases, root, retained, modality=new.modality, progress=new.progress)

    return add_data_set(db, actor, new, put_pictures, notes=notes, origin=origin)


def _as_given(cases: pd.DataFrame, notes: list[str]) -> pd.DataFrame | None:
    """The cases with the split that they came with, in the words of `SPLITS`; None where it cannot be used.

    A remark goes to `notes` where one was given and is not used. Folds beside a split go: training takes the split.
    """
    given = [name for name in ("split", "fold") if name in cases and (cases[name] != "").any()]
    if "split" in given:
        named, _ = with_split(cases)
        unclear = int((~named["split"].isin(SPLITS)).sum())
        if not unclear:
            return named.drop(columns="fold", errors="ignore")
        notes.append(
            f"The split that was given is not used, and a new one was made: {how_many(unclear, 'picture')} had neither "
            "train nor validation nor test there. To have it used, fill it in for all and add the data set again."
        )
    elif given:
        notes.append(
            "The folds that were given are not used: a new split was made. Divide the data set into folds where you "
            "need them."
        )
    return None


def _create(db: Database, actor: Actor, new: NewDataSet, retained: IngestedPictures, origin: str) -> int:
    cases = retained.cases
    looks = look_at(db.settings, cases, new.progress)
    if looks.unreadable:
        retained.notes.append(
            f"{how_many(len(looks.unreadable), 'picture')} left out: it cannot be read, or is too small to be a breast."
        )
        places = [place for place in range(len(cases)) if place not in set(looks.unreadable)]
        cases, looks = cases.iloc[places].reset_index(drop=True), looks.chosen(places)
        if cases["label"].nunique() < 2:
            raise InvalidInput("Fewer than two labels are left, and a data set needs two. " + retained.notes[-1])
    if "source" not in cases:
        cases = cases.assign(source=new.name)
    split: dict[str, Any] = {"kind": "as the manifest says"}
    given = _as_given(cases, retained.notes)
    if given is not None:
        cases = given
    else:
        request = SplitRequest(new.seed)
        cases = divided(cases.assign(group=grouped(cases, looks.pairs)), request)
        split = request.to_json()
    new.progress("Looking for leaks", 0.95)
    made = judged(db.settings, cases, looks)
    version_id = data_sets.create_data_set(
        db, actor, name=new.name, modality=new.modality, manifest=made.manifest, split=split, counts=made.counts,
        found=made.audit, origin=origin,
    )  # fmt: skip
    list_pairs(db.settings, made, cases, looks)
    return version_id
