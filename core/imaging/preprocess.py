"""From an image to the square a model reads, and the way back. Training and reading call the same functions."""

from __future__ import annotations

import numpy as np
from PIL import Image as Raster

from core.types import CRANIOCAUDAL_VIEWS, LATERAL_VIEWS, Explanation, Fit, Image, Modality

_SEARCH_SIDE = 512
"""Longest side, in pixels, at which the breast is looked for: finer detail does not move the box."""


def breast_box(image: Image) -> tuple[int, int, int, int]:
    """The part of the image worth a model's pixels: (row0, row1, column0, column1), half-open.

    Mammography: the box around the breast, without film edges and burnt-in letters. Ultrasound: the image without
    its black margins. Histology, or an image whose modality is not known: all of it.
    """
    if image.modality is Modality.MAMMOGRAPHY and not image.is_colour:
        return _largest_bright_region(image.pixels, image.aspect)
    if image.modality is Modality.ULTRASOUND and not image.is_colour:
        return _without_black_margins(image.pixels)
    return 0, image.height, 0, image.width


def fit_square(image: Image, side: int, columns: int = 0, chest_wall: str = "") -> tuple[np.ndarray, Fit]:
    """Crop to `breast_box`, scale with antialiasing until it fits `side` rows and `columns`, centre on black.

    columns: 0 for as many as rows. chest_wall: "left" turns a breast whose chest wall lies on the right, so that all
    face one way, and lays it at the left edge; "" leaves it as it is. Pixels that are not square become square on the
    way. Returns float32 (side, columns, 1) for grey or (side, columns, 3) for colour, in [0, 1], and the way back.
    """
    n_columns = columns or side
    row0, row1, column0, column1 = box = breast_box(image)
    long = (row1 - row0) * (image.aspect if _is_stretched(image.aspect) else 1)
    scale = min(side / long, n_columns / (column1 - column0))
    height = min(side, max(1, round(long * scale)))
    width = min(n_columns, max(1, round((column1 - column0) * scale)))
    top, left = (side - height) // 2, 0 if chest_wall else (n_columns - width) // 2
    pixels = image.pixels[row0:row1, column0:column1]
    is_mirrored = chest_wall == "left" and is_chest_wall_right(pixels)
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    channels = channels[:, ::-1] if is_mirrored else channels
    square = np.zeros((side, n_columns, channels.shape[2]), np.float32)
    for channel in range(channels.shape[2]):
        square[top : top + height, left : left + width, channel] = resize(channels[..., channel], (height, width))
    return square, Fit((image.height, image.width), box, side, top, left, height, width, columns, is_mirrored)


def with_view(square: np.ndarray, view: str | None) -> np.ndarray:
    """A grey square (side, columns, 1) with a plane that says from where it was taken: (side, columns, 2).

    The plane is 0 for craniocaudal views, 1 for lateral ones, and 0.5 where the view (one of `VIEWS`) is another or not
    known.
    """
    said = 1.0 if view in LATERAL_VIEWS else 0.0 if view in CRANIOCAUDAL_VIEWS else 0.5
    return np.concatenate([square, np.full_like(square, said)], axis=2)


