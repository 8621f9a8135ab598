"""Pictures made in code that show no breast: what the look at the pixels (`core.imaging.suitability`) must refuse.

Each kind is a function of a random generator that gives float32 in [0, 1], (H, W) or (H, W, 3). They are drawn with
many sizes, inks and grounds, so that a bound fitted to them does not fit one drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image as Raster
from PIL import ImageDraw, ImageFont
from scipy import ndimage

_WORDS = [
    "report",
    "of",
    "the",
    "study",
    "left",
    "right",
    "view",
    "patient",
    "result",
    "page",
    "table",
    "figure",
    "method",
    "score",
    "value",
    "case",
    "model",
]


def noise(rng: np.random.Generator) -> np.ndarray:
    """Grain of any size and distribution, also on a gradient."""
    height, width = rng.integers(100, 700, 2)
    kinds: tuple[Callable[[], np.ndarray], ...] = (
        lambda: rng.random((height, width)),
        lambda: rng.normal(0.5, rng.uniform(0.05, 0.3), (height, width)),
        lambda: (rng.random((height, width)) < rng.uniform(0.1, 0.9)).astype(float),
        lambda: rng.rayleigh(0.25, (height, width)),
    )
    picture = kinds[rng.integers(len(kinds))]()
    grain = rng.uniform(0, 8)
    if grain > 1:
        picture = ndimage.gaussian_filter(picture, grain)
        picture = (picture - picture.mean()) / max(picture.std(), 1e-6) * rng.uniform(0.1, 0.3) + 0.5
    if rng.random() < 0.3:
        picture = picture * np.linspace(rng.uniform(0, 1), 1, height)[:, None]
    return _clipped(picture)


def document(rng: np.random.Generator) -> np.ndarray:
    """A page of text, dark on light or light on dark, perhaps with a ruled table."""
    width, height = (int(side) for side in rng.integers(400, 1200, 2))
    ground, ink = (int(value) for value in rng.choice([(255, 0), (250, 30), (235, 60), (20, 230), (0, 255)]))
    page = Raster.new("L", (width, height), ground)
    size = float(rng.uniform(10, 30))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=size)
    row, step = float(rng.uniform(20, 80)), size * rng.uniform(1.2, 2)
    margin = width * rng.uniform(0.03, 0.15)
    while row < height * rng.uniform(0.5, 1):
        if rng.random() > 0.12:
            draw.text((margin, row), " ".join(rng.choice(_WORDS, rng.integers(2, 16))), fill=ink, font=font)
        row += step
    if rng.random() < 0.3:
        top, side = height * rng.uniform(0.3, 0.6), width * rng.uniform(0.5, 0.9)
        for number in range(int(rng.integers(3, 9))):
            draw.line((margin, top + number * step, margin + side, top + number * step), fill=ink)
            draw.line((margin + number * side / 8, top, margin + number * side / 8, top + 8 * step), fill=ink)
    return _pixels(page)


def plot(rng: np.random.Generator) -> np.ndarray:
    """Axes with curves, bars or points, in colour or grey."""
    width, height = (int(side) for side in rng.integers(300, 900, 2))
    ground = (255, 255, 255) if rng.random() < 0.7 else (20, 22, 30)
    ink = tuple(255 - value for value in ground)
    page = Raster.new("RGB", (width, height), ground)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=float(rng.uniform(9, 18)))
    left, bottom = int(0.12 * width), int(0.88 * height)
    draw.line((left, int(0.05 * height), left, bottom, int(0.97 * width), bottom), fill=ink, width=2)
    for number in range(6):
        draw.text((left + number * width // 8, bottom + 4), f"{number / 5:.1f}", fill=ink, font=font)
        draw.text((4, bottom - number * height // 8), f"{number / 5:.1f}", fill=ink, font=font)
    for _ in range(int(rng.integers(1, 5))):
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        across = np.linspace(left, 0.95 * width, 60)
        up = bottom - 0.8 * height * np.cumsum(rng.random(60)) / 60 * rng.uniform(0.5, 1.6)
        if rng.random() < 0.5:
            draw.line(list(zip(across.tolist(), up.tolist(), strict=True)), fill=colour, width=int(rng.integers(1, 5)))
        else:
            for x, y in zip(across[::6].tolist(), up[::6].tolist(), strict=True):
                draw.rectangle((x, min(y, bottom), x + width / 30, bottom), fill=colour)
    return _grey_or_colour(_pixels(page), rng)


def screenshot(rng: np.random.Generator) -> np.ndarray:
    """Panels, buttons and lines of text, as of a program's window."""
    width, height = int(rng.integers(600, 1600)), int(rng.integers(400, 1000))
    is_dark = rng.random() < 0.4
    least, most = (15, 70) if is_dark else (225, 256)
    page = Raster.new("RGB", (width, height), (int(rng.integers(least, most)),) * 3)
    draw, ink = ImageDraw.Draw(page), (225, 225, 230) if is_dark else (30, 30, 40)
    draw.rectangle((0, 0, int(width * rng.uniform(0.1, 0.25)), height), fill=(int(rng.integers(least, most)),) * 3)
    for _ in range(int(rng.integers(4, 16))):
        x, y = rng.uniform(0, 0.8) * width, rng.uniform(0, 0.9) * height
        box = (x, y, x + rng.uniform(0.05, 0.4) * width, y + rng.uniform(0.03, 0.3) * height)
        draw.rectangle(box, fill=tuple(int(value) for value in rng.integers(0, 255, 3)) if rng.random() < 0.3 else None,
                       outline=ink)  # fmt: skip
        size = float(rng.uniform(9, 22))
        font = ImageFont.load_default(size=size)
        for line in range(int(rng.integers(1, 6))):
            words = " ".join(rng.choice(_WORDS, rng.integers(1, 7)))
            draw.text((x + 6, y + 4 + line * size * 1.4), words, fill=ink, font=font)
    return _grey_or_colour(_pixels(page), rng)


