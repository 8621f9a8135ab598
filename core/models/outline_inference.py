"""From the card of an outline network to what it says of each pixel of an image."""

from __future__ import annotations

import threading

import numpy as np
import tensorflow as tf

from core.imaging.preprocess import fit_square, unfit
from core.models.architectures.outline import outline_network
from core.models.outline_card import OutlineCard
from core.models.weights import load_state, read_shards
from core.types import Image

_LOCK = threading.Lock()
_LOADED: dict[str, LoadedOutline] = {}


class LoadedOutline:
    """A fitted outline network, in memory and warmed up."""

    def __init__(self, card: OutlineCard) -> None:
        self.card = card
        graph = outline_network(side=card.input.side)
        load_state(graph.model, read_shards(card.folder, card.weights.files, card.weights.sha256))
        model = graph.model
        self.forward = tf.function(
            lambda squares: tf.sigmoid(model(squares, training=False)),
            input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)],
        )
        self.forward(tf.zeros((1, card.input.side, card.input.side, 1)))

    def probability(self, image: Image) -> np.ndarray:
        """float32 (H, W) of the image, in [0, 1]: how likely a lesion covers the pixel, not calibrated."""
        square, fit = fit_square(image, self.card.input.side)
        cells = self.forward(tf.constant(square[None])).numpy()[0, ..., 0]
        return unfit(cells, fit)


def loaded_outline(card: OutlineCard) -> LoadedOutline:
    """The network of these weights, loaded at the first call (seconds); one is held. Raises ModelUnavailable."""
    with _LOCK:
        found = _LOADED.get(card.weights.sha256)
        if found is None:
            _LOADED.clear()
            found = _LOADED[card.weights.sha256] = LoadedOutline(card)
        return found
