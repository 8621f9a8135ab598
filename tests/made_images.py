"""Pictures and DICOM files made in code, for the tests of the intake. Nothing here shows anyone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image as Raster
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

MG = "1.2.840.10008.5.1.4.1.1.1.2"
US = "1.2.840.10008.5.1.4.1.1.6.1"


def mammogram(height: int = 320, width: int = 240, seed: int = 0) -> np.ndarray:
    """A left CC phantom, float32 in [0, 1]: half an ellipse of cloudy tissue at the left edge, black elsewhere."""
    rows, columns = np.mgrid[:height, :width]
    depth = 1 - np.hypot((rows - height / 2) / (0.42 * height), columns / (0.62 * width))
    clouds = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 5)
    tissue = 0.45 + 0.25 * np.clip(depth, 0, 1) + 1.2 * clouds
    return np.where(depth > 0, np.clip(tissue * np.clip(8 * depth, 0, 1), 0, 1), 0).astype(np.float32)


def ultrasound(height: int = 300, width: int = 400, seed: int = 0) -> np.ndarray:
    """A linear-array phantom, float32 in [0, 1]: speckled layers that darken with depth, one dark lesion."""
    rng = np.random.default_rng(seed)
    layers = ndimage.gaussian_filter1d(rng.normal(size=(height, 1)), 4, axis=0)
    layers = 0.5 + 1.1 * layers + 2.5 * ndimage.gaussian_filter(rng.normal(size=(height, width)), (3, 14))
    rows, columns = np.mgrid[:height, :width]
    fade = np.linspace(1, 0.3, height)[:, None]
    lesion = np.hypot((rows - 0.4 * height) / 30, (columns - 0.5 * width) / 45) < 1
    speckle = ndimage.gaussian_filter(rng.rayleigh(0.8, (height, width)), (0.7, 1.4))
    return np.clip(0.5 * np.clip(layers, 0.1, 1.5) * fade * speckle * np.where(lesion, 0.25, 1), 0, 1).astype(
        np.float32
    )


def tissue(side: int = 64, seed: int = 0) -> np.ndarray:
    """A stained-tissue phantom, float32 (side, side, 3): violet nuclei on pink."""
    rng = np.random.default_rng(seed)
    nuclei = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1.5) > 0.12
    colour = np.where(nuclei[..., None], (0.45, 0.25, 0.6), (0.88, 0.62, 0.78))
    return np.clip(colour + rng.normal(0, 0.03, colour.shape), 0, 1).astype(np.float32)


def chest_film(height: int = 512, width: int = 480, seed: int = 0) -> np.ndarray:
    """A chest-film phantom, float32: two dark lungs with ribs beside a bright spine and heart, dark beside the neck."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    y, x = rows / height, columns / width
    body = ((np.abs(x - 0.5) < 0.18 + 1.2 * y) & (np.abs(x - 0.5) < 0.46)).astype(float) * 0.72
    for centre in (0.29, 0.71):
        lung = np.clip(1.4 * (1 - np.hypot((y - 0.45) / 0.34, (x - centre) / 0.16)), 0, 1)
        body -= 0.5 * np.minimum(2 * lung, 1) * (body > 0)
    heart = np.hypot((y - 0.62) / 0.16, (x - 0.55) / 0.13) < 1
    ribs = 0.06 * (np.sin(45 * (y + 0.25 * np.abs(x - 0.5))) > 0.4) * (np.abs(x - 0.5) > 0.1)
    picture = np.where(heart, np.maximum(body, 0.7), body) + ribs * (body > 0) + 0.12 * (np.abs(x - 0.5) < 0.05)
    picture = ndimage.gaussian_filter(picture, 3) + rng.normal(0, 0.012, picture.shape)
    return np.clip(picture, 0, 1).astype(np.float32)


