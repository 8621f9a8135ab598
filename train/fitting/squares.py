"""The cases of a manifest as the squares a network reads, made by the same functions that read a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from PIL import Image as Raster

from core.imaging.decoded import Limits
from core.imaging.masks import lesion_grey
from core.imaging.picture import bits_of_studies, read_picture
from core.imaging.preprocess import fit_square, resize, with_view
from core.settings import Settings
from core.types import Fit, Image, Modality
from train.datasets.split import units_of


@dataclass(frozen=True, slots=True)
class Squares:
    """Cases ready for a network, in memory.

    pixels: float16 (n, rows, columns, c) in [0, 1]. labels: int32 (n,), index into `classes`. positive: the class index
    that counts as positive. masks: float16 (n, rows, columns), share of lesion; zero where `has_mask` is False.
    splits: "train", "validation" or "test" for each case. cases: the manifest's rows, in the same order.
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    positive: int
    masks: np.ndarray
    has_mask: np.ndarray
    splits: np.ndarray
    fits: tuple[Fit, ...]
    cases: pd.DataFrame

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def outputs(self) -> int:
        """Logits the graph must give: one for two classes, else one a class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    def split(self, name: str) -> Squares:
        """The cases of one split."""
        return self.chosen(np.flatnonzero(self.splits == name))

    def chosen(self, index: np.ndarray) -> Squares:
        """The cases at these positions."""
        return replace(
            self,
            pixels=self.pixels[index],
            labels=self.labels[index],
            masks=self.masks[index],
            has_mask=self.has_mask[index],
            splits=self.splits[index],
            fits=tuple(self.fits[i] for i in index),
            cases=self.cases.iloc[index].reset_index(drop=True),
        )

    def tensors(self, index: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Inputs (n, rows, columns, c) and masks (n, rows, columns, 1) at these positions, float32."""
        pixels = tf.constant(self.pixels[index].astype(np.float32))
        return pixels, tf.constant(self.masks[index, :, :, None].astype(np.float32))


def load_squares(
    cases: pd.DataFrame,
    root: Path,
    *,
    modality: Modality,
    side: int,
    classes: Sequence[str],
    positive: str,
    columns: int = 0,
    chest_wall: str = "",
    channels: int = 0,
    bits: Sequence[int | None] | None = None,
    seen: Callable[[Image], object] = lambda image: None,
) -> Squares:
    """Read, crop and scale every case. `cases` needs file, label, split; `mask` is used where it names a file.

    columns, chest_wall: see `fit_square`. channels: 0 for those of the modality, 2 for a plane beside the grey one that
    says the view (`with_view`), as the column `view` of the cases has it. bits: `bits_of_cases`, where these are a part
    of what it is asked for. seen: is given each picture as it was read, in order.
    """
    n, channels = len(cases), channels or (3 if modality is Modality.HISTOLOGY else 1)
    pixels = np.zeros((n, side, columns or side, channels), np.float16)
    masks = np.zeros((n, side, columns or side), np.float16)
    has_mask = np.zeros(n, bool)
    fits = []
    bits = bits_of_cases(cases, root) if bits is None else bits
    for position, row in enumerate(cases.itertuples()):
        image = read_case(root / row.file, modality, bits=bits[position])
        seen(image)
        square, fit = fit_square(image, side, columns, chest_wall)
        pixels[position] = with_view(square, image.view or getattr(row, "view", None)) if channels == 2 else square
        fits.append(fit)
        mask = _mask_square(root, getattr(row, "mask", ""), image, fit)
        # A normal image has no lesion: an empty mask is knowledge, not a gap.
        has_mask[position] = mask is not None or row.label == "normal"
        if mask is not None:
            masks[position] = mask
    labels = np.asarray([list(classes).index(label) for label in cases["label"]], np.int32)
    return Squares(
        pixels,
        labels,
        tuple(classes),
        list(classes).index(positive),
        masks,
        has_mask,
        cases["split"].to_numpy(),
        tuple(fits),
        cases.reset_index(drop=True),
    )


def bits_of_cases(cases: pd.DataFrame, root: Path) -> list[int | None]:
    """For each case the bits that all pictures of its patient are read with, None where nothing had to be guessed."""
    units = units_of(cases).astype(str).tolist()
    found = bits_of_studies(zip((root / file for file in cases["file"]), units, strict=True))
    return [found.get(unit) for unit in units]


def read_case(path: Path, modality: Modality, *, bits: int | None = None) -> Image:
    """One file of a data set as an `Image`: the steps of an upload, in this process, because the files are the site's.

    bits: of the patient's pictures, where they were settled (`bits_of_studies`). Raises `UnreadableImage`.
    """
    return read_picture(path.read_bytes(), modality, limits=Limits.of(Settings()), bits=bits)


def _mask_square(root: Path, mask_file: object, image: Image, fit: Fit) -> np.ndarray | None:
    if not isinstance(mask_file, str) or not mask_file:
        return None
    mask = np.zeros((image.height, image.width), np.float32)
    for part in mask_file.split("|"):  # several lesions, a mask each
        with Raster.open(root / part) as raster:
            mask = np.maximum(
                mask, np.asarray(lesion_grey(raster).resize((image.width, image.height)), np.float32) / 255
            )
    row0, row1, column0, column1 = fit.box
    square = np.zeros((fit.side, fit.columns or fit.side), np.float32)
    inside = resize((mask[row0:row1, column0:column1] > 0.5).astype(np.float32), (fit.height, fit.width))
    inside = inside[:, ::-1] if fit.is_mirrored else inside
    square[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = inside
    return square
