"""A folder of DICOM files: what the tags say, and a label where a class folder gives one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from core.errors import UnreadableImage
from core.imaging.dicom.header import read_header
from core.imaging.dicom.tags import read_laterality, read_modality, read_patient
from core.imaging.dicom.views import labelled_side, read_view
from core.imaging.sniff import HEAD_BYTES, kind_of
from train.datasets.importers.imported import Imported, in_counting_order

CLASS_FOLDERS = {
    "benign": "benign", "malignant": "malignant", "cancer": "malignant", "normal": "normal",
    "not_malignant": "not_malignant", "non-cancer": "not_malignant", "non cancer": "not_malignant",
}  # fmt: skip


def read(source: Path, out: Path) -> Imported:
    """A row a DICOM file, found by content. `patient` is a hash of PatientID and its issuer, never the id itself."""
    rows, unreadable = [], 0
    files = (path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
    for path in sorted(files, key=lambda path: in_counting_order(path.as_posix())):
        with path.open("rb") as stream:
            if kind_of(stream.read(HEAD_BYTES)) != "DICOM":
                continue
            stream.seek(0)
            try:
                header, _ = read_header(stream)
            except UnreadableImage:
                unreadable += 1
                continue
        patient = read_patient(header)
        folders = [part.casefold() for part in path.relative_to(source).parent.parts]
        modality, _ = read_modality(header)
        rows.append(
            {
                "file": path.relative_to(source).as_posix(),
                "label": next((CLASS_FOLDERS[part] for part in reversed(folders) if part in CLASS_FOLDERS), ""),
                "patient": hashlib.sha256(patient.encode()).hexdigest()[:16] if patient else "",
                "modality": modality.value if modality else "",
                "laterality": read_laterality(header, labelled_side(header)).name or "",
                "view": read_view(header).name or "",
            }
        )
    cases = pd.DataFrame(rows)
    notes = [f"{unreadable} DICOM files are damaged and were left out."] if unreadable else []
    unlabelled = sum(row["label"] == "" for row in rows)
    if unlabelled:
        notes.append(f"{unlabelled} files have no label: fill the column in, or sort the files into class folders.")
    return Imported(cases, source, tuple(notes))