def photograph(height: int = 360, width: int = 540, seed: int = 0) -> np.ndarray:
    """A landscape, float32 RGB: sky, hills, a house with hard edges."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    picture = np.empty((height, width, 3))
    picture[:] = np.stack([0.45 + 0.3 * rows / height, 0.65 + 0.2 * rows / height, np.full(rows.shape, 0.95)], -1)
    hills = rows > 0.55 * height + 30 * np.sin(columns / 70)
    picture[hills] = (0.25, 0.5, 0.15)
    picture[int(0.45 * height) : int(0.75 * height), int(0.3 * width) : int(0.5 * width)] = (0.7, 0.25, 0.15)
    return np.clip(picture + rng.normal(0, 0.02, picture.shape), 0, 1).astype(np.float32)


def blots(
    n: int = 60, *, labels: tuple[str, str] = ("malignant", "benign"), bright: int = 240, dark: int = 10
) -> Iterator[tuple[str, np.ndarray]]:
    """`n` grey pictures, uint8 (48, 64), of each label by turns; the blot is bright in the "malignant", else dark."""
    rng = np.random.default_rng(0)
    for number in range(n):
        label = labels[number % 2]
        pixels = rng.normal(90, 12, (48, 64)).clip(0, 255)
        row, column = rng.integers(6, 34), rng.integers(6, 50)
        pixels[row : row + 9, column : column + 9] = bright if label == "malignant" else dark
        yield label, pixels.astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", bits: int = 8, **options: Any) -> bytes:
    """Float pixels in [0, 1] as a file; `bits` > 8 gives a 16-bit grey PNG or TIFF that holds that many bits."""
    top = (1 << bits) - 1
    values = np.round(pixels * top).astype(np.uint8 if bits == 8 else np.uint16)
    out = io.BytesIO()
    Raster.fromarray(values).save(out, kind, **options)
    return out.getvalue()


def dicom(
    stored: np.ndarray,
    *,
    syntax: str = ExplicitVRLittleEndian,
    frames: list[bytes] | None = None,
    bits: int = 12,
    preamble: bytes = b"\0" * 128,
    **tags: Any,
) -> bytes:
    """A DICOM file: an R MLO mammogram of `stored` (H, W), (H, W, 3) or (N, H, W, ...) unless `tags` say otherwise.

    frames: encoded frames for a compressed `syntax`. A tag given as None is left out.
    """
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = tags.pop("SOPClassUID", MG)
    data.SOPInstanceUID = generate_uid()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.PatientName, data.PatientID = "SECRET^NAME", "SECRET-ID-1"
    data.Modality, data.ImageLaterality, data.ViewPosition = "MG", "R", "MLO"
    data.BodyPartExamined, data.PresentationIntentType = "BREAST", "FOR PRESENTATION"
    samples = 3 if stored.shape[-1] == 3 else 1
    shape = stored.shape[-3:-1] if samples == 3 else stored.shape[-2:]
    data.Rows, data.Columns = shape
    data.SamplesPerPixel, data.PhotometricInterpretation = samples, "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * stored.dtype.itemsize
    data.BitsStored = min(bits, data.BitsAllocated)
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    is_big = syntax == "1.2.840.10008.1.2.2"
    if frames is not None:
        data.PixelData = encapsulate(frames)
        data["PixelData"].is_undefined_length = True
    else:
        data.PixelData = stored.astype(stored.dtype.newbyteorder(">" if is_big else "<")).tobytes()
    data["PixelData"].VR = "OB" if frames is not None or data.BitsAllocated == 8 else "OW"
    for keyword, value in tags.items():
        if value is None:
            del data[keyword]
        else:
            setattr(data, keyword, value)
    data.preamble = preamble
    out = io.BytesIO()
    data.save_as(out, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=not is_big, enforce_file_format=True)
    return out.getvalue()


def stored_mammogram(bits: int = 12, **options: Any) -> np.ndarray:
    """`mammogram` as whole numbers of `bits` bits."""
    return np.round(mammogram(**options) * ((1 << bits) - 1)).astype(np.uint16 if bits > 8 else np.uint8)


def breast(seed: int) -> np.ndarray:
    """(160, 120) of a dark background and a bright half oval with structure, in [0, 1]: no two seeds are alike."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:160, 0:120]
    edge = 70 + rng.integers(-15, 15) + 8 * np.sin(rows / (9 + rng.integers(0, 9)))
    structure = ndimage.gaussian_filter(rng.normal(size=(160, 120)), 6) * 3 + ndimage.gaussian_filter(
        rng.normal(size=(160, 120)), 2
    )
    inside = ((rows - 80 - rng.integers(-20, 20)) / 75) ** 2 + (columns / edge) ** 2 < 1
    return np.clip(inside * (0.5 + 0.25 * structure), 0, 1).astype(np.float32)
