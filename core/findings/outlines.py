"""Outlines that a network proposes: from a probability for each pixel to lesions, and how far two outlines agree.

Loads no TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

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
