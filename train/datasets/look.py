"""Fits and judges the look at the pixels (`core.imaging.suitability`) on breast images and on pictures that are none.

A table of measures has the columns collection, kind (a modality, or "other"), group (what must not be divided: a
patient or a file) and the measures of `core.imaging.look_measures.describe`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as Raster
from sklearn.model_selection import GroupKFold
from sklearn.neural_network import MLPClassifier

from core.errors import InvalidInput, UnreadableImage
from core.files import write_whole
from core.imaging.decoded import Limits
from core.imaging.look_measures import describe
from core.imaging.picture import to_grey
from core.imaging.raster import read_raster
from core.imaging.sniff import HEAD_BYTES, kind_of
from core.imaging.suitability import (
    NETWORKS,
    REFUSED_OUTSIDE,
    REFUSED_WITHIN,
    is_within_bounds,
    network_shares,
)
from core.settings import Settings
from core.types import Modality
from train.datasets.other_pictures import KINDS

OTHER = "other"
CLASSES = (Modality.MAMMOGRAPHY.value, Modality.ULTRASOUND.value, Modality.HISTOLOGY.value, OTHER)
_COLUMNS = ["collection", "kind", "group"]
_HIDDEN, _PENALTY, _SEEDS, _STEPS = 24, 1.0, 3, 250
_MADE = 70
_LARGE = 700
"""Least side in pixels of a picture that is cropped as well."""
_ALTERED = 3
"""In tenths, how many breast images are measured altered as well."""
_FOLDERS = {"mammography": "mammography", "ultrasound": "ultrasound", "histopathology": "histology"}
_ONE_SOURCE = ("mias", "breakhis", "cbis", "nyu")
"""How the names of folders begin that hold pictures of the same women: left out together."""


def measured(data: Path, others: Path | None, *, most: int) -> pd.DataFrame:
    """The table of every collection below `data`, at most so many pictures of each, some of them altered too; of every
    folder of `others`, each picture as it is, in grey and, of large ones, crops; of breast images shown inverted; and
    of the kinds that are made in code."""
    rows = [*_breast_images(data, most), *_made()]
    for folder in sorted(others.iterdir()) if others is not None else ():
        for path in _chosen([file for file in sorted(folder.rglob("*")) if file.is_file()], most):
            pixels = _read(path)
            if pixels is not None:
                rows.append(_row(folder.name, OTHER, str(path), pixels))
                if pixels.ndim == 3:
                    rows.append(_row(folder.name, OTHER, str(path), to_grey(pixels)))
                crops = _crops(to_grey(pixels), zlib.crc32(path.name.encode()))
                rows += [_row(f"{folder.name}, crops", OTHER, str(path), crop) for crop in crops]
    return pd.DataFrame(rows)


@dataclass(frozen=True, slots=True)
class PictureCollection:
    """Pictures of one folder of a modality. groups: path -> patient, group or, where neither is known, the file."""

    name: str
    modality: Modality
    groups: Mapping[Path, str]


def collections_below(data: Path) -> list[PictureCollection]:
    """The folders of pictures that the manifests below `data` list, whatever of each they list."""
    found: dict[tuple[str, str], dict[Path, str]] = {}
    for manifest in sorted(data.rglob("manifest.csv")):
        kind = _FOLDERS.get(manifest.relative_to(data).parts[0])
        if kind is None:
            continue
        with manifest.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                group = row.get("patient") or row.get("group") or row["file"]
                found.setdefault((Path(row["file"]).parts[1], kind), {})[data / row["file"]] = group
    return [PictureCollection(name, Modality(kind), groups) for (name, kind), groups in found.items()]


def _breast_images(data: Path, most: int) -> Iterator[dict[str, Any]]:
    for one in collections_below(data):
        collection, kind, files = one.name, one.modality.value, one.groups
        for path in _chosen(list(files), most):
            pixels = _read(path)
            if pixels is None:
                continue
            yield _row(collection, kind, files[path], pixels)
            seed = zlib.crc32(path.name.encode())
            if kind != "histology" and seed % 10 < _ALTERED:
                yield _row(collection, kind, files[path], _altered(to_grey(pixels), seed))
            if kind != "histology" and seed % 5 == 0:
                yield _row(f"inverted {kind}", OTHER, files[path], 1 - to_grey(pixels))


def _made() -> Iterator[dict[str, Any]]:
    for number, (name, draw) in enumerate(KINDS.items()):
        for seed in range(_MADE):
            yield _row(name, OTHER, str(seed), draw(np.random.default_rng([number, seed])))


def _altered(grey: np.ndarray, seed: int) -> np.ndarray:
    """As another export might have it: another gamma, trimmed, compressed or half the size."""
    rng = np.random.default_rng(seed)
    height, width = grey.shape
    picture = Raster.fromarray((255 * grey).astype(np.uint8))
    way = int(rng.integers(4))
    if way == 0:
        return np.asarray(grey ** rng.uniform(0.7, 1.4), np.float32)
    if way == 1:
        return grey[int(0.08 * height) : int(0.94 * height), int(0.03 * width) : int(0.97 * width)]
    if way == 2:
        stored = io.BytesIO()
        picture.save(stored, "JPEG", quality=60)
        picture = Raster.open(stored)
    else:
        picture = picture.resize((max(32, width // 2), max(32, height // 2)), Raster.Resampling.BOX)
    return np.asarray(picture, np.float32) / 255


def _crops(grey: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Three parts of a large picture, a quarter to two thirds of it high and wide."""
    rng = np.random.default_rng(seed)
    height, width = grey.shape
    for _ in range(3 if min(height, width) >= _LARGE else 0):
        high, wide = int(height * rng.uniform(0.25, 0.65)), int(width * rng.uniform(0.25, 0.65))
        row, column = rng.integers(0, height - high), rng.integers(0, width - wide)
        yield grey[row : row + high, column : column + wide]


