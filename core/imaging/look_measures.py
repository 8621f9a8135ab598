"""Numbers that describe a picture's pixels, for the look at them (`core.imaging.suitability`). Loads no TensorFlow.

All are taken on a thumbnail and on grey values as shares of the picture's own black and white, so that size, bits and
brightness of a file count for little. None knows anatomy: they are about black at the border, layers, speckle, contrast
at each scale, sides and hue.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image as Raster
from scipy import ndimage

from core.imaging.picture import to_grey

_THUMBNAIL = 256
_LIFTED_BLACK = 0.1
_FOG = 0.25
_SIGMAS = (0, 1, 2, 4, 8, 16)
"""Of the blurs whose differences are the contrast of a scale, in pixels of the thumbnail."""


def describe(pixels: np.ndarray) -> dict[str, float]:
    """Every measure of float32 pixels in [0, 1], (H, W) or (H, W, 3), by name, in a fixed order."""
    grey = to_grey(pixels)
    thumbnail, coarse, coarsest = thumbnails_of(grey, _THUMBNAIL, 64, 16)
    high = max(float(np.percentile(thumbnail, 99.5)), 1e-6)
    low, is_fogged = _black_level(thumbnail / high)
    shown = np.maximum(thumbnail / high - low, 0) / (1 - low)
    return {
        **_measures_of_kinds(thumbnail, coarse, coarsest, shown, is_fogged=is_fogged),
        **_layout(np.minimum(shown, 1)),
        **_contrast(np.minimum(shown, 1)),
        "same_neighbours": _same_neighbours(grey, high),
        **_colour(pixels),
    }


def _measures_of_kinds(
    thumbnail: np.ndarray, coarse: np.ndarray, coarsest: np.ndarray, shown: np.ndarray, *, is_fogged: bool
) -> dict[str, float]:
    """What tells the kinds of breast images from one another; all but a few are fractions.

    layers: vertical over horizontal contrast (logarithms, three scales added): ultrasound shows tissue in layers.
    roughness: speckle in the tissue. edges: share of all contrast in the strongest 5 % of pixels. black, flat:
    share of black and of featureless pixels. background: black connected to the border. symmetry: correlation of the
    tissue with its mirror image. lungs: two dark fields beside a bright middle.
    """
    background = _connected_to_border(shown < 0.1)
    speckle = np.abs(shown - ndimage.gaussian_filter(shown, 2))
    inner = ndimage.binary_erosion(~background, iterations=4)
    roughness = float(speckle[inner].mean() / max(shown[inner].mean(), 1e-6)) if inner.sum() > 50 else 9.0
    fine_layers, edges = _layers_and_edges(shown, inner)
    coarse_layers = _log_ratio(np.abs(np.diff(coarse, axis=0)).mean(), np.abs(np.diff(coarse, axis=1)).mean())
    layers = fine_layers + coarse_layers
    local = ndimage.uniform_filter(np.abs(shown - ndimage.gaussian_filter(shown, 1)), 5)
    bright = shown > 0.3
    smooth_bright = float((local[bright] < 0.01).mean()) if bright.sum() > 20 else 0.0
    share = float(background.mean())
    return {
        "layers": layers,
        "coarse_layers": coarse_layers,
        "smooth_bright": smooth_bright - 0.12 - 0.35 * (layers - 0.4),
        "median": float(np.median(shown)),
        "edges": edges,
        "roughness": roughness,
        "fogged_roughness": roughness if is_fogged else 0.0,  # only film has fog, and film is smooth
        "neighbours": neighbour_correlation(thumbnail),
        "coarse_neighbours": neighbour_correlation(coarsest),
        "flat": float((local < 0.004).mean()),
        "black": float((shown < 0.04).mean()),
        "background": share,
        "background_for_texture": share + max(0.0, 0.05 - roughness) * 10,
        "background_roughness": float(speckle[background].mean()) if background.sum() > 50 else 0.0,
        **_measure_main_piece(shown),
    }


def _black_level(thumbnail: np.ndarray) -> tuple[float, bool]:
    """The value of film without exposure, on the picture's own scale, and whether it is fog rather than the minimum.

    Scans are seldom black at 0: it is the darkest value, or the commonest dark one where a third of the picture lies
    around it.
    """
    darkest = min(float(np.percentile(thumbnail, 0.5)), _LIFTED_BLACK)
    counts, _ = np.histogram(thumbnail, bins=100, range=(0.0, 1.0))
    around = np.convolve(counts, np.ones(5), "same")[: int(100 * _FOG)] / thumbnail.size
    commonest = int(around.argmax())
    if commonest > 2 and around[commonest] > 0.3 and (commonest + 2.5) / 100 > darkest + 0.04:
        return (commonest + 2.5) / 100, True
    return darkest, False


def _log_ratio(first: float, second: float) -> float:
    return float(np.log((first + 1e-6) / (second + 1e-6)))


def _layers_and_edges(shown: np.ndarray, inner: np.ndarray) -> tuple[float, float]:
    soft = ndimage.gaussian_filter(shown, 2)
    down, across = np.abs(np.diff(soft, axis=0)[:, :-1]), np.abs(np.diff(soft, axis=1)[:-1])
    where = inner[:-1, :-1]
    layers = _log_ratio(down[where].mean(), across[where].mean()) if where.sum() > 50 else 0.0
    soft = ndimage.gaussian_filter(shown, 1.5)
    down, across = np.diff(soft, axis=0)[:, :-1], np.diff(soft, axis=1)[:-1]
    strongest = [np.sort(np.abs(slope).ravel())[-max(1, slope.size // 50) :].mean() for slope in (down, across)]
    slopes = np.sort(np.hypot(down, across).ravel())
    edges = float(slopes[-max(1, slopes.size // 20) :].sum() / max(float(slopes.sum()), 1e-9))
    return layers + _log_ratio(strongest[0], strongest[1]), edges


def _connected_to_border(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, border[border > 0])


def _measure_main_piece(shown: np.ndarray) -> dict[str, float]:
    """Symmetry, lungs, holes and weight of the largest piece that is not black."""
    labels, count = ndimage.label(shown >= 0.1)
    if not count:
        return {"one_piece": 0.0, "holes": 0.0, "symmetry": 0.0, "lungs": 0.0}
    sizes = np.bincount(labels.ravel())[1:]
    main = labels == int(sizes.argmax()) + 1
    rows, columns = np.flatnonzero(main.any(axis=1)), np.flatnonzero(main.any(axis=0))
    (piece,) = thumbnails_of(shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 48)
    filled = ndimage.binary_fill_holes(main)
    return {
        "one_piece": float(sizes.max() / sizes.sum()),
        "holes": float((filled & ~main).sum() / filled.sum()),
        "symmetry": _correlation(piece, piece[:, ::-1]),
        "lungs": _lungs(piece),
    }


def _lungs(piece: np.ndarray) -> float:
    """How much darker than the middle *and* than the outer wall the darker of two side fields is, at least.

    A breast grows darker from the chest wall to the skin, or has one bright middle; it has no wall on both sides.
    """
    height, width = piece.shape
    if height < 16 or width < 16:
        return 0.0
    profile = ndimage.gaussian_filter1d(piece[height // 5 : 7 * height // 10].mean(axis=0), width / 48)
    middle = profile[int(0.35 * width) : int(0.65 * width)].max()
    left, right = profile[int(0.12 * width) : int(0.45 * width)], profile[int(0.55 * width) : int(0.88 * width)]
    walls = profile[: int(0.25 * width)].max(), profile[int(0.75 * width) :].max()
    depth = min(middle - left.min(), middle - right.min(), walls[0] - left.min(), walls[1] - right.min())
    return float(depth / max(float(middle), 1e-6))


def _layout(shown: np.ndarray) -> dict[str, float]:
    """Where the picture is bright: percentiles, what touches its sides, and thirds as shares of its mean."""
    is_tissue = shown >= 0.1
    sides = sorted((float(is_tissue[:, :4].mean()), float(is_tissue[:, -4:].mean())))
    mean = max(float(shown.mean()), 1e-3)
    rows = [float(part.mean()) / mean for part in np.array_split(shown, 3, axis=0)]
    columns = [float(part.mean()) / mean for part in np.array_split(shown, 3, axis=1)]
    return {
        **{f"percentile_{at}": float(np.percentile(shown, at)) for at in (10, 25, 75, 90)},
        "side_more": sides[1],
        "side_less": sides[0],
        "top": float(is_tissue[:4].mean()),
        "bottom": float(is_tissue[-4:].mean()),
        "tissue": float(is_tissue.mean()),
        "upper_third": rows[0],
        "middle_third": rows[1],
        "columns_tilt": abs(columns[0] - columns[2]),
        "columns_middle": columns[1],
        "white": float((shown > 0.97).mean()),
    }


def _contrast(shown: np.ndarray) -> dict[str, float]:
    """Contrast of each scale within the tissue, its direction, its tails, and how it goes with brightness."""
    inner = ndimage.binary_erosion(shown >= 0.1, iterations=3)
    inner = inner if inner.sum() > 50 else np.ones_like(inner)
    blurred = [shown if sigma == 0 else ndimage.gaussian_filter(shown, sigma, truncate=3) for sigma in _SIGMAS]
    level = max(float(shown[inner].mean()), 1e-3)
    found: dict[str, float] = {}
    for number, (fine, soft) in enumerate(pairwise(blurred)):
        band = (fine - soft)[inner]
        scale = float(band.std()) + 1e-6
        found[f"contrast_{number}"] = float(np.log(scale / level + 1e-4))
        if number in (0, 2):
            found[f"tails_{number}"] = float(np.log1p(((band / scale) ** 4).mean()))
            found[f"skew_{number}"] = float(np.clip(((band / scale) ** 3).mean(), -5, 5))
    where = inner[:-1, :-1]
    for number in (1, 3, 4):
        down = np.abs(np.diff(blurred[number], axis=0)[:, :-1])[where].mean()
        across = np.abs(np.diff(blurred[number], axis=1)[:-1])[where].mean()
        found[f"direction_{number}"] = _log_ratio(down, across)
    grain = ndimage.uniform_filter(np.abs(blurred[0] - blurred[1]), 9)[::5, ::5][inner[::5, ::5]]
    around = ndimage.uniform_filter(shown, 9)[::5, ::5][inner[::5, ::5]]
    is_enough = grain.size > 20
    found["grain_with_brightness"] = _correlation(grain, around) if is_enough else 0.0
    low, high = np.percentile(grain, (10, 90)) if is_enough else (0.0, 0.0)
    found["grain_spread"] = float(np.log((high + 1e-4) / (low + 1e-4)))
    return found


def _same_neighbours(grey: np.ndarray, high: float) -> float:
    """Share of the pixels, neither black nor white, that are the same as the next: drawings have many."""
    rows = grey[:: 1 + grey.shape[0] // 300]
    is_between = (rows[:, 1:] > 0.12 * high) & (rows[:, 1:] < 0.97 * high)
    return float((np.abs(np.diff(rows, axis=1))[is_between] < 1 / 512).mean()) if is_between.sum() > 50 else 1.0


def _colour(pixels: np.ndarray) -> dict[str, float]:
    """How much colour there is, and of the coloured pixels which; all 0 for a grey picture."""
    names = ("chroma", "coloured", "red", "blue", "pink", "green", "warm", "hue_spread", "pinkness")
    if pixels.ndim == 2:
        return dict.fromkeys(names, 0.0)
    seen = pixels[:: 1 + pixels.shape[0] // 256, :: 1 + pixels.shape[1] // 256]
    chroma = seen.max(axis=-1) - seen.min(axis=-1)
    is_coloured = chroma > 0.04
    if not is_coloured.any():
        return {**dict.fromkeys(names, 0.0), "chroma": float(chroma.mean())}
    red, green, blue = (seen[..., channel][is_coloured] for channel in range(3))
    values = (
        chroma.mean(), is_coloured.mean(), (red - green).mean(), (blue - green).mean(),
        ((green <= red) & (green <= blue)).mean(), ((green > red) & (green > blue)).mean(),
        ((red > green) & (green > blue)).mean(), (red - blue).std(), _pinkness(red, green, blue),
    )  # fmt: skip
    return dict(zip(names, map(float, values), strict=True))


def thumbnails_of(grey: np.ndarray, *sides: int) -> list[np.ndarray]:
    """Block means so that the longer side has so many pixels, for each of `sides`; unchanged when it has no more."""
    height, width = grey.shape
    scales = [side / max(height, width) for side in sides]
    if min(scales) >= 1:
        return [grey] * len(sides)
    raster = Raster.fromarray(np.ascontiguousarray(grey))  # a copy, made once
    sizes = [(max(2, round(width * scale)), max(2, round(height * scale))) for scale in scales]
    return [
        np.asarray(raster.resize(size, Raster.Resampling.BOX), np.float32) if scale < 1 else grey
        for scale, size in zip(scales, sizes, strict=True)
    ]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / scale if scale > 0 else 1.0


def neighbour_correlation(grey: np.ndarray) -> float:
    """Mean correlation of a pixel with the next one in its row and in its column; large images by every n-th line."""
    rows, columns = grey[:: 1 + grey.shape[0] // 1000], grey[:, :: 1 + grey.shape[1] // 1000]
    return (_correlation(rows[:, 1:], rows[:, :-1]) + _correlation(columns[1:], columns[:-1])) / 2


def _pinkness(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> float:
    """The share of coloured pixels in which green is the weakest (haematoxylin is blue-violet, eosin pink), or the same
    weighted by colour where that says it more clearly, as in a tile with little tissue."""
    share = float(((green <= red) & (green <= blue)).mean())
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    weighted = float((np.minimum(red, blue) - green).sum() / chroma.sum())
    return max(share, 0.5 + weighted if weighted > -0.1 else 0.0)
