"""What a version of a data set holds, for the eye: counts by class and subgroup, sizes, some pictures of a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Raster

from core.errors import NotFound, UnreadableImage
from core.imaging.decoded import Limits
from core.imaging.overlay import to_uint8
from core.imaging.raster import read_raster
from core.imaging.sniff import HEAD_BYTES, kind_of
from core.records import data_sets
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.settings import MIB, Settings
from train.datasets.near_duplicates import parts_of, version_cases
from train.datasets.split import units_of

SUBGROUPS = ("laterality", "view", "magnification", "subtype", "manufacturer", "source")
NOT_STATED = "not stated"
THUMBNAIL_SIDE = 224


@dataclass(frozen=True, slots=True)
class Overview:
    """counts: a row a part and label (part, label, cases). subgroups: the same a column and value (value, label,
    cases), for columns that say something. sizes: a row a picture (label, width, height in pixels, bytes).

    n_units: patients or groups, whatever keeps cases together; a case alone counts as one.
    has_patients: whether the manifest says which patient a case is of.
    """

    counts: pd.DataFrame
    subgroups: dict[str, pd.DataFrame]
    sizes: pd.DataFrame
    n_units: int
    has_patients: bool
    n_masks: int

    @property
    def mib(self) -> float:
        """Of all pictures together, without masks."""
        return float(self.sizes["bytes"].sum()) / MIB

    @property
    def size_text(self) -> str:
        """The smallest, the middle and the largest picture, by area."""
        order = (self.sizes["width"] * self.sizes["height"]).sort_values().index
        if not len(order):
            return "no picture"
        smallest, middle, largest = (self.sizes.loc[order[place]] for place in (0, len(order) // 2, -1))
        words = [f"{one['width']} x {one['height']}" for one in (smallest, middle, largest)]
        return (
            f"by area {words[0]} to {words[2]} pixels, the middle one {words[1]}" if words[0] != words[2] else words[0]
        )


def overview(db: Database, actor: Actor, version_id: int) -> Overview:
    """Reads the manifest and the heads of the pictures. Raises NotAllowed, NotFound."""
    require_permission_now(db, actor, "manage_data")
    _, cases = version_cases(db, actor, version_id)
    folder = data_sets.files_dir(db.settings)
    measured = [_size(folder / file) for file in cases["file"]]
    sizes = pd.DataFrame(measured, columns=["width", "height", "bytes"])
    sizes.insert(0, "label", cases["label"])
    return Overview(
        _counted(parts_of(cases), cases["label"]).rename(columns={"value": "part"}),
        {
            column: _counted(cases[column].replace("", NOT_STATED), cases["label"])
            for column in SUBGROUPS
            if column in cases and (column != "source" or cases[column].nunique() > 1)
        },
        sizes,
        int(units_of(cases).nunique()),
        bool("patient" in cases and (cases["patient"] != "").any()),
        int((cases["mask"] != "").sum()) if "mask" in cases else 0,
    )


def pictures_of(
    db: Database, actor: Actor, version_id: int, *, label: str, most: int, seed: int = 0
) -> list[tuple[str, str]]:
    """(file, part) of so many cases of a label, drawn by seed. Raises NotAllowed, NotFound."""
    require_permission_now(db, actor, "manage_data")
    _, cases = version_cases(db, actor, version_id)
    chosen = cases.assign(part=parts_of(cases))[cases["label"] == label]
    drawn = chosen.sample(min(most, len(chosen)), random_state=seed)
    return list(zip(drawn["file"], drawn["part"], strict=True))


def thumbnail(settings: Settings, file: str) -> np.ndarray:
    """A kept picture, its longer side about `THUMBNAIL_SIDE`: uint8 (h, w) or (h, w, 3), an empty one where unreadable.

    Raises NotFound for what is not in the store.
    """
    folder = data_sets.files_dir(settings).resolve()
    path = (folder / file).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise NotFound("This picture is not there any more.")
    try:
        with path.open("rb") as stream:
            kind = kind_of(stream.read(HEAD_BYTES)) or ""
            stream.seek(0)
            pixels = to_uint8(read_raster(stream, kind, limits=Limits.of(settings)).pixels)
    except UnreadableImage:
        return np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    whole = Raster.fromarray(pixels)
    whole.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return np.asarray(whole)


def _counted(values: pd.Series, labels: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame({"value": values, "label": labels})
    return table.value_counts(sort=False).rename("cases").reset_index().sort_values(["value", "label"])


def _size(path: Path) -> tuple[int, int, int]:
    """Width, height, bytes; zeros for what is not there or no picture."""
    try:
        with Raster.open(path) as raster:  # reads the head only
            return raster.width, raster.height, path.stat().st_size
    except (OSError, SyntaxError, ValueError):
        return 0, 0, path.stat().st_size if path.is_file() else 0
