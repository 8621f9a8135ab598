"""From a card to a loaded model, and from an image to what the model says of it and where it looked.

Grad-CAM inside the forward pass: one compiled call gives logits and every branch's maps for every class. Grad-CAM
(Selvaraju et al. 2017): the maps A of the last convolution, weighted by the mean gradient of a class score with respect
to each map, summed, negative parts cut. From A to the score lies only a small head, so the gradient never enters the
backbone and costs almost nothing.

An outline network (`LoadedOutline`) says of each cell of an image how likely a lesion covers it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from core.models.architectures import Graph
from core.models.architectures.outline import outline_network
from core.models.calibration import log_odds
from core.models.cards import Card
from core.models.ensemble import Ensemble
from core.models.outline_card import OutlineCard
from core.models.prepared import DEVICE, Prepared, prepared
from core.models.registry import architecture
from core.models.training_distance import read_training_distance
from core.models.weights import load_state, read_shards
from core.types import Explanation, Image, Prediction

Compiled = Callable[[tf.Tensor], tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]]
Answer = tuple[Prediction, Explanation]
ASK_SECONDS = 10
_BUILDING = threading.Lock()
"""Keras's dtype policy is global while a graph is built."""


class LoadedModel:
    """A fitted model, in memory and warmed up. `core.models.loaded` makes it once a process and shares it.

    n_bytes: of its weights, float32, and once more for each program of another engine.
    """

    members: tuple[LoadedModel, ...] = ()

    def __init__(self, card: Card) -> None:
        self.graph = built_graph(card, compute_policy())
        self.n_bytes = 4 * self.graph.model.count_params()
        self.card = card
        self.distance = read_training_distance(card)
        self.branches = tuple(self.graph.maps)
        self.forward = explained(self.graph.model, tuple(self.graph.maps.values()))
        self.device = device_name()
        with on_device():
            self.forward(tf.zeros((1, card.side, card.columns, card.channels)))  # traced now, not at the first patient

    def take_engine(self, graph: Graph, forward: Compiled, name: str, *, n_programs: int) -> None:
        """From the next image on compute with this, the same network elsewhere. graph: what `forward` is of.

        n_programs: each with the weights, for one image or any number at once.
        """
        with on_device():
            for n in range(1, n_programs + 1):
                forward(tf.zeros((n, *graph.model.input_shape[1:])))
        self.graph, self.forward, self.n_bytes = graph, forward, (1 + n_programs) * 4 * graph.model.count_params()
        self.device = f"{processor_text()}, float32, {name}"

    def read(self, image: Image) -> tuple[Prediction, Explanation]:
        """The calibrated prediction of one image and where the model looked. Raises as `prepared`."""
        return self.read_prepared([prepared(self.card, image)])[0]

    def read_prepared(self, batch: Sequence[Prepared]) -> list[Answer]:
        """The answers to several images in one forward pass, in their order; `seconds` is each one's share of it.

        The pass has 1, 2, 4 … rows, the last ones black where fewer were asked about: the processor's library prepares
        itself anew for every number of rows that it meets first.
        """
        card = self.card
        squares = np.zeros((1 << (len(batch) - 1).bit_length(), *batch[0].inputs[0].shape), np.float32)
        for row, one in enumerate(batch):
            squares[row] = one.inputs[0]
        began = time.perf_counter()
        with on_device():
            logits, cams, features = self.forward(tf.constant(squares))
        logits = logits.numpy()[: len(batch)]
        seconds = (time.perf_counter() - began) / len(batch)
        maps = {name: cam.numpy() for name, cam in zip(self.branches, cams, strict=True)}
        maps["fused"] = fused_map(cams).numpy() if len(cams) > 1 else next(iter(maps.values()))
        probabilities = card.calibration.probabilities(logits)
        samples = card.calibration.sampled(logits, card.positive_index).round(5)
        distances = self.distance.relative(features.numpy()[: len(batch)]) if self.distance else None
        answers = []
        for row, one in enumerate(batch):
            prediction = Prediction(
                model_id=card.model_id,
                weights_sha256=card.weights_sha256,
                image_sha256=one.image_sha256,
                classes=card.classes,
                probabilities=tuple(float(value) for value in probabilities[row]),
                malignant=float(probabilities[row][card.positive_index]),
                malignant_samples=tuple(float(value) for value in samples[row]),
                threshold=card.threshold.value,
                seconds=seconds,
                device=self.device,
                training_distance=None if distances is None else round(float(distances[row]), 4),
            )
            own = {name: cam[row] for name, cam in maps.items()}
            answers.append((prediction, Explanation(card.classes, card.positive_index, own, one.fits[0])))
        return answers


