"""What a measured millimetre stands on is said as the file has it."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging.spacing import spacing_statement
from core.types import Image, Modality


@pytest.mark.parametrize(
    ("spacing", "tags", "expected"),
    [
        (None, {}, "distances are in pixels"),
        (None, {"ImagerPixelSpacing": "0.07\\0.07"}, "distances are in pixels"),
        ((0.07, 0.07), {"ImagerPixelSpacing": "0.07\\0.07"}, "at the detector"),
        ((0.07, 0.07), {"ImagerPixelSpacing": "0.07\\0.07", "PixelSpacing": "0.07\\0.07"}, "at the detector"),
        ((0.05, 0.05), {"ImagerPixelSpacing": "0.1\\0.1"}, "magnification of 2"),
        ((0.05, 0.05), {"ImagerPixelSpacing": "0.1\\0.1", "PixelSpacing": "0.05\\0.05"}, "file's PixelSpacing"),
        ((0.2, 0.1), {"PixelSpacing": "0.2\\0.1"}, "file's PixelSpacing"),
        ((0.2, 0.1), {"PixelSpacing": "broken"}, "spacing that the file states"),
    ],
)
def test_the_sentence_names_the_spacing(
    spacing: tuple[float, float] | None, tags: dict[str, str], expected: str
) -> None:
    image = Image(np.zeros((4, 4), np.float32), "0" * 64, Modality.MAMMOGRAPHY, spacing_mm=spacing, tags=tags)
    assert expected in spacing_statement(image)


def test_ultrasound_without_pixel_spacing_stands_on_its_calibrated_region() -> None:
    image = Image(np.zeros((4, 4), np.float32), "0" * 64, Modality.ULTRASOUND, spacing_mm=(0.1, 0.1))
    assert "calibrated region" in spacing_statement(image)
