"""Random changes to training squares that keep the diagnosis: one preset a modality."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from core.types import Modality


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
    """Squares (n, side, side, c) in [0, 1] and masks (n, side, side, 1) changed alike; `seed` is int32 (2,)."""
    n, side = tf.shape(squares)[0], squares.shape[1]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 10), num=10)

    def uniform(number: int, low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform([n], seeds[number], low, high)

    transforms = _affine(
        side,
        angle=uniform(0, -preset.degrees, preset.degrees) * (3.14159265 / 180),
        zoom=1 + uniform(1, -preset.zoom, preset.zoom),
        shift_x=uniform(2, -preset.shift, preset.shift) * side,
        shift_y=uniform(3, -preset.shift, preset.shift) * side,
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
    side: int,
    *,
    angle: tf.Tensor,
    zoom: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    mirror_x: tf.Tensor,
    mirror_y: tf.Tensor,
) -> tf.Tensor:
    """(n, 8) rows for ImageProjectiveTransformV3 (output pixel to input pixel), about the centre of the square."""
    centre = (side - 1) / 2
    a, b = tf.cos(angle) / zoom * mirror_x, -tf.sin(angle) / zoom * mirror_y
    c, d = tf.sin(angle) / zoom * mirror_x, tf.cos(angle) / zoom * mirror_y
    zeros = tf.zeros_like(angle)
    return tf.stack(
        [
            a,
            b,
            centre + shift_x - a * centre - b * centre,
            c,
            d,
            centre + shift_y - c * centre - d * centre,
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
    n, side = tf.shape(squares)[0], squares.shape[1]
    place = tf.random.stateless_uniform([n, 3], seed_place)
    size = tf.random.stateless_uniform([n, 2], seed_size, 0.08, 0.25)
    grid = (tf.range(side, dtype=tf.float32) + 0.5) / side
    rows = tf.abs(grid[None, :] - place[:, 0:1]) < size[:, 0:1] / 2
    columns = tf.abs(grid[None, :] - place[:, 1:2]) < size[:, 1:2] / 2
    blank = rows[:, :, None] & columns[:, None, :] & (place[:, 2] < probability)[:, None, None]
    mean = tf.reduce_mean(squares, axis=[1, 2], keepdims=True)
    return tf.where(blank[..., None], mean, squares)
