"""A start for ResNet50V2 without the internet: it learns to reproduce EfficientNet-Lite0's ImageNet features.

Feature distillation (Hinton, Vinyals & Dean 2015; Romero et al. 2015) on images without labels. The student's last map
is projected to the teacher's, cell by cell on the same grid; the projection is thrown away afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from safetensors.numpy import load_file, save_file

from core.errors import ModelUnavailable
from core.files import whole_file
from core.models.registry import architecture
from core.types import Modality
from train.fitting.inputs import PRESETS, augment
from train.fitting.pretrained import start_from_efficientnet_lite

log = logging.getLogger(__name__)

_PREFIXES = ("conv1_", "conv2_", "conv3_", "conv4_", "conv5_", "post_")
"""Names of ResNet50V2's layers in the fusion graph."""


def distil_resnet50v2(pixels: np.ndarray, out: Path, *, steps: int, batch: int = 32, seed: int = 0) -> None:
    """Train on grey squares (n, side, side, 1) in [0, 1] and write the backbone's variables to `out` (safetensors)."""
    keras.utils.set_random_seed(seed)
    side = pixels.shape[1]
    teacher_graph = architecture("efficientnet_lite0").build(side=side, channels=1, outputs=1)
    start_from_efficientnet_lite(teacher_graph.model, "efficientnet_lite0")
    teacher = keras.Model(teacher_graph.model.input, teacher_graph.model.get_layer("head_relu").output)
    teacher_map = tf.function(lambda x: teacher(x, training=False))
    fusion = architecture("fusion").build(side=side, channels=1, outputs=1).model
    last = fusion.get_layer("post_relu").output
    student = keras.Model(fusion.input, layers.Conv2D(teacher.output_shape[3], 1, name="projection")(last))
    mean, spread = _statistics(teacher_map, pixels[: 8 * batch], batch)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, alpha=0.01, warmup_target=1e-3, warmup_steps=max(1, steps // 20)
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0)
    optimizer.build(student.trainable_variables)

    @tf.function  # type: ignore[untyped-decorator]
    def step(squares: tf.Tensor) -> tf.Tensor:
        target = tf.clip_by_value((teacher_map(squares) - mean) / spread, -4.0, 4.0)
        with tf.GradientTape() as tape:
            given = student(squares, training=True)
            cells = tf.reduce_mean(tf.square(given - target))
            pooled = tf.reduce_mean(tf.square(tf.reduce_mean(given - target, axis=(1, 2))))
            loss = cells + pooled
        optimizer.apply_gradients(
            zip(tape.gradient(loss, student.trainable_variables), student.trainable_variables, strict=True)
        )
        return loss

    began, losses = time.monotonic(), []
    for number, squares in enumerate(_batches(pixels, steps, batch, seed), start=1):
        losses.append(float(step(squares)))
        if number % 25 == 0 or number == steps:
            log.info(
                "step %d of %d loss %.4f seconds %.0f", number, steps, np.mean(losses[-25:]), time.monotonic() - began
            )
    _settle(fusion, pixels, batch, seed)
    _write(fusion, out)


def start_resnet50v2_from(model: keras.Model, path: Path) -> str:
    """Load a distilled backbone into the fusion graph and say so."""
    try:
        state = load_file(path)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{path.name} is not a distilled backbone. Make one with: python -m train distil"
        ) from error
    variables = {variable.path: variable for variable in _backbone(model)}
    if set(variables) != set(state):
        raise ModelUnavailable(f"{path.name} is not a backbone for this architecture.")
    for name, variable in variables.items():
        variable.assign(state[name].astype(np.float32))
    return "ResNet50V2 distilled from EfficientNet-Lite0 (ImageNet) on unlabelled breast images"


def _settle(model: keras.Model, pixels: np.ndarray, batch: int, seed: int) -> None:
    """Bring the batch norms' moving statistics up to the final weights: a short run leaves them far behind."""
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.9
    backbone = keras.Model(model.input, model.get_layer("post_relu").output)
    forward = tf.function(lambda x: backbone(x, training=True))
    # Changed and unchanged images in every batch: statistics of either alone let the other's activations explode.
    rng = np.random.default_rng(seed)
    for changed in _batches(pixels, 40, batch // 2, seed):
        plain = pixels[rng.integers(0, len(pixels), batch // 2)].astype(np.float32)
        forward(tf.concat([changed, tf.constant(plain)], axis=0))


def _backbone(model: keras.Model) -> list[keras.Variable]:
    return [variable for variable in model.variables if variable.path.startswith(_PREFIXES)]


def _write(model: keras.Model, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as half:
        save_file({variable.path: np.asarray(variable, np.float32) for variable in _backbone(model)}, half)


def _statistics(teacher_map: tf.Module, pixels: np.ndarray, batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    maps = [
        teacher_map(tf.constant(pixels[index : index + batch].astype(np.float32))).numpy()
        for index in range(0, len(pixels), batch)
    ]
    stacked = np.concatenate([part.reshape(-1, part.shape[3]) for part in maps])
    # Half the typical spread is added: a feature that is nearly always silent must not outweigh all others.
    spread = stacked.std(0)
    return tf.constant(stacked.mean(0)), tf.constant(spread + 0.5 * spread.mean())


def _batches(pixels: np.ndarray, steps: int, batch: int, seed: int) -> Iterator[tf.Tensor]:
    rng = np.random.default_rng(seed)
    preset = PRESETS[Modality.ULTRASOUND]
    change = tf.function(lambda x, m, s: augment(x, m, preset, s)[0])
    side = pixels.shape[1]
    blank = tf.zeros((batch, side, side, 1))
    for _ in range(steps):
        chosen = rng.integers(0, len(pixels), batch)
        drawn = tf.constant(pixels[chosen].astype(np.float32))
        yield change(drawn, blank, tf.constant(rng.integers(0, 2**31, 2), tf.int32))
