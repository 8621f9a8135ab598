"""What a model proposes to the reader, once the reader may see the model's answer: points where its heat map peaks,
and outlines of the outline network (`core.findings.outlines`).

A map is scaled to its own greatest attention, so its highest peak is always 1; lower peaks count down to a level that
was measured per model on lesion outlines (`python -m core peak-levels`): the lowest at which at least half of all peaks
lay inside an outline. A model without such a level proposes nothing. A peak is where the model looked, not a lesion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InvalidInput
from core.findings.marks import Mark

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SHARE_WANTED = 0.5
PEAKS_MOST = 3
LEVELS_FILE = Path(__file__).parent / "peak_levels.json"
ANSWERS = ("accepted", "edited", "rejected", "open")
"""What a reader did with a proposal: took it as a finding where it was, moved or redrew it, refused it, nothing."""


@dataclass(frozen=True, slots=True)
class Peak:
    """A local maximum of a heat map. strength: its height, 1 for the map's greatest."""

    column: float
    row: float
    strength: float


@dataclass(frozen=True, slots=True)
class PeakLevel:
    """Down to which height a model's peaks are proposed, and what that gave on cases that it was not chosen on.

    n_images, n_peaks, n_inside: of the test cases with an outline that the model called; the share is n_inside/n_peaks.
    is_external: those are images of collections that the model learned nothing from.
    """

    level: float
    n_images: int
    n_peaks: int
    n_inside: int
    is_external: bool = False

    @property
    def text(self) -> str:
        """What the level gave, for a reader."""
        of = f"{self.n_images} {'images of other collections' if self.is_external else 'test images'}"
        return (
            f"peaks above {self.level:.1f}; on {of} {self.n_inside} of {self.n_peaks} such peaks lay inside a lesion's "
            "outline"
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """One peak or outline that was proposed, a mark of the kind "point" or "outline".

    strength: of the peak, or the network's highest answer within the outline. level: the one that counted then.
    answer: one of `ANSWERS`.
    """

    mark: Mark
    model_id: str
    weights_sha256: str
    strength: float
    level: float
    answer: str = "open"

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS or self.mark.kind not in ("point", "outline"):
            raise InvalidInput("A proposal is a point or an outline that is accepted, edited, rejected or open.")

    def to_json(self) -> dict[str, Any]:
        """As a draft keeps it: without the answer, which follows from the draft's marks."""
        return {
            "mark": self.mark.to_json(),
            "model_id": self.model_id,
            "weights_sha256": self.weights_sha256,
            "strength": self.strength,
            "level": self.level,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Proposal:
        """Raises InvalidInput for what is no proposal."""
        try:
            numbers = float(stored["strength"]), float(stored["level"])
            return cls(Mark.from_json(stored["mark"]), str(stored["model_id"]), str(stored["weights_sha256"]), *numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput("This is not a proposal of a model.") from error


def peaks_of(heat: np.ndarray, level: float, most: int = PEAKS_MOST) -> tuple[Peak, ...]:
    """The local maxima of a map (H, W) in [0, 1] that reach the level, the strongest first, at most `most`.

    Two peaks lie at least `peak_distance` apart; of a plateau the middle counts.
    """
    if not heat.size or float(heat.max()) <= 0:
        return ()
    from scipy import ndimage

    reach = peak_distance(heat.shape)
    is_top = (heat == ndimage.maximum_filter(heat, size=2 * reach + 1)) & (heat >= level)
    labels, count = ndimage.label(is_top, structure=np.ones((3, 3)))
    found = []
    for row, column in ndimage.center_of_mass(is_top, labels, range(1, count + 1)):
        found.append(Peak(float(column) + 0.5, float(row) + 0.5, float(heat[int(row), int(column)])))
    found.sort(key=lambda one: -one.strength)
    return tuple(found[:most])


def peak_distance(shape: tuple[int, ...]) -> int:
    """How far peaks of a map (H, W) lie apart at least: an eighth of the longer side, in pixels."""
    return max(3, max(shape) // 8)


def hits(cases: Sequence[tuple[np.ndarray, np.ndarray]], level: float) -> tuple[int, int]:
    """(peaks, peaks inside an outline) over pairs of a heat map and a boolean mask of one shape."""
    n_peaks = n_inside = 0
    for heat, mask in cases:
        for peak in peaks_of(heat, level):
            n_peaks += 1
            n_inside += bool(mask[int(peak.row), int(peak.column)])
    return n_peaks, n_inside


def level_for(cases: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """The lowest level of `LEVELS` at which at least half of the peaks lie inside; None where none does."""
    for level in LEVELS:
        n_peaks, n_inside = hits(cases, level)
        if n_peaks and n_inside >= SHARE_WANTED * n_peaks:
            return level
    return None


@cache
def measured_levels() -> Mapping[str, PeakLevel]:
    """SHA-256 of weights -> their level, as `python -m core peak-levels` wrote them."""
    stored: Mapping[str, Mapping[str, Any]] = json.loads(LEVELS_FILE.read_text(encoding="utf-8"))
    return {
        sha256: PeakLevel(one["level"], one["n_images"], one["n_peaks"], one["n_inside"], one.get("is_external", False))
        for sha256, one in stored.items()
        if one["level"] is not None
    }
