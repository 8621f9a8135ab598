"""Files with bytes changed, cut and added: a decoder gives a picture or a sentence, and never another exception.

The seed is fixed, so a run means the same everywhere; `make fuzz` makes longer ones. Here C libraries decode, too.
"""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from made_frames import (
    BASELINE,
    JPEG_2000,
    JPEG_LS,
    LOSSLESS,
    RLE,
    jpeg_2000_frame,
    jpeg_frame,
    jpeg_ls_frame,
    lossless_frame,
    rle_frame,
)
from made_hostile_files import mutated
from made_images import US, dicom, encoded, mammogram, stored_mammogram, tissue, ultrasound

from core.errors import UnreadableImage
from core.imaging.decoded import Limits
from core.imaging.picture import decode_here
from core.imaging.sniff import HEAD_BYTES, READ, kind_of
from core.settings import Settings

RUNS = 60
LIMITS = Limits.of(Settings())
STORED = stored_mammogram(height=90, width=70)
ULTRASOUND = (ultrasound(70, 90) * 255).astype(np.uint8)
OF_US = {"SOPClassUID": US, "Modality": "US", "bits": 8}
FILES = {
    "native": dicom(STORED, WindowCenter=2048, WindowWidth=4096, PixelSpacing=[0.1, 0.1]),
    "implicit": dicom(STORED, syntax="1.2.840.10008.1.2"),
    "big endian": dicom(STORED, syntax="1.2.840.10008.1.2.2"),
    "signed": dicom(STORED.astype(np.int16), PixelPaddingValue=-3, RescaleSlope=2),
    "RLE": dicom(STORED, syntax=RLE, frames=[rle_frame(STORED)]),
    "JPEG-LS": dicom(STORED, syntax=JPEG_LS, frames=[jpeg_ls_frame(STORED)]),
    "JPEG 2000": dicom(STORED, syntax=JPEG_2000, frames=[jpeg_2000_frame(STORED)]),
    "JPEG lossless": dicom(STORED, syntax=LOSSLESS, frames=[lossless_frame(STORED)]),
    "JPEG": dicom(ULTRASOUND, syntax=BASELINE, frames=[jpeg_frame(ULTRASOUND)] * 2, NumberOfFrames=2, **OF_US),
    "PNG": encoded(mammogram(90, 70), bits=12),
    "TIFF": encoded(mammogram(90, 70), "TIFF", 16),
    "JPEG file": encoded(tissue(), "JPEG"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_mutated_file_gives_a_picture_or_a_sentence(name: str) -> None:
    chance = random.Random(name)
    n_read = n_refused = 0
    for _ in range(RUNS):
        data = mutated(FILES[name], chance)
        kind = kind_of(data[:HEAD_BYTES])
        if kind not in READ or kind == "ZIP":
            continue
        try:
            pixels = decode_here(io.BytesIO(data), kind, limits=LIMITS).pixels
        except UnreadableImage as refused:
            assert str(refused).endswith(".") and "SECRET" not in str(refused)
            n_refused += 1
            continue
        assert pixels.dtype == np.float32 and np.isfinite(pixels).all() and 0 <= pixels.min() <= pixels.max() <= 1
        n_read += 1
    assert n_read and n_refused
