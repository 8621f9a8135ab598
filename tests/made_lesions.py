"""Ultrasound lesions made in code, of which every descriptor is known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SHAPE = (220, 300)
TISSUE, LESION, BLACK = 0.5, 0.25, 0.0


def ellipse(width: float = 80, depth: float = 50, centre: tuple[float, float] = (90, 150)) -> np.ndarray:
    """bool (220, 300): a lesion of that many columns and rows."""
    return outlined(lambda angle: 1 / np.hypot(2 * np.cos(angle) / width, 2 * np.sin(angle) / depth), centre)


def outlined(radius, centre: tuple[float, float] = (90, 150)) -> np.ndarray:  # type: ignore[no-untyped-def]
    """bool (220, 300): everything nearer to the centre than `radius` (a function of the angle in radians)."""
    rows, columns = np.indices(SHAPE)
    down, across = rows - centre[0], columns - centre[1]
    return np.hypot(down, across) <= radius(np.arctan2(down, across))


def spiky(spikes: int, height: float, width_degrees: float) -> np.ndarray:
    """A round lesion of 50 pixels with triangular spikes, evenly spread: height as a share of the radius."""
    step = 2 * np.pi / spikes

    def radius(angle: np.ndarray) -> np.ndarray:
        away = np.abs((angle + step / 2) % step - step / 2)
        return 25 * (1 + height * np.maximum(0, 1 - away / np.radians(width_degrees)))

    return outlined(radius)


def picture(
    mask: np.ndarray,
    *,
    lesion: float = LESION,
    behind: float = TISSUE,
    rim: float = TISSUE,
    blur: float = 0.7,
    speckle: float = 0.06,
    seed: int = 0,
) -> np.ndarray:
    """float32 (220, 300): tissue with the lesion in it, what lies behind it, and a rim of a tenth of its diameter."""
    clean = np.full(SHAPE, TISSUE)
    bottoms = SHAPE[0] - 1 - mask[::-1].argmax(0)
    below = mask.any(0)[None] & (np.arange(SHAPE[0])[:, None] > bottoms[None])
    clean[below] = behind
    diameter = np.sqrt(4 * mask.sum() / np.pi)
    around = ndimage.distance_transform_edt(~mask)
    clean[(around > 0) & (around <= 0.1 * diameter) & ~below] = rim
    clean[mask] = lesion
    clean = ndimage.gaussian_filter(clean, blur)
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.0) * 3.5
    made = clean * (1 + speckle * noise)
    made[:6] = BLACK  # the margin above the probe's field
    return np.clip(made, 0, 1).astype(np.float32)
