"""Outlines that a network proposes: from a probability for each pixel to lesions, and how far two outlines agree.

Loads no TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from core.findings.marks import Point

BOUNDARY_POINTS = 96
"""Points of an outline that is handed to a reader: enough for its shape, few enough to be moved by hand."""
SMALLEST_SHARE = 0.0005
"""Of the picture: below, a proposal is a few pixels of noise and nobody could judge its shape."""


@dataclass(frozen=True, slots=True)
class Outline:
    """One proposed outline. mask: bool (H, W). peak: the network's highest answer in it, in [0, 1], uncalibrated."""

    mask: np.ndarray
    peak: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(row0, row1, column0, column1), half-open."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def boundary(mask: np.ndarray) -> tuple[Point, ...]:
    """The border of the largest region of a mask, bool (H, W), as the points of an outline mark: at most
    `BOUNDARY_POINTS`, evenly spread along it, (column, row) in the pixel matrix as in `Mark`.

    The border runs through the middles of the edges between pixels inside and outside, so the area stays within a few
    per cent. Regions are 4-connected, holes belong to them. Raises ValueError for an empty mask.
    """
    labels, count = ndimage.label(mask)
    if not count:
        raise ValueError("An empty mask has no border.")
    region = ndimage.binary_fill_holes(labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1)
    corners = np.array(_walked_around(np.pad(region, 1)), float) - 1
    middles = (corners + np.roll(corners, -1, axis=0)) / 2
    steps = np.hypot(*(np.roll(middles, -1, axis=0) - middles).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0, along[-1], min(BOUNDARY_POINTS, len(middles)), endpoint=False)
    closed = np.vstack([middles, middles[:1]])
    return tuple(
        (float(column), float(row))
        for column, row in zip(
            np.interp(wanted, along, closed[:, 0]), np.interp(wanted, along, closed[:, 1]), strict=True
        )
    )


_RIGHT_HAND = {(1, 0): (0, 0), (0, 1): (-1, 0), (-1, 0): (-1, -1), (0, -1): (0, -1)}
"""Step along the edges of pixels -> where the pixel on the right hand lies from the corner that the step leaves."""


def _walked_around(padded: np.ndarray) -> list[tuple[int, int]]:
    """The corners of pixels, (column, row), on the way around one region without holes, which lies on the right hand.

    Where two of its pixels meet at a corner only, the way turns right: they are no neighbours.
    """

    def is_inside(corner: tuple[int, int], where: tuple[int, int]) -> bool:
        return bool(padded[corner[1] + where[1], corner[0] + where[0]])

    top = int(padded.any(1).argmax())
    start = here = (int(padded[top].argmax()), top)
    step = (1, 0)
    corners: list[tuple[int, int]] = []
    while not corners or here != start:
        corners.append(here)
        here = (here[0] + step[0], here[1] + step[1])
        (dx, dy), left = step, (step[1], -step[0])
        if not is_inside(here, _RIGHT_HAND[step]):
            step = (-dy, dx)  # the pixel ahead on the right is outside: around this one's corner
        elif is_inside(here, _RIGHT_HAND[left]):
            step = left
    return corners


def outlines_of(probability: np.ndarray, *, level: float, least_peak: float) -> tuple[Outline, ...]:
    """Connected regions at `level` or more whose peak is `least_peak` or more, without holes; the surest first."""
    regions = ndimage.binary_fill_holes(probability >= level)
    labels, count = ndimage.label(regions)
    found = []
    for number in range(1, count + 1):
        mask = labels == number
        peak = float(probability[mask].max())
        if peak >= least_peak and mask.mean() >= SMALLEST_SHARE:
            found.append(Outline(mask, peak))
    return tuple(sorted(found, key=lambda one: -one.peak))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Twice the common pixels over the pixels of both (Dice 1945), bool (H, W); NaN where both are empty."""
    size = one.sum() + other.sum()
    return float(2 * (one & other).sum() / size) if size else float("nan")


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Common pixels over the pixels of either (Jaccard 1901); NaN where both are empty."""
    either = (one | other).sum()
    return float((one & other).sum() / either) if either else float("nan")


def hausdorff_95(one: np.ndarray, other: np.ndarray) -> float:
    """95th percentile of the distances from each outline to the other (Huttenlocher 1993), the larger of the two ways.

    As a share of the picture's diagonal, because the collections state no millimetres; NaN where an outline is empty.
    """
    if not one.any() or not other.any():
        return float("nan")
    edges = [mask & ~ndimage.binary_erosion(mask, border_value=0) for mask in (one, other)]
    away = [ndimage.distance_transform_edt(~edge) for edge in edges]
    ways = [np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95)]
    return float(max(ways) / np.hypot(*one.shape))
