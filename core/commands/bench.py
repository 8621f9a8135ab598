"""`python -m core bench`: what costs how much, side by side in one run. Read the ratios, not the milliseconds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np

from core.commands.bench_report import load_by_core, write_section
from core.models.cards import Card
from core.timing import interleaved

ROUNDS = 7
SIDE = 224


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=list(SECTIONS), help="one of the benchmarks, in place of all")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")


def run(args: argparse.Namespace) -> int:
    """Print the tables of the benchmarks, and write them where that is asked."""
    for name, lines_of in SECTIONS.items():
        if args.only not in (None, name):
            continue
        load_before = load_by_core()
        lines = lines_of(max(1, args.rounds))
        sys.stdout.write("\n".join([*lines, "", ""]))
        if args.write:
            write_section(TITLES[name], lines, load_before=load_before)
    return 0


def reading_lines(rounds: int) -> list[str]:
    """A whole read against decoder and plain forward pass; images together against one by one."""
    from core.commands.bench_reading import run

    return run(rounds, plain_forward)


def evaluation_lines(rounds: int) -> list[str]:
    """A whole comparison against a loop over scikit-learn."""
    from core.commands.bench_evaluation import run

    return run()


def plain_forward(card: Card) -> Callable[[np.ndarray], object]:
    """A compiled forward pass of the card's network without maps or calibration, as anybody would write it."""
    import tensorflow as tf

    from core.models.loaded import load_model

    model = load_model(card).graph.model  # type: ignore[union-attr]
    compiled = tf.function(
        lambda x: model(x, training=False), input_signature=[tf.TensorSpec((None, *model.input_shape[1:]))]
    )
    return lambda squares: compiled(tf.constant(squares)).numpy()


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


ENGINES = ("ultrasound-fusion", "ultrasound-efficientnet_lite0", "mammography-efficientnet_lite0-rsna")
ENGINE_AIM = 1.1


def engine_lines(rounds: int) -> list[str]:
    """In float32, one image: prediction with all maps by TensorFlow and on OpenVINO, against either's bare forward."""
    import tensorflow as tf

    from core.models.cards import read_card
    from core.models.openvino_engine import engine_name
    from core.settings import Settings

    lines = [f"float32, one image, TensorFlow {tf.__version__} and {engine_name()}, median of {rounds} rounds:"]
    for model_id in ENGINES:
        seconds = interleaved(_engines(read_card(Settings().weights_dir / model_id)), rounds)
        alone, whole = (min(value for name, value in seconds.items() if name.startswith(of)) for of in ("fo", "wi"))
        lines.append(f"  {model_id}")
        lines += [f"    {name:<42}{1000 * value:8.1f} ms   x {value / alone:5.2f}" for name, value in seconds.items()]
        aim = f"aim {ENGINE_AIM} x: {'met' if whole <= ENGINE_AIM * alone else 'missed'}"
        lines.append(f"    {'the faster with maps to the faster alone':<53}   x {whole / alone:5.2f}   {aim}")
    return lines


def _engines(card: Card) -> dict[str, Callable[[], object]]:
    import tensorflow as tf

    from core.models.inference import built_graph, explained
    from core.models.openvino_engine import compiled_by_openvino, on_openvino, plain

    model, maps = (graph := built_graph(card, "float32")).model, tuple(graph.maps.values())
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    bare = tf.function(lambda squares: model(squares, training=False), input_signature=[spec])
    theirs, _ = compiled_by_openvino(plain(model), model.input_shape, n=1)
    ours, on_theirs = explained(model, maps), on_openvino(model, maps)
    square = np.random.default_rng(0).random((1, *model.input_shape[1:])).astype(np.float32)
    tensor = tf.constant(square)
    return {
        "forward alone, TensorFlow": lambda: bare(tensor).numpy(),
        "forward alone, OpenVINO": lambda: theirs({0: square}),
        "with all maps, TensorFlow": lambda: [cam.numpy() for cam in ours(tensor)[1]],
        "with all maps, on OpenVINO": lambda: [cam.numpy() for cam in on_theirs(tensor)[1]],
    }


SECTIONS: dict[str, Callable[[int], list[str]]] = {
    "explanations": explanation_lines,
    "engines": engine_lines,
    "reading": reading_lines,
    "evaluation": evaluation_lines,
}
TITLES = {
    "explanations": "Prediction and heat maps",
    "engines": "Engines",
    "reading": "Reads, and images together",
    "evaluation": "Comparison of 24 scorers",
}
"""Headings of docs/benchmarks.md."""
