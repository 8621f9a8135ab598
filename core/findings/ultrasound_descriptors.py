"""An outlined lesion of an ultrasound image in the words of the BI-RADS lexicon, by measurement.

Words: ACR BI-RADS Atlas, 5th edition (2013), Ultrasound: shape, orientation, margin, echo pattern, posterior features,
calcifications; the echogenic rim, which that edition counts to the indistinct margin, is told apart. Each is a function
of the picture around one outline and gives its numbers, its word and how sure it is, or a sentence why it cannot.

The limits between words were set before anything was measured, from the lexicon's definitions, and not fitted to
any collection's labels; that of a rough outline (`ROUGH`) was set afterwards. All lengths are shares of the lesion's
diameter (of the circle of equal area), all grey values shares of the step from the picture's black to the tissue at the
lesion's sides, so that neither zoom, brightness nor contrast counts.

That tissue stands for fat: fat and gland are not told apart, so the echo pattern may be named too dark in a dense
breast. How sure a word is: the share of outlines a little larger, smaller and shifted that give the same word. It says
how much hangs on the outline, not how often the word is right. Loads no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.signal import find_peaks
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from core.errors import InvalidInput
from core.findings.lexicon import finding_type
from core.imaging.preprocess import resize
from core.types import Modality

_MASS = finding_type(Modality.ULTRASOUND, "mass")
WORDS: Mapping[str, tuple[str, ...]] = {
    **{one.name: one.values for one in (_MASS.descriptors if _MASS else ())},
    "echogenic rim": ("absent", "present"),
    "calcifications": ("none seen", "calcifications in the mass"),
    "size": ("measured",),
}
"""Descriptor -> its words, in the lexicon's order. Not in it: the fat-containing and the unmeasurable."""

MEASURED_ONLY = ("echogenic rim", "calcifications")
"""Descriptors that no reader is shown: on neither collection do they tell benign from malignant lesions better than
chance (docs/findings.md), and no reader's word is there to compare them with."""
ROUGH = 0.06
"""Roughness below which an outline may be a smooth one drawn by hand (see `margin`). Set after a look at how rough
readers' outlines are, with their labels in view: most are rougher than a computed oval."""

DIAMETER = 72
"""Pixels of the lesion's diameter after scaling: as fine as a lesion of a quarter of a usual picture's width."""
FEWEST_PIXELS = 12
"""Diameter in the picture's own pixels below which neither margin nor bright points can be told."""
COLOUR_SHARE_MOST = 0.002
"""Share of coloured pixels beyond which a picture holds Doppler or another map, not grey values alone."""
_REACH = 0.85
"""Diameters of the surroundings that are looked at on every side."""
_SECTORS = 48

_AT_BORDER = "The outline touches the border of the picture, so the lesion is not seen whole."
_NO_SPACING = "The file states no millimetres, so no size in millimetres can be told."
_COLOUR = "The picture holds colour (Doppler or elastography), so its grey values cannot be compared."
_TOO_SMALL = f"The lesion is less than {FEWEST_PIXELS} pixels across, too few to tell."
_NO_TISSUE = "There is too little tissue at the lesion's sides to compare with."
_NO_BELOW = "The picture ends too close below the lesion to see what lies behind it."


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What was measured for one entry of the lexicon.

    name: a key of `WORDS`; word: one of its words, "" where refused. values: number by name; sizes are in mm, all else
    has no unit. certainty: 0 to 1, see above; None where refused. refused: a sentence, "" where there is a word.
    """

    name: str
    word: str
    values: Mapping[str, float]
    certainty: float | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Scene:
    """A lesion and its surroundings, the lesion `DIAMETER` pixels across, on square pixels.

    grey: (h, w) float32. mask: (h, w) bool. outside: distance to the lesion in diameters, 0 within it; inside: depth
    below its edge. beyond: (h, w) bool, where the picture does not reach. black, tissue: grey values. is_at_border:
    whether the outline touches the picture's border. pixel: of the file, in pixels here.
    """

    grey: np.ndarray
    mask: np.ndarray
    outside: np.ndarray
    inside: np.ndarray
    beyond: np.ndarray
    black: float
    tissue: float
    is_at_border: bool
    pixel: float

    def level(self, where: np.ndarray, least: int = 20) -> float:
        """Mean grey there: 0 the picture's black, 1 the tissue at the sides; NaN for fewer than `least` pixels."""
        chosen = self.grey[where & ~self.beyond]
        return float((chosen.mean() - self.black) / self.step) if len(chosen) >= least else float("nan")

    @property
    def step(self) -> float:
        return self.tissue - self.black


