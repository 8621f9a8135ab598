"""`python -m core bench`: what costs how much, side by side in one run. Read the ratios, not the milliseconds."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 7
SIDE = 224


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command and its options."""
    parser = subparsers.add_parser("bench", help="compare the ways to predict, explain and evaluate, as ratios")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables of both benchmarks."""
    from core.commands.bench_evaluation import run as evaluation_lines

    for line in [*explanation_lines(max(1, args.rounds)), "", *evaluation_lines()]:
        sys.stdout.write(line + "\n")
    return 0


def explanation_lines(rounds: int) -> list[str]:
    """Fusion at 224, one image: prediction with all maps against prediction alone, `model.predict` and tf-keras-vis."""
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    from core.models.inference import explained
    from core.models.registry import architecture

    graph = architecture("fusion").build(side=SIDE, channels=1, outputs=3)
    square = np.random.default_rng(0).random((1, SIDE, SIDE, 1)).astype(np.float32)
    tensor = tf.constant(square)
    plain = tf.function(
        lambda x: graph.model(x, training=False), input_signature=[tf.TensorSpec((None, SIDE, SIDE, 1))]
    )
    with_maps = explained(graph.model, tuple(graph.maps.values()))
    reference = Gradcam(graph.model, clone=False)
    score = CategoricalScore(1)
    ways: dict[str, Callable[[], object]] = {
        "predict alone (compiled)": lambda: plain(tensor).numpy(),
        "predict + both branches' maps, all classes": lambda: [cam.numpy() for cam in with_maps(tensor)[1]],
        "model.predict": lambda: graph.model.predict(square, verbose=0),
        "tf-keras-vis Gradcam, one map": lambda: reference(
            score, square, penultimate_layer="post_relu", seek_penultimate_conv_layer=False
        ),
    }
    seconds = interleaved(ways, rounds)
    base = seconds["predict alone (compiled)"]
    lines = [f"Fusion, {SIDE} x {SIDE}, one image, median of {rounds} interleaved rounds:"]
    lines += [f"  {name:<44} {1000 * value:8.0f} ms   x {value / base:5.2f}" for name, value in seconds.items()]
    ratio = seconds["tf-keras-vis Gradcam, one map"] / seconds["predict + both branches' maps, all classes"]
    lines.append(f"  all our maps are {ratio:.1f} x faster than one map of tf-keras-vis")
    return lines


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; every round runs all of them, so that a busy machine slows all alike."""
    for call in ways.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) for name, values in times.items()}
