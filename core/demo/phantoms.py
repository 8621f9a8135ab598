"""Pictures that look enough like breast images to show the product with, made from noise and labelled SYNTHETIC.

They resemble no person; nothing about a model's quality follows from what it says of them.
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image as Raster
from PIL import ImageDraw, ImageFont
from scipy import ndimage
from scipy.interpolate import PchipInterpolator
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
    """One B-mode picture (420, 560): skin, fat, gland, muscle, and a dark mass with a shadow below, all in speckle."""
    rng = np.random.default_rng(seed)
    height, width = 420, 560
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    surface = rows + 9 * _fractal(rng, (height, width), slope=2.2)  # tissue borders undulate
    decibel = np.full((height, width), -26.0, np.float32)  # fat under the skin
    for depth, level in (
        (12, -27),
        (105, -13),
        (268, -25),
        (300, -19),
        (372, -38),
    ):  # skin ends, gland, fat, muscle, rib
        decibel += (level - decibel) * expit((surface - depth) / 2.5)
    decibel = np.where(rows < 10, -5, decibel)
    septa = np.abs(_fractal(rng, (height, width), slope=1.7, stretch=2.5))
    decibel += 13 * np.exp(-((septa / 0.06) ** 2)) * expit((rows - 24) / 4) * expit((300 - rows) / 8)
    decibel += 9 * np.exp(-(((surface - 300) / 2.5) ** 2)) + 24 * np.exp(-(((surface - 372) / 4) ** 2))
    angle = np.arctan2((rows - 182) / 58, (columns - 285) / 82)
    lobes = 0.10 * np.sin(3 * angle + 1) + 0.06 * np.sin(7 * angle) + 0.07 * _fractal(rng, (height, width), slope=1.6)
    inside = (1 + (lobes if is_irregular else 0)) - np.hypot((rows - 182) / 58, (columns - 285) / 82)
    mass = expit(inside * 22)
    decibel += (-37 - decibel) * mass
    if is_irregular:
        behind = ndimage.gaussian_filter(np.cumsum(mass, axis=0) / 110, (6, 12)) * (1 - mass)
        decibel -= 15 * behind
    decibel -= 0.018 * rows  # what the time gain did not make up for
    waves = rng.normal(size=(2, height, width))
    field = np.hypot(*(ndimage.gaussian_filter(wave, (0.7, 1.5)) for wave in waves))
    field = ndimage.gaussian_filter(field / np.sqrt(np.mean(field**2)), 0.6)
    pixels = np.clip(1 + (decibel + 20 * np.log10(field + 1e-3)) / 48, 0, 1)
    return _image(pixels, Modality.ULTRASOUND, position=(14, 10))


def histology_tile(seed: int = 0) -> Image:
    """One RGB tile (384, 384, 3) in the colours of haematoxylin and eosin: stroma, and nests of crowded nuclei."""
    rng = np.random.default_rng(seed)
    side = 384
    fibre = expit(2 * _fractal(rng, (side, side), slope=1.5, stretch=4))
    nests = expit(9 * (_fractal(rng, (side, side), slope=1.9) - 0.2))  # where the epithelium is
    stroma = np.stack([0.95 - 0.08 * fibre, 0.74 - 0.24 * fibre, 0.86 - 0.12 * fibre], axis=2)
    pixels = stroma + (np.array([0.80, 0.60, 0.80]) - stroma) * nests[..., None]
    pixels += 0.03 * _fractal(rng, (side, side), slope=0.6)[..., None]
    rows, columns = np.mgrid[-16:16, -16:16]
    for row, column in rng.integers(0, side - 32, (800, 2)) + 16:
        is_epithelial = nests[row, column] > 0.5
        if not is_epithelial and rng.random() < 0.85:
            continue
        tall, wide = rng.uniform(4, 7, 2) if is_epithelial else (rng.uniform(1.6, 2.6), rng.uniform(6, 10))
        tilt = rng.uniform(0, np.pi) if is_epithelial else rng.normal(0, 0.3)
        down = rows * np.cos(tilt) - columns * np.sin(tilt)
        right = rows * np.sin(tilt) + columns * np.cos(tilt)
        nucleus = expit(5 * (1 - np.hypot(down / tall, right / wide)))[..., None]
        around = pixels[row - 16 : row + 16, column - 16 : column + 16]
        around += (np.array([0.40, 0.25, 0.56]) + rng.normal(0, 0.04) - around) * nucleus
    pixels = ndimage.gaussian_filter(np.clip(pixels, 0, 1), (0.7, 0.7, 0))
    return _image(pixels, Modality.HISTOLOGY, position=(8, 8))


_OUTLINES = {  # rows of 1024 and how far the skin reaches there, in columns, with the chest wall at column 0
    "CC": ((70, 90, 150, 260, 400, 520, 650, 780, 880, 930, 950), (0, 105, 260, 430, 530, 552, 520, 410, 240, 95, 0)),
    "MLO": (
        (-60, 100, 250, 400, 560, 660, 760, 850, 915, 950, 985),
        (290, 350, 430, 520, 580, 575, 505, 370, 210, 110, 0),
    ),
}
_NIPPLES = {"CC": (520, 552), "MLO": (590, 582)}
_MASSES = {"CC": (422, 300), "MLO": (520, 330)}


def _mammogram(laterality: str, view: str, *, has_mass: bool, seed: int) -> np.ndarray:
    """A left breast with its chest wall at column 0; a right one is its mirror image."""
    rng = np.random.default_rng(seed)
    height, width = 1024, 800
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    reach = PchipInterpolator(*_OUTLINES[view], extrapolate=False)(np.arange(height))
    inside = columns < np.nan_to_num(reach)[:, None]
    # Distance to the skin only: the breast goes on beyond the picture's own edges.
    depth = ndimage.distance_transform_edt(np.pad(inside, ((0, 0), (64, 0)), mode="edge"))[:, 64:].astype(np.float32)
    thickness = 1 - np.exp(-depth / 34)
    texture = _fractal(rng, (height, width), slope=1.5)
    row, column = _NIPPLES[view]
    away = np.hypot(rows - row, columns - column)
    cone = expit((330 - away) / 60) * expit((depth - 55) / 16)
    gland = cone * expit(1.6 * texture + 0.35)
    strands = _strands(rng, np.arctan2(rows - row, column - columns), away)
    tissue = 0.25 + 0.30 * gland + 0.035 * texture + 0.022 * strands * expit((depth - 14) / 6)
    if view == "MLO":
        muscle = expit((300 - 0.52 * rows - 9e-5 * rows**2 - columns) / 7)
        tissue += (0.58 + 0.02 * texture + 0.006 * strands - tissue) * muscle
    if has_mass:
        row, column = _MASSES[view]
        tissue[row - 128 : row + 128, column - 128 : column + 128] += _mass(rng)
    skin = 0.10 * np.exp(-(((depth - 5) / 3) ** 2))
    pixels = np.where(inside, thickness * tissue + skin, 0) * 1.2
    pixels = ndimage.gaussian_filter(pixels, 0.8) + rng.normal(0, 0.008, (height, width)) * inside
    pixels = np.clip(pixels, 0, 1)
    turned: np.ndarray = pixels[:, ::-1] if laterality == "R" else pixels
    return turned


def _mass(rng: np.random.Generator) -> np.ndarray:
    """What an irregular, spiculated mass adds to the tissue around it: (256, 256), the mass in the middle."""
    down, right = np.mgrid[-128:128, -128:128].astype(np.float32)
    ragged = np.hypot(down, right) + 6 * _fractal(rng, down.shape, slope=1.6)
    added: np.ndarray = 0.20 * expit((36 - ragged) / 5)
    for direction in np.arange(19) / 19 * 2 * np.pi + rng.uniform(-0.14, 0.14, 19):
        along = down * np.sin(direction) + right * np.cos(direction)
        across = down * np.cos(direction) - right * np.sin(direction) + 0.003 * along**2 * rng.normal()
        faded = expit((rng.uniform(48, 76) - along) / 8) * expit((along - 24) / 3)
        added += rng.uniform(0.03, 0.07) * np.exp(-((across / 1.7) ** 2)) * faded
    return added


def _strands(rng: np.random.Generator, angle: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Fine lines that run towards the nipple, mean 0, deviation about 1."""
    noise = ndimage.gaussian_filter(rng.normal(size=(720, 200)), (1.1, 9))
    ridges = ndimage.map_coordinates(
        noise / noise.std(), [(angle / (2 * np.pi) + 0.5) * 719, np.clip(away / 5, 0, 199)], order=1
    )
    folded: np.ndarray = np.maximum(ridges, 0) * 1.7 - 0.7
    return folded


def _fractal(rng: np.random.Generator, shape: tuple[int, ...], *, slope: float, stretch: float = 1.0) -> np.ndarray:
    """Noise whose amplitude falls with frequency to the power `slope`, mean 0, deviation 1.

    A mammogram's own texture has a slope near 1.5 (Burgess, Medical Physics 2001). stretch > 1 draws it out sideways.
    """
    down, right = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :] * stretch
    frequency = np.hypot(down, right)
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) / frequency**slope, shape)
    scaled: np.ndarray = (noise / noise.std()).astype(np.float32)
    return scaled


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
