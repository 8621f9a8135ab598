"""The cases of a manifest as squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from made_images import mammogram
from PIL import Image as Raster

from core.types import Modality


def test_several_masks_of_a_picture_are_one_target(tmp_path: Path) -> None:
    from train.fitting.squares import load_squares

    pixels = np.random.default_rng(0).integers(60, 200, (64, 64), dtype=np.uint8)
    Raster.fromarray(pixels).save(tmp_path / "a.png")
    lesions = np.zeros((2, 64, 64), np.uint8)
    lesions[0, 8:16, 8:16] = lesions[1, 40:56, 40:56] = 255
    for number, lesion in enumerate(lesions):
        Raster.fromarray(lesion).save(tmp_path / f"mask{number}.png")
    cases = pd.DataFrame([{"file": "a.png", "label": "benign", "split": "train", "mask": "mask0.png|mask1.png"}])
    squares = load_squares(
        cases, tmp_path, modality=Modality.ULTRASOUND, side=64, classes=("benign", "malignant"), positive="malignant"
    )
    assert squares.has_mask[0]
    assert squares.masks[0].sum() == (lesions > 0).sum()
    assert squares.masks[0, 12, 12] == squares.masks[0, 48, 48] == 1 and squares.masks[0, 30, 30] == 0


def test_a_mask_of_small_numbers_or_a_palette_is_the_lesion_that_a_white_one_is(tmp_path: Path) -> None:
    """For the squares, for the outline that is measured against, and for the size that a subgroup is."""
    from train.datasets.cases import lesion_size
    from train.fitting.squares import load_squares
    from train.publishing.outline import true_outline

    lesion = np.zeros((64, 64), np.uint8)
    lesion[20:40, 10:50] = 1
    coloured = Raster.fromarray(lesion)
    coloured.putpalette([0, 0, 0, 128, 0, 0])
    masks = {"white.png": Raster.fromarray(lesion * 255), "numbers.png": Raster.fromarray(lesion), "red.png": coloured}
    for name, mask in masks.items():
        mask.save(tmp_path / name)
    pixels = np.random.default_rng(0).integers(60, 200, (64, 64), dtype=np.uint8)
    Raster.fromarray(pixels).save(tmp_path / "a.png")
    cases = pd.DataFrame({"file": "a.png", "label": "malignant", "split": "train", "mask": list(masks)})
    squares = load_squares(
        cases, tmp_path, modality=Modality.ULTRASOUND, side=64, classes=("benign", "malignant"), positive="malignant"
    )
    for name, square in zip(masks, squares.masks, strict=True):
        assert np.array_equal(square, lesion), name
        assert np.array_equal(true_outline(tmp_path, name, lesion.shape), lesion > 0), name
        assert lesion_size(tmp_path, name, "malignant") == "over 10 % of the picture", name


def test_the_pictures_of_a_patient_are_on_one_grey_scale_and_square_pixels(tmp_path: Path) -> None:
    """As an upload of the exam would show them: 16 bits in a file do not say how many of them are used."""
    from train.fitting.squares import load_squares

    picture = mammogram(120, 90)
    for name, highest in (("a", 935), ("b", 1050), ("c", 1023)):
        Raster.fromarray(np.round(picture * highest / picture.max()).astype(np.uint16)).save(tmp_path / f"{name}.png")
    wide = np.full((60, 60), 200, np.uint8)
    Raster.fromarray(wide).save(tmp_path / "d.png", dpi=(100, 200))
    cases = pd.DataFrame(
        {"file": ["a.png", "b.png", "c.png", "d.png"], "label": ["no", "yes"] * 2, "split": "train",
         "patient": ["p1", "p1", "p2", ""]}
    )  # fmt: skip
    squares = load_squares(
        cases, tmp_path, modality=Modality.MAMMOGRAPHY, side=32, classes=("no", "yes"), positive="yes"
    )
    tops = squares.pixels.max(axis=(1, 2, 3))
    assert np.allclose(tops[:3], [935 / 4095, 1050 / 4095, 1], atol=0.02)
    assert (squares.fits[3].height, squares.fits[3].width) == (16, 32)


def test_a_plane_says_the_view_of_each_case_and_no_augmentation_changes_it(tmp_path: Path) -> None:
    import tensorflow as tf

    from train.fitting.inputs import PRESETS, augment
    from train.fitting.squares import load_squares

    Raster.fromarray(np.round(mammogram(96, 64) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    cases = pd.DataFrame({"file": "a.png", "label": ["no", "yes"] * 2, "split": "train", "mask": ""})
    told = cases.assign(view=["CC", "MLO", "AT", np.nan])
    squares, without = (
        load_squares(
            table, tmp_path, modality=Modality.MAMMOGRAPHY, side=32, classes=("no", "yes"), positive="yes", channels=2
        ).pixels
        for table in (told, cases)
    )
    assert squares.shape == (4, 32, 32, 2)
    assert [np.unique(plane).tolist() for plane in squares[..., 1]] == [[0.0], [1.0], [0.5], [0.5]]
    assert np.unique(without[..., 1]).tolist() == [0.5] and np.array_equal(without[..., 0], squares[..., 0])
    pixels, masks = tf.constant(squares.astype(np.float32)), tf.zeros((4, 32, 32, 1))
    changed, _ = augment(pixels, masks, PRESETS[Modality.MAMMOGRAPHY], tf.constant([1, 2]))
    assert np.array_equal(changed[..., 1], pixels[..., 1]) and not np.allclose(changed[..., 0], pixels[..., 0])
