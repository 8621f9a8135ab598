"""Windows to look through at one key, relative to what the picture itself holds.

A digital mammogram holds its dense tissue at a third of its scale, a scanned film at two thirds: a preset with fixed
numbers makes the one black or the other white. So every preset is cut from the grey levels of the picture's tissue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.types import Image, Window

AS_IN_FILE = "As in the file"
_SAMPLES = 400_000
_AIR_SHARE = 0.04
"""Of the range above the darkest level: what is darker counts as air and film base, not as tissue."""
_NARROWEST = 0.02


@dataclass(frozen=True, slots=True)
class Preset:
    """A window on the picture's own scale from 0 (black) to 1 (white), as `core.imaging.overlay.to_uint8` takes it."""

    name: str
    center: float
    width: float


def presets(pixels: np.ndarray) -> tuple[Preset, ...]:
    """Five presets for pixels in [0, 1], (H, W) or (H, W, 3), in the order of their keys 1 to 5."""
    tissue = _tissue(pixels)
    darkest, quarter, middle, bright, most = (float(level) for level in np.percentile(tissue, (0.5, 25, 50, 99, 99.8)))
    return (
        Preset(AS_IN_FILE, 0.5, 1.0),
        _between("All tissue", darkest, most),
        _between("Dense tissue", quarter, bright),
        _between("Dark tissue", 0.0, max(middle, quarter)),
        _between("Skin line", 0.0, max(quarter, darkest)),
    )


def windows_of_file(image: Image) -> tuple[Preset, ...]:
    """The file's own windows, as windows on the picture's scale; the first is what `AS_IN_FILE` shows.

    The picture is kept as its file's chosen window shows it, so another window can be shown from it only as far as
    both are linear and the other lies within the chosen one; what cannot be shown right is left out.
    """
    if image.window_index is None or not 0 <= image.window_index < len(image.windows):
        return ()
    chosen = _ends(image.windows[image.window_index])
    is_inverted = image.tags.get("PhotometricInterpretation", "").strip().upper() == "MONOCHROME1"
    found = []
    for position, window in enumerate(image.windows):
        ends = _ends(window)
        if position == image.window_index or ends is None or chosen is None:
            continue
        low, high = ((end - chosen[0]) / (chosen[1] - chosen[0]) for end in ends)
        if low < -1e-6 or high > 1 + 1e-6 or high - low < 1e-3:
            continue
        low, high = (1 - high, 1 - low) if is_inverted else (low, high)
        found.append(_between(window.explanation or f"Window {position + 1} of the file", low, high))
    return tuple(found)


def _ends(window: Window) -> tuple[float, float] | None:
    """Values shown black and white (PS3.3 C.11.2.1.2); None where the way between them is no line."""
    if window.function == "LINEAR_EXACT":
        return window.center - window.width / 2, window.center + window.width / 2
    if window.function == "LINEAR" and window.width > 1:
        middle = window.center - 0.5
        return middle - (window.width - 1) / 2, middle + (window.width - 1) / 2
    return None


def _tissue(pixels: np.ndarray) -> np.ndarray:
    """The grey levels of what is not air, flat; all of them where nothing stands out."""
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=-1, dtype=np.float32)
    flat = grey.ravel()[:: max(1, grey.size // _SAMPLES)]
    air, bright = np.percentile(flat, (1, 99.8))
    tissue = flat[flat > air + _AIR_SHARE * (bright - air)]
    return tissue if tissue.size > 0.01 * flat.size else flat


def _between(name: str, low: float, high: float) -> Preset:
    width = max(high - low, _NARROWEST)
    return Preset(name, (low + high) / 2, width)
