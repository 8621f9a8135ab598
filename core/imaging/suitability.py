"""Is this a breast image, and which kind? A small check on the pixels, for files whose tags cannot say.

It measures a few numbers on a thumbnail; it is no model and knows nothing of anatomy. `docs/intake.md` says what it
catches and what it lets through.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.types import Modality


@dataclass(frozen=True, slots=True)
class Look:
    """What the pixels look like. refused: why nobody should read this picture, whatever its tags say, or None.
    doubt: why it does not look like a breast image; it refuses a PNG and warns on a DICOM. modality: None if unsure."""

    modality: Modality | None = None
    refused: str | None = None
    doubt: str | None = None


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) to luma (H, W), float32 (ITU-R BT.601)."""
    if pixels.ndim == 2:
        return pixels
    return (pixels @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)


def look_at(pixels: np.ndarray) -> Look:
    """Judge float32 pixels in [0, 1], (H, W) or (H, W, 3)."""
    grey = to_grey(pixels)
    if grey.max() - grey.min() < 2 / 255:
        return Look(refused="The picture is blank: every pixel has the same value. Choose another file.")
    if pixels.ndim == 3:
        return Look(Modality.HISTOLOGY)
    return Look(Modality.MAMMOGRAPHY if (grey < 0.05).mean() > 0.3 else Modality.ULTRASOUND)