def measure_lesion(
    pixels: np.ndarray,
    mask: np.ndarray,
    *,
    spacing_mm: tuple[float, float] | None = None,
    aspect: float = 1.0,
    colour_share: float = 0.0,
) -> tuple[Descriptor, ...]:
    """Every descriptor of one outlined lesion, in the order of `WORDS`.

    pixels: float32 (H, W) in [0, 1], depth running downwards. mask: bool (H, W). spacing_mm: between rows and between
    columns, where the file says it; aspect: their ratio, where only that is known. colour_share: of pixels that were
    coloured in the file. Raises InvalidInput for an outline that holds nothing or is of another shape than the picture.
    """
    mask = np.asarray(mask, bool)
    if pixels.ndim != 2 or mask.shape != pixels.shape:
        raise InvalidInput("The outline belongs to a picture of another size. Outline the picture that is measured.")
    if mask.sum() < 4:
        raise InvalidInput("The outline holds no pixels. Draw it around the lesion.")
    aspect = spacing_mm[0] / spacing_mm[1] if spacing_mm else aspect
    diameter = float(np.sqrt(4 * mask.sum() * aspect / np.pi))  # in columns
    scenes = [_scene(pixels, one, aspect) for one in _variants(mask, diameter)]
    found = [_described(scene, diameter, spacing_mm, colour_share) for scene in scenes]
    return tuple(
        replace(first, certainty=float(np.mean([one.word == first.word for one in others])) if first.word else None)
        for first, *others in zip(*found, strict=True)
    )


def _described(
    scene: _Scene, diameter: float, spacing_mm: tuple[float, float] | None, colour_share: float
) -> list[Descriptor]:
    is_coloured = colour_share > COLOUR_SHARE_MOST
    border = _AT_BORDER if scene.is_at_border else ""
    grey = _COLOUR if is_coloured else _NO_TISSUE if not scene.step > 0 else ""
    small = _TOO_SMALL if diameter < FEWEST_PIXELS else ""
    ways: dict[str, tuple[Callable[[_Scene], tuple[str, dict[str, float]]], str]] = {
        "shape": (shape, border or small),
        "orientation": (orientation, border),
        "margin": (margin, border or grey or small),
        "echo pattern": (echo_pattern, grey),
        "posterior features": (posterior_features, grey or (_NO_BELOW if not _has_below(scene) else "")),
        "echogenic rim": (echogenic_rim, grey or small),
        "calcifications": (calcifications, grey or small),
        "size": (lambda one: size(one, diameter, spacing_mm), border or ("" if spacing_mm else _NO_SPACING)),
    }
    found = []
    for name, (way, refused) in ways.items():
        word, values = way(scene) if not refused else ("", {})
        if not refused and not all(np.isfinite(value) for value in values.values()):
            word, values, refused = "", {}, _NO_TISSUE
        found.append(Descriptor(name, word, values, None, refused))
    return found


def shape(scene: _Scene) -> tuple[str, dict[str, float]]:
    """Oval (elliptical, also with two or three gentle lobes), round (as deep as wide), or neither: irregular.

    solidity: area over that of the convex hull. ellipse: overlap (IoU) with the ellipse of the same second moments,
    pi/4-scaled as in Haralick & Shapiro 1992, 18.2. roundness: its minor over its major axis.
    """
    centre, covariance = _moments(scene.mask)
    values = np.linalg.eigvalsh(covariance)
    roundness = float(np.sqrt(values[0] / values[1]))
    grid = np.indices(scene.mask.shape).reshape(2, -1) - centre[:, None]
    ellipse = ((grid * (np.linalg.inv(covariance) @ grid)).sum(0) <= 4).reshape(scene.mask.shape)
    overlap = float((ellipse & scene.mask).sum() / (ellipse | scene.mask).sum())
    solidity = _solidity(scene.mask)
    is_regular = solidity >= 0.92 and overlap >= 0.84
    word = "irregular" if not is_regular else "round" if roundness >= 0.9 else "oval"
    return word, {"solidity": solidity, "ellipse_overlap": overlap, "roundness": roundness}


