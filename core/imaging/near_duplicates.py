"""Whether two pictures show the same, whatever file they came from: encoded anew, scaled, darkened or mirrored.

A perceptual hash finds which may; registration decides where both pictures are at hand.
"""

from __future__ import annotations

import numpy as np

from core.imaging.picture import to_grey
from core.imaging.preprocess import resize

HASH_SIDE = 64
CANDIDATE_BITS = 40
"""Of 256 in which the hashes of pictures differ that are registered; copies of one picture differ in fewer."""
CORRELATION = 0.98
"""Of two registered pictures that are taken to be one."""
_SIDE, _SHIFT = 128, 8


def long_hash(grey: np.ndarray) -> str:
    """256 bits of a picture (any size), as hex: its 16 x 16 lowest cosine terms; "" where it is one grey all over.

    Long enough to decide alone (`core.models.card_cases.NEAR_DUPLICATE_BITS`).
    """
    coarse = resize(grey.astype(np.float32), (HASH_SIDE, HASH_SIDE))
    return low_terms(coarse, 16).tobytes().hex() if centred(coarse).any() else ""


def low_terms(grey: np.ndarray, n: int) -> np.ndarray:
    """n * n / 8 bytes: which of the n x n lowest cosine terms, the constant one replaced, lie above their median."""
    from scipy.fft import dctn

    terms = dctn(grey.astype(np.float64), norm="ortho")
    low = terms[:n, :n].copy()
    low[0, 0] = terms[n, n]
    return np.packbits((low > np.median(low)).ravel())


def centred(plane: np.ndarray) -> np.ndarray:
    """Mean 0 and length 1, or all zero where nothing differs by a thousandth of the grey range."""
    moved = plane - plane.mean()
    length = float(np.linalg.norm(moved))
    return moved / length if length > 1e-3 * plane.shape[0] else np.zeros_like(moved)


def hash_distance(one: str, other: str) -> int:
    """Bits in which two hashes differ; 256 where one of them is of a picture without any."""
    return (int(one, 16) ^ int(other, 16)).bit_count() if one and other else 256


def registered_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two pictures (any sizes, grey or colour) where they overlap best, -1 to 1.

    Both are brought to one size; one is moved by up to a sixteenth of it. 0 where a picture is one grey all over.
    """
    from scipy.fft import irfft2, rfft2

    first, second = (centred(resize(to_grey(picture), (_SIDE, _SIDE))) for picture in (one, other))
    everywhere = irfft2(rfft2(first) * np.conj(rfft2(second)), s=first.shape)
    near = np.r_[-_SHIFT : _SHIFT + 1]
    row, column = np.unravel_index(everywhere[np.ix_(near, near)].argmax(), (len(near), len(near)))
    rows, columns = _overlap(int(near[row])), _overlap(int(near[column]))
    seen, shifted = centred(first[rows[0], columns[0]]), centred(second[rows[1], columns[1]])
    return float((seen * shifted).sum())


def _overlap(shift: int) -> tuple[slice, slice]:
    """What of the first and of the second picture lies over each other once the second is moved by `shift`."""
    if shift < 0:
        return slice(0, _SIDE + shift), slice(-shift, _SIDE)
    return slice(shift, _SIDE), slice(0, _SIDE - shift)
