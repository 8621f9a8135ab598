"""The square a model reads, and the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Raster
from scipy import ndimage

from core.imaging.preprocess import breast_box, fit_square, heat_map, is_chest_wall_right, square_pixels, unfit
from core.types import Explanation, Image, Modality


def image_of(pixels: np.ndarray, modality: Modality | None) -> Image:
    return Image(pixels.astype(np.float32), "0" * 64, modality)


def test_a_square_keeps_the_shape_of_things_and_pads_with_black() -> None:
    square, fit = fit_square(image_of(np.full((50, 100), 0.5), Modality.HISTOLOGY), 64)
    assert square.shape == (64, 64, 1) and square.dtype == np.float32
    assert (fit.height, fit.width, fit.top, fit.left) == (32, 64, 16, 0)
    assert square[:16].max() == 0 and square[48:].max() == 0
    assert np.allclose(square[16:48], 0.5)


def test_colour_stays_colour() -> None:
    pixels = np.zeros((20, 20, 3), np.float32)
    pixels[..., 1] = 1
    square, _ = fit_square(Image(pixels, "0" * 64, Modality.HISTOLOGY), 10)
    assert square.shape == (10, 10, 3)
    assert np.allclose(square, [0, 1, 0])


@pytest.mark.parametrize("shape", [(90, 40), (40, 90), (64, 64)])
def test_a_spot_comes_back_to_where_it_was_through_crop_and_letterbox(shape: tuple[int, int]) -> None:
    pixels = np.zeros(shape, np.float32)
    pixels[8:-6, 5:-9] = 0.3
    pixels[20:24, 12:16] = 1
    square, fit = fit_square(image_of(pixels, Modality.ULTRASOUND), 128)
    back = unfit(square[..., 0], fit)
    assert back.shape == shape
    row, column = np.unravel_index(back.argmax(), back.shape)
    assert 20 <= row < 24 and 12 <= column < 16


def test_outside_the_crop_a_heat_map_is_zero_and_its_peak_is_one() -> None:
    pixels = np.zeros((60, 60), np.float32)
    pixels[10:50, 10:50] = 0.4
    _, fit = fit_square(image_of(pixels, Modality.ULTRASOUND), 32)
    explanation = Explanation(("a", "b"), 1, {"fused": np.full((2, 4, 4), 7.0, np.float32)}, fit)
    heat = heat_map(explanation, "fused", 1)
    assert heat.shape == (60, 60) and heat.max() == 1
    assert heat[:10].max() == 0 and heat[:, 50:].max() == 0


def test_a_map_without_any_attention_stays_zero_instead_of_dividing_by_it() -> None:
    _, fit = fit_square(image_of(np.full((8, 8), 0.5), None), 8)
    assert heat_map(Explanation(("a", "b"), 1, {"fused": np.zeros((2, 2, 2), np.float32)}, fit), "fused", 0).max() == 0


def test_letters_and_a_film_edge_are_no_breast() -> None:
    pixels = np.full((400, 300), 0.03, np.float32)
    rows, columns = np.mgrid[:400, :300]
    pixels[((rows - 200) / 150) ** 2 + (columns / 140) ** 2 < 1] = 0.6
    pixels[20:40, 240:280] = 1  # a marker
    pixels[:, 297:] = 1  # the film's edge
    row0, row1, column0, column1 = breast_box(image_of(pixels, Modality.MAMMOGRAPHY))
    assert (row0, column0) == (pytest.approx(50, abs=14), 0)
    assert (row1, column1) == (pytest.approx(350, abs=14), pytest.approx(140, abs=14))


@pytest.mark.parametrize("spacing", [(0.2, 0.1), (0.1, 0.2), (0.13, 0.1)])
@pytest.mark.parametrize("modality", [Modality.HISTOLOGY, Modality.ULTRASOUND, Modality.MAMMOGRAPHY])
def test_pixels_that_are_not_square_reach_the_model_undistorted(
    spacing: tuple[float, float], modality: Modality
) -> None:
    """The same breast on a detector with other pixels gives the same square, and the way back finds the same place."""
    rows, columns = np.mgrid[:240, :200]
    true = np.where(np.hypot(rows - 120, columns - 90) < 70, 0.6, 0.0)
    true[110:122, 60:72] = 1
    aspect = spacing[0] / spacing[1]
    height, width = round(240 / max(aspect, 1)), round(200 * min(aspect, 1))
    seen = np.asarray(Raster.fromarray(true.astype(np.float32)).resize((width, height), Raster.Resampling.BOX))
    expected, _ = fit_square(image_of(true, modality), 96)
    for image in (
        Image(seen, "0" * 64, modality, spacing_mm=spacing),
        Image(seen, "0" * 64, modality, pixel_aspect=aspect),
    ):
        square, fit = fit_square(image, 96)
        assert np.abs(square - expected).mean() < 0.03
        back = unfit(square[..., 0], fit)
        assert back.shape == seen.shape
        row, column = np.unravel_index(back.argmax(), back.shape)
        assert abs(row / height - 116 / 240) < 0.03 and abs(column / width - 66 / 200) < 0.03


@pytest.mark.parametrize(("aspect", "shape"), [(2.0, (80, 30)), (0.5, (40, 60)), (1.0, (40, 30)), (1.004, (40, 30))])
def test_square_pixels_are_made_by_stretching(aspect: float, shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).random((40, 30)).astype(np.float32)
    assert square_pixels(Image(grey, "0" * 64, pixel_aspect=aspect)).shape == shape
    colour = np.repeat(grey[..., None], 3, axis=2)
    assert square_pixels(Image(colour, "0" * 64, pixel_aspect=aspect)).shape == (*shape, 3)


def published_box(pixels: np.ndarray, iterations: int, buffer: int) -> tuple[int, int, int, int]:
    """The largest part of `pixels > 0` after erosions and as many dilations, with a buffer (Wu et al. 2019)."""
    inside = np.pad(pixels > 0, 1, constant_values=True)
    eroded = ndimage.distance_transform_cdt(inside, "chessboard")[1:-1, 1:-1] > iterations
    labels, count = ndimage.label(eroded)
    largest = labels == 1 + int(np.argmax(ndimage.sum_labels(eroded, labels, range(1, count + 1))))
    grown = ndimage.distance_transform_cdt(~largest, "chessboard") <= iterations
    rows, columns = np.flatnonzero(grown.any(1)), np.flatnonzero(grown.any(0))
    height, width = pixels.shape
    return (
        max(0, rows[0] - buffer),
        min(height, rows[-1] + 1 + buffer),
        max(0, columns[0] - buffer),
        min(width, columns[-1] + 1 + buffer),
    )


def overlap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    shared = max(0, min(a[1], b[1]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[2], b[2]))
    return shared / ((a[1] - a[0]) * (a[3] - a[2]) + (b[1] - b[0]) * (b[3] - b[2]) - shared)


@pytest.mark.real_data("where the published algorithm finds the breast in a complete exam")
@pytest.mark.parametrize("name", ["L_CC", "R_CC", "L_MLO", "R_MLO"])
def test_the_breast_of_a_real_exam_is_where_the_published_algorithm_finds_it(test_data: Path, name: str) -> None:
    path = test_data / "data" / "mammography" / "nyu_gmic_exam0_16bit" / f"{name}.png"
    pixels = np.asarray(Raster.open(path)).astype(np.float32) / 4095
    ours = breast_box(image_of(np.clip(pixels, 0, 1), Modality.MAMMOGRAPHY))
    assert overlap(ours, published_box(pixels, 100, 50)) >= 0.95


@pytest.mark.parametrize(("shape", "is_found"), [((18, 24), True), ((20, 21), False)])
def test_a_bright_region_of_less_than_a_twentieth_of_the_film_is_no_breast(
    shape: tuple[int, int], is_found: bool
) -> None:
    """Of 120 x 120 pixels a twentieth are 720. The box is three pixels wider on each side: 24 x 30, or 26 x 27."""
    pixels = np.zeros((120, 120))
    pixels[40 : 40 + shape[0], 40 : 40 + shape[1]] = 0.8
    box = (37, 43 + shape[0], 37, 43 + shape[1]) if is_found else (0, 120, 0, 120)
    assert breast_box(image_of(pixels, Modality.MAMMOGRAPHY)) == box


def _breast(*, chest_wall: str) -> np.ndarray:
    """A D-shaped breast (90, 60) with a spot towards the nipple, its chest wall on the named side."""
    rows, columns = np.mgrid[:90, :60]
    pixels = np.where((rows - 45) ** 2 / 40**2 + columns**2 / 45**2 < 1, 0.4, 0.0)
    pixels[30:34, 28:32] = 1.0
    return pixels if chest_wall == "left" else pixels[:, ::-1]


@pytest.mark.parametrize("lies", ["left", "right"])
def test_every_breast_faces_one_way_in_a_portrait_input_and_its_map_comes_back_turned(lies: str) -> None:
    image = image_of(_breast(chest_wall=lies), Modality.MAMMOGRAPHY)
    portrait, fit = fit_square(image, 96, 64, "left")
    assert portrait.shape == (96, 64, 1) and (fit.columns, fit.is_mirrored) == (64, lies == "right")
    expected, _ = fit_square(image_of(_breast(chest_wall="left"), Modality.MAMMOGRAPHY), 96, 64, "left")
    np.testing.assert_allclose(portrait, expected, atol=0.02)
    assert portrait[:, 0].max() > 0.3  # it stands at the edge where the chest wall is
    back = unfit(portrait[..., 0], fit)
    row, column = np.unravel_index(back.argmax(), back.shape)
    assert back.shape == (90, 60) and image.pixels[row, column] == 1


def test_a_wide_breast_fits_a_portrait_by_its_width() -> None:
    pixels = np.full((40, 80), 0.4)
    portrait, fit = fit_square(image_of(pixels, Modality.HISTOLOGY), 96, 64)
    assert portrait.shape == (96, 64, 1) and (fit.height, fit.width, fit.top) == (32, 64, 32)
    assert not fit.is_mirrored


def test_a_breast_as_tall_on_both_sides_is_not_turned_and_a_column_more_decides() -> None:
    pixels = np.zeros((40, 20), np.float32)
    pixels[5:35] = 0.5
    assert not is_chest_wall_right(pixels)
    pixels[4, -1] = 0.5
    assert is_chest_wall_right(pixels) and not is_chest_wall_right(pixels[:, ::-1])
