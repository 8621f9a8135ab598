"""From the card of an outline network to what it says of each cell of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from core.models.architectures.outline import outline_network
from core.models.inference import on_device
from core.models.outline_card import OutlineCard
from core.models.prepared import Prepared
from core.models.weights import load_state, read_shards


class LoadedOutline:
    """A fitted outline network, in memory and warmed up. `core.models.loaded` makes it once a process and shares it.

    n_bytes: of its weights, float32.
    """

    def __init__(self, card: OutlineCard) -> None:
        self.card = card
        with on_device():
            graph = outline_network(side=card.input.side)
            load_state(graph.model, read_shards(card.folder, card.weights.files, card.weights.sha256))
        model = graph.model
        self.n_bytes = 4 * model.count_params()
        self.forward = tf.function(
            lambda squares: tf.sigmoid(model(squares, training=False)),
            input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)],
        )
        with on_device():
            self.forward(tf.zeros((1, card.input.side, card.input.side, 1)))

    def cells(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """float32 (side, side), in [0, 1], for each prepared image (`prepared_for_outline`): how likely a lesion
        covers the cell, not calibrated."""
        with on_device():
            return [self.forward(tf.constant(one.inputs[0][None])).numpy()[0, ..., 0] for one in batch]
