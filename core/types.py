"""The nouns every room uses. Frozen, validated where they are made, free of TensorFlow, Streamlit and SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

import numpy as np

from core.errors import UnreadableImage


class Modality(StrEnum):
    """What kind of picture it is; the value is the word on screen, on the command line and in manifests."""

    MAMMOGRAPHY = "mammography"
    ULTRASOUND = "ultrasound"
    HISTOLOGY = "histology"


LATERALITIES = ("R", "L")
VIEWS = ("CC", "MLO", "ML", "LM", "LMO", "XCCL", "XCCM", "AT", "SIO", "ISO", "FB", "RCC")
CRANIOCAUDAL_VIEWS = ("CC", "XCCL", "XCCM", "RCC")
LATERAL_VIEWS = ("MLO", "ML", "LM", "LMO")
"""Views that look from the side, straight or obliquely."""
IMPLANT_DISPLACED = "implant displaced"
"""The modifier of a view whose implant was pushed back; see `Image.view_modifiers`."""
SIDE_NOT_STATED = "U"
"""The key of the breast in reads and truths when no image says which side it shows."""

NEEDS_SIDE = (
    "No model reads this picture before somebody states left or right: the file names both breasts, or contradicts "
    "itself on the side."
)


@dataclass(frozen=True, slots=True)
class Window:
    """One way of showing the stored values (DICOM PS3.3 C.11.2.1.2); `center` and `width` in modality units."""

    center: float
    width: float
    function: str = "LINEAR"
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of one patient, decoded and upright, ready to be looked at or measured.

    pixels: float32 in [0, 1], (H, W) grey, or (H, W, 3) RGB for histology; 0 is shown black, whatever polarity the
        file had.
    sha256: of the file's bytes, hex; the only name an image has in logs, caches and records.
    modality: None while nobody knows; `modality_source` is "tags", "argument", "pixels", "reader" or "unknown".
    laterality: "L", "R" or None. view: one of `VIEWS` or None.
    spacing_mm: (row, column) distance between pixel centres, or None when the file does not say.
    pixel_aspect: distance between rows by distance between columns, where spacing_mm does not say it; see `aspect`.
    view_modifiers: "spot compression", "implant displaced" and other words on how the view was taken.
    not_scored: why no model reads this picture, as a sentence that is among the warnings too; "" when models do.
    needs_side: the file names both breasts, or contradicts itself on the side; see `unread`.
    is_scored_alone: models read it, but it stays out of the breast's number (a spot view, a raw image).
    guessed_bits: the bits a grey value was assumed to have where the file does not say, or None; pictures of one study
        share them (`core.imaging.picture.on_one_scale`).
    frame, n_frames: which frame of a multi-frame file this is (from 0).
    windows: the windows the file offers; `window_index` says which one made `pixels` (None: full range).
    notes: what was done to the file's pixels on the way in, in order.
    warnings: sentences the reader should see before trusting the picture.
    tags: DICOM keywords and values from the allow-list of `core.imaging.dicom.tags`; never identifying.
    patient_hash: keyed hash of PatientID (HMAC-SHA256 with the site's key, hex), or None.
    colour_share: of the file's pixels, how many were coloured before a grey picture was made of them (Doppler); with
        `frames` the highest share of any, for whichever is read.
    exam_hash: the same of StudyInstanceUID. taken_on: the day of the exam as the file says it, or None.
    regions: where the file says that the picture itself lies (calibrated regions of ultrasound, PS3.3 C.8.5.5), each
        (top, bottom, left, right), ends included; empty where it does not say so. Text stands outside them as a rule.
    frames: every frame of a clip or a stack as `core.imaging.picture.png_of` gives it, `pixels` being one of them, on
        its way to the store; empty for a single picture, and for what comes from there.
    """

    pixels: np.ndarray
    sha256: str
    modality: Modality | None = None
    modality_source: str = "unknown"
    laterality: str | None = None
    view: str | None = None
    spacing_mm: tuple[float, float] | None = None
    frame: int = 0
    n_frames: int = 1
    windows: tuple[Window, ...] = ()
    window_index: int | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    patient_hash: str | None = None
    pixel_aspect: float = 1.0
    view_modifiers: tuple[str, ...] = ()
    not_scored: str = ""
    is_scored_alone: bool = False
    guessed_bits: int | None = None
    needs_side: bool = False
    exam_hash: str | None = None
    taken_on: date | None = None
    colour_share: float = 0.0
    regions: tuple[tuple[int, int, int, int], ...] = ()
    frames: tuple[bytes, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.float32 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
            raise ValueError(f"pixels must be float32 (H, W) or (H, W, 3), not {self.pixels.dtype} {shape}")
        # What is no number is neither more nor less than another, and goes through minimum and maximum.
        if not (self.pixels.min() >= 0 and self.pixels.max() <= 1):
            raise UnreadableImage("The picture holds values that are not numbers between black and white.")
        if self.laterality not in (None, *LATERALITIES):
            raise ValueError(f"laterality must be L, R or None, not {self.laterality!r}")
        if self.view not in (None, *VIEWS):
            raise ValueError(f"view must be one of {VIEWS} or None, not {self.view!r}")
        if not 0.05 <= self.pixel_aspect <= 20:
            raise ValueError(f"pixel_aspect must lie between 0.05 and 20, not {self.pixel_aspect!r}")

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def is_colour(self) -> bool:
        return self.pixels.ndim == 3

    @property
    def aspect(self) -> float:
        """Distance between rows by distance between columns: 1 for square pixels."""
        aspect = self.spacing_mm[0] / self.spacing_mm[1] if self.spacing_mm else self.pixel_aspect
        return aspect if 0.05 <= aspect <= 20 else 1.0

    @property
    def unread(self) -> str:
        """Why no model reads the picture as it is now: `not_scored`, or the side that somebody has to state first; ""
        when models do."""
        return self.not_scored or (NEEDS_SIDE if self.needs_side and self.laterality is None else "")

    def is_read_by(self, modality: Modality) -> bool:
        """Whether a model of this modality reads the picture."""
        return self.modality is modality and not self.unread


@dataclass(frozen=True, slots=True)
class Fit:
    """How an image was laid into a model's input of `side` rows and `columns` columns, and so the way back.

    The box (row0, row1, column0, column1) of the image, half-open, was scaled to (height, width) pixels, turned left to
    right where it `is_mirrored`, and laid at (top, left) of the input; what is outside is padding. columns: 0 for a
    square.
    """

    image_shape: tuple[int, int]
    box: tuple[int, int, int, int]
    side: int
    top: int
    left: int
    height: int
    width: int
    columns: int = 0
    is_mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one model says of one image.

    probabilities: calibrated, one a class, in the order of `classes`, summing to 1.
    malignant: the calibrated probability of the class that counts as positive.
    malignant_samples: the same probability under each bootstrap refit of the calibration (validation cases drawn
        anew by patient); the 95 % interval is read from them.
    threshold: on `malignant`. threshold_rule: how the site had it chosen, in words; empty for the card's own.
    training_distance: how far the image lies from the training images, above 1 beyond what 95 % of images like them
        keep below (`core.models.training_distance`); None where the model cannot tell.
    seconds: wall time of the forward pass with its maps. device: what computed it.
    """

    model_id: str
    weights_sha256: str
    image_sha256: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    malignant: float
    malignant_samples: tuple[float, ...]
    threshold: float
    seconds: float
    device: str
    threshold_rule: str = ""
    training_distance: float | None = None

    @property
    def is_unlike_training(self) -> bool:
        """Whether the image lies beyond what the model learnt from: its answer is a guess then."""
        return is_unlike(self.training_distance)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `malignant` from the uncertainty of the calibration."""
        return interval_of(self.malignant_samples, self.malignant)

    @property
    def is_above_threshold(self) -> bool:
        return is_called(self.malignant, self.threshold)


def is_unlike(training_distance: float | None) -> bool:
    """Whether a distance from the training images is beyond the level; at the level it is not."""
    return training_distance is not None and training_distance > 1


def is_called(score: float, threshold: float) -> bool:
    """Whether a score counts as positive. At the threshold it does: thresholds are chosen among the scores."""
    return score >= threshold


def interval_of(samples: Sequence[float], value: float) -> tuple[float, float]:
    """The central 95 % of `samples`, widened where needed so that it holds `value`."""
    if not samples:
        return value, value
    low, high = np.percentile(np.asarray(samples, np.float64), (2.5, 97.5))
    return min(float(low), value), max(float(high), value)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a model looked: Grad-CAM maps on the model's own square, and the way back to the image.

    maps: branch name -> float32 (classes, h, w), >= 0, not normalised. The branch "fused" is always there.
    Use `core.imaging.preprocess.heat_map(explanation, branch, class_index)` for the map in the image's geometry.
    """

    classes: tuple[str, ...]
    positive_index: int
    maps: Mapping[str, np.ndarray]
    fit: Fit


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number with its 95 % interval and the number of cases it comes from.

    bias: mean of the draws less the value, where the draws' own interval would not hold the value and was widened to;
    None elsewhere.
    """

    value: float
    low: float
    high: float
    n: int
    bias: float | None = None

    @property
    def widened_text(self) -> str:
        """That the interval was widened to hold its value, and by how much the draws lie beside it; "" elsewhere."""
        return "" if self.bias is None else f"widened: draws lean {self.bias:+.3f}"
