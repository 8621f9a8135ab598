"""Lesions of ultrasound images: outlines that the network proposes, each with its measured descriptors.

For the page, the command line and tests alike. Loads no TensorFlow by itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import InvalidInput
from core.findings.marks import Mark
from core.findings.outlines import Outline, boundary, outlines_of
from core.findings.proposals import Proposal
from core.findings.sketches import proposal_uid
from core.findings.ultrasound_descriptors import Descriptor, measure_lesion
from core.models.outline_card import OutlineCard
from core.serving.inference import inference
from core.types import Image, Modality

_HELD_MOST = 32
_LOCK = threading.Lock()
_HELD: OrderedDict[tuple[Any, ...], tuple[OutlinedLesion, ...]] = OrderedDict()
"""Of the last images: a page is drawn anew at every click. By weights, file and what its pixels and sizes came from."""


@dataclass(frozen=True, slots=True)
class OutlinedLesion:
    """One proposed outline and what was measured within it."""

    outline: Outline
    descriptors: tuple[Descriptor, ...]


def outline_proposals(card: OutlineCard, image: Image, lesions: Sequence[OutlinedLesion]) -> dict[str, Proposal]:
    """The outlines as marks that a reader can move, accept and reject, by the ids of the marks, in their order."""
    return {
        proposal_uid("outline", card.weights.sha256, image.sha256, image.frame, number): Proposal(
            Mark(image.sha256, image.frame, "outline", boundary(lesion.outline.mask)),
            card.model_id,
            card.weights.sha256,
            lesion.outline.peak,
            card.least_peak,
        )
        for number, lesion in enumerate(lesions)
    }


def is_outlined(image: Image) -> bool:
    """Whether the outline network reads such an image."""
    return image.is_read_by(Modality.ULTRASOUND)


def outlined_lesions(card: OutlineCard, image: Image) -> tuple[OutlinedLesion, ...]:
    """The proposed outlines of one ultrasound image, the surest first, with their descriptors; () where it sees none.

    The first call loads the network (seconds). Raises ModelUnavailable; InvalidInput for an image of another kind.
    """
    if not is_outlined(image):
        raise InvalidInput("Outlines are proposed in ultrasound images only. Choose another image.")
    key = (
        card.weights.sha256, image.sha256, image.frame, image.window_index, image.guessed_bits, image.spacing_mm,
        image.aspect,
    )  # fmt: skip
    with _LOCK:
        if key in _HELD:
            _HELD.move_to_end(key)
            return _HELD[key]
    probability = inference().outline(card, image, lambda place: None)
    found = tuple(
        OutlinedLesion(outline, measured_within(image, outline.mask))
        for outline in outlines_of(probability, level=card.level, least_peak=card.least_peak)
    )
    with _LOCK:
        _HELD[key] = found
        while len(_HELD) > _HELD_MOST:
            _HELD.popitem(last=False)
    return found


def measured_within(image: Image, mask: np.ndarray) -> tuple[Descriptor, ...]:
    """The descriptors of what lies within an outline, bool (H, W), whoever drew it."""
    return measure_lesion(
        image.pixels, mask, spacing_mm=image.spacing_mm, aspect=image.aspect, colour_share=image.colour_share
    )
