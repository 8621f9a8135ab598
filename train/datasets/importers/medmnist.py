"""BreastMNIST: one .npz with pictures (n, side, side), labels (n, 1), and its official split."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as Raster

from core.errors import InvalidInput
from train.datasets.importers.imported import Imported

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_LABELS = ("malignant", "not_malignant")  # medmnist/info.py: "0": "malignant", "1": "normal, benign"
_SIDE_MIN = 56  # pictures of fewer than 32 rows are refused by the reader; whole multiples change no value


def read(source: Path, out: Path) -> Imported:
    """Pictures as PNG in `out`, the official split kept; nothing in the file says which pictures share a patient."""
    rows = []
    try:
        with np.load(source, allow_pickle=False) as arrays:
            for name, split in _SPLITS.items():
                pictures, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"].ravel()
                _require_pictures(pictures, labels)
                out.mkdir(parents=True, exist_ok=True)
                for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
                    file = f"breastmnist_{split}_{number:04d}.png"
                    times = -(-_SIDE_MIN // picture.shape[0])
                    Raster.fromarray(picture.repeat(times, 0).repeat(times, 1)).save(out / file)
                    rows.append({"file": file, "label": _LABELS[int(label)], "split": split})
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput("This is not BreastMNIST's .npz (train_images, train_labels, val_…, test_…).") from error
    cases = pd.DataFrame(rows).assign(modality="ultrasound", source="BreastMNIST")
    return Imported(cases, out)


def _require_pictures(pictures: np.ndarray, labels: np.ndarray) -> None:
    if pictures.dtype != np.uint8 or pictures.ndim != 3 or len(pictures) != len(labels):
        raise InvalidInput("The pictures of BreastMNIST are 8-bit grey, (n, side, side), with a label each.")
    if not np.isin(labels, (0, 1)).all():
        raise InvalidInput("The labels of BreastMNIST are 0 (malignant) and 1 (normal or benign).")
