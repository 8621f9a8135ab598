"""Which cases a folder holds: what its manifest says, or else its class folders; pictures and DICOM files alike."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from core.errors import InvalidInput
from core.imaging.sniff import HEAD_BYTES, kind_of
from train.data import read_manifest
from train.importers import class_folders, dicom_folder
from train.importers.imported import PICTURES, in_counting_order, pictures_under

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
        notes += [f"{n} rows left out: {reason}." for reason, n in read.left_out.items() if n]
        return read.cases, folder
    files = sorted([*pictures_under(source), *dicom_files_under(source)], key=in_counting_order)
    if not files:
        raise InvalidInput(
            f"No picture was found ({', '.join(PICTURES)}, DICOM). Put them into one folder a class, or add a "
            "manifest.csv."
        )
    cases = _by_known_words(files, notes)
    if cases is None:
        imported = class_folders.cases_of(files, source)
        notes += imported.notes
        cases = imported.cases.fillna("").astype(str)
    cases = cases[cases["label"] != ""].reset_index(drop=True)
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


def _by_known_words(files: list[str], notes: list[str]) -> pd.DataFrame | None:
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
        notes.append(f"{n} files lie in no folder that is named like a class and were left out.")
    return pd.DataFrame({"file": files, "label": labels})
