"""BreakHis and IDC say everything in their file names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from train.datasets.importers.imported import Imported, pictures_under

# SOB_B_A-14-22549AB-40-001.png: procedure, class, subtype, year, slide, magnification, number; patches of it end
# in SOB_B_A_14-22549AB_0.png. The letters behind the slide's number name a block of the same patient.
_BREAKHIS = re.compile(
    r"^SOB_(?P<label>[BM])_(?P<subtype>[A-Z]+)[-_](?P<year>\d+)-(?P<slide>(?P<number>\d+)[A-Z]*)"
    r"(?:-(?P<magnification>40|100|200|400)-\d+|_\d+)$",
    re.IGNORECASE,
)
_SUBTYPES = {
    "A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes_tumor", "TA": "tubular_adenoma",
    "DC": "ductal_carcinoma", "LC": "lobular_carcinoma", "MC": "mucinous_carcinoma", "PC": "papillary_carcinoma",
}  # fmt: skip
# 10253_idx5_x1351_y1101_class0.png; some copies repeat the patient: 10253_10253_idx5_…
_IDC = re.compile(r"^(?P<patient>\d+)(?:_\d+)?_idx\d+_x(?P<x>\d+)_y(?P<y>\d+)_class(?P<label>[01])$", re.IGNORECASE)


def read_breakhis(source: Path, out: Path) -> Imported:
    """Label benign or malignant, patient, slide, subtype, magnification "40X" to "400X"."""

    def row(name: re.Match[str]) -> dict[str, str]:
        magnification = name["magnification"]
        return {
            "label": "benign" if name["label"].upper() == "B" else "malignant",
            "subtype": _SUBTYPES.get(name["subtype"].upper(), name["subtype"].lower()),
            "patient": f"breakhis_{name['year']}-{name['number']}",
            "slide": name["slide"].upper(),
            "magnification": f"{magnification}X" if magnification else "",
            "modality": "histology",
            "source": "BreakHis",
        }

    return _read(source, _BREAKHIS, row)


def read_idc(source: Path, out: Path) -> Imported:
    """Label idc or non_idc, patient, the tile's place on the slide; the slides were scanned at 40X."""

    def row(name: re.Match[str]) -> dict[str, str]:
        return {
            "label": "idc" if name["label"] == "1" else "non_idc",
            "patient": f"idc_{name['patient']}",
            "magnification": "40X",
            "x": name["x"],
            "y": name["y"],
            "modality": "histology",
            "source": "IDC",
        }

    imported = _read(source, _IDC, row)
    repeated = imported.cases.duplicated(["patient", "x", "y"]) if len(imported.cases) else pd.Series(dtype=bool)
    if not repeated.any():
        return imported
    note = f"{int(repeated.sum())} tiles are there twice under two names; the first of each was kept."
    return Imported(imported.cases[~repeated].reset_index(drop=True), source, (*imported.notes, note))


def _read(source: Path, pattern: re.Pattern[str], row: Callable[[re.Match[str]], dict[str, str]]) -> Imported:
    rows, others = [], 0
    for file in pictures_under(source):
        name = pattern.match(Path(file).stem)
        if name:
            rows.append({"file": file, **row(name)})
        else:
            others += 1
    notes = (f"{others} pictures have other names and were left out.",) if others else ()
    return Imported(pd.DataFrame(rows), source, notes)
