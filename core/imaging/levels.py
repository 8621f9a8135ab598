"""A picture as the browser gets it: whole numbers in the full grey depth, packed, a smaller one before the whole."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import numpy as np

from core.imaging.picture import COLOUR_MOST, GREY_MOST

FIRST_SIDE_PX = 1100
"""Longest side of what is sent before the whole picture; it fills one cell of four on a large screen."""


@dataclass(frozen=True, slots=True)
class Level:
    """Pixels ready for the browser. step: how many of the picture's pixels lie along one of these. digest: hex, of the
    pixels; the file begins with it, so that no picture is ever taken for another."""

    content: bytes
    digest: str
    width: int
    height: int
    step: int


def packed(pixels: np.ndarray, *, step: int = 1) -> Level:
    """uint16 (H, W) or uint8 (H, W, 3): 32 bytes of SHA-256, then a zlib stream of byte planes.

    Each row holds differences to the pixel on the left, modulo the range: grey as all low bytes and then all high ones,
    colour as one plane a channel. A 14-megapixel mammogram becomes less than half as long in half a second.
    """
    height, width = pixels.shape[:2]
    difference = pixels.copy()
    difference[:, 1:] -= pixels[:, :-1]
    if pixels.ndim == 2:
        planes = np.ascontiguousarray(difference.astype("<u2")).view(np.uint8).reshape(-1, 2)
    else:
        planes = difference.reshape(-1, pixels.shape[2])
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
    return Level(digest + zlib.compress(planes.T.tobytes(), 1), digest.hex(), width, height, step)


def levels_of(pixels: np.ndarray, *, most_side: int | None = None) -> tuple[Level, ...]:
    """The picture for the browser, smaller first. pixels: float32 in [0, 1], (H, W) or (H, W, 3).

    most_side: nothing longer than that is sent.
    """
    whole = whole_numbers(pixels)
    step = step_of(whole.shape, most_side or FIRST_SIDE_PX)
    if step == 1:
        return (packed(whole),)
    first = packed(mean_of_blocks(whole, step), step=step)
    return (first,) if most_side else (first, packed(whole))


def mean_of_blocks(pixels: np.ndarray, step: int) -> np.ndarray:
    """(ceil(H / step), ceil(W / step), ...), each value the mean of a square; the edge is repeated where it ends."""
    height, width = pixels.shape[:2]
    margins = [(0, -height % step), (0, -width % step), *[(0, 0)] * (pixels.ndim - 2)]
    padded = np.pad(pixels, margins, mode="edge")
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step, *pixels.shape[2:])
    mean: np.ndarray = np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(pixels.dtype)
    return mean


def whole_numbers(pixels: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] -> uint16 (H, W) or uint8 (H, W, 3)."""
    most, kind = (COLOUR_MOST, np.uint8) if pixels.ndim == 3 else (GREY_MOST, np.uint16)
    whole: np.ndarray = np.rint(pixels * np.float32(most)).astype(kind)
    return whole


def step_of(shape: tuple[int, ...], most_side: int) -> int:
    """The power of two by which a picture (H, W, ...) becomes small enough."""
    step = 1
    while max(shape[:2]) / step > most_side:
        step *= 2
    return step


def frame_content(pixels: np.ndarray, key: str, *, is_whole: bool = False) -> bytes:
    """One frame of a clip, packed as `packed` does it, but named by its key in the image store: what is asked for is
    known before it is made. pixels: float32 in [0, 1]. is_whole: else its longest side is at most `FIRST_SIDE_PX`."""
    whole = whole_numbers(pixels)
    step = 1 if is_whole else step_of(whole.shape, FIRST_SIDE_PX)
    content = packed(mean_of_blocks(whole, step) if step > 1 else whole).content
    return bytes.fromhex(key.partition(".")[0]) + content[32:]
