"""Frames in every codec that is read, made in code: grey or colour, as any library might have written them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image as Raster

BASELINE = "1.2.840.10008.1.2.4.50"
LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
RLE = "1.2.840.10008.1.2.5"
EXPLICIT = "1.2.840.10008.1.2.1"


def to_ycbcr(rgb: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) RGB as full-range YCbCr (ITU-T T.871)."""
    return np.asarray(Raster.fromarray(rgb).convert("YCbCr"))


def rle_frame(values: np.ndarray) -> bytes:
    """values: (H, W) or (H, W, 3), uint8 or uint16."""
    from pydicom.pixels.encoders.base import EncodeRunner
    from pydicom.pixels.encoders.native import _encode_frame  # the one RLE encoder at hand

    runner = EncodeRunner("1.2.840.10008.1.2.5")
    runner.set_source(values)
    samples = 3 if values.ndim == 3 else 1
    options = {
        "rows": values.shape[0], "columns": values.shape[1], "samples_per_pixel": samples, "number_of_frames": 1,
        "bits_allocated": 8 * values.dtype.itemsize, "bits_stored": 8 * values.dtype.itemsize,
        "pixel_representation": 0, "photometric_interpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "planar_configuration": 0,
    }  # fmt: skip
    for name, value in options.items():
        runner.set_option(name, value)
    return bytes(_encode_frame(values.tobytes(), runner))


def jpeg_frame(values: np.ndarray, quality: int = 95, *, jfif: bool = True, subsampling: int = 0) -> bytes:
    """Pillow's JPEG: colour as YCbCr with a JFIF marker, which `jfif` False takes away.

    subsampling: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0.
    """
    out = io.BytesIO()
    options: dict[str, Any] = {"subsampling": subsampling} if values.ndim == 3 else {}
    Raster.fromarray(values).save(out, "JPEG", quality=quality, **options)
    data = out.getvalue()
    if not jfif:
        assert data[2:4] == b"\xff\xe0"
        data = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]
    return data


def raw_jpeg_frame(components: np.ndarray, quality: int = 95, *, adobe: bool = False) -> bytes:
    """A JPEG of three components as they are, uint8 (H, W, 3): no transform, and only where `adobe`, a word on it."""
    out = io.BytesIO()
    Raster.fromarray(components).save(out, "JPEG", quality=quality, subsampling=0, keep_rgb=True)
    data = out.getvalue()
    at = data.index(b"\xff\xee")
    length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if adobe:
        return data
    data = bytearray(data[:at] + data[at + length :])
    for marker in (b"\xff\xc0", b"\xff\xda"):  # components named 1, 2, 3 say nothing; Pillow names them R, G, B
        start = data.index(marker) + (10 if marker == b"\xff\xc0" else 5)
        for number in range(3):
            data[start + number * (3 if marker == b"\xff\xc0" else 2)] = number + 1
    return bytes(data)


def jpeg_ls_frame(values: np.ndarray) -> bytes:
    import jpeg_ls

    return bytes(jpeg_ls.encode(values))


def jpeg_2000_frame(values: np.ndarray, *, mct: bool = False) -> bytes:
    from openjpeg.utils import encode_array

    photometric = 1 if values.ndim == 3 else 2
    return bytes(encode_array(values, photometric_interpretation=photometric, use_mct=mct, codec_format=0))


def lossless_frame(values: np.ndarray) -> bytes:
    """JPEG lossless, first-order prediction (ITU T.81 H.1): (H, W) or (H, W, 3), uint8 or uint16, all bits of it.

    Every category of difference has a code of five bits; that is long, and enough for a test.
    """
    samples = np.atleast_3d(values).astype(np.int64)
    height, width, n = samples.shape
    bits = 8 * values.dtype.itemsize
    predicted = np.empty_like(samples)
    predicted[:, 1:] = samples[:, :-1]
    predicted[1:, 0] = samples[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    differences = ((samples - predicted + 32768) & 0xFFFF) - 32768
    words = []
    for difference in differences.ravel().tolist():
        category = abs(difference).bit_length()
        words.append(f"{category:05b}")
        if 0 < category < 16:
            words.append(f"{difference if difference > 0 else difference + (1 << category) - 1:0{category}b}")
    text = "".join(words)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    parts = b"".join(bytes([number + 1, 0x11, 0]) for number in range(n))
    frame = struct.pack(">BHHB", bits, height, width, n) + parts
    huffman = bytes([0, *(17 if length == 5 else 0 for length in range(1, 17)), *range(17)])
    scan = bytes([n, *(value for number in range(n) for value in (number + 1, 0)), 1, 0, 0])
    segments = [(0xC3, frame), (0xC4, huffman), (0xDA, scan)]
    heads = [struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments]
    return b"".join([b"\xff\xd8", *heads, data, b"\xff\xd9"])
