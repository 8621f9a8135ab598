"""Is this a breast image, and which kind? A small check on the pixels, for files whose tags cannot say.

It measures fifteen numbers on a thumbnail and asks whether they lie where those of real mammograms, ultrasound images
and stained tissue lie. It is no model and knows nothing of anatomy: `docs/intake.md` says what it catches, what it
lets through, and on how many real images the bounds were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image as Raster
from scipy import ndimage

from core.imaging.picture import to_grey
from core.types import Modality

_THUMBNAIL = 256
_BLANK_RANGE = 2 / 255
_UNSURE = 0.4
"""How many slacks outside a bound a picture may lie and still only be "unsure" instead of "not that"."""
_LIFTED_BLACK = 0.1
_FOG = 0.25
_COLOURLESS = 0.012
_FEW_COLOURS = 0.12


@dataclass(frozen=True, slots=True)
class Look:
    """What the pixels look like. modality: None if unsure.

    refused: why nobody should read this picture, whatever its tags say, or None.
    doubt: why it does not look like a breast image, or None; it refuses a PNG and warns on a DICOM.
    """

    modality: Modality | None = None
    refused: str | None = None
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class _Bound:
    """Where a measure of real images lies; `slack` is the scale on which leaving the range counts."""

    low: float
    high: float
    slack: float


_INFINITE = float("inf")
_ULTRASOUND = {
    "layers": _Bound(0.2, _INFINITE, 0.2),
    "coarse_layers": _Bound(0.1, _INFINITE, 0.1),
    "smooth_bright": _Bound(-_INFINITE, 0.0, 0.15),
    "median": _Bound(-_INFINITE, 0.75, 0.1),
    "edges": _Bound(0.125, 0.33, 0.03),
    "roughness": _Bound(0.035, 0.24, 0.02),
    "neighbours": _Bound(0.84, _INFINITE, 0.04),
    "coarse_neighbours": _Bound(0.45, _INFINITE, 0.1),
    "flat": _Bound(-_INFINITE, 0.6, 0.1),
    "holes": _Bound(-_INFINITE, 0.35, 0.1),
}
_MAMMOGRAPHY = {
    "black": _Bound(0.06, _INFINITE, 0.04),
    "background": _Bound(0.07, _INFINITE, 0.04),
    "background_for_texture": _Bound(0.18, _INFINITE, 0.04),
    "background_roughness": _Bound(-_INFINITE, 0.07, 0.02),
    "flat": _Bound(0.1, _INFINITE, 0.05),
    "layers": _Bound(-_INFINITE, 2.5, 0.5),
    "symmetry": _Bound(-_INFINITE, 0.7, 0.08),
    "lungs": _Bound(-_INFINITE, 0.25, 0.04),
    "roughness": _Bound(0.006, 0.25, 0.05),
    "edges": _Bound(0.17, _INFINITE, 0.03),
    "one_piece": _Bound(0.6, _INFINITE, 0.1),
    "holes": _Bound(-_INFINITE, 0.18, 0.05),
    "fogged_roughness": _Bound(-_INFINITE, 0.05, 0.02),
    "neighbours": _Bound(0.9, _INFINITE, 0.05),
    "coarse_neighbours": _Bound(0.6, _INFINITE, 0.1),
}
_HISTOLOGY = {
    "dark": _Bound(-_INFINITE, 0.03, 0.05),
    "mean": _Bound(0.36, _INFINITE, 0.05),
    "pink": _Bound(0.35, _INFINITE, 0.5),
}

_BLANK = "The picture is blank: every pixel has nearly the same value. Choose another file."
_NOISE = "The picture holds noise, a texture or a test pattern, not a breast. Choose another file."
_COLOUR_PHOTOGRAPH = (
    "The picture has the colours of a photograph or drawing, not those of stained tissue, and is no grey "
    "ultrasound image or mammogram either. Choose a breast image."
)
_CHEST = (
    "The picture looks like a chest film or another symmetric X-ray, not like a mammogram or breast ultrasound. "
    "Choose a breast image."
)
_INVERTED = (
    "The picture looks like a mammogram shown inverted, dark tissue on a white background. Export it the usual way "
    "round, with a black background."
)
_NOT_BREAST = (
    "The picture does not look like a mammogram, a breast ultrasound image or stained tissue; it may be a photograph, "
    "a chest film or a drawing. Choose a breast image."
)


def look_at(pixels: np.ndarray) -> Look:
    """Judge float32 pixels in [0, 1], (H, W) or (H, W, 3)."""
    grey = to_grey(pixels)
    low, high = np.percentile(grey[:: 1 + grey.shape[0] // 1000, :: 1 + grey.shape[1] // 1000], (0.5, 99.5))
    if high - low < _BLANK_RANGE or _is_one_value(grey):
        return Look(refused=_BLANK)
    colour = float((pixels.max(axis=-1) - pixels.min(axis=-1)).mean()) if pixels.ndim == 3 else 0.0
    if _is_noise(grey, has_colour=colour > _COLOURLESS):
        return Look(refused=_NOISE)
    if colour > _COLOURLESS:
        tissue = _distance(_measure_tissue(pixels, grey), _HISTOLOGY)
        if tissue <= 0:
            return Look(Modality.HISTOLOGY)
        if colour > _FEW_COLOURS:
            return Look() if tissue <= _UNSURE else Look(doubt=_COLOUR_PHOTOGRAPH)
        return Look() if tissue <= _UNSURE else _look_at_grey(grey)
    return _look_at_grey(grey)


def _look_at_grey(grey: np.ndarray) -> Look:
    measures = measure(grey)
    ultrasound, mammography = _distance(measures, _ULTRASOUND), _distance(measures, _MAMMOGRAPHY)
    if ultrasound <= 0 and mammography <= 0:
        # Where both fit, mammograms have much flat background for their layering; the nearest real ones lie at
        # 0.06 (ultrasound) and 0.55 (mammogram).
        is_mammogram = 2 * measures["flat"] - measures["layers"] > 0.3
        return Look(Modality.MAMMOGRAPHY if is_mammogram else Modality.ULTRASOUND)
    if mammography <= 0:
        return Look(Modality.MAMMOGRAPHY)
    if ultrasound <= 0:
        return Look(Modality.ULTRASOUND)
    if min(ultrasound, mammography) <= _UNSURE:
        return Look()
    if _distance(measure(1 - grey), _MAMMOGRAPHY) <= 0:
        return Look(doubt=_INVERTED)
    is_symmetric = (
        measures["symmetry"] > _MAMMOGRAPHY["symmetry"].high or measures["lungs"] > _MAMMOGRAPHY["lungs"].high
    )
    return Look(doubt=_CHEST if is_symmetric and measures["neighbours"] > 0.97 else _NOT_BREAST)


def _distance(measures: Mapping[str, float], bounds: Mapping[str, _Bound]) -> float:
    """How far the worst measure lies outside its bound, in slacks; 0 or less inside all of them."""
    return max(
        max(bound.low - measures[name], measures[name] - bound.high) / bound.slack for name, bound in bounds.items()
    )


def _is_one_value(grey: np.ndarray) -> bool:
    """All but one pixel in ten thousand share one value: a mark on an empty film is no picture."""
    middle = float(np.median(grey[:: 1 + grey.shape[0] // 2000, :: 1 + grey.shape[1] // 2000]))
    return float((np.abs(grey - middle) > _BLANK_RANGE).mean()) < 1e-4


def _is_noise(grey: np.ndarray, *, has_colour: bool) -> bool:
    """Neighbouring pixels of a picture resemble each other, also on a coarse grid; those of noise do not.

    Tissue at 50 x 50 pixels comes near noise on every grid, so in colour only the pixels themselves count.
    """
    fine = _neighbour_correlation(grey)
    if has_colour:
        return fine < 0.12 and float(grey.std()) > 0.05
    coarse = [_neighbour_correlation(_thumbnail(grey, side)) for side in (16, 32)]
    return fine < 0.5 or (coarse[0] < 0.3 and coarse[1] < 0.5)


def _thumbnail(grey: np.ndarray, side: int) -> np.ndarray:
    """Block means so that the longer side has `side` pixels; unchanged when it has no more already."""
    height, width = grey.shape
    scale = side / max(height, width)
    if scale >= 1:
        return grey
    size = max(2, round(width * scale)), max(2, round(height * scale))
    return np.asarray(Raster.fromarray(np.ascontiguousarray(grey)).resize(size, Raster.Resampling.BOX), np.float32)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / scale if scale > 0 else 1.0


def _neighbour_correlation(grey: np.ndarray) -> float:
    """Mean correlation of a pixel with the next one in its row and in its column; large images by every n-th line."""
    rows, columns = grey[:: 1 + grey.shape[0] // 1000], grey[:, :: 1 + grey.shape[1] // 1000]
    return (_correlation(rows[:, 1:], rows[:, :-1]) + _correlation(columns[1:], columns[:-1])) / 2


def _measure_tissue(pixels: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    """Darkness, brightness and pinkness of a colour picture.

    pink: of the coloured pixels, the share in which green is the weakest (haematoxylin is blue-violet, eosin pink),
    or the same weighted by colour where that says it more clearly.
    """
    chroma = pixels.max(axis=-1) - pixels.min(axis=-1)
    is_coloured = chroma > 0.04
    pink = 0.0
    if is_coloured.any():
        red, green, blue = (pixels[..., channel][is_coloured] for channel in range(3))
        share = float(((green <= red) & (green <= blue)).mean())
        weighted = float((np.minimum(red, blue) - green).sum() / chroma[is_coloured].sum())
        pink = max(share, 0.5 + weighted if weighted > -0.1 else 0.0)
    bright = max(float(np.percentile(grey, 99.5)), 1e-6)
    return {"dark": float((grey < 0.1 * bright).mean()), "mean": float(pixels.mean()), "pink": pink}


def measure(grey: np.ndarray) -> dict[str, float]:
    """The numbers the bounds are about, from float32 (H, W) in [0, 1]; all but a few are fractions.

    layers: vertical over horizontal contrast (logarithms, three scales added): ultrasound shows tissue in layers.
    roughness: speckle in the tissue. edges: share of all contrast in the strongest 5 % of pixels. black, flat:
    share of black and of featureless pixels. background: black connected to the border. symmetry: correlation of the
    tissue with its mirror image. lungs: two dark fields beside a bright middle.
    """
    thumbnail = _thumbnail(grey, _THUMBNAIL)
    high = max(float(np.percentile(thumbnail, 99.5)), 1e-6)
    low, is_fogged = _black_level(thumbnail / high)
    shown = np.maximum(thumbnail / high - low, 0) / (1 - low)
    background = _connected_to_border(shown < 0.1)
    speckle = np.abs(shown - ndimage.gaussian_filter(shown, 2))
    inner = ndimage.binary_erosion(~background, iterations=4)
    roughness = float(speckle[inner].mean() / max(shown[inner].mean(), 1e-6)) if inner.sum() > 50 else 9.0
    fine_layers, edges = _layers_and_edges(shown, inner)
    coarse = _thumbnail(grey, 64)
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
        "neighbours": _neighbour_correlation(thumbnail),
        "coarse_neighbours": _neighbour_correlation(_thumbnail(grey, 16)),
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
    piece = _thumbnail(shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 48)
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
