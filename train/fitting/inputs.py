"""What a training step is fed: squares augmented anew, or what frozen layers made of augmented views, computed once.

Random changes to training squares that keep the diagnosis: one preset a modality.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from core.errors import InvalidInput
from core.types import Modality
from train.fitting.feature_cache import FeatureCache, key_of
from train.fitting.network import Trainable, compiled
from train.fitting.squares import Squares
from train.recipe.recipes import FitConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges, each drawn anew for every square.

    flip_left_right, flip_up_down: probability. degrees: rotation either way. zoom, shift: as a share of the side.
    gamma: standard deviation of the log of the exponent. contrast: share either way. brightness: either way, of [0, 1].
    speckle: standard deviation of multiplicative noise. cutout: probability of one blanked rectangle.
    """

    flip_left_right: float = 0.5
    flip_up_down: float = 0.0
    degrees: float = 10.0
    zoom: float = 0.15
    shift: float = 0.08
    gamma: float = 0.2
    contrast: float = 0.2
    brightness: float = 0.08
    speckle: float = 0.05
    cutout: float = 0.3


PRESETS = {
    # No vertical flip: in ultrasound depth runs downwards, and shadows and enhancement lie below a lesion.
    Modality.ULTRASOUND: Augmentation(),
    Modality.MAMMOGRAPHY: Augmentation(degrees=15, speckle=0.02, cutout=0.2),
    # A tile has no up: every flip and any rotation is the same tissue.
    Modality.HISTOLOGY: Augmentation(flip_up_down=0.5, degrees=180, zoom=0.1, shift=0.03, speckle=0.0, cutout=0.2),
}

