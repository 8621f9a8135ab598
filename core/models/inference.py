"""From a card to a loaded model, and from an image to what the model says of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from core.errors import InvalidInput
from core.imaging.preprocess import fit_square
from core.models.calibration import log_odds
from core.models.cards import Card, members_of
from core.models.device import gpu_text, processor_text
from core.models.ensemble import Ensemble
from core.models.explain import explained, fused_map
from core.models.registry import architecture
from core.models.weights import load_state, read_shards
from core.types import Explanation, Image, Prediction

_BUILDING = threading.Lock()
"""Keras's dtype policy is global while a graph is built."""


class LoadedModel:
    """A fitted model, in memory and warmed up. Make it once a process for each weights sha256, then share it."""

    def __init__(self, card: Card) -> None:
        entry = architecture(card.architecture)
        outputs = 1 if len(card.classes) == 2 else len(card.classes)
        with _BUILDING:
            before = keras.config.dtype_policy()
            keras.config.set_dtype_policy(compute_policy())
            try:
                self.graph = entry.build(side=card.side, channels=card.channels, outputs=outputs)
            finally:
                keras.config.set_dtype_policy(before)
        load_state(self.graph.model, read_shards(card.folder, card.weights_files, card.weights_sha256))
        self.card = card
        self.branches = tuple(self.graph.maps)
        self.forward = explained(self.graph.model, tuple(self.graph.maps.values()))
        self.device = device_name()
        self.forward(tf.zeros((1, card.side, card.side, card.channels)))  # traced now, not at the first patient

    def read(self, image: Image) -> tuple[Prediction, Explanation]:
        """The calibrated prediction of one image and where the model looked.

        Raises `InvalidInput` when the image is known to be of another modality than the model, or one that no model
        reads (`Image.not_scored`).
        """
        card = self.card
        if image.modality not in (None, card.modality):
            raise InvalidInput(
                f"{card.title} reads {card.modality} images; this one is {image.modality}. Choose a model for it."
            )
        if image.not_scored:
            raise InvalidInput(image.not_scored)
        square, fit = fit_square(_with_channels(image, card), card.side)
        began = time.perf_counter()
        logits, cams = self.forward(tf.constant(square[None]))
        logits = logits.numpy()
        maps = {name: cam.numpy()[0] for name, cam in zip(self.branches, cams, strict=True)}
        seconds = time.perf_counter() - began
        maps["fused"] = fused_map(cams).numpy()[0] if len(cams) > 1 else next(iter(maps.values()))
        probabilities = card.calibration.probabilities(logits)[0]
        prediction = Prediction(
            model_id=card.model_id,
            weights_sha256=card.weights_sha256,
            image_sha256=image.sha256,
            classes=card.classes,
            probabilities=tuple(float(value) for value in probabilities),
            malignant=float(probabilities[card.positive_index]),
            malignant_samples=tuple(
                float(value) for value in card.calibration.sampled(logits, card.positive_index)[0].round(5)
            ),
            threshold=card.threshold,
            seconds=seconds,
            device=self.device,
        )
        return prediction, Explanation(card.classes, card.positive_index, maps, fit)


class LoadedEnsemble:
    """Several fitted models that answer as one: what its members predict, combined and calibrated anew."""

    def __init__(self, card: Card, members: Sequence[LoadedModel]) -> None:
        self.card, self.members = card, tuple(members)
        self.ensemble = Ensemble.from_card(card.raw["ensemble"])
        weights = self.ensemble.weights or (1.0,) * len(self.members)
        self.leading = int(np.argmax(weights))
        self.branches = self.members[self.leading].branches
        self.device = device_name()

    def read(self, image: Image) -> tuple[Prediction, Explanation]:
        """As `LoadedModel.read`; the maps are those of the member with the greatest weight."""
        answers = [member.read(image) for member in self.members]
        card = self.card
        stack = np.asarray([prediction.probabilities for prediction, _ in answers])[:, None, :]
        logits = log_odds(self.ensemble.probabilities(stack))
        probabilities = card.calibration.probabilities(logits)[0]
        prediction = replace(
            answers[0][0],
            model_id=card.model_id,
            weights_sha256=card.weights_sha256,
            classes=card.classes,
            probabilities=tuple(float(value) for value in probabilities),
            malignant=float(probabilities[card.positive_index]),
            malignant_samples=tuple(
                float(value) for value in card.calibration.sampled(logits, card.positive_index)[0].round(5)
            ),
            threshold=card.threshold,
            seconds=sum(prediction.seconds for prediction, _ in answers),
        )
        return prediction, answers[self.leading][1]


Reader = LoadedModel | LoadedEnsemble
"""What reads an image."""

_LOADED: dict[str, Reader] = {}
_LOADING = threading.RLock()


def load_model(card: Card) -> Reader:
    """The model of these weights, loaded and warmed up at the first call in this process and shared after it.

    An ensemble shares its members with those who read with them alone.
    """
    with _LOADING:
        if card.weights_sha256 not in _LOADED:
            members = [load_model(member) for member in members_of(card)]
            networks = [member for member in members if isinstance(member, LoadedModel)]
            _LOADED[card.weights_sha256] = LoadedEnsemble(card, networks) if networks else LoadedModel(card)
        return _LOADED[card.weights_sha256]


def second_read(
    models: Sequence[Reader], images: Sequence[Image], progress: Callable[[int, int], None] = lambda done, of: None
) -> list[list[tuple[Prediction, Explanation]]]:
    """What each model says of each image: a list an image; models that do not read it are left out of it."""
    answers: list[list[tuple[Prediction, Explanation]]] = []
    for number, image in enumerate(images):
        progress(number, len(images))
        fitting = [model for model in models if image.is_read_by(model.card.modality)]
        answers.append([model.read(image) for model in fitting])
    progress(len(images), len(images))
    return answers


@lru_cache(maxsize=1)
def compute_policy() -> str:
    """ "mixed_bfloat16" where the processor multiplies bfloat16 natively, "mixed_float16" on a GPU, else "float32"."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        return "mixed_float16"
    cpu_info = Path("/proc/cpuinfo")
    flags = cpu_info.read_text() if cpu_info.is_file() else ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


@lru_cache(maxsize=1)
def device_name() -> str:
    """What computes, in words: the GPU with its memory or the processor with its cores, and the number format."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = gpu_text(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    else:
        name = processor_text()
    return f"{name}, {compute_policy()}"


def _with_channels(image: Image, card: Card) -> Image:
    if card.channels == 1 and image.is_colour:
        grey = np.clip(image.pixels @ np.asarray((0.299, 0.587, 0.114), np.float32), 0, 1)
        return replace(image, pixels=grey.astype(np.float32))
    if card.channels == 3 and not image.is_colour:
        return replace(image, pixels=np.repeat(image.pixels[..., None], 3, axis=2))
    return image