def _chosen(files: list[Path], most: int) -> list[Path]:
    """At most so many, the same ones each time and from everywhere."""
    return sorted(files, key=lambda path: hashlib.sha256(path.name.encode()).digest())[:most]


def _read(path: Path) -> np.ndarray | None:
    kind = kind_of(path.read_bytes()[:HEAD_BYTES])
    if kind not in ("PNG", "JPEG", "TIFF", "WebP"):
        return None
    try:
        with path.open("rb") as stream:
            return read_raster(stream, kind, limits=Limits.of(Settings())).pixels
    except UnreadableImage:
        return None


def _row(collection: str, kind: str, group: str, pixels: np.ndarray) -> dict[str, Any]:
    return {"collection": collection, "kind": kind, "group": group, **describe(np.ascontiguousarray(pixels))}


def fit(table: pd.DataFrame) -> dict[str, Any]:
    """The networks as `suitability.json` holds them: every kind weighs alike, in it a collection by the root of its n.

    Raises InvalidInput where a kind is missing.
    """
    names = [column for column in table.columns if column not in _COLUMNS]
    values, labels = table[names].to_numpy(np.float64), table["kind"].map(CLASSES.index).to_numpy()
    if len(set(labels)) < len(CLASSES):
        raise InvalidInput(f"The look at the pixels is fitted on pictures of {', '.join(CLASSES)}, each at least once.")
    weights = _weights(table)
    mean = np.average(values, axis=0, weights=weights)
    spread = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights)) + 1e-4
    squeezed = np.clip((values - mean) / spread, -4, 4)
    networks = []
    for seed in range(_SEEDS):
        one = MLPClassifier(
            (_HIDDEN,), activation="tanh", alpha=_PENALTY, solver="lbfgs", max_iter=_STEPS, random_state=seed
        ).fit(squeezed, labels, sample_weight=weights)
        (hidden, output), (hidden_bias, output_bias) = one.coefs_, one.intercepts_
        networks.append(
            {
                "hidden": _rounded(hidden),
                "hidden_bias": _rounded(hidden_bias),
                "output": _rounded(output),
                "output_bias": _rounded(output_bias),
            }
        )
    counts = table.groupby(["kind", "collection"]).size()
    return {
        "made_by": "python -m train look --fit",
        "classes": list(CLASSES),
        "fitted_on": {kind: counts[kind].to_dict() for kind in CLASSES},
        "measures": names,
        "mean": _rounded(mean),
        "spread": _rounded(spread),
        "networks": networks,
    }


def write(networks: dict[str, Any]) -> None:
    """Replace `suitability.json` in one step."""
    write_whole(NETWORKS, json.dumps(networks, separators=(",", ":")) + "\n")


def _rounded(values: np.ndarray) -> Any:
    return np.round(values, 5).tolist()


def _source(collection: str) -> str:
    if collection in KINDS or collection.startswith("inverted "):
        return "made"
    return next((beginning for beginning in _ONE_SOURCE if collection.startswith(beginning)), collection)


def _weights(table: pd.DataFrame) -> np.ndarray:
    sizes = table.groupby(["kind", "collection"])["group"].transform("size").to_numpy(np.float64)
    weights = sizes**-0.5
    totals = pd.Series(weights).groupby(table["kind"].to_numpy()).transform("sum").to_numpy()
    found = weights / totals * np.where(table["kind"] == OTHER, 1.5, 1.0)
    return np.asarray(found / found.mean())


def _is_doubted(networks: dict[str, Any], table: pd.DataFrame) -> np.ndarray:
    """(n,) bool: which pictures of a table would be doubted."""
    names = networks["measures"]
    other = network_shares(networks, table[names].to_numpy(np.float64))[:, -1]
    within = np.array([is_within_bounds(row) for row in table[names].to_dict("records")])
    return np.asarray(other > np.where(within, REFUSED_WITHIN, REFUSED_OUTSIDE))


def lines(table: pd.DataFrame) -> list[str]:
    """A row a collection: pictures, and the share doubted by networks fitted without these women and files (in five
    parts), and by networks fitted without the whole collection (the kinds made in code together, with their own)."""
    parts, alone = np.zeros(len(table)), np.full(len(table), np.nan)
    groups = table["kind"] + table["group"]
    for fitted, tested in GroupKFold(5).split(table, groups=groups):
        parts[tested] = _is_doubted(fit(table.iloc[fitted]), table.iloc[tested])
    sources = table["collection"].map(_source)
    for source in sorted(set(sources)):
        tested = np.flatnonzero(sources == source)
        if set(table.loc[sources != source, "kind"]) == set(CLASSES):
            alone[tested] = _is_doubted(fit(table[sources != source]), table.iloc[tested])
    found = ["| Pictures | n | Doubted | Doubted, fitted without the collection |", "|---|---|---|---|"]
    for kind in CLASSES:
        for collection in sorted(set(table.loc[table["kind"] == kind, "collection"])):
            chosen = ((table["kind"] == kind) & (table["collection"] == collection)).to_numpy()
            found.append(_line(f"{kind}: {collection}", parts[chosen], alone[chosen]))
    for kind, chosen in (("all breast images", table["kind"] != OTHER), ("all others", table["kind"] == OTHER)):
        found.append(_line(f"**{kind}**", parts[chosen], alone[chosen]))
    return found


def _line(name: str, parts: np.ndarray, alone: np.ndarray) -> str:
    known = "" if np.isnan(alone).any() else f"{100 * alone.mean():.1f} %"
    return f"| {name} | {len(parts)} | {100 * parts.mean():.1f} % | {known} |"