def orientation(scene: _Scene) -> tuple[str, dict[str, float]]:
    """Parallel where the lesion is wider along the skin than deep; round ones are not parallel (lexicon, B.2).

    width_to_depth: of the box around the outline. The skin is taken to run along the rows, as under a linear probe.
    """
    ratio = float(np.ptp(np.nonzero(scene.mask.any(0))[0]) + 1) / float(np.ptp(np.nonzero(scene.mask.any(1))[0]) + 1)
    return ("parallel" if ratio > 1.1 else "not parallel"), {"width_to_depth": ratio}


def margin(scene: _Scene) -> tuple[str, dict[str, float]]:
    """Circumscribed, or the most suspicious of the others that holds (spiculated, microlobulated, angular, indistinct).

    sharp: share of the rim whose grey step lies within 0.1 diameters of the outline, not spread over 0.3 (after the
    sharpness across the rim of Shankar et al. 2003). roughness: root mean square of the outline's distance from the
    centre after that of the ellipse in `shape` and the first three harmonics (gentle lobes) are taken away, over the
    mean radius.
    spikes, lobes, corners: local outward peaks of that rest: narrower than 20 degrees and higher than 0.12 of the
    radius; higher than 0.03; higher than 0.07.
    """
    sharp = _sharp_share(scene)
    rest, radius = _radial_rest(scene.mask, scene.pixel)
    degrees = 360 / len(rest)
    again = np.concatenate([rest, rest, rest]) / radius
    peaks, about = find_peaks(again, prominence=0.03, width=0)
    once = (peaks >= len(rest)) & (peaks < 2 * len(rest))
    height, width = about["prominences"][once], about["widths"][once] * degrees
    spikes, corners = int(((height > 0.12) & (width < 20)).sum()), int((height > 0.07).sum())
    values = {"sharp": sharp, "roughness": float(rest.std() / radius), "lobes": float(once.sum()),
              "corners": float(corners), "spikes": float(spikes)}  # fmt: skip
    return margin_word(values), values


def margin_word(values: Mapping[str, float]) -> str:
    """The word for the numbers of `margin`."""
    if values["spikes"] >= 4:
        return "spiculated"
    if values["roughness"] >= ROUGH and values["lobes"] >= 6:
        return "microlobulated"
    if values["roughness"] >= ROUGH and values["corners"] >= 2:
        return "angular"
    return "circumscribed" if values["sharp"] >= 0.5 else "indistinct"


def echo_pattern(scene: _Scene) -> tuple[str, dict[str, float]]:
    """How bright the lesion is against the tissue at its sides, and how alike its parts are.

    level: median grey, 0 black, 1 as that tissue. spread: between the 10th and the 90th percentile after speckle finer
    than a twentieth of the diameter is smoothed. cystic: share of the lesion that is nearly black.
    """
    smooth = (ndimage.gaussian_filter(scene.grey, DIAMETER / 20) - scene.black) / scene.step
    within = smooth[scene.mask & (scene.inside > 0.06)]
    within = within if len(within) else smooth[scene.mask]
    low, level, high = (float(one) for one in np.percentile(within, (10, 50, 90)))
    cystic = float((within < 0.15).mean())
    values = {"level": level, "spread": high - low, "cystic": cystic}
    if cystic >= 0.8:
        return "anechoic", values
    if cystic >= 0.2 and high > 0.45:
        return "complex cystic and solid", values
    if high - low > 0.8:
        return "heterogeneous", values
    return ("hypoechoic" if level < 0.8 else "isoechoic" if level <= 1.2 else "hyperechoic"), values


