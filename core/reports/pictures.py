"""Pictures for print: an image, or an image under a heat map, as a labelled JPEG of a bounded size."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image as Raster
from PIL import ImageDraw, ImageFont

from core.findings.marks import Mark
from core.imaging.overlay import paint, to_uint8
from core.imaging.preprocess import resize, square_pixels
from core.reports.content import ReportImage
from core.reports.fonts import FONTS, printable
from core.types import Image, Modality

PRINT_SIDE_PX = 1100
"""Longest side: 9 cm wide at 300 dots an inch; more only makes the file heavy."""
ATTENTION_OPACITY = 0.55
_MARK_COLOUR = "#7fe3ff"


def picture_jpeg(item: ReportImage) -> bytes:
    """The grey (or histology) picture as shown, its label burnt in."""
    return _encoded(to_uint8(_bounded(item.image)), item)


def marked_jpeg(item: ReportImage, marks: Sequence[tuple[str, Mark]]) -> bytes:
    """The same picture with marks and what stands at each drawn on it."""
    return _encoded(to_uint8(_bounded(item.image)), item, marks)


def marked_picture(item: ReportImage, marks: Sequence[tuple[str, Mark]], longest: int = PRINT_SIDE_PX) -> Raster.Image:
    """The same, as RGB. longest: of its sides, at most, in pixels."""
    return _drawn(to_uint8(_bounded(item.image, longest)), item, marks)


def attention_jpeg(item: ReportImage) -> bytes | None:
    """The same picture under its heat map, or None when none was chosen."""
    if item.attention is None:
        return None
    pixels = _bounded(item.image)
    heat = np.clip(resize(item.attention.heat, pixels.shape[:2]), 0, 1)
    return _encoded(paint(pixels, heat, ATTENTION_OPACITY), item)


def _bounded(image: Image, longest: int = PRINT_SIDE_PX) -> np.ndarray:
    """Square pixels, few enough for print."""
    pixels = square_pixels(image)
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    if pixels.ndim == 2:
        return resize(pixels, shape)
    return np.stack([resize(pixels[..., channel], shape) for channel in range(3)], axis=-1)


def _encoded(pixels: np.ndarray, item: ReportImage, marks: Sequence[tuple[str, Mark]] = ()) -> bytes:
    """JPEG bytes of `_drawn`."""
    out = io.BytesIO()
    _drawn(pixels, item, marks).save(out, "JPEG", quality=88)
    return out.getvalue()


def _drawn(pixels: np.ndarray, item: ReportImage, marks: Sequence[tuple[str, Mark]]) -> Raster.Image:
    """RGB of uint8 (H, W) or (H, W, 3). Label and marks are drawn after mirroring: they never read backwards."""
    raster = Raster.fromarray(pixels[:, ::-1] if item.is_mirrored else pixels).convert("RGB")
    size = max(14, round(max(raster.size) / 32))
    font = ImageFont.truetype(str(FONTS / "DejaVuSansCondensed-Bold.ttf"), size)
    draw = ImageDraw.Draw(raster)
    left, right = size // 2, raster.width - size // 2
    # A left breast fills the left of its picture (chest walls back to back), so its label goes to the right.
    is_left = item.image.modality is Modality.MAMMOGRAPHY and item.image.laterality == "L"
    at, anchor = ((right, size // 2), "ra") if is_left else ((left, size // 2), "la")
    draw.text(at, printable(item.label), font=font, anchor=anchor, fill="#ffd479", stroke_width=2, stroke_fill="black")
    for words, mark in marks:
        _draw_mark(draw, mark, words, item, raster.size, font)
    return raster


def _draw_mark(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    words: str,
    item: ReportImage,
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    """size: (width, height) of the drawn picture, which shows the whole matrix of the image in square pixels."""
    width, height = size
    x_scale, y_scale = width / item.image.width, height / item.image.height
    at = [(column * x_scale, row * y_scale) for column, row in mark.points]
    if item.is_mirrored:
        at = [(width - x, y) for x, y in at]
    xs, ys = [x for x, _ in at], [y for _, y in at]
    stroke = max(2, round(max(size) / 400))
    for colour, thick in (("black", stroke + 2), (_MARK_COLOUR, stroke)):
        if mark.kind == "ellipse":
            draw.ellipse((min(xs), min(ys), max(xs), max(ys)), outline=colour, width=thick)
        elif mark.kind == "point":
            arm = 6 * stroke
            draw.line((xs[0] - arm, ys[0], xs[0] + arm, ys[0]), fill=colour, width=thick)
            draw.line((xs[0], ys[0] - arm, xs[0], ys[0] + arm), fill=colour, width=thick)
        else:
            closed = [*at, at[0]] if mark.kind == "outline" else at
            draw.line(closed, fill=colour, width=thick, joint="curve")
    right = min(max(xs) + 3 * stroke, width - draw.textlength(words, font=font) - 4)
    draw.text((right, min(ys)), words, font=font, fill=_MARK_COLOUR, stroke_width=2, stroke_fill="black")
