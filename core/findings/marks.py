"""Marks that a reader draws on a picture, and what is measured on them.

Points are (column, row) in the pixel matrix of the file's own frame, 0 at the outer edge of the first pixel, whose
middle is (0.5, 0.5): the spatial coordinates of a DICOM structured report (PS3.3 C.18.6.1.1). Flipping, turning and
zooming on the screen do not change them.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import InvalidInput
from core.imaging.picture import to_grey
from core.types import Image

Point = tuple[float, float]

N_POINTS: Mapping[str, tuple[int, int]] = {
    "point": (1, 1), "ellipse": (2, 2), "outline": (3, 512), "distance": (2, 2), "angle": (3, 3),
}  # fmt: skip
"""Kind of mark -> how many points it has, at least and at most. An ellipse is given by two corners of the upright box
around it, an outline is closed, the second point of an angle is its corner."""
SHOWING = ("point", "ellipse", "outline")
"""The kinds that show where a finding is; the others only measure."""
NO_PIXELS = "An {kind} encloses no pixel, so it shows no region. Remove it, and draw it again around what it shows."
LARGEST = 1_000_000
"""Columns, rows and frames that no picture has more of."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark on one picture. image_sha256: of the picture's file. frame: of it, from 0. kind: one of `N_POINTS`.

    Points are kept to a hundredth of a pixel, as they are stored: what is measured does not change by saving.

    Raises InvalidInput for what is no mark.
    """

    image_sha256: str
    frame: int
    kind: str
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        if self.kind not in N_POINTS:
            raise InvalidInput(f"A mark is a {', '.join(N_POINTS)}.")
        least, most = N_POINTS[self.kind]
        if not least <= len(self.points) <= most:
            raise InvalidInput(f"A mark of the kind {self.kind} has {least} to {most} points, not {len(self.points)}.")
        if not all(0 <= part <= LARGEST for point in self.points for part in point):
            raise InvalidInput("A mark's points are columns and rows of the picture, from 0.")
        if not _SHA256.fullmatch(self.image_sha256) or not 0 <= self.frame < LARGEST:
            raise InvalidInput("A mark names the picture that it is on.")
        kept = tuple((round(column, 2), round(row, 2)) for column, row in self.points)
        object.__setattr__(self, "points", kept)

    def is_inside(self, height: int, width: int) -> bool:
        """Whether no point lies outside of a picture of this size."""
        return all(column <= width and row <= height for column, row in self.points)

    def to_json(self) -> dict[str, Any]:
        """As it is stored; frames count from 1 there, as in DICOM."""
        points = [list(point) for point in self.points]
        return {"image": self.image_sha256, "frame": self.frame + 1, "kind": self.kind, "points": points}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Mark:
        """Raises InvalidInput for what is no mark."""
        try:
            given = [value for point in stored["points"] for value in point] + [stored["frame"]]
            if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
                raise TypeError
            points = tuple((float(column), float(row)) for column, row in stored["points"])
            return cls(str(stored["image"]), operator.index(stored["frame"]) - 1, str(stored["kind"]), points)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidInput("This is not a mark on a picture.") from error


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured on one mark. is_mm: lengths in mm and areas in mm², else in pixels.

    length: of a distance, or the longest diameter of an ellipse or outline; across: the widest at right angles to it.
    degrees: of an angle. mean_grey, deviation: of the pixels whose middle lies inside, on the scale from 0 (black) to 1
    (white) of the stored picture; n_pixels: how many those are.
    """

    is_mm: bool
    length: float | None = None
    across: float | None = None
    area: float | None = None
    degrees: float | None = None
    mean_grey: float | None = None
    deviation: float | None = None
    n_pixels: int | None = None


def measured(mark: Mark, image: Image) -> Measured:
    """What the mark measures on its picture. Pixels that were removed give no grey."""
    found = sizes(mark, image.spacing_mm, image.pixel_aspect)
    if mark.kind not in ("ellipse", "outline") or not mark.is_inside(image.height, image.width):
        return found
    rows, columns, inside = _inside(mark.points, mark.kind, image.height, image.width)
    grey = to_grey(image.pixels[rows, columns])[inside].astype(np.float64)
    if not grey.size:
        return found
    return Measured(
        found.is_mm, found.length, found.across, found.area, None,
        float(grey.mean()), float(grey.std()), int(grey.size),
    )  # fmt: skip