def posterior_features(scene: _Scene) -> tuple[str, dict[str, float]]:
    """What lies behind the lesion against what lies as deep beside it.

    behind: mean grey in columns under the middle 70 % of the lesion, from 0.08 to 0.6 diameters below its edge, over
    the mean beside it. behind_low, behind_high: the darkest and the brightest third of these columns. The outer edges
    are left out: they throw shadows of their own (refraction).
    """
    behind, beside = _windows(scene)
    reference = scene.level(beside)
    if not reference > 0.02:
        return "", {"behind": float("nan")}
    columns = np.flatnonzero(behind.any(0))
    thirds = [scene.level(behind & _columns(behind, part)) / reference for part in np.array_split(columns, 3)]
    ratio = scene.level(behind) / reference
    values = {"behind": ratio, "behind_low": min(thirds), "behind_high": max(thirds)}
    if min(thirds) < 0.75 and max(thirds) > 1.25:
        return "combined pattern", values
    word = "shadowing" if ratio < 0.75 else "enhancement" if ratio > 1.25 else "no posterior features"
    return word, values


def echogenic_rim(scene: _Scene) -> tuple[str, dict[str, float]]:
    """Whether a bright band lies around the lesion, above and at its sides.

    rim: mean grey from 0.02 to 0.12 diameters outside the outline over that from 0.25 to 0.5. The side away from the
    skin is left out: enhancement begins there.
    """
    near = _above_middle(scene) & (scene.outside > 0.02) & (scene.outside <= 0.12)
    far = _above_middle(scene) & (scene.outside > 0.25) & (scene.outside <= 0.5)
    ratio = scene.level(near) / max(scene.level(far), 1e-3)
    return ("present" if ratio > 1.25 else "absent"), {"rim": ratio}


def calcifications(scene: _Scene) -> tuple[str, dict[str, float]]:
    """Bright points inside the lesion: small peaks that stand out from their surroundings and are as bright as tissue.

    points: white top-hat (Serra 1982) of a twelfth of the diameter, beyond six robust deviations of the lesion's own
    speckle and half the step from black to tissue, at least as bright as the tissue at the sides. Echoes of fibrous
    strands look the same, and calcifications finer than a pixel are not seen.
    """
    side = max(3, round(DIAMETER / 12) | 1)
    box = tuple(slice(max(found[0] - side, 0), found[-1] + 1 + side) for found in map(np.flatnonzero, (
        scene.mask.any(1), scene.mask.any(0))))  # fmt: skip
    grey, within = scene.grey[box], (scene.mask & (scene.inside > 0.08))[box]
    hat = ndimage.white_tophat(grey, footprint=_disc(side)) / scene.step
    values = hat[within]
    if len(values) < 20:
        return "", {"points": float("nan")}
    deviation = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    limit = max(float(np.median(values)) + 6 * deviation, 0.5)
    bright = within & (hat > limit) & ((grey - scene.black) / scene.step > 1)
    _, count = ndimage.label(bright, np.ones((3, 3)))
    return ("calcifications in the mass" if count >= 2 else "none seen"), {"points": float(count)}


def size(scene: _Scene, diameter: float, spacing_mm: tuple[float, float] | None) -> tuple[str, dict[str, float]]:
    """Longest diameter, the widest extent across it, and width and depth along the picture's axes, in mm."""
    assert spacing_mm is not None
    scale = spacing_mm[1] * diameter / DIAMETER
    points = _border_points(scene.mask)
    hull = points[ConvexHull(points).vertices]
    pairs = pdist(hull)
    first, second = np.triu_indices(len(hull), 1)
    along = hull[second[pairs.argmax()]] - hull[first[pairs.argmax()]]
    across = hull @ (np.array([-along[1], along[0]]) / np.linalg.norm(along))
    rows, columns = np.nonzero(scene.mask.any(1))[0], np.nonzero(scene.mask.any(0))[0]
    values = {
        "longest_mm": float(pairs.max()) * scale, "across_mm": float(np.ptp(across)) * scale,
        "width_mm": float(np.ptp(columns) + 1) * scale, "depth_mm": float(np.ptp(rows) + 1) * scale,
    }  # fmt: skip
    return "measured", values


