"""What grey values of a mammogram say of dense tissue, and how unlike the two breasts of a woman are.

Measured, not shown: docs/findings.md has what it is worth. Every number is of a small picture with the chest wall on
the left and holds for any brightness and contrast: grey values are counted from air, in units of the fat's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from core.imaging.preprocess import bright_region, is_chest_wall_right, resize
from core.types import LATERAL_VIEWS, Image

SIDE = 256
"""Longest side of the picture that is measured: fine detail is not what density is."""
LEVELS = (1.3, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Grey values of dense tissue in units of fat's, of which one is chosen on other women."""
_RIM = 0.06
_LEAST = 200
_ALIGNED = (128, 64)
_LIKE_MUSCLE = 0.9
_BLUR = 5.0


@dataclass(frozen=True, slots=True)
class Breast:
    """One breast, chest wall on the left. grey: float (H, W), 0 at air, 1 at fat. whole, tissue: bool (H, W), the
    breast, and what of it is measured: without pectoral muscle and without the rim, where it gets thinner. muscle: grey
    value of the pectoral muscle, NaN where the view shows none."""

    grey: np.ndarray
    whole: np.ndarray
    tissue: np.ndarray
    muscle: float


def breast_in(image: Image, view: str) -> Breast | None:
    """The breast of a mammogram; None where none is found, or too little of it to be measured."""
    scale = SIDE / max(image.height * image.aspect, image.width)
    shape = max(1, round(image.height * image.aspect * scale)), max(1, round(image.width * scale))
    small = resize(image.pixels, shape)
    region = bright_region(small, 1.0)
    if region is None:
        return None
    air = float(np.median(small[~region])) if not region.all() else float(small.min())
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    grey, whole = small[box] - air, region[box]
    if is_chest_wall_right(grey):
        grey, whole = grey[:, ::-1], whole[:, ::-1]
    muscle = pectoral(grey, whole) if view in LATERAL_VIEWS else np.zeros_like(whole)
    reach = round(_RIM * SIDE)
    # The chest wall is no rim: beyond it the breast goes on.
    padded = np.pad(whole, ((0, 0), (2 * reach, 0)), mode="edge")
    depth = ndimage.distance_transform_edt(padded)[:, 2 * reach :]
    tissue = whole & ~muscle & (depth > reach)
    if tissue.sum() < _LEAST:
        return None
    fat = max(float(np.percentile(grey[tissue], 5)), 1e-3)
    of_muscle = float(np.median(grey[muscle & whole])) / fat if (muscle & whole).any() else float("nan")
    return Breast(grey / fat, whole, tissue, of_muscle)


