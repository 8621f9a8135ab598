"""How much keeping the features of a frozen backbone saves: an epoch both ways, in one run. Read the ratios."""

from __future__ import annotations

import time
from itertools import count

import keras
import numpy as np
import pandas as pd

from core.models.registry import architecture
from core.timing import interleaved
from core.types import Fit, Modality
from train.fitting.inputs import Views
from train.fitting.loop import make_optimizer, training_step
from train.fitting.network import make_trainable
from train.fitting.squares import Squares
from train.recipe.recipes import recipe

ARCHITECTURE = "vgg16_gap"
CLASSES = ("benign", "malignant", "normal")


def head_training_lines(n_cases: int, rounds: int) -> list[str]:
    """Lines for the terminal: seconds of an epoch each way, median of interleaved rounds, and what is paid once."""
    squares = made_up_squares(n_cases, side=160)
    config = recipe(ARCHITECTURE, Modality.ULTRASOUND, "imagenet", 0)
    graph = architecture(ARCHITECTURE).build(side=config.side, channels=1, outputs=len(CLASSES))
    trainable = make_trainable(graph, frozen="backbone", freeze_batch_norm=True)
    began = time.perf_counter()
    source = Views(trainable, squares, config, cache=None)
    once = time.perf_counter() - began
    step = training_step(trainable, make_optimizer(trainable, config), config, squares)
    notebook = _notebook_model(config.side)
    pixels = squares.pixels.astype(np.float32)

    def ours(number: int) -> None:
        for batch in source.epoch(number):
            float(step(batch, 1e-4))

    def theirs() -> None:
        notebook.fit(pixels, squares.labels, batch_size=config.batch, epochs=1, verbose=0)

    numbers = count()
    seconds = interleaved({"ours": lambda: ours(next(numbers)), "theirs": theirs}, rounds)
    quick, slow = seconds["ours"], seconds["theirs"]
    return [
        f"Head training, VGG16 frozen, {n_cases} cases of {config.side} x {config.side}, median of {rounds} epochs:",
        f"  an epoch on kept features                    {quick:8.2f} s   x   1.00",
        f"  an epoch that runs the backbone again        {slow:8.2f} s   x {slow / quick:6.2f}",
        f"  computing the {config.views} kept views, once             {once:8.2f} s   x {once / quick:6.2f}",
    ]


def made_up_squares(n: int, side: int, seed: int = 0) -> Squares:
    """Noise with labels in turn and no outlines."""
    rng = np.random.default_rng(seed)
    return Squares(
        pixels=rng.random((n, side, side, 1)).astype(np.float16),
        labels=(np.arange(n) % len(CLASSES)).astype(np.int32),
        classes=CLASSES,
        positive=1,
        masks=np.zeros((n, side, side), np.float16),
        has_mask=np.zeros(n, bool),
        splits=np.full(n, "train"),
        fits=(Fit((side, side), (0, side, 0, side), side, 0, 0, side, side),) * n,
        cases=pd.DataFrame({"file": np.arange(n).astype(str)}),
    )


def _notebook_model(side: int) -> keras.Model:
    """The same network as notebooks train it: backbone not trainable, `model.fit` on the pictures."""
    graph = architecture(ARCHITECTURE).build(side=side, channels=1, outputs=len(CLASSES))
    backbone = keras.Model(graph.model.input, graph.model.get_layer(next(iter(graph.maps.values()))).output)
    backbone.trainable = False
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    graph.model.compile(keras.optimizers.AdamW(1e-4), loss)
    return graph.model