class LoadedEnsemble:
    """Several fitted models that answer as one: what its members predict, combined and calibrated anew."""

    def __init__(self, card: Card, members: Sequence[LoadedModel]) -> None:
        self.card, self.members = card, tuple(members)
        self.ensemble = Ensemble.from_card(card.ensemble.model_dump() if card.ensemble else {})
        weights = self.ensemble.weights or (1.0,) * len(self.members)
        self.leading = int(np.argmax(weights))
        self.branches = self.members[self.leading].branches
        self.device = device_name()

    def read(self, image: Image) -> tuple[Prediction, Explanation]:
        """As `LoadedModel.read`; the maps are those of the member with the greatest weight."""
        return self.read_prepared([prepared(self.card, image)])[0]

    def read_prepared(self, batch: Sequence[Prepared]) -> list[Answer]:
        """As `LoadedModel.read_prepared`."""
        return self.combined(
            [
                member.read_prepared([one.of_member(number) for one in batch])
                for number, member in enumerate(self.members)
            ]
        )

    def combined(self, by_member: Sequence[Sequence[Answer]]) -> list[Answer]:
        """What the ensemble says where its members, in their order, said this of the same images."""
        return [self._together(answers) for answers in zip(*by_member, strict=True)]

    def _together(self, answers: Sequence[Answer]) -> Answer:
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
            threshold=card.threshold.value,
            seconds=sum(prediction.seconds for prediction, _ in answers),
            # What one member cannot know, the ensemble of it cannot either.
            training_distance=max(
                (one.training_distance for one, _ in answers if one.training_distance is not None), default=None
            ),
        )
        return prediction, answers[self.leading][1]


def built_graph(card: Card, policy: str) -> Graph:
    """The card's network with its weights, its layers computing in this Keras dtype policy. Raises ModelUnavailable."""
    outputs = 1 if len(card.classes) == 2 else len(card.classes)
    with on_device():
        graph = unfitted_graph(
            card.architecture, policy, side=card.side, channels=card.channels, outputs=outputs, columns=card.columns
        )
        load_state(graph.model, read_shards(card.folder, card.weights_files, card.weights_sha256))
    return graph


def unfitted_graph(architecture_id: str, policy: str, **shape: int) -> Graph:
    """An architecture's network as it begins, computing in this Keras dtype policy; shape: what it is built with."""
    entry = architecture(architecture_id)
    with _BUILDING:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return entry.build(**shape)
        finally:
            keras.config.set_dtype_policy(before)


Reader = LoadedModel | LoadedEnsemble
"""What reads an image."""


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


def has_gpu() -> bool:
    """Whether a GPU computes."""
    return bool(tf.config.list_physical_devices("GPU"))


@lru_cache(maxsize=1)
def computing_devices() -> tuple[str, ...]:
    """TensorFlow's names of what computes side by side: every GPU; without any the processor, which is one.

    Logical devices, into which a test divides a processor and a site may divide a GPU.
    """
    compute_policy()  # memory growth is set before a device is used
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tuple(one.name for one in found)


def on_device() -> AbstractContextManager[object]:
    """In the block TensorFlow computes on this thread's device (`core.models.prepared`)."""
    devices = computing_devices()
    return tf.device(devices[DEVICE.get()]) if len(devices) > 1 else nullcontext()


@lru_cache(maxsize=1)
def device_name() -> str:
    """What computes, in words: the GPU with its memory or the processor with its cores, and the number format."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = gpu_text(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    else:
        name = processor_text()
    return f"{name}, {compute_policy()}"


def processor_text() -> str:
    """The processor's model and how many cores this process may use: "AMD EPYC, 2 cores"."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{_processor_model()}, {n_cores} {'core' if n_cores == 1 else 'cores'}"


