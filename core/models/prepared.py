"""From an image to the inputs of a model's graph, without the graph: whoever asks prepares, whoever computes answers.

Loads no TensorFlow.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np

from core.errors import InvalidInput
from core.imaging.preprocess import fit_square, with_view
from core.models.cards import Card, members_of
from core.models.outline_card import OutlineCard
from core.types import Fit, Image

DEVICE: ContextVar[int] = ContextVar("device", default=0)
"""The place of this thread's device among `core.models.inference.computing_devices`."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image as one model reads it.

    image_sha256: of the file. inputs: float32 (side, columns, channels) in [0, 1], one for each network of the model
    (an ensemble has several, in the order of its members). fits: the way back of each.
    """

    image_sha256: str
    inputs: tuple[np.ndarray, ...]
    fits: tuple[Fit, ...]

    def of_member(self, number: int) -> Prepared:
        """What the ensemble's member of this number, from 0, reads."""
        return Prepared(self.image_sha256, self.inputs[number : number + 1], self.fits[number : number + 1])


def prepared(card: Card, image: Image) -> Prepared:
    """The inputs of the card's model for this image.

    Raises `InvalidInput` when the image is known to be of another modality than the model, or one that no model
    reads (`Image.unread`); ModelUnavailable for an ensemble whose members are gone.
    """
    if image.modality not in (None, card.modality):
        raise InvalidInput(
            f"{card.title} reads {card.modality} images; this one is {image.modality}. Choose a model for it."
        )
    if image.unread:
        raise InvalidInput(image.unread)
    laid = [_laid(member, image) for member in members_of(card) or (card,)]
    return Prepared(image.sha256, tuple(one for one, _ in laid), tuple(fit for _, fit in laid))


def prepared_for_outline(card: OutlineCard, image: Image) -> Prepared:
    """The input of an outline network for this image."""
    square, fit = fit_square(image, card.input.side)
    return Prepared(image.sha256, (square,), (fit,))


def _laid(card: Card, image: Image) -> tuple[np.ndarray, Fit]:
    square, fit = fit_square(_with_channels(image, card), card.side, card.input.columns, card.input.chest_wall)
    return (with_view(square, image.view) if card.channels == 2 else square), fit


def _with_channels(image: Image, card: Card) -> Image:
    if card.channels < 3 and image.is_colour:
        grey = np.clip(image.pixels @ np.asarray((0.299, 0.587, 0.114), np.float32), 0, 1)
        return replace(image, pixels=grey.astype(np.float32))
    if card.channels == 3 and not image.is_colour:
        return replace(image, pixels=np.repeat(image.pixels[..., None], 3, axis=2))
    return image
