"""The cases of a manifest as squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Raster

from core.types import Modality
from train.fitting.squares import load_squares


def test_several_masks_of_a_picture_are_one_target(tmp_path: Path) -> None:
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
