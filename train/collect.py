"""Pictures on their way into a data set: from a zip or a folder to kept files, a manifest, a split and its audit.

A manifest in the archive wins; otherwise class folders give the labels. Names of files and patients end here: pictures
are called by the hash of their content, patients and groups by a keyed hash that only this site can make again.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InvalidInput, NotFound, UnreadableImage
from core.imaging.archive import members
from core.imaging.sniff import HEAD_BYTES, kind_of
from core.records import data_sets
from core.records.db import Database
from core.records.permissions import Person, demand
from core.settings import Settings
from core.types import Modality
from train.audit import audit
from train.data import Manifest, read_manifest
from train.importers import class_folders
from train.importers.imported import PICTURES, pictures_under
from train.look_alikes import grouped, pairs_alike, traces_of
from train.split import SPLITS, split_cases

FILES_MOST = 20_000
UNPACKED_MIB = 16 * 1024
MANIFESTS = ("manifest.csv", "cases.csv")
_ABANDONED_SECONDS = 24 * 3600
_KEPT = ("split", "source", "licence", "laterality", "view", "magnification", "subtype")
"""Columns of a manifest that are kept as they are, beside file, label, mask and the hashed patient and group."""

Progress = Callable[[str, float], None]
"""Called with a sentence and how much is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of an archive or a folder. notes: sentences on what was left out."""

    version_id: int
    notes: tuple[str, ...]


def add_zip(
    db: Database, person: Person, archive: Path, *, name: str, modality: Modality, seed: int, progress: Progress
) -> Collected:
    """A data set from an uploaded zip. Raises NotAllowed, InvalidInput, UnreadableImage, Conflict."""
    demand(person, "manage_data")
    arriving = db.settings.state_dir / "data_sets" / "arriving"
    arriving.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_abandoned(arriving)
    with tempfile.TemporaryDirectory(dir=arriving) as folder:
        notes = _unpack(archive, Path(folder), db.settings, progress)
        return _add(db, person, Path(folder), notes, name=name, modality=modality, seed=seed, progress=progress)


def add_folder(
    db: Database, person: Person, folder: str, *, name: str, modality: Modality, seed: int, progress: Progress
) -> Collected:
    """A data set from a folder on this server, given relative to the site's data root.

    Raises NotAllowed, InvalidInput, NotFound, Conflict.
    """
    demand(person, "manage_data")
    if not db.settings.data_root:
        raise InvalidInput("This site names no folder for data (SECONDREAD_DATA_ROOT). Upload a zip instead.")
    root = Path(db.settings.data_root).resolve()
    source = (root / folder).resolve()
    if not source.is_relative_to(root):
        raise InvalidInput("This folder lies outside the site's folder for data.")
    if not source.is_dir():
        raise NotFound("There is no such folder below the site's folder for data.")
    return _add(db, person, source, [], name=name, modality=modality, seed=seed, progress=progress)


def split_anew(db: Database, person: Person, version_id: int, *, seed: int) -> int:
    """The same cases with a new seeded 60/20/20 split, as a new version. Raises NotAllowed, NotFound, InvalidInput."""
    demand(person, "manage_data")
    row = data_sets.load_version(db, person, version_id)
    path = data_sets.checked_manifest(db.settings, row.manifest_sha256)
    manifest = read_manifest(path, root=data_sets.files_dir(db.settings))
    cases = manifest.cases.assign(split=split_cases(manifest.cases, seed=seed))
    text, counts, found = _judged(replace(manifest, cases=cases))
    split = {"kind": "60/20/20", "seed": seed}
    return data_sets.add_version(db, person, row.data_set_id, manifest=text, split=split, counts=counts, found=found)


def _unpack(archive: Path, folder: Path, settings: Settings, progress: Progress) -> list[str]:
    """Write the pictures and tables of a zip below `folder`; sentences on what was refused."""
    limits = replace(settings, study_files=FILES_MOST, study_mib=UNPACKED_MIB)
    refused: dict[str, int] = {}
    n_read, total = 0, archive.stat().st_size or 1
    for member in members(archive, settings=limits):
        if member.data is None:
            sentence = member.refused or "This member cannot be read."
            refused[sentence] = refused.get(sentence, 0) + 1
            continue
        path = (folder / member.name.replace("\\", "/")).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise InvalidInput("A member of the zip has a name that points outside it.")
        with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):  # a file where a folder is: left out
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.data)
        n_read += len(member.data)
        progress("Unpacking", min(n_read / total, 1.0))
    return [f"{n} left out: {sentence}" for sentence, n in refused.items()]


def _add(
    db: Database,
    person: Person,
    source: Path,
    notes: list[str],
    *,
    name: str,
    modality: Modality,
    seed: int,
    progress: Progress,
) -> Collected:
    cases, root = _cases_in(source, notes)
    kept = _keep_files(db, cases, root, notes, progress)
    files = data_sets.files_dir(db.settings)
    progress("Comparing the pictures with each other", 0.0)
    if "split" in kept and kept["split"].isin(SPLITS).all():
        split: dict[str, Any] = {"kind": "as the manifest says"}
    else:
        count = len(kept)
        traces = traces_of(
            list(kept["file"]), files, progress=lambda n, _: progress("Comparing the pictures", n / count)
        )
        kept = kept.assign(group=grouped(kept, pairs_alike(traces)))
        kept = kept.assign(split=split_cases(kept, seed=seed))
        split = {"kind": "60/20/20", "seed": seed}
    progress("Looking for leaks", 0.9)
    text, counts, found = _judged(Manifest(kept, files, {}, ""))
    version_id = data_sets.create_data_set(
        db, person, name=name, modality=modality, manifest=text, split=split, counts=counts, found=found
    )
    progress("Done", 1.0)
    return Collected(version_id, tuple(notes))


def _cases_in(source: Path, notes: list[str]) -> tuple[pd.DataFrame, Path]:
    """The cases of a folder (a manifest in it, or class folders) and what their `file` is relative to."""
    folder = source
    while not any(path.is_file() for path in folder.iterdir()):
        inside = [path for path in folder.iterdir() if path.is_dir()]
        if len(inside) != 1:
            break
        folder = inside[0]  # an archive's own outer folder
    manifest = next((folder / name for name in MANIFESTS if (folder / name).is_file()), None)
    if manifest is not None:
        read = read_manifest(manifest)
        notes += [f"{n} rows left out: {reason}." for reason, n in read.left_out.items() if n]
        return read.cases, folder
    if not pictures_under(source):
        raise InvalidInput(
            f"No picture was found ({', '.join(PICTURES)}). Put them into one folder a class, or add a manifest.csv."
        )
    imported = class_folders.read(source, source)
    notes += imported.notes
    cases = imported.cases.fillna("").astype(str)
    return cases[cases["label"] != ""], source


def _keep_files(db: Database, cases: pd.DataFrame, root: Path, notes: list[str], progress: Progress) -> pd.DataFrame:
    """Keep every picture by content; the cases as they go on, without names."""
    real_root, left_out = root.resolve(), {"is not there": 0, "is no picture that is read here": 0}
    rows: list[dict[str, str]] = []
    for number, row in enumerate(cases.to_dict("records")):
        progress("Keeping the pictures", number / len(cases))
        try:
            kept = {"file": _keep_one(db.settings, real_root, row["file"]), "label": row["label"]}
            masks = [_keep_one(db.settings, real_root, mask) for mask in row.get("mask", "").split("|") if mask]
        except NotFound:
            left_out["is not there"] += 1
            continue
        except UnreadableImage:
            left_out["is no picture that is read here"] += 1
            continue
        kept["mask"] = "|".join(masks)
        kept |= {column: row[column] for column in _KEPT if row.get(column)}
        for column in ("patient", "group"):
            if row.get(column):
                kept[column] = _hashed(db.site_key, column, row[column])
        rows.append(kept)
    notes += [f"{n} pictures left out: the file {why}." for why, n in left_out.items() if n]
    return _each_once(pd.DataFrame(rows, columns=_columns(rows)).fillna(""), notes)


def _columns(rows: list[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(["file", "label", *(column for row in rows for column in row)]))


def _keep_one(settings: Settings, root: Path, file: str) -> str:
    path = (root / file).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise NotFound("A file of the data set is not there.")
    content = path.read_bytes()
    kind = kind_of(content[:HEAD_BYTES])
    if path.suffix.lower() not in PICTURES or kind not in ("PNG", "JPEG", "TIFF"):
        raise UnreadableImage("A file of the data set is no picture.")
    return data_sets.keep_file(settings, content, path.suffix.lower().removeprefix("."))


def _each_once(cases: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The same file twice is one case; under two labels it is none, because nobody knows which is right."""
    if cases.empty:
        raise InvalidInput("None of the pictures could be kept.")
    labels = cases.groupby("file")["label"].transform("nunique")
    if (labels > 1).any():
        notes.append(f"{int((labels > 1).sum())} pictures left out: the same file has different labels.")
    cases = cases[labels == 1]
    again = int(cases["file"].duplicated().sum())
    if again:
        notes.append(f"{again} pictures left out: the same file once more.")
    cases = cases.drop_duplicates("file").reset_index(drop=True)
    if cases["label"].nunique() < 2:
        raise InvalidInput("All pictures have the same label; a data set needs two labels at least.")
    return cases


def _judged(manifest: Manifest) -> tuple[bytes, dict[str, dict[str, int]], Mapping[str, Any]]:
    """The manifest as it is kept, its counts and what the audit finds."""
    text = io.StringIO()
    manifest.cases.to_csv(text, index=False, lineterminator="\n")
    lines = tuple(range(2, len(manifest.cases) + 2))
    found = audit(replace(manifest, lines=lines)).to_json()
    return text.getvalue().encode("utf-8"), found["counts"], found


def _hashed(key: bytes, column: str, value: str) -> str:
    return hmac.new(key, f"{column}\n{value}".encode(), hashlib.sha256).hexdigest()[:16]


def _remove_abandoned(arriving: Path) -> None:
    """What a server that was killed left half unpacked a day ago or earlier."""
    for folder in arriving.iterdir():
        if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
