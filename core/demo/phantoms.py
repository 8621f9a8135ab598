"""Pictures that look enough like breast images to show the product with, made from noise and labelled SYNTHETIC.

They resemble no person; nothing about a model's quality follows from what it says of them.
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image as Raster
from PIL import ImageDraw, ImageFont
from scipy import ndimage
from scipy.special import expit

from core.types import Image, Modality

LABEL = "SYNTHETIC"
NOTE = "made in code; not a picture of anyone"


def mammogram_exam(seed: int = 0) -> tuple[Image, ...]:
    """Four views, R CC, L CC, R MLO, L MLO, each float32 (1024, 800), with one mass in the left breast."""
    return tuple(
        _image(
            _mammogram(laterality, view, has_mass=laterality == "L", seed=seed + number),
            Modality.MAMMOGRAPHY,
            laterality=laterality,
            view=view,
            spacing_mm=(0.2, 0.2),
            position=(30, 30) if laterality == "R" else (30, 620),
        )
        for number, (laterality, view) in enumerate((("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO")))
    )


def ultrasound_image(seed: int = 0, *, is_irregular: bool = True) -> Image:
    """One B-mode picture (420, 560): layers of tissue in speckle and a dark mass with a shadow below."""
    rng = np.random.default_rng(seed)
    height, width = 420, 560
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    depth = rows / height
    layers = 0.42 + 0.16 * np.sin(12 * depth + 0.6 * np.sin(columns / 90)) - 0.18 * depth
    layers[:14] = 0.75
    angle = np.arctan2(rows - 190, columns - 285)
    wobble = 1 + (0.16 * np.sin(5 * angle + 1) + 0.1 * np.sin(9 * angle) if is_irregular else 0.02 * np.sin(3 * angle))
    distance = np.hypot((rows - 190) / 62, (columns - 285) / 88) / wobble
    mass = expit((1 - distance) * 18)
    echo = layers * (1 - 0.82 * mass)
    shadow = (np.abs(columns - 285) < 62) & (rows > 235) if is_irregular else np.zeros_like(echo, bool)
    echo = np.where(ndimage.gaussian_filter(shadow.astype(np.float32), 9) > 0.5, echo * 0.6, echo)
    speckle = ndimage.gaussian_filter(rng.rayleigh(1, (height, width)), (0.7, 1.6)) / 1.25
    pixels = np.clip(echo * speckle, 0, 1)
    return _image(pixels, Modality.ULTRASOUND, position=(10, 10))


def histology_tile(seed: int = 0) -> Image:
    """One RGB tile (384, 384, 3) in the colours of haematoxylin and eosin: stroma, and crowded dark nuclei."""
    rng = np.random.default_rng(seed)
    side = 384
    fibre = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), (2, 9))
    fibre = (fibre - fibre.min()) / np.ptp(fibre)
    pixels = np.stack([0.93 - 0.1 * fibre, 0.70 - 0.22 * fibre, 0.83 - 0.12 * fibre], axis=2)
    rows, columns = np.mgrid[:side, :side]
    for _ in range(260):
        row, column = rng.integers(0, side, 2)
        tall, wide = rng.uniform(4, 8, 2)
        nucleus = ((rows - row) / tall) ** 2 + ((columns - column) / wide) ** 2 < 1
        pixels[nucleus] = np.array([0.38, 0.24, 0.55]) + rng.normal(0, 0.03)
    pixels = ndimage.gaussian_filter(np.clip(pixels, 0, 1), (0.8, 0.8, 0))
    return _image(pixels, Modality.HISTOLOGY, position=(8, 8))


def _mammogram(laterality: str, view: str, *, has_mass: bool, seed: int) -> np.ndarray:
    """A left breast with its chest wall at column 0; a right one is its mirror image."""
    rng = np.random.default_rng(seed)
    height, width = 1024, 800
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    centre = 512 if view == "CC" else 590
    reach = 520.0
    distance = np.hypot((rows - centre) / (390 if view == "CC" else 400), columns / reach)
    breast = expit((1 - distance) * 60)
    texture = np.zeros((height, width), np.float32)
    for scale, weight in ((60, 1.0), (28, 0.8), (12, 0.6), (5, 0.35), (2, 0.15)):
        layer = ndimage.gaussian_filter(rng.normal(0, 1, (height // 2, width // 2)), scale / 2)
        texture += weight * ndimage.zoom((layer / layer.std()).astype(np.float32), 2, order=1)
    gland = np.exp(-(((rows - centre) / 260) ** 2) - ((columns - 230) / 190) ** 2)
    tissue = 0.24 + 0.26 * gland * (1 + 0.45 * np.tanh(texture)) + 0.035 * texture
    tissue *= 1 - 0.35 * np.clip(distance, 0, 1) ** 4
    if view == "MLO":
        muscle = expit((300 - 0.62 * rows - columns) / 8)
        tissue = tissue * (1 - muscle) + (0.62 + 0.03 * texture) * muscle
        breast = np.maximum(breast, muscle * (rows < 480))
    if has_mass:
        row, column = (centre - 90, 300) if view == "CC" else (centre - 20, 310)
        angle = np.arctan2(rows - row, columns - column)
        edge = 34 * (1 + 0.14 * np.sin(11 * angle) + 0.08 * np.sin(17 * angle + 2))
        tissue += 0.26 * expit((edge - np.hypot(rows - row, columns - column)) / 4)
    pixels = np.clip(breast * tissue * 1.25 + rng.normal(0, 0.006, (height, width)) * breast, 0, 1)
    return pixels[:, ::-1] if laterality == "R" else pixels


def _image(pixels: np.ndarray, modality: Modality, *, position: tuple[int, int], **fields: object) -> Image:
    labelled = _with_label(np.clip(pixels, 0, 1).astype(np.float32), position)
    return Image(
        labelled,
        hashlib.sha256(labelled.tobytes()).hexdigest(),
        modality,
        "argument",
        notes=(NOTE,),
        warnings=(f"{LABEL}: {NOTE}.",),
        **fields,  # type: ignore[arg-type]
    )


def _with_label(pixels: np.ndarray, position: tuple[int, int]) -> np.ndarray:
    """The word SYNTHETIC burnt into the picture at (row, column)."""
    canvas = Raster.new("L", (pixels.shape[1], pixels.shape[0]))
    size = max(14, pixels.shape[1] // 28)
    draw = ImageDraw.Draw(canvas)
    draw.text((position[1], position[0]), LABEL, fill=255, font=ImageFont.load_default(size))
    ink = np.asarray(canvas, np.float32) / 255
    value = 0.0 if pixels.ndim == 3 else 0.85
    alpha = ink[..., None] if pixels.ndim == 3 else ink
    return (pixels * (1 - alpha) + value * alpha).astype(np.float32)