def sizes(mark: Mark, spacing_mm: tuple[float, float] | None, aspect: float = 1.0) -> Measured:
    """Lengths, area and angle of a mark. spacing_mm: (row, column), or None; aspect: of rows to columns then."""
    row_unit, column_unit = spacing_mm or (aspect, 1.0)
    points = np.array([(column * column_unit, row * row_unit) for column, row in mark.points])
    is_mm = spacing_mm is not None
    if mark.kind == "distance":
        return Measured(is_mm, length=float(np.hypot(*(points[1] - points[0]))))
    if mark.kind == "angle":
        (ax, ay), (bx, by) = points[0] - points[1], points[2] - points[1]
        return Measured(is_mm, degrees=abs(math.degrees(math.atan2(ax * by - ay * bx, ax * bx + ay * by))))
    if mark.kind == "ellipse":
        width, height = np.abs(points[1] - points[0])
        return Measured(
            is_mm, float(max(width, height)), float(min(width, height)), float(math.pi / 4 * width * height)
        )
    if mark.kind == "outline":
        return Measured(is_mm, *_diameters(points), _area(points))
    return Measured(is_mm)


_LINES = 8
"""Lines through each strip between two corners: exact where edges do not cross within it."""


def _area(points: np.ndarray) -> float:
    """What a closed outline encloses by the even-odd rule, as its grey is taken: exact for one that does not cross
    itself, to a fraction of a per cent for one that does. (n, 2) points, x and y."""
    levels = np.unique(points[:, 1])
    heights = np.diff(levels)
    rows = (levels[:-1, None] + heights[:, None] * (np.arange(_LINES) + 0.5) / _LINES).ravel()
    left, right = _spans(points, rows)
    return float(((right - left).sum(0) * np.repeat(heights / _LINES, _LINES)).sum())