def pectoral(grey: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """bool (H, W): what lies above the straight line from the top to the chest wall across which the grey falls most.

    A straight line as in Karssemeijer 1998 (Phys Med Biol 43:365); the fall counts more along a longer line. Nothing
    where no line within the breast has a fall.
    """
    smooth = ndimage.gaussian_filter(grey, 2)
    height, width = grey.shape
    ends = np.array(
        [(row, column) for row in np.linspace(0.25, 1, 16) * height for column in np.linspace(0.15, 0.9, 16) * width]
    )
    length = np.hypot(ends[:, :1], ends[:, 1:])
    along = np.linspace(0.05, 0.95, 40)
    rows, columns = ends[:, :1] * along, ends[:, 1:] * (1 - along)
    down, right = 4 * ends[:, 1:] / length, 4 * ends[:, :1] / length
    inner, outer = (rows - down, columns - right), (rows + down, columns + right)
    valid = (inner[0] >= 0) & (inner[1] >= 0) & (outer[0] < height) & (outer[1] < width)

    def at(plane: np.ndarray, place: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        rows, columns = (np.clip(one.astype(int), 0, size - 1) for one, size in zip(place, plane.shape, strict=True))
        return np.asarray(plane[rows, columns])

    n = np.maximum(valid.sum(1), 1)
    fall = ((at(smooth, inner) - at(smooth, outer)) * valid).sum(1) / n * np.sqrt(length[:, 0])
    in_breast = (at(whole, outer) & valid).sum(1) / n
    fall[(valid.sum(1) < 25) | (in_breast < 0.9)] = 0
    best = int(np.argmax(fall))
    if fall[best] <= 0:
        return np.zeros_like(whole)
    all_rows, all_columns = np.ogrid[:height, :width]
    return np.asarray(all_rows / ends[best, 0] + all_columns / ends[best, 1] < 1)


def density_numbers(breast: Breast) -> dict[str, float]:
    """Percent dense by several rules, and other numbers of the grey values, by name.

    "above K": share of the tissue brighter than K times fat. "otsu": share above the threshold of Otsu 1979 (IEEE Trans
    SMC 9:62). "muscle": share nearly as bright as the pectoral muscle. "apart": how much of the variance Otsu's
    threshold explains. "gap": between the means of its two sides. "spread", "texture", "quarter", "median": the
    standard deviation, that of structures some pixels wide, and percentiles by the 99th.
    """
    values = breast.grey[breast.tissue]
    threshold, apart = _otsu(values)
    quarter, median, top = np.percentile(values, (25, 50, 99))
    bands = ndimage.gaussian_filter(breast.grey, 2) - ndimage.gaussian_filter(breast.grey, 8)
    dense = values > threshold
    return {
        **{f"above {level:g}": float((values > level).mean()) for level in LEVELS},
        "otsu": float(dense.mean()),
        "muscle": float((values > _LIKE_MUSCLE * breast.muscle).mean()) if np.isfinite(breast.muscle) else float("nan"),
        "apart": apart,
        "gap": float(values[dense].mean() - values[~dense].mean()) if dense.any() and not dense.all() else 0.0,
        "spread": float(values.std() / values.mean()),
        "texture": float(bands[breast.tissue].std() / median),
        "quarter": float(quarter / top),
        "median": float(median / top),
    }


def _otsu(values: np.ndarray) -> tuple[float, float]:
    """The threshold, and the share of the variance between its two sides."""
    counts, edges = np.histogram(values, 128)
    middles, shares = (edges[:-1] + edges[1:]) / 2, np.cumsum(counts) / len(values)
    means = np.cumsum(counts * middles) / len(values)
    inside = (shares > 0) & (shares < 1)
    between = np.zeros(len(counts))
    between[inside] = (means[-1] * shares - means)[inside] ** 2 / (shares * (1 - shares))[inside]
    best = int(np.argmax(between))
    return float(edges[best + 1]), float(between[best] / max(float(values.var()), 1e-12))


def unlike_numbers(right: Breast, left: Breast) -> dict[str, float]:
    """How unlike two breasts in one view are, right less left where there is a sign, by name.

    "density": of the shares brighter than twice fat. "size": of the logarithms of the areas. "place": the greatest
    difference of the smoothed grey values at one place, both breasts laid over each other by their boxes and each
    scaled to its own mean and spread. "everywhere": the mean of those differences without their signs.
    """
    dense = [float((one.grey[one.tissue] > 2).mean()) for one in (right, left)]
    planes, masks = [], []
    for one in (right, left):
        values = one.grey[one.tissue]
        scaled = np.where(one.tissue, (one.grey - values.mean()) / max(float(values.std()), 1e-6), 0)
        planes.append(ndimage.gaussian_filter(resize(scaled.astype(np.float32), _ALIGNED), _BLUR))
        masks.append(resize(one.tissue.astype(np.float32), _ALIGNED) > 0.5)
    both = masks[0] & masks[1]
    differences = (planes[0] - planes[1])[both] if both.any() else np.zeros(1)
    return {
        "density": dense[0] - dense[1],
        "size": float(np.log(right.whole.sum() / left.whole.sum())),
        "place": float(differences[np.argmax(np.abs(differences))]),
        "everywhere": float(np.abs(differences).mean()),
    }