def shapes(rng: np.random.Generator) -> np.ndarray:
    """Gradients, stripes, boards, discs and blobs, as of test patterns and masks."""
    height, width = (int(side) for side in rng.integers(100, 700, 2))
    rows, columns = np.mgrid[:height, :width]
    kind, step = rng.integers(6), rng.uniform(8, 90)
    angle = rng.uniform(0, np.pi)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    picture = (
        along / max(float(np.abs(along).max()), 1),
        0.5 + 0.5 * np.sin(along / step * 2),
        ((rows // step + columns // step) % 2).astype(float),
        np.hypot(rows - height / 2, columns - width / 2) < min(height, width) * rng.uniform(0.15, 0.48),
        ndimage.gaussian_filter(rng.random((height, width)), step / 3) > 0.5,
        1 - np.hypot(rows / height - 0.5, columns / width - 0.5) * rng.uniform(1, 2.5),
    )[kind]
    soft = ndimage.gaussian_filter(np.asarray(picture, float), rng.uniform(0, 4))
    return _clipped(
        rng.uniform(0, 0.3) + rng.uniform(0.5, 0.9) * soft + rng.normal(0, rng.uniform(0, 0.02), soft.shape)
    )


def chest_film(rng: np.random.Generator) -> np.ndarray:
    """Two dark fields with ribs beside a bright middle and a heart; position, contrast and polarity vary."""
    height, width = int(rng.integers(300, 900)), int(rng.integers(300, 900))
    rows, columns = np.mgrid[:height, :width]
    y, x = rows / height, columns / width + rng.uniform(-0.04, 0.04)
    reach = rng.uniform(0.4, 0.55)
    body = ((np.abs(x - 0.5) < 0.18 + 1.2 * y) & (np.abs(x - 0.5) < reach)) * rng.uniform(0.55, 0.8)
    for centre in (rng.uniform(0.25, 0.32), rng.uniform(0.68, 0.75)):
        away = np.hypot((y - rng.uniform(0.4, 0.5)) / rng.uniform(0.28, 0.4), (x - centre) / rng.uniform(0.14, 0.2))
        body = body - rng.uniform(0.3, 0.55) * np.minimum(2 * np.clip(1.4 * (1 - away), 0, 1), 1) * (body > 0)
    heart = np.hypot((y - 0.62) / rng.uniform(0.12, 0.2), (x - 0.55) / rng.uniform(0.1, 0.18)) < 1
    ribs = (np.sin(rng.uniform(30, 60) * (y + 0.25 * np.abs(x - 0.5))) > 0.4) & (np.abs(x - 0.5) > 0.1)
    picture = np.where(heart, np.maximum(body, 0.7), body) + rng.uniform(0.03, 0.1) * ribs * (body > 0)
    picture = picture + rng.uniform(0.05, 0.2) * (np.abs(x - 0.5) < 0.05)
    picture = ndimage.gaussian_filter(picture, rng.uniform(1, 5)) + rng.normal(0, 0.012, picture.shape)
    return _clipped(1 - picture if rng.random() < 0.3 else picture)


def section(rng: np.random.Generator) -> np.ndarray:
    """A slice through a head or a trunk: a bright rim, soft parts and dark holes on black."""
    height, width = int(rng.integers(128, 560)), int(rng.integers(128, 560))
    rows, columns = np.mgrid[:height, :width]
    y, x = rows / height - 0.5, columns / width - 0.5
    away = np.hypot(y / rng.uniform(0.3, 0.48), x / rng.uniform(0.25, 0.48))
    picture = np.where(away < 1, rng.uniform(0.25, 0.6), 0.0)
    picture = np.where((away < 1) & (away > rng.uniform(0.85, 0.96)), rng.uniform(0.6, 1), picture)
    for _ in range(int(rng.integers(2, 9))):
        at = rng.uniform(-0.25, 0.25, 2)
        part = np.hypot((y - at[0]) / rng.uniform(0.03, 0.2), (x - at[1]) / rng.uniform(0.03, 0.2)) < 1
        picture = np.where(part & (away < 0.85), rng.uniform(0, 0.9), picture)
    soft = ndimage.gaussian_filter(picture, rng.uniform(0.5, 2.5))
    return _clipped(soft + rng.normal(0, rng.uniform(0.005, 0.05), soft.shape))


KINDS: Mapping[str, Callable[[np.random.Generator], np.ndarray]] = {
    "noise": noise,
    "documents": document,
    "plots": plot,
    "screenshots": screenshot,
    "test patterns": shapes,
    "made chest films": chest_film,
    "made sections": section,
}


def _clipped(picture: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(picture, 0, 1).astype(np.float32)
    return clipped


def _pixels(page: Raster.Image) -> np.ndarray:
    return np.asarray(page, np.float32) / 255


def _grey_or_colour(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return pixels if rng.random() < 0.5 else np.ascontiguousarray(pixels.mean(axis=-1))