def gpu_text(name: str) -> str:
    """The GPU's name and memory: "NVIDIA H200, 140 GiB"; the name alone where the driver's tool does not tell."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return name
    asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=ASK_SECONDS, check=True).stdout
        of_name = dict(line.rsplit(",", 1) for line in told.strip().splitlines())
        return f"{name}, {int(of_name[name]) / 1024:.0f} GiB"
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return name


def _processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
    words = found.replace("(R)", "").replace("(TM)", "").split()
    return " ".join(words) or platform.processor() or platform.machine() or "processor"


def explained(model: keras.Model, map_layers: Sequence[str]) -> Compiled:
    """A compiled function: squares (n, side, side, c) -> logits (n, outputs), for each layer in `map_layers` the
    Grad-CAM maps (n, classes, h, w), >= 0, not normalised, and the layers' features (n, d): each map's mean.

    With one logit the classes are [against it, for it]: the maps of the first are those of the negated logit.
    """
    backbone, rest = backbone_of(model, map_layers), after_backbone(model, map_layers)

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)])  # type: ignore[untyped-decorator]
    def forward(squares: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        return rest(tf.nest.flatten(backbone(squares, training=False)))

    compiled: Compiled = forward
    return compiled


def backbone_of(model: keras.Model, map_layers: Sequence[str]) -> keras.Model:
    """From squares (n, side, side, c) to each layer's maps (n, h, w, k)."""
    return keras.Model(model.input, [model.get_layer(name).output for name in map_layers])


def after_backbone(
    model: keras.Model, map_layers: Sequence[str]
) -> Callable[[list[tf.Tensor]], tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]]:
    """From the layers' maps to what `explained` answers; not compiled."""
    pooled = pooled_maps(model, map_layers)
    ends = pooled or [model.get_layer(name).output for name in map_layers]
    head = keras.Model(ends, model.output)
    outputs = model.output_shape[1]
    towards = np.array([[-1.0], [1.0]], np.float32) if outputs == 1 else np.eye(outputs, dtype=np.float32)
    """Of each class, how its score changes with the logits."""

    def rest(maps: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        means = [tf.reduce_mean(tf.cast(one, tf.float32), axis=(1, 2)) for one in maps]  # each (n, k)
        asked = [tf.cast(mean, one.dtype) for mean, one in zip(means, maps, strict=True)] if pooled else maps
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            # Watched here, not the variables: a model with every layer frozen has a gradient all the same.
            tape.watch(asked)
            logits = head(asked if len(asked) > 1 else asked[0], training=False)
        gradients = [
            tape.gradient(logits, asked, output_gradients=tf.zeros_like(logits) + tf.cast(one, logits.dtype))
            for one in towards
        ]
        cams = []
        for branch, activation in enumerate(maps):
            per_class = [tf.cast(of_class[branch], tf.float32) for of_class in gradients]
            if pooled:  # each cell of a map has the same gradient: a share of that of the map's mean
                weights = tf.stack(per_class, axis=1) / float(activation.shape[1] * activation.shape[2])
            else:
                weights = tf.stack([tf.reduce_mean(one, axis=(1, 2)) for one in per_class], axis=1)
            cams.append(_weighted(tf.cast(activation, tf.float32), weights))
        return tf.cast(logits, tf.float32), cams, tf.concat(means, axis=1)

    return rest


def pooled_maps(model: keras.Model, map_layers: Sequence[str]) -> list[Any]:
    """What global average pooling makes of each layer's maps, where nothing else uses them; else []."""
    pooled = []
    for name in map_layers:
        maps = model.get_layer(name).output
        users = [layer for layer in model.layers if any(one is maps for one in tf.nest.flatten(layer.input))]
        if len(users) != 1 or not isinstance(users[0], keras.layers.GlobalAveragePooling2D):
            return []
        pooled.append(users[0].output)
    return pooled


def fused_map(cams: Sequence[tf.Tensor]) -> tf.Tensor:
    """The branches' maps (n, classes, h, w) as one, on the finest grid.

    A cell of a map is that cell's part of the score; cells of a coarse grid cover more of the image, so each map is
    multiplied by its number of cells (score per area) before the sum. The branch that spoke more counts more.
    """
    finest = max((cam.shape[2:] for cam in cams), key=lambda shape: shape[0])
    total = None
    for cam in cams:
        n, classes, height, width = cam.shape
        planes = tf.reshape(cam, (n * classes, height, width, 1)) * float(height * width)
        scaled = tf.reshape(tf.image.resize(planes, finest, method="bilinear"), (n, classes, *finest))
        total = scaled if total is None else total + scaled
    return total


def _weighted(activation: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Grad-CAM of maps (n, h, w, k) by weights (n, classes, k): (n, classes, h, w).

    Source: Selvaraju et al. 2017, Grad-CAM, equations 1 and 2.
    """
    _, height, width, channels = activation.shape
    cells = tf.reshape(activation, (-1, height * width, channels))
    cams = tf.nn.relu(tf.matmul(weights, cells, transpose_b=True))
    return tf.reshape(cams, (-1, weights.shape[1], height, width))


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
