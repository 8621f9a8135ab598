"""Manifests from the data sets of the field as they are published, one module a way of publishing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from core.errors import InvalidInput, NotFound
from train.datasets.importers.imported import Imported


@dataclass(frozen=True, slots=True)
class Importer:
    """id: the word on the command line. function: "module:function", called with the source and an output folder."""

    id: str
    title: str
    function: str


IMPORTERS = (
    Importer(
        "folders", "one folder a class, masks beside the pictures (BUSI)", "train.datasets.importers.class_folders:read"
    ),
    Importer(
        "cbis-ddsm", "folder with the case-description CSVs and the images", "train.datasets.importers.cbis_ddsm:read"
    ),
    Importer("mias", "mini-MIAS: Info.txt and mdb001.pgm …", "train.datasets.importers.mias:read"),
    Importer(
        "breakhis", "BreakHis: SOB_B_A-14-22549AB-40-001.png …", "train.datasets.importers.file_names:read_breakhis"
    ),
    Importer("idc", "IDC tiles: 10253_idx5_x1351_y1101_class0.png …", "train.datasets.importers.file_names:read_idc"),
    Importer(
        "dicom", "a folder of DICOM files; a class folder gives the label", "train.datasets.importers.dicom_folder:read"
    ),
    Importer(
        "breastmnist", "BreastMNIST .npz, 28 to 224 pixels, with its split", "train.datasets.importers.medmnist:read"
    ),
)


def import_data(kind: str, source: Path, out: Path) -> Imported:
    """The cases of `source`; pictures that have to be made (from .npz, .pgm) go to the folder `out`.

    Raises `NotFound` or `InvalidInput` with what was looked for.
    """
    importer = next((entry for entry in IMPORTERS if entry.id == kind), None)
    if importer is None:
        raise InvalidInput(f"{kind!r} cannot be imported. Known: {', '.join(entry.id for entry in IMPORTERS)}.")
    if not source.exists():
        raise NotFound("There is nothing at the source. Give the folder (or .npz file) of the data set.")
    if source.is_dir() != (kind != "breastmnist"):
        raise InvalidInput(f"{kind} is read from {'an .npz file' if kind == 'breastmnist' else 'a folder'}.")
    module, _, name = importer.function.partition(":")
    read: Callable[[Path, Path], Imported] = getattr(importlib.import_module(module), name)
    imported = read(source, out)
    if imported.cases.empty:
        raise InvalidInput(f"No image of this kind was found: {importer.title}.")
    cases = imported.cases.fillna("").astype(str)
    used = [column for column in cases if column in ("file", "label") or (cases[column] != "").any()]
    return Imported(pd.DataFrame(cases[used]), imported.root, imported.notes)
