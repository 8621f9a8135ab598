"""Is this a breast image, and which kind? A small check on the pixels, for files whose tags cannot say.

The numbers of `core.imaging.look_measures` go to small networks (`suitability.json`, fitted by `python -m train look`)
that give four shares: mammogram, ultrasound image, stained tissue, something else. A picture whose numbers also lie
within the bounds of a kind, set by hand, is called something else only where the networks are sure: bounds and networks
err on different collections. Nothing here knows anatomy: `docs/intake.md` says what it catches, what it lets through,
and on how many images that was measured. Loads no TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from core.imaging.picture import to_grey
from core.types import Modality

NETWORKS = Path(__file__).with_name("suitability.json")
_KINDS = (Modality.MAMMOGRAPHY, Modality.ULTRASOUND, Modality.HISTOLOGY)
"""In the order of the networks' shares; the last share, "other", is that of everything else."""
REFUSED_OUTSIDE, REFUSED_WITHIN = 0.5, 0.98
"""Above which share of "other" a picture is doubted, outside the bounds of every kind and within those of one."""
_CLEAR_KIND = 0.95
"""Of the three kinds' shares together, what one must have to be the modality; below it stays open."""
_BLANK_RANGE = 2 / 255
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
    """Where a measure of real images lies."""

    low: float
    high: float


_INFINITE = float("inf")
_ULTRASOUND = {
    "layers": _Bound(0.2, _INFINITE),
    "coarse_layers": _Bound(0.1, _INFINITE),
    "smooth_bright": _Bound(-_INFINITE, 0.0),
    "median": _Bound(-_INFINITE, 0.75),
    "edges": _Bound(0.125, 0.33),
    "roughness": _Bound(0.035, 0.24),
    "neighbours": _Bound(0.84, _INFINITE),
    "coarse_neighbours": _Bound(0.45, _INFINITE),
    "flat": _Bound(-_INFINITE, 0.6),
    "holes": _Bound(-_INFINITE, 0.35),
}
_MAMMOGRAPHY = {
    "black": _Bound(0.06, _INFINITE),
    "background": _Bound(0.07, _INFINITE),
    "background_for_texture": _Bound(0.18, _INFINITE),
    "background_roughness": _Bound(-_INFINITE, 0.07),
    "flat": _Bound(0.1, _INFINITE),
    "layers": _Bound(-_INFINITE, 2.5),
    "symmetry": _Bound(-_INFINITE, 0.7),
    "lungs": _Bound(-_INFINITE, 0.25),
    "roughness": _Bound(0.006, 0.25),
    "edges": _Bound(0.17, _INFINITE),
    "one_piece": _Bound(0.6, _INFINITE),
    "holes": _Bound(-_INFINITE, 0.18),
    "fogged_roughness": _Bound(-_INFINITE, 0.05),
    "neighbours": _Bound(0.9, _INFINITE),
    "coarse_neighbours": _Bound(0.6, _INFINITE),
}
_HISTOLOGY = {
    "black": _Bound(-_INFINITE, 0.08),
    "pinkness": _Bound(0.2, _INFINITE),
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
    from core.imaging.look_measures import describe

    grey = to_grey(pixels)
    low, high = np.percentile(grey[:: 1 + grey.shape[0] // 1000, :: 1 + grey.shape[1] // 1000], (0.5, 99.5))
    if high - low < _BLANK_RANGE or _is_one_value(grey):
        return Look(refused=_BLANK)
    measures = describe(pixels)
    if _is_noise(grey, has_colour=measures["chroma"] > _COLOURLESS):
        return Look(refused=_NOISE)
    found = shares(measures)
    if found[-1] > (REFUSED_WITHIN if is_within_bounds(measures) else REFUSED_OUTSIDE):
        return Look(doubt=_why(grey, measures))
    best = int(found[:-1].argmax())
    is_clear = found[best] >= _CLEAR_KIND * found[:-1].sum()
    return Look(_KINDS[best]) if is_clear else Look()


def shares(measures: Mapping[str, float]) -> np.ndarray:
    """(4,) float64, together 1: mammogram, ultrasound image, stained tissue, something else."""
    values = np.array([[measures[name] for name in _networks()["measures"]]])
    found: np.ndarray = network_shares(_networks(), values)[0]
    return found


def network_shares(networks: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """The mean of the networks' softmax, (n, 4), of the measures (n, m) in the order that `networks` names."""
    squeezed = np.clip((np.nan_to_num(values) - networks["mean"]) / networks["spread"], -4, 4)
    found = []
    for one in networks["networks"]:
        hidden = np.tanh(squeezed @ np.asarray(one["hidden"]) + one["hidden_bias"])
        logits = hidden @ np.asarray(one["output"]) + one["output_bias"]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found.append(powers / powers.sum(axis=1, keepdims=True))
    return np.asarray(np.mean(found, axis=0))


@cache
def _networks() -> Any:
    return json.loads(NETWORKS.read_text(encoding="utf-8"))


def is_within_bounds(measures: Mapping[str, float]) -> bool:
    """Whether the numbers lie where those of one kind of breast image lie, by the bounds set by hand."""
    if measures["chroma"] > _COLOURLESS and _is_inside(measures, _HISTOLOGY):
        return True
    is_nearly_grey = measures["chroma"] <= _FEW_COLOURS
    return is_nearly_grey and (_is_inside(measures, _ULTRASOUND) or _is_inside(measures, _MAMMOGRAPHY))


def _is_inside(measures: Mapping[str, float], bounds: Mapping[str, _Bound]) -> bool:
    return all(bound.low <= measures[name] <= bound.high for name, bound in bounds.items())


def _why(grey: np.ndarray, measures: Mapping[str, float]) -> str:
    """The sentence for a picture that is no breast image."""
    from core.imaging.look_measures import describe

    if measures["chroma"] > _FEW_COLOURS:
        return _COLOUR_PHOTOGRAPH
    if shares(describe(1 - grey))[0] > 0.5:
        return _INVERTED
    is_symmetric = (
        measures["symmetry"] > _MAMMOGRAPHY["symmetry"].high or measures["lungs"] > _MAMMOGRAPHY["lungs"].high
    )
    return _CHEST if is_symmetric and measures["neighbours"] > 0.97 else _NOT_BREAST


def _is_one_value(grey: np.ndarray) -> bool:
    """All but one pixel in ten thousand share one value: a mark on an empty film is no picture."""
    for side in (250, 2000):  # a few pixels say it of most pictures
        seen = grey[:: 1 + grey.shape[0] // side, :: 1 + grey.shape[1] // side]
        middle = float(np.median(seen))
        if np.count_nonzero(np.abs(seen - middle) > _BLANK_RANGE) >= 1e-4 * grey.size:
            return False  # these alone are more, wherever the others lie
    return float((np.abs(grey - middle) > _BLANK_RANGE).mean()) < 1e-4


def _is_noise(grey: np.ndarray, *, has_colour: bool) -> bool:
    """Neighbouring pixels of a picture resemble each other, also on a coarse grid; those of noise do not.

    Tissue at 50 x 50 pixels comes near noise on every grid, so in colour only the pixels themselves count.
    """
    from core.imaging.look_measures import neighbour_correlation, thumbnails_of

    fine = neighbour_correlation(grey)
    if has_colour:
        return fine < 0.12 and float(grey.std()) > 0.05
    coarse = [neighbour_correlation(thumbnail) for thumbnail in thumbnails_of(grey, 16, 32)]
    return fine < 0.5 or (coarse[0] < 0.3 and coarse[1] < 0.5)
