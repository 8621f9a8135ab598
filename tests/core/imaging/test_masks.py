"""Masks as programs write them: black and white, smoothed, label images, palettes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Raster

from core.imaging.masks import lesion_grey

LESION = np.zeros((8, 8), np.uint8)
LESION[2:5, 3:6] = 1
COLOURS = [0, 0, 0, 128, 0, 0]  # the ground, then dark red, as VOC has it


def palette(numbers: np.ndarray, colours: list[int]) -> Raster.Image:
    raster = Raster.fromarray(numbers)
    raster.putpalette(colours)
    return raster


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(Raster.fromarray(LESION * 255), id="0 and 255"),
        pytest.param(Raster.fromarray(LESION > 0), id="1 bit"),
        pytest.param(Raster.fromarray(LESION), id="0 and 1"),
        pytest.param(Raster.fromarray(LESION * 2), id="the second class"),
        pytest.param(Raster.fromarray(LESION.astype(np.uint16)), id="0 and 1 in 16 bits"),
        pytest.param(Raster.fromarray(LESION[..., None] * np.array([255, 0, 0], np.uint8)), id="red"),
        pytest.param(palette(LESION, COLOURS), id="palette of colours"),
        pytest.param(palette(LESION, [0, 0, 0, 192, 192, 64]), id="palette of bright colours"),
        pytest.param(palette(LESION, [0] * 6), id="palette of black"),
        pytest.param(palette(LESION, [0, 0, 0, 255, 255, 255]), id="palette of black and white"),
        pytest.param(palette(1 - LESION, [255, 255, 255, 0, 0, 0]), id="palette of white and black"),
    ],
)
def test_a_mask_is_the_same_lesion_however_it_is_written(mask: Raster.Image) -> None:
    assert mask.mode != "P" or mask.getpalette()
    assert np.array_equal(np.asarray(lesion_grey(mask)), LESION * 255)


def test_two_lesions_of_a_label_image_are_both_there() -> None:
    numbers = LESION.copy()
    numbers[7, 7] = 15
    for mask in (Raster.fromarray(numbers), palette(numbers, [*COLOURS, *[0] * 39, 192, 128, 128])):
        assert np.array_equal(np.asarray(lesion_grey(mask)) > 127, numbers > 0)


def test_a_smoothed_mask_keeps_its_grey_and_an_empty_one_has_no_lesion() -> None:
    smoothed = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (4, 1))
    assert np.array_equal(np.asarray(lesion_grey(Raster.fromarray(smoothed))), smoothed)
    assert np.array_equal(np.asarray(lesion_grey(Raster.fromarray(smoothed).convert("P"))), smoothed)
    assert not np.asarray(lesion_grey(Raster.fromarray(smoothed * 0))).any()