def _variants(mask: np.ndarray, diameter: float) -> list[np.ndarray]:
    """The outline, and what another reader may have drawn: 3 % of the diameter larger, smaller, or shifted."""
    step = max(1, round(0.03 * diameter))
    distance_in, distance_out = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    smaller = distance_in > step
    shifted = [ndimage.shift(mask, (one * step, other * step), order=0) for one, other in ((1, 1), (-1, -1))]
    changed = [distance_out <= step, smaller, *shifted]
    return [mask, *(one for one in changed if one.sum() >= 4)]


def _scene(pixels: np.ndarray, mask: np.ndarray, aspect: float) -> _Scene:
    height, width = mask.shape
    is_at_border = bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    diameter = np.sqrt(4 * mask.sum() * aspect / np.pi)
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    reach_rows, reach_columns = int(np.ceil(_REACH * diameter / aspect)), int(np.ceil(_REACH * diameter))
    row0, row1 = rows[0] - reach_rows, rows[-1] + 1 + reach_rows
    column0, column1 = columns[0] - reach_columns, columns[-1] + 1 + reach_columns
    inside = slice(max(row0, 0), min(row1, height)), slice(max(column0, 0), min(column1, width))
    scale = DIAMETER / diameter

    def placed(plane: np.ndarray) -> np.ndarray:
        whole = np.zeros((row1 - row0, column1 - column0), np.float32)
        top, left = inside[0].start - row0, inside[1].start - column0
        part = plane[inside]
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
        shape = max(1, round(whole.shape[0] * aspect * scale)), max(1, round(whole.shape[1] * scale))
        return resize(whole, shape)

    grey, scaled = placed(pixels), placed(mask.astype(np.float32)) > 0.5
    there = placed(np.ones_like(pixels)) > 0.99
    outside = ndimage.distance_transform_edt(~scaled) / DIAMETER
    depth = ndimage.distance_transform_edt(scaled) / DIAMETER
    # Black margins beside the fan are no tissue; the picture's own darkest grey is what they have.
    black = float(np.percentile(pixels, 1))
    scene = _Scene(grey, scaled, outside, depth, ~there, black, black, is_at_border, scale)
    ring = _above_bottom(scene) & (outside > 0.15) & (outside <= 0.75) & there
    values = grey[ring]
    bright = values[values > black + 0.02 * max(float(values.max(initial=0)) - black, 1e-6)]
    enough = len(bright) >= 0.2 * DIAMETER**2
    return replace(scene, tissue=float(np.median(bright)) if enough else black)


def _above_bottom(scene: _Scene) -> np.ndarray:
    """Places no deeper than the lesion: below it grey values tell what it does to the sound, not what tissue is."""
    rows = np.arange(scene.mask.shape[0])
    return np.broadcast_to((rows <= np.flatnonzero(scene.mask.any(1))[-1])[:, None], scene.mask.shape)


def _above_middle(scene: _Scene) -> np.ndarray:
    found = np.flatnonzero(scene.mask.any(1))
    rows = np.arange(scene.mask.shape[0])
    return np.broadcast_to((rows <= (found[0] + found[-1]) / 2)[:, None], scene.mask.shape)


