"""What is painted over a picture, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging.overlay import HUE, LOW_CUT, paint, to_uint8

GREY = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)


def test_the_full_window_changes_nothing() -> None:
    assert np.array_equal(to_uint8(GREY), np.arange(256, dtype=np.uint8).reshape(16, 16))


def test_a_narrow_window_clips_both_ends_and_keeps_the_middle() -> None:
    shown = to_uint8(GREY, 0.5, 0.5)
    assert (shown[GREY < 0.25] == 0).all() and (shown[GREY > 0.75] == 255).all()
    assert abs(int(shown.ravel()[128]) - 128) <= 1


def test_invert_turns_black_to_white() -> None:
    assert np.array_equal(to_uint8(GREY, invert=True), 255 - to_uint8(GREY))


def test_colour_is_windowed_too() -> None:
    assert to_uint8(np.zeros((4, 5, 3), np.float32)).shape == (4, 5, 3)


def test_low_attention_leaves_the_picture_as_it_is() -> None:
    heat = np.full(GREY.shape, LOW_CUT, np.float32)
    assert np.array_equal(paint(GREY, heat, 1.0), np.repeat(to_uint8(GREY)[..., None], 3, axis=2))


def test_full_attention_at_full_opacity_is_the_one_hue() -> None:
    assert (paint(GREY, np.ones_like(GREY), 1.0) == HUE).all()


def test_opacity_nought_is_the_bare_picture() -> None:
    assert np.array_equal(paint(GREY, np.ones_like(GREY), 0.0)[..., 0], to_uint8(GREY))


def test_more_attention_is_more_hue() -> None:
    heat = np.linspace(0, 1, 11, dtype=np.float32)[None]
    red = paint(np.zeros((1, 11), np.float32), heat, 0.5)[0, :, 0].astype(int)
    assert (np.diff(red) >= 0).all() and red[0] == 0 and red[-1] == round(HUE[0] / 2)


def test_tissue_in_colour_is_painted_as_well() -> None:
    assert paint(np.ones((8, 8, 3), np.float32), np.ones((8, 8)), 1.0)[0, 0].tolist() == list(HUE)


def test_a_map_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="shape"):
        paint(GREY, np.ones((4, 4)), 0.5)
