"""mini-MIAS: `Info.txt` has a line a lesion, and two consecutive numbers are the breasts of one woman."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image as Raster

from core.errors import NotFound
from train.datasets.importers.imported import PICTURES, Imported, pictures_under

_SIDE = 1024
# mdb001 G CIRC B 535 425 197: film, tissue (Fatty, Glandular, Dense), finding, severity, centre x, y from below, radius
_LINE = re.compile(r"^(?P<film>mdb(?P<number>\d{3})\w*)\s+(?P<tissue>[FGD])\s+(?P<finding>[A-Z]{4})(?P<rest>.*)$")
_LESION = re.compile(r"^\s*(?P<severity>[BM])(?:\s+(?P<x>\d+)\s+(?P<y>\d+)\s+(?P<radius>\d+))?")


def read(source: Path, out: Path) -> Imported:
    """A row a film: malignant when any lesion is, else benign, else normal; the lesions as in the column's name.

    .pgm films, which the product does not read, are written to `out` as PNG, pixel for pixel.
    """
    info = next((path for path in sorted(source.rglob("*.txt")) if path.name.casefold() == "info.txt"), None)
    if info is None:
        raise NotFound("There is no Info.txt in the folder. It comes with mini-MIAS and has the labels.")
    films: dict[str, list[re.Match[str]]] = {}
    for line in info.read_text(encoding="latin-1").splitlines():
        found = _LINE.match(line.strip())
        if found:
            films.setdefault(found["film"][:6], []).append(found)
    files = {Path(file).stem[:6].lower(): file for file in pictures_under(source, (*PICTURES, ".pgm"))}
    is_converted = any(files[film].lower().endswith(".pgm") for film in films if film in files)
    rows = []
    for film, lines in films.items():
        if film in files:
            file = _as_png(source / files[film], out, film) if is_converted else files[film]
            rows.append({"file": file, **_row(lines)})
    missing = len(films) - len(rows)
    notes = (f"{missing} films of Info.txt have no picture in the folder.",) if missing else ()
    return Imported(pd.DataFrame(rows), out if is_converted else source, notes)


def _row(lines: Sequence[re.Match[str]]) -> dict[str, str]:
    number = int(lines[0]["number"])
    severities, lesions = set(), []
    for line in lines:
        lesion = _LESION.match(line["rest"])
        if lesion is None:
            continue
        severities.add(lesion["severity"])
        if lesion["x"]:
            row_from_top = _SIDE - int(lesion["y"])
            lesions.append(f"{line['finding']}:{lesion['severity']}:{lesion['x']}:{row_from_top}:{lesion['radius']}")
    return {
        "label": "malignant" if "M" in severities else "benign" if "B" in severities else "normal",
        "patient": f"mias_p{(number + 1) // 2:03d}",
        "laterality": "R" if number % 2 else "L",
        "view": "MLO",
        "density_mias": lines[0]["tissue"],
        "lesions_class_sev_x_ytop_r": "|".join(lesions),
        "modality": "mammography",
        "source": "mini-MIAS",
    }


def _as_png(film: Path, out: Path, name: str) -> str:
    out.mkdir(parents=True, exist_ok=True)
    with Raster.open(film) as raster:
        raster.save(out / f"{name}.png")
    return f"{name}.png"
