"""From a picture to what a graph reads: colour and grey become what the model was made for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_cards import made_card

from core.errors import InvalidInput
from core.models.prepared import prepared
from core.types import Image, Modality

PIXELS = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)


def image(pixels: np.ndarray, modality: Modality | None = Modality.ULTRASOUND) -> Image:
    return Image(pixels, "a" * 64, modality)


def test_a_grey_model_reads_the_luma_of_a_colour_picture(tmp_path: Path) -> None:
    """ITU-R BT.601, as the rest of the product makes grey of colour."""
    card = made_card(tmp_path)
    red, green, blue = np.moveaxis(PIXELS, -1, 0)
    (of_colour,) = prepared(card, image(PIXELS)).inputs
    (of_grey,) = prepared(card, image(0.299 * red + 0.587 * green + 0.114 * blue)).inputs
    assert of_colour.shape == of_grey.shape and of_colour == pytest.approx(of_grey, abs=1e-5)
    assert prepared(card, image(np.ones((32, 32, 3), np.float32))).inputs[0].max() == pytest.approx(1, abs=1e-6)


def test_a_colour_model_reads_a_grey_picture_three_times(tmp_path: Path) -> None:
    card = made_card(tmp_path, input={"side": 32, "channels": 3})
    (read,) = prepared(card, image(PIXELS[..., 0])).inputs
    assert read.shape[-1] == 3 and (read[..., 0] == read[..., 1]).all() and (read[..., 0] == read[..., 2]).all()


def test_a_picture_of_another_kind_is_not_read_and_one_of_an_unknown_kind_is(tmp_path: Path) -> None:
    card = made_card(tmp_path)
    assert prepared(card, image(PIXELS, None)).inputs
    with pytest.raises(InvalidInput, match="this one is mammography"):
        prepared(card, image(PIXELS, Modality.MAMMOGRAPHY))
