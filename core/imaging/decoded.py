"""What the decoding process hands back: pixels and what the file says of them, before anything of the site is added."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from core.types import Modality, Window

if TYPE_CHECKING:
    from core.settings import Settings

BITS_GUESSED = (
    "The file does not say how many bits its grey values have; the least that hold its brightest value were assumed, "
    "so its brightness is a guess. Read all images of the exam together, or send the DICOM file."
)
"""A warning that is over once several pictures of one study have settled their bits together."""
RAW = (
    "This is the raw image of the detector (FOR PROCESSING), not what the radiologist usually sees; the models were "
    "made for processed images, so its score stands alone and is not part of the breast's number."
)
VIEW_UNKNOWN = "The file names a view of the breast that is not known here; set the view before reading."
"""A warning that is over once somebody has stated the view."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost. pixels: rows x columns of one frame; unpacked_bytes: all frames of the file together;
    memory_bytes, seconds: of the decoding process."""

    pixels: int
    unpacked_bytes: int
    memory_bytes: int
    seconds: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        from core.settings import MIB  # the child, which is given its limits, would wait longest for pydantic

        return cls(
            pixels=settings.image_megapixels * 1_000_000,
            unpacked_bytes=settings.study_mib * MIB,
            memory_bytes=settings.decode_memory_mib * MIB,
            seconds=settings.decode_seconds,
        )


def frame_warning(frame: int, n_frames: int) -> str:
    """The warning of a picture that is one of several in its file. frame: from 0."""
    return f"This file has {n_frames} frames; frame {frame + 1} is shown."


@dataclass(slots=True)
class Decoded:
    """One decoded picture on its way to a `core.types.Image`.

    pixels: float32 in [0, 1], (H, W), or (H, W, 3) RGB while colour is still undecided or for histology.
    patient: "PatientID|IssuerOfPatientID", only to be hashed with the site's key and forgotten; "" when absent.
    exam: StudyInstanceUID, treated in the same way. taken_on: the day of the exam, "2026-01-31"; "" when absent.
    source: whose and which object it is (`core.imaging.dicom.source`), only to be sealed; empty unless asked for.
    pixel_aspect, view_modifiers, is_scored_alone, guessed_bits, needs_side, regions: as in `core.types.Image`.
    not_scored: why no model reads it if it is a mammogram. pixels_unknown: why none does whatever it is, because
    nobody can know what the pixels mean; "" both where models read it. is_voi_signed: the values of a grey picture
    that go into a window or VOI table are below 0 somewhere, which says how the table begins (PS3.3 C.11.2.1.1).
    """

    pixels: np.ndarray
    modality: Modality | None = None
    modality_source: str = "unknown"
    laterality: str | None = None
    view: str | None = None
    spacing_mm: tuple[float, float] | None = None
    frame: int = 0
    n_frames: int = 1
    windows: tuple[Window, ...] = ()
    window_index: int | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    patient: str = ""
    exam: str = ""
    taken_on: str = ""
    source: dict[str, str] = field(default_factory=dict)
    pixel_aspect: float = 1.0
    view_modifiers: tuple[str, ...] = ()
    not_scored: str = ""
    is_scored_alone: bool = False
    guessed_bits: int | None = None
    needs_side: bool = False
    pixels_unknown: str = ""
    regions: tuple[tuple[int, int, int, int], ...] = ()
    is_voi_signed: bool = False


def clean_text(value: object, limit: int = 64) -> str:
    """Text that came from a file, made fit to be kept: one line of at most `limit` characters; not escaped for HTML.

    Control, format and separator characters become single spaces.
    """
    text = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in str(value)[: 4 * limit])
    return " ".join(text.split())[:limit]