def _windows(scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    """Behind the lesion, and beside that at the same depth; see `posterior_features`."""
    h, w = scene.mask.shape
    columns = np.flatnonzero(scene.mask.any(0))
    left, right = columns[0], columns[-1]
    edge = 0.15 * (right - left)
    bottoms = h - 1 - scene.mask[::-1].argmax(0)  # of each column, where it has any
    rows = np.arange(h)[:, None]
    across: np.ndarray = np.arange(w)[None, :]
    is_middle = (across >= left + edge) & (across <= right - edge) & np.asarray(scene.mask.any(0))[None, :]
    below = rows - bottoms[None, :]
    behind = np.asarray(is_middle & (below > 0.08 * DIAMETER) & (below <= 0.6 * DIAMETER))
    lowest = np.flatnonzero(behind.any(1))
    if not len(lowest):
        return behind, behind
    depth = np.asarray((rows >= lowest[0]) & (rows <= lowest[-1]))
    gap = 0.1 * DIAMETER
    beside = ((across < left - gap) & (across > left - gap - 0.6 * DIAMETER)) | (
        (across > right + gap) & (across < right + gap + 0.6 * DIAMETER)
    )
    return behind & ~scene.beyond, np.asarray(depth & beside & ~scene.beyond)


def _has_below(scene: _Scene) -> bool:
    behind, beside = _windows(scene)
    columns = np.flatnonzero(scene.mask.any(0))
    wanted = 0.7 * (columns[-1] - columns[0]) * 0.25 * DIAMETER
    return bool(behind.sum() >= wanted and beside.sum() >= 0.05 * DIAMETER**2)


def _columns(where: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    found = np.zeros(where.shape[1], bool)
    found[chosen] = True
    return np.broadcast_to(found[None, :], where.shape)


def _sharp_share(scene: _Scene) -> float:
    """Share of the rim's sectors where over 60 % of the grey step from inside to outside is made near the outline."""
    rows, columns = np.indices(scene.mask.shape)
    centre = ndimage.center_of_mass(scene.mask)
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    sector = ((angle + np.pi) / (2 * np.pi) * _SECTORS).astype(int) % _SECTORS
    signed = np.where(scene.mask, -scene.inside, scene.outside)
    smooth = ndimage.gaussian_filter(scene.grey, 1.0)

    def means(low: float, high: float) -> np.ndarray:
        chosen = (signed > low) & (signed <= high) & ~scene.beyond
        counts = np.bincount(sector[chosen], minlength=_SECTORS)
        sums = np.bincount(sector[chosen], smooth[chosen], minlength=_SECTORS)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    wide = means(0.1, 0.2) - means(-0.2, -0.1)
    narrow = means(0.01, 0.06) - means(-0.06, -0.01)
    told = np.isfinite(wide) & np.isfinite(narrow)
    clear = told & (np.abs(wide) > 0.1 * scene.step) & (narrow / np.where(wide == 0, 1, wide) > 0.6)
    return float(clear.sum() / told.sum()) if told.any() else float("nan")


def _radial_rest(mask: np.ndarray, pixel: float, n: int = 180) -> tuple[np.ndarray, float]:
    """(n,) distance from centre to outline less the ellipse's and the first three harmonics; the mean distance."""
    centre, covariance = _moments(mask)
    angles = np.arange(n) * 2 * np.pi / n
    directions = np.stack([np.sin(angles), np.cos(angles)])
    farthest = float(np.linalg.norm(_border_points(mask) - centre, axis=1).max())
    steps = np.arange(0, farthest + 2, 0.25)
    rays = centre[:, None, None] + directions[:, :, None] * steps
    # The steps of the file's own pixels are no lobules.
    soft = ndimage.gaussian_filter(mask.astype(np.float32), max(1.0, pixel))
    hit = ndimage.map_coordinates(soft, rays, order=1) > 0.5
    last = np.where(hit.any(1), len(steps) - 1 - hit[:, ::-1].argmax(1), 0)
    radius = steps[last]
    ellipse = 2 / np.sqrt((directions * (np.linalg.inv(covariance) @ directions)).sum(0))
    spectrum = np.fft.rfft(radius - ellipse)
    spectrum[:4] = 0
    return np.fft.irfft(spectrum, n), float(max(radius.mean(), 1e-6))


def _moments(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (row, column) and covariance (2, 2) of the outlined pixels, each a square and no point."""
    points = np.argwhere(mask)
    return points.mean(0), np.cov(points.T, bias=True) + np.eye(2) / 12


def _border_points(mask: np.ndarray) -> np.ndarray:
    """(k, 2) corners (row, column) of the pixels along the outline."""
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    corners = [edge + np.array(offset) / 2 for offset in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    return np.concatenate(corners)


def _solidity(mask: np.ndarray) -> float:
    try:
        return float(min(mask.sum() / ConvexHull(_border_points(mask)).volume, 1.0))
    except QhullError:
        return 1.0


def _disc(side: int) -> np.ndarray:
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    found: np.ndarray = rows**2 + columns**2 <= (side / 2) ** 2
    return found
