"""What a training step is fed: squares augmented anew, or what frozen layers made of augmented views, computed once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from core.types import Modality
from train.augment import NO_CHANGE, PRESETS, Augmentation, augment
from train.config import FitConfig
from train.feature_cache import FeatureCache, key_of
from train.network import Trainable, compiled
from train.squares import Squares

log = logging.getLogger(__name__)

Batch = tuple[list[Any], Any, np.ndarray, np.ndarray]
"""What the tail reads (a part a branch), masks (n, h, w, 1), labels (n,), whether the mask is known (n,)."""

_MASK_SIDE = 32
"""Masks of kept views are stored this small: no last map is finer."""


def preset_of(config: FitConfig) -> Augmentation:
    """How this run changes its squares."""
    return PRESETS[Modality(config.modality)] if config.augmentation == "modality" else NO_CHANGE


class Fresh:
    """Batches of squares augmented anew every epoch."""

    def __init__(self, cases: Squares, config: FitConfig) -> None:
        self.cases, self.config = cases, config
        self.augment = tf.function(lambda x, m, seed: augment(x, m, preset_of(config), seed))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of that epoch (from 1), the same for the same seed."""
        rng = np.random.default_rng((self.config.seed, number))
        order = rng.permutation(len(self.cases))
        for index in range(0, len(order) - self.config.batch + 1, self.config.batch):
            chosen = order[index : index + self.config.batch]
            seed = tf.constant(rng.integers(0, 2**31, 2, dtype=np.int64), tf.int32)
            pixels, masks = self.augment(*self.cases.tensors(chosen), seed)
            yield [pixels], masks, self.cases.labels[chosen], self.cases.has_mask[chosen]

    def samples(self, views: int) -> Iterator[list[np.ndarray]]:
        """For each of so many views, the first of them unchanged, all cases in order: what the network reads."""
        for view in range(views):
            pieces = []
            for index in range(0, len(self.cases), 32):
                pixels, masks = self.cases.tensors(np.arange(index, min(index + 32, len(self.cases))))
                if view > 0:
                    seed = tf.constant([self.config.seed * 1000 + view, index])
                    pixels, _ = self.augment(pixels, masks, seed)
                pieces.append(np.asarray(pixels, np.float16))
            yield [np.concatenate(pieces)]


class Views:
    """Batches of what the frozen stem made of augmented views of every case, computed once (float16)."""

    def __init__(self, trainable: Trainable, cases: Squares, config: FitConfig, cache: FeatureCache | None) -> None:
        assert trainable.stem is not None
        self.cases, self.config = cases, config
        self.stem = compiled(trainable.stem)
        self.fresh = Fresh(cases, config)
        weights = key_of([np.asarray(variable) for variable in trainable.stem.variables])
        data = key_of([cases.pixels, cases.masks], asdict(preset_of(config)))
        self.views: list[list[np.ndarray]] = []  # for each view: a part a branch, then the masks
        for view in range(config.views):
            began = time.monotonic()
            if cache is None:
                self.views.append(self._made(view))
            else:
                key = key_of([], weights, data, trainable.stem.output_names, config.seed if view else "plain", view)
                self.views.append(cache.get(key, lambda view=view: self._made(view)))  # type: ignore[misc]
            log.info("view %d of %d at hand after %.0f s", view + 1, config.views, time.monotonic() - began)

    def _made(self, view: int) -> list[np.ndarray]:
        parts: list[list[np.ndarray]] = []
        for index in range(0, len(self.cases), 32):
            pixels, mask = self.cases.tensors(np.arange(index, min(index + 32, len(self.cases))))
            if view > 0:  # the first view is the square as it is
                pixels, mask = self.fresh.augment(pixels, mask, tf.constant([self.config.seed * 1000 + view, index]))
            small = tf.image.resize(mask, (_MASK_SIDE, _MASK_SIDE), method="area")
            parts.append([np.asarray(part, np.float16) for part in [*tf.nest.flatten(self.stem(pixels)), small]])
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of that epoch (from 1): each case once, in a view drawn for it."""
        rng = np.random.default_rng((self.config.seed, number))
        order = rng.permutation(len(self.cases))
        drawn = rng.integers(0, self.config.views, len(order))
        for index in range(0, len(order) - self.config.batch + 1, self.config.batch):
            chosen = order[index : index + self.config.batch]
            *parts, masks = (
                np.stack([self.views[drawn[case]][part][case] for case in chosen]).astype(np.float32)
                for part in range(len(self.views[0]))
            )
            yield list(parts), masks, self.cases.labels[chosen], self.cases.has_mask[chosen]

    def samples(self, views: int) -> Iterator[list[np.ndarray]]:
        """For each of so many views, the first of them unchanged, all cases in order: what the tail reads."""
        for parts in self.views[:views]:
            yield parts[:-1]
