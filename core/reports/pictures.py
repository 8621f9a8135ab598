"""Pictures for print: an image, or an image under a heat map, as a labelled JPEG of a bounded size."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Raster
from PIL import ImageDraw, ImageFont

from core.imaging.overlay import paint, to_uint8
from core.imaging.preprocess import resize, square_pixels
from core.reports.content import ReportImage
from core.reports.fonts import FONTS
from core.types import Image, Modality

PRINT_SIDE_PX = 1100
"""Longest side: 9 cm wide at 300 dots an inch; more only makes the file heavy."""
ATTENTION_OPACITY = 0.55


def picture_jpeg(item: ReportImage) -> bytes:
    """The grey (or histology) picture as shown, its label burnt in."""
    return _encoded(to_uint8(_bounded(item.image)), item)


def attention_jpeg(item: ReportImage) -> bytes | None:
    """The same picture under its heat map, or None when none was chosen."""
    if item.attention is None:
        return None
    pixels = _bounded(item.image)
    heat = np.clip(resize(item.attention.heat, pixels.shape[:2]), 0, 1)
    return _encoded(paint(pixels, heat, ATTENTION_OPACITY), item)


def _bounded(image: Image) -> np.ndarray:
    """Square pixels, few enough for print."""
    pixels = square_pixels(image)
    height, width = pixels.shape[:2]
    scale = PRINT_SIDE_PX / max(height, width)
    if scale >= 1:
        return pixels
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    if pixels.ndim == 2:
        return resize(pixels, shape)
    return np.stack([resize(pixels[..., channel], shape) for channel in range(3)], axis=-1)


def _encoded(pixels: np.ndarray, item: ReportImage) -> bytes:
    """JPEG bytes of uint8 (H, W) or (H, W, 3). The label is drawn after mirroring, so that it never reads backwards."""
    raster = Raster.fromarray(pixels[:, ::-1] if item.is_mirrored else pixels).convert("RGB")
    size = max(14, round(max(raster.size) / 32))
    font = ImageFont.truetype(str(FONTS / "DejaVuSansCondensed-Bold.ttf"), size)
    draw = ImageDraw.Draw(raster)
    left, right = size // 2, raster.width - size // 2
    at, anchor = ((right, size // 2), "ra") if _hangs_left(item) else ((left, size // 2), "la")
    draw.text(at, item.label, font=font, anchor=anchor, fill="#ffd479", stroke_width=2, stroke_fill="black")
    out = io.BytesIO()
    raster.save(out, "JPEG", quality=88)
    return out.getvalue()


def _hangs_left(item: ReportImage) -> bool:
    """A left breast fills the left of its picture (chest walls back to back), so its label goes to the right."""
    return item.image.modality is Modality.MAMMOGRAPHY and item.image.laterality == "L"