def is_chest_wall_right(pixels: np.ndarray) -> bool:
    """Whether the breast in its box (`breast_box`), (H, W) or (H, W, 3), lies with the chest wall on the right.

    By the pixels, because files may be stored mirrored whatever their tags say: towards the chest wall the breast is
    tall, towards the nipple it ends in air.
    """
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    air, bright = np.percentile(grey, (2, 99))
    tissue = grey > air + max(0.02, 0.08 * (bright - air))
    tenth = max(1, grey.shape[1] // 10)
    return bool(tissue[:, -tenth:].sum() > tissue[:, :tenth].sum())


def resize(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A float32 (H, W) plane at (height, width) = `shape`: bilinear, antialiased when it shrinks; range is kept."""
    raster = Raster.fromarray(np.ascontiguousarray(plane, np.float32))
    scaled = raster.resize((shape[1], shape[0]), Raster.Resampling.BILINEAR, reducing_gap=3.0)
    return np.clip(np.asarray(scaled, np.float32), plane.min(), plane.max())


def square_pixels(image: Image) -> np.ndarray:
    """The pixels for whoever does not ask for their distances any more: float32, (H, W) or (H, W, 3).

    Pixels that are not square are stretched until rows lie as far apart as columns; nothing is made smaller.
    """
    if not _is_stretched(image.aspect):
        return image.pixels
    height = round(image.height * max(image.aspect, 1))
    width = round(image.width * max(1 / image.aspect, 1))
    planes = np.atleast_3d(image.pixels)
    stretched = [resize(planes[..., channel], (height, width)) for channel in range(planes.shape[2])]
    return np.stack(stretched, axis=-1) if image.is_colour else stretched[0]


def _is_stretched(aspect: float) -> bool:
    return abs(aspect - 1) >= 0.005  # below, a spacing was rounded


def unfit(square_map: np.ndarray, fit: Fit) -> np.ndarray:
    """A map over the model's input, (h, w) at any resolution, in the image's own geometry: float32 (H, W).

    Undoes letterbox, turn and crop; outside the crop the map is 0.
    """
    full = resize(np.asarray(square_map, np.float32), (fit.side, fit.columns or fit.side))
    inside = full[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
    inside = inside[:, ::-1] if fit.is_mirrored else inside
    row0, row1, column0, column1 = fit.box
    out = np.zeros(fit.image_shape, np.float32)
    out[row0:row1, column0:column1] = resize(inside, (row1 - row0, column1 - column0))
    return out


def heat_map(explanation: Explanation, branch: str, class_index: int) -> np.ndarray:
    """The Grad-CAM map of one branch and class as float32 (H, W) in [0, 1], 1 where the attention is greatest.

    All zero where nothing in the branch spoke for the class.
    """
    heat = np.maximum(unfit(explanation.maps[branch][class_index], explanation.fit), 0)
    peak = float(heat.max())
    scaled: np.ndarray = heat / peak if peak > 0 else heat
    return scaled


def bright_region(pixels: np.ndarray, aspect: float) -> np.ndarray | None:
    """Where the breast lies in a grey mammogram (H, W): bool, at most `_SEARCH_SIDE` rows and columns, square pixels.

    With what the picture shows of the chest wall's muscle; without letters and film edges. None where nothing is
    brighter than air. aspect: distance between rows by distance between columns.
    """
    from scipy import ndimage

    height, width = pixels.shape
    aspect = aspect if _is_stretched(aspect) else 1.0
    step = max(1.0, height * aspect / _SEARCH_SIDE, width / _SEARCH_SIDE)
    shape = max(1, round(height * aspect / step)), max(1, round(width / step))
    small = resize(pixels, shape) if shape != pixels.shape else pixels
    smooth = ndimage.gaussian_filter(small, 1.0)
    # Air is the darkest broad level of a mammogram; scanned film adds a veil of its own, so the cut is relative.
    air, bright = np.percentile(smooth, (2, 99))
    mask = smooth > air + max(0.02, 0.08 * (bright - air))
    # Opening by about 2 % of the image cuts letters and film edges off before the components are counted.
    radius = max(1, round(0.02 * max(small.shape)))
    opened = ndimage.binary_opening(mask, structure=np.ones((3, 3), bool), iterations=radius)
    labels, count = ndimage.label(opened)
    if count == 0:
        return None
    sizes = ndimage.sum_labels(opened, labels, np.arange(1, count + 1))
    return np.asarray(labels == 1 + int(np.argmax(sizes)))


def _largest_bright_region(pixels: np.ndarray, aspect: float) -> tuple[int, int, int, int]:
    height, width = pixels.shape
    region = bright_region(pixels, aspect)
    if region is None:
        return 0, height, 0, width
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    margin = max(1, round(0.02 * max(region.shape)))
    scale_rows, scale_columns = height / region.shape[0], width / region.shape[1]
    row0 = max(0, int((rows[0] - margin) * scale_rows))
    row1 = min(height, int(np.ceil((rows[-1] + 1 + margin) * scale_rows)))
    column0 = max(0, int((columns[0] - margin) * scale_columns))
    column1 = min(width, int(np.ceil((columns[-1] + 1 + margin) * scale_columns)))
    if (row1 - row0) * (column1 - column0) < 0.05 * height * width:
        return 0, height, 0, width
    return row0, row1, column0, column1


def _without_black_margins(pixels: np.ndarray) -> tuple[int, int, int, int]:
    # The 99th percentile, not the maximum: a stray bright dot or a thin frame line is no tissue.
    rows = np.flatnonzero(np.percentile(pixels, 99, axis=1) > 0.06)
    columns = np.flatnonzero(np.percentile(pixels, 99, axis=0) > 0.06)
    height, width = pixels.shape
    if len(rows) < 0.3 * height or len(columns) < 0.3 * width:
        return 0, height, 0, width
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
