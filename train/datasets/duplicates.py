"""Pictures that show the same: a perceptual hash finds who may be alike, two correlations decide.

Coarse copies of different mammograms are alike too (one bright half, one dark), so their fine structure must agree as
well. Copies that were scaled, compressed, darkened or written on are found; crops of more than a few pixels are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from core.errors import UnreadableImage
from core.imaging.decoded import Limits
from core.imaging.near_duplicates import centred, low_terms
from core.imaging.picture import read_picture
from core.imaging.preprocess import resize
from core.settings import Settings
from core.types import Modality

SIDE = 32
"""Of the coarse copies that are hashed and compared first."""
HASH_DISTANCE = 16
"""Bits of 64 that may differ between pictures that are compared at all."""
CORRELATION = 0.9
"""Of the coarse copies; low, because writing on a picture changes much of it. The fine structure decides."""
FINE_SIDE = 128
FINE_CORRELATION = 0.62
"""Of what is finer than a 64th of the picture. Different women of mini-MIAS stay below it (0.59)."""
_FINE_SIGMA = 2.0  # pixels of the fine copy
_SHIFT = FINE_SIDE // 16
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Traces:
    """What comparing needs of each picture, in the order of the files.

    sha256: of the file's bytes, "" where the file is missing. hashes: uint64 (n,). small: float32 (n, SIDE * SIDE) with
    mean 0 and length 1, all zero for what cannot be compared (unreadable, or one grey all over). fine: float16
    (n, FINE_SIDE, FINE_SIDE), the same for the fine structure. unreadable: positions.
    """

    sha256: tuple[str, ...]
    hashes: np.ndarray
    small: np.ndarray
    fine: np.ndarray
    unreadable: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Positions of two pictures that are nearly the same; correlation: of their fine structure."""

    first: int
    second: int
    correlation: float


@dataclass(frozen=True, slots=True)
class Looks:
    """What looking at every file of a data set once has shown, in the order of the files.

    sha256: as in `Traces`. unreadable: positions. pairs: which pictures are nearly the same.
    """

    sha256: tuple[str, ...]
    unreadable: tuple[int, ...]
    pairs: tuple[Pair, ...]

    @classmethod
    def at(cls, files: Sequence[str], root: Path, *, progress: Callable[[int, int], None] | None = None) -> Looks:
        """Read every file once, and compare all with each other."""
        traces = traces_of(files, root, progress=progress)
        return cls(traces.sha256, traces.unreadable, tuple(near_duplicate_pairs(traces)))

    def chosen(self, positions: Sequence[int]) -> Looks:
        """Of the files at these positions only, as they stand then."""
        new = {old: position for position, old in enumerate(positions)}
        return Looks(
            tuple(self.sha256[position] for position in positions),
            tuple(new[position] for position in self.unreadable if position in new),
            tuple(
                Pair(new[pair.first], new[pair.second], pair.correlation)
                for pair in self.pairs
                if pair.first in new and pair.second in new
            ),
        )


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes; "" where there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def traces_of(files: Sequence[str], root: Path, *, progress: Callable[[int, int], None] | None = None) -> Traces:
    """Read every file once. A file that is missing or cannot be read is counted, never raised."""
    digests, unreadable = [], []
    hashes = np.zeros(len(files), np.uint64)
    small = np.zeros((len(files), SIDE * SIDE), np.float32)
    fine = np.zeros((len(files), FINE_SIDE, FINE_SIDE), np.float16)
    limits = Limits.of(Settings())
    for position, file in enumerate(files):
        path = root / file
        data = path.read_bytes() if path.is_file() else b""
        digests.append(hashlib.sha256(data).hexdigest() if data else "")
        try:
            grey = read_picture(data, Modality.MAMMOGRAPHY, limits=limits).pixels  # grey, whatever it shows
        except UnreadableImage:
            unreadable.append(position)
            continue
        coarse = resize(grey, (SIDE, SIDE))
        hashes[position] = perceptual_hash(coarse)
        small[position] = centred(coarse).ravel()
        fine[position] = fine_structure(grey)
        if progress is not None:
            progress(position + 1, len(files))
    return Traces(tuple(digests), hashes, small, fine, tuple(unreadable))


def perceptual_hash(grey: np.ndarray) -> int:
    """64 bits of a (SIDE, SIDE) picture: which of its 8 x 8 lowest cosine terms lie above their median.

    The constant term says only how bright the picture is; its place is taken by the next diagonal term.
    """
    return int(low_terms(grey, 8).view(">u8")[0])


def fine_structure(grey: np.ndarray) -> np.ndarray:
    """What is finer than a 64th of a picture, of equal contrast everywhere: float32 (FINE_SIDE, FINE_SIDE), length 1.

    Equal contrast, because otherwise the border of a film would speak louder than all that lies inside it.
    """
    picture = resize(grey, (FINE_SIDE, FINE_SIDE))
    detail = picture - gaussian_filter(picture, _FINE_SIGMA)
    return centred(detail / (np.sqrt(gaussian_filter(detail**2, 1.5 * _FINE_SIGMA)) + 0.01))


def near_duplicate_pairs(traces: Traces) -> list[Pair]:
    """Every pair with near hashes, coarse copies that correlate, and the same fine structure; all pairs, in blocks."""
    comparable = np.flatnonzero(traces.small.any(axis=1))
    hashes, small = traces.hashes[comparable], traces.small[comparable]
    pairs = []
    for first, second in _near(hashes):
        keep = np.einsum("ij,ij->i", small[first], small[second]) >= CORRELATION
        for i, j in zip(comparable[first[keep]], comparable[second[keep]], strict=True):
            correlation = _shifted_correlation(traces.fine[i], traces.fine[j])
            if correlation >= FINE_CORRELATION:
                pairs.append(Pair(int(i), int(j), correlation))
    return pairs


def _shifted_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """The highest correlation when one is moved by up to a sixteenth of its side, as a slightly other crop would."""
    spectrum = rfft2(one.astype(np.float32)) * np.conj(rfft2(other.astype(np.float32)))
    everywhere = irfft2(spectrum, s=one.shape)
    near = np.r_[-_SHIFT : _SHIFT + 1]
    return float(everywhere[np.ix_(near, near)].max())


def grouped(cases: pd.DataFrame, pairs: Sequence[Pair]) -> pd.Series:
    """A `group` for each case: what it had, joined through look-alikes; "" for a case that is like no other."""
    group = cases["group"].tolist() if "group" in cases else [""] * len(cases)
    members: dict[str, list[int]] = {}
    for position, name in enumerate(group):
        if name:
            members.setdefault(name, []).append(position)
    for pair in pairs:
        one, other = group[pair.first], group[pair.second]
        if one and one == other:
            continue
        name = one or other or f"alike-{pair.first}"
        moved = members.pop(other, []) if one and other else []
        joined = {*members.get(name, []), *moved, pair.first, pair.second}
        members[name] = sorted(joined)
        for position in joined:
            group[position] = name
    return pd.Series(group, index=cases.index, name="group", dtype=object)


def _near(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        for other in range(start, len(hashes), _BLOCK):
            distance = np.bitwise_count(block[:, None] ^ hashes[None, other : other + _BLOCK])
            first, second = np.nonzero(distance <= HASH_DISTANCE)
            first, second = first + start, second + other
            ordered = first < second
            if ordered.any():
                yield first[ordered], second[ordered]
