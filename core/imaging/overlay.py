"""From pixels to what a screen, a printer or a file shows: window, polarity, and one hue where a model looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Raster
from scipy import ndimage

from core.imaging.preprocess import heat_map
from core.types import Explanation, Image

HUE = (255, 153, 31)
"""Amber: seen on grey and on pink tissue alike, and no rainbow whose colours look like degrees of disease."""
LOW_CUT = 0.2
"""Attention below this share of the peak stays transparent, so that the picture under it is not tinted throughout."""


def to_uint8(pixels: np.ndarray, center: float = 0.5, width: float = 1.0, invert: bool = False) -> np.ndarray:
    """Pixels in [0, 1], (H, W) or (H, W, 3), through a linear window on that same scale: uint8 of the same shape.

    center 0.5 and width 1 change nothing; a narrower width gives more contrast. invert: black becomes white.
    """
    shown = np.clip((np.asarray(pixels, np.float32) - (center - width / 2)) / max(width, 1e-6), 0, 1)
    if invert:
        shown = 1 - shown
    grey: np.ndarray = np.round(shown * 255).astype(np.uint8)
    return grey


def paint(pixels: np.ndarray, heat: np.ndarray, opacity: float, *, low_cut: float = LOW_CUT) -> np.ndarray:
    """Pixels in [0, 1], (H, W) or (H, W, 3), under `heat` (H, W) in [0, 1]: uint8 (H, W, 3).

    opacity: of the hue where heat is 1, from 0 (the picture alone) to 1; it falls linearly to nothing at `low_cut`.
    """
    base = np.clip(np.asarray(pixels, np.float32), 0, 1)
    if base.ndim == 2:
        base = np.repeat(base[..., None], 3, axis=2)
    if heat.shape != base.shape[:2]:
        raise ValueError(f"heat has shape {heat.shape}, the picture {base.shape[:2]}")
    strength = np.clip((np.asarray(heat, np.float32) - low_cut) / (1 - low_cut), 0, 1)
    alpha = (min(max(opacity, 0.0), 1.0) * strength)[..., None]  # (H, W, 1)
    hue = np.array(HUE, np.float32) / 255
    blended: np.ndarray = np.round((base * (1 - alpha) + hue * alpha) * 255).astype(np.uint8)
    return blended


def outlined(pixels: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Grey pixels (H, W) in [0, 1] with the edge of each mask, bool (H, W), in the hue: uint8 (H, W, 3).

    The edge is about a two-hundredth of the longer side wide and lies outside the mask: nothing of the lesion is
    covered.
    """
    shown = np.repeat(to_uint8(pixels)[..., None], 3, axis=2)
    width = max(1, round(max(pixels.shape) / 200))
    for mask in masks:
        shown[ndimage.binary_dilation(mask, iterations=width) & ~mask] = HUE
    return shown


def write_outline(image: Image, number: int, mask: np.ndarray, folder: Path) -> Path:
    """A mask, bool (H, W), as an 8-bit PNG of the image's size, named like a heat map."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{image.sha256[:8]}-outline-{number}.png"
    Raster.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path


def write_heat_maps(image: Image, model_id: str, explanation: Explanation, folder: Path) -> list[Path]:
    """One 8-bit grey PNG a branch for the positive class, (H, W) of the image, 255 at the map's peak.

    Named `<first 8 of the image's sha256>-<model>-<branch>.png`; returns the paths in the order of the branches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = image.sha256[:8]
    paths = []
    for branch in explanation.maps:
        heat = heat_map(explanation, branch, explanation.positive_index)
        path = folder / f"{name}-{model_id}-{branch}.png"
        Raster.fromarray(np.round(heat * 255).astype(np.uint8)).save(path)
        paths.append(path)
    return paths