NO_CHANGE = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def augment(squares: tf.Tensor, masks: tf.Tensor, preset: Augmentation, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Inputs (n, rows, columns, c) in [0, 1] and masks (n, rows, columns, 1) changed alike; `seed` is int32 (2,).

    Of two channels the second, which says the view, stays as it is.
    """
    if squares.shape[3] == 2:
        grey, masks = augment(squares[..., :1], masks, preset, seed)
        return tf.concat([grey, squares[..., 1:]], axis=3), masks
    n, rows, columns = tf.shape(squares)[0], squares.shape[1], squares.shape[2]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 10), num=10)

    def uniform(number: int, low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform([n], seeds[number], low, high)

    transforms = _affine(
        rows,
        columns,
        angle=uniform(0, -preset.degrees, preset.degrees) * (3.14159265 / 180),
        zoom=1 + uniform(1, -preset.zoom, preset.zoom),
        shift_x=uniform(2, -preset.shift, preset.shift) * columns,
        shift_y=uniform(3, -preset.shift, preset.shift) * rows,
        mirror_x=tf.where(uniform(4, 0, 1) < preset.flip_left_right, -1.0, 1.0),
        mirror_y=tf.where(uniform(5, 0, 1) < preset.flip_up_down, -1.0, 1.0),
    )
    squares, masks = _warp(squares, transforms), _warp(masks, transforms)
    normal = tf.random.stateless_normal([n, 3], seeds[6])[:, :, None, None, None]
    squares = tf.pow(tf.clip_by_value(squares, 1e-4, 1.0), tf.exp(preset.gamma * normal[:, 0]))
    mean = tf.reduce_mean(squares, axis=[1, 2, 3], keepdims=True)
    squares = (squares - mean) * (1 + preset.contrast * tf.tanh(normal[:, 1])) + mean
    squares += preset.brightness * tf.tanh(normal[:, 2])
    if preset.speckle:
        squares *= 1 + preset.speckle * tf.random.stateless_normal(tf.shape(squares), seeds[7])
    squares = _cut_out(squares, preset.cutout, seeds[8], seeds[9])
    return tf.clip_by_value(squares, 0.0, 1.0), masks


def _affine(
    rows: int,
    columns: int,
    *,
    angle: tf.Tensor,
    zoom: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    mirror_x: tf.Tensor,
    mirror_y: tf.Tensor,
) -> tf.Tensor:
    """(n, 8) rows for ImageProjectiveTransformV3 (output pixel to input pixel), about the centre."""
    centre_x, centre_y = (columns - 1) / 2, (rows - 1) / 2
    a, b = tf.cos(angle) / zoom * mirror_x, -tf.sin(angle) / zoom * mirror_y
    c, d = tf.sin(angle) / zoom * mirror_x, tf.cos(angle) / zoom * mirror_y
    zeros = tf.zeros_like(angle)
    return tf.stack(
        [
            a,
            b,
            centre_x + shift_x - a * centre_x - b * centre_y,
            c,
            d,
            centre_y + shift_y - c * centre_x - d * centre_y,
            zeros,
            zeros,
        ],
        axis=1,
    )


def _warp(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def _cut_out(squares: tf.Tensor, probability: float, seed_place: tf.Tensor, seed_size: tf.Tensor) -> tf.Tensor:
    n = tf.shape(squares)[0]
    place = tf.random.stateless_uniform([n, 3], seed_place)
    size = tf.random.stateless_uniform([n, 2], seed_size, 0.08, 0.25)
    down, across = ((tf.range(length, dtype=tf.float32) + 0.5) / length for length in squares.shape[1:3])
    rows = tf.abs(down[None, :] - place[:, 0:1]) < size[:, 0:1] / 2
    columns = tf.abs(across[None, :] - place[:, 1:2]) < size[:, 1:2] / 2
    blank = rows[:, :, None] & columns[:, None, :] & (place[:, 2] < probability)[:, None, None]
    mean = tf.reduce_mean(squares, axis=[1, 2], keepdims=True)
    return tf.where(blank[..., None], mean, squares)


Batch = tuple[list[Any], Any, np.ndarray, np.ndarray]
"""What the tail reads (a part a branch), masks (n, h, w, 1), labels (n,), whether the mask is known (n,)."""

_MASK_SIDE = 32
"""Masks of kept views are stored this small: no last map is finer."""


def preset_of(config: FitConfig) -> Augmentation:
    """How this run changes its inputs. Where all breasts face one way, none is turned the other way."""
    if config.augmentation != "modality":
        return NO_CHANGE
    preset = PRESETS[Modality(config.modality)]
    return replace(preset, flip_left_right=0.0) if config.chest_wall else preset


def shares(cases: Squares, balance_by: str) -> np.ndarray | None:
    """(n,) with which probability each case is drawn for an epoch's place; None: every case once.

    Within every value of the column `balance_by` the positive class and the rest are as likely as each other, so that
    the value (a machine, a hospital) does not tell the class; values weigh by the root of their number of cases. Raises
    InvalidInput where the cases have no such column.
    """
    if not balance_by:
        return None
    if balance_by not in cases.cases:
        raise InvalidInput(f"The manifest has no column {balance_by!r} to balance by.")
    values, positive = cases.cases[balance_by].to_numpy(), cases.labels == cases.positive
    chance = np.zeros(len(cases))
    for value in np.unique(values):
        for is_positive in (True, False):
            chosen = (values == value) & (positive == is_positive)
            if chosen.any():
                chance[chosen] = np.sqrt((values == value).sum()) / chosen.sum()
    chance /= chance.sum()
    return chance


def order_of(rng: np.random.Generator, n: int, chance: np.ndarray | None) -> np.ndarray:
    """The cases of one epoch: each once, or drawn by `chance` (`shares`)."""
    return rng.permutation(n) if chance is None else rng.choice(n, n, p=chance)


class Fresh:
    """Batches of squares augmented anew every epoch."""

    def __init__(self, cases: Squares, config: FitConfig) -> None:
        self.cases, self.config = cases, config
        self.chance = shares(cases, config.balance_by)
        self.augment = tf.function(lambda x, m, seed: augment(x, m, preset_of(config), seed))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of that epoch (from 1), the same for the same seed."""
        rng = np.random.default_rng((self.config.seed, number))
        order = order_of(rng, len(self.cases), self.chance)
        for index in range(0, len(order) - self.config.batch + 1, self.config.batch):
            chosen = order[index : index + self.config.batch]
            seed = tf.constant(rng.integers(0, 2**31, 2, dtype=np.int64), tf.int32)
            pixels, masks = self.augment(*self.cases.tensors(chosen), seed)
            yield [pixels], masks, self.cases.labels[chosen], self.cases.has_mask[chosen]

    def samples(self, views: int) -> Iterator[list[np.ndarray]]:
        """For each of so many views, the first of them unchanged, all cases in order: what the network reads."""
        for view in range(views):
            pieces = []
            for index in range(0, len(self.cases), 32):
                pixels, masks = self.cases.tensors(np.arange(index, min(index + 32, len(self.cases))))
                if view > 0:
                    seed = tf.constant([self.config.seed * 1000 + view, index])
                    pixels, _ = self.augment(pixels, masks, seed)
                pieces.append(np.asarray(pixels, np.float16))
            yield [np.concatenate(pieces)]


class Views:
    """Batches of what the frozen stem made of augmented views of every case, computed once (float16)."""

    def __init__(self, trainable: Trainable, squares: Squares, config: FitConfig, cache: FeatureCache | None) -> None:
        assert trainable.stem is not None
        trained = np.flatnonzero(squares.splits == "train")
        self.cases, self.config = squares.chosen(trained), config
        self.chance = shares(self.cases, config.balance_by)
        self.stem = compiled(trainable.stem)
        # Each fold needs nearly every case, so with folds the views of all are made, once for all folds.
        made_of = trained
        if "fold" in squares.cases:
            made_of = np.sort(np.unique(squares.cases["file"].to_numpy(), return_index=True)[1])
        self.places = np.searchsorted(made_of, trained)
        self.made_of = cases = squares.chosen(made_of)
        self.fresh = Fresh(cases, replace(config, balance_by=""))
        weights = key_of([np.asarray(variable) for variable in trainable.stem.variables])
        data = key_of([cases.pixels, cases.masks], asdict(preset_of(config)))
        self.views: list[list[np.ndarray]] = []  # for each view: a part a branch, then the masks
        for view in range(config.views):
            began = time.monotonic()
            if cache is None:
                self.views.append(self._made(view))
            else:
                seed = config.seed if view else "plain"
                key = key_of([], weights, data, trainable.stem.output_names, config.precision, seed, view)
                self.views.append(cache.get(key, lambda view=view: self._made(view)))  # type: ignore[misc]
            log.info("view %d of %d at hand after %.0f s", view + 1, config.views, time.monotonic() - began)

    def _made(self, view: int) -> list[np.ndarray]:
        parts: list[list[np.ndarray]] = []
        for index in range(0, len(self.made_of), 32):
            pixels, mask = self.made_of.tensors(np.arange(index, min(index + 32, len(self.made_of))))
            if view > 0:  # the first view is the square as it is
                pixels, mask = self.fresh.augment(pixels, mask, tf.constant([self.config.seed * 1000 + view, index]))
            small = tf.image.resize(mask, (_MASK_SIDE, _MASK_SIDE), method="area")
            parts.append([np.asarray(part, np.float16) for part in [*tf.nest.flatten(self.stem(pixels)), small]])
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of that epoch (from 1): each case once (or as `shares` has it), in a view drawn for it."""
        rng = np.random.default_rng((self.config.seed, number))
        order = order_of(rng, len(self.cases), self.chance)
        drawn = rng.integers(0, self.config.views, len(order))
        for index in range(0, len(order) - self.config.batch + 1, self.config.batch):
            chosen = order[index : index + self.config.batch]
            *parts, masks = (
                np.stack(
                    [
                        self.views[view][part][self.places[case]]
                        for view, case in zip(drawn[chosen], chosen, strict=True)
                    ]
                ).astype(np.float32)
                for part in range(len(self.views[0]))
            )
            yield list(parts), masks, self.cases.labels[chosen], self.cases.has_mask[chosen]

    def samples(self, views: int) -> Iterator[list[np.ndarray]]:
        """For each of so many views, the first of them unchanged, all cases in order: what the tail reads."""
        for parts in self.views[:views]:
            yield [part[self.places] for part in parts[:-1]]