def _spans(points: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where lines at `rows` lie inside a closed outline by the even-odd rule: from and to, each (n, rows), as far as
    there are fewer both 0. (n, 2) points, x and y."""
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    is_crossed = (y0[:, None] <= rows) != (y1[:, None] <= rows)
    rise = np.where(y1 == y0, 1.0, y1 - y0)[:, None]
    crossings = np.where(is_crossed, x0[:, None] + (rows - y0[:, None]) * ((x1 - x0)[:, None] / rise), np.inf)
    crossings.sort(axis=0)
    n_pairs = len(crossings) // 2 * 2
    left, right = crossings[0:n_pairs:2], crossings[1:n_pairs:2]
    is_inside = np.isfinite(right)
    return np.where(is_inside, left, 0.0), np.where(is_inside, right, 0.0)


def _diameters(points: np.ndarray) -> tuple[float, float]:
    """The longest diameter of a closed outline, and its extent at right angles to that one."""
    apart = points[:, None] - points[None]
    lengths = np.hypot(apart[..., 0], apart[..., 1])
    one, other = np.unravel_index(int(lengths.argmax()), lengths.shape)
    longest = float(lengths[one, other])
    if not longest:
        return 0.0, 0.0
    dx, dy = (points[other] - points[one]) / longest
    across = points @ np.array([-dy, dx])
    return longest, float(across.max() - across.min())


def mask_of(mark: Mark, height: int, width: int) -> np.ndarray:
    """Which pixels of a picture have their middle inside a closed mark, bool (H, W)."""
    rows, columns, inside = _inside(mark.points, mark.kind, height, width)
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = inside
    return mask


def has_pixels(mark: Mark) -> bool:
    """Whether an ellipse or outline has the middle of a pixel inside; always for the other kinds, which enclose
    nothing. A region without a pixel cannot be shown as one."""
    points = np.array(mark.points)
    if mark.kind == "ellipse":
        middle, radii = points.mean(0), np.ptp(points, axis=0) / 2
        nearest = np.floor(middle) + 0.5
        return bool((radii > 0).all() and (((nearest - middle) / np.maximum(radii, 1e-9)) ** 2).sum() <= 1)
    if mark.kind != "outline":
        return True
    rows = np.arange(math.floor(points[:, 1].min()), math.ceil(points[:, 1].max())) + 0.5
    left, right = _spans(points, rows)
    return bool((np.ceil(left - 0.5) + 0.5 < right).any())


def _inside(points: Sequence[Point], kind: str, height: int, width: int) -> tuple[slice, slice, np.ndarray]:
    """Rows and columns of the box around a closed mark, and which of its pixels have their middle inside."""
    x, y = np.array(points).T
    rows = slice(max(0, math.floor(y.min())), min(height, math.ceil(y.max())))
    columns = slice(max(0, math.floor(x.min())), min(width, math.ceil(x.max())))
    row = np.arange(rows.start, rows.stop)[:, None] + 0.5
    column = np.arange(columns.start, columns.stop)[None] + 0.5
    if kind == "ellipse":
        rx, ry = max(np.ptp(x) / 2, 1e-9), max(np.ptp(y) / 2, 1e-9)
        inside = ((column - (x[0] + x[1]) / 2) / rx) ** 2 + ((row - (y[0] + y[1]) / 2) / ry) ** 2 <= 1
        return rows, columns, inside
    inside = np.zeros((row.size, column.size), bool)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):  # even-odd rule, edge by edge
        if y0 != y1:
            is_crossed = (y0 <= row) != (y1 <= row)
            inside ^= is_crossed & (column < x0 + (row - y0) * (x1 - x0) / (y1 - y0))
    return rows, columns, inside


def size_text(found: Measured) -> str:
    """Lengths, area and angle in words, the unit with them; "" for a point."""
    unit, square, digits = ("mm", "mm²", 1) if found.is_mm else ("pixels", "pixels²", 0)
    parts = []
    if found.across is not None:
        parts.append(f"{found.length:.{digits}f} x {found.across:.{digits}f} {unit}")
    elif found.length is not None:
        parts.append(f"{found.length:.{2 if found.is_mm else 1}f} {unit}")
    if found.area is not None:
        parts.append(f"area {found.area:.{digits}f} {square}")
    if found.degrees is not None:
        parts.append(f"{found.degrees:.1f}°")
    return ", ".join(parts)


def measured_text(mark: Mark, found: Measured) -> str:
    """One line on a measurement: what it is, what it gave, and where it is in the file's own pixels."""
    grey = "" if found.mean_grey is None else f"mean grey {found.mean_grey:.3f} ± {found.deviation:.3f}"
    return ", ".join(filter(None, (mark.kind, size_text(found), grey, f"at {place_text(mark)}")))


def middle_of(mark: Mark) -> Point:
    """Of the upright box around a mark."""
    low, high = np.min(mark.points, axis=0), np.max(mark.points, axis=0)
    return float(low[0] + high[0]) / 2, float(low[1] + high[1]) / 2


def place_text(mark: Mark) -> str:
    """Where a mark is: column, row of its first point, or of the middle of a closed one, and the frame from 1."""
    column, row = middle_of(mark) if mark.kind in ("ellipse", "outline") else mark.points[0]
    return f"column {math.floor(column)}, row {math.floor(row)}, frame {mark.frame + 1}"


def lies_over(one: Mark, other: Mark) -> bool:
    """Whether two marks on one picture are probably of one lesion: the middle of either lies in the other's box."""
    if (one.image_sha256, one.frame) != (other.image_sha256, other.frame):
        return False
    boxes = [(np.min(mark.points, axis=0), np.max(mark.points, axis=0)) for mark in (one, other)]
    middles = [(low + high) / 2 for low, high in boxes]
    return any(
        bool(np.all((low <= middle) & (middle <= high)))
        for (low, high), middle in zip(boxes, reversed(middles), strict=True)
    )
