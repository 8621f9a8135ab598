"""Every architecture of the registry: built, trained a little, stored, loaded, read with, explained."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.models.registry import ARCHITECTURES, Architecture, architecture
from core.models.weights import load_state, read_shards, state_of, to_float16, write_shards

if TYPE_CHECKING:
    from core.models.architectures import Graph

SIDE = 64
Build = Callable[[str, int, int], "Graph"]


@pytest.fixture(scope="module")
def build() -> Build:
    """Graphs by architecture, channels and outputs, each built once: a large one takes seconds."""
    import keras

    @cache
    def built(architecture_id: str, channels: int, outputs: int) -> Graph:
        keras.utils.set_random_seed(3)
        return architecture(architecture_id).build(side=SIDE, channels=channels, outputs=outputs)

    return built


def squares(n: int, channels: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(n).random((n, side, side, channels)).astype(np.float32)


def a_step(graph: Graph, pixels: np.ndarray, labels: list[int]) -> list[float]:
    """The loss before and after a step of gradient descent on everything."""
    import tensorflow as tf

    from train.fitting.network import class_loss

    def loss() -> tf.Tensor:
        return class_loss(graph.model(pixels, training=True), tf.constant(labels), tf.ones(2), 0.0)

    variables = graph.model.trainable_variables
    with tf.GradientTape() as tape:
        before = loss()
    gradients = tape.gradient(before, variables)
    assert all(gradient is not None for gradient in gradients)
    # As in training: unlimited, the first steps of an untrained Inception-v3 make its maps explode.
    limited, _ = tf.clip_by_global_norm(gradients, 1.0)
    for variable, gradient in zip(variables, limited, strict=True):
        variable.assign_sub(1e-3 * gradient)
    return [float(before), float(loss())]


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.id)
def test_it_learns_is_stored_comes_back_the_same_and_explains(
    entry: Architecture, build: Build, tmp_path: Path
) -> None:
    import tensorflow as tf

    from core.models.inference import explained

    graph = build(entry.id, 1, 1)  # grey, two classes
    before = state_of(graph.model)
    losses = a_step(graph, squares(2, 1), [0, 1])
    after = state_of(graph.model)
    assert np.isfinite(losses).all()
    assert any(not np.array_equal(before[path], after[path]) for path in before if path.startswith("logits"))

    sha256, files = write_shards(to_float16(after), tmp_path)
    assert all(path.stat().st_size <= 50 * 1024 * 1024 for path in tmp_path.iterdir())
    stored = read_shards(tmp_path, files, sha256)
    pixels = squares(2, 1)
    load_state(graph.model, stored)
    wanted = graph.model(pixels, training=False).numpy()
    again = entry.build(side=SIDE, channels=1, outputs=1)
    load_state(again.model, stored)
    logits, maps, _ = explained(again.model, tuple(again.maps.values()))(tf.constant(pixels))
    np.testing.assert_allclose(logits, wanted, atol=2e-3 * (1 + np.abs(wanted).max()))
    assert logits.dtype == tf.float32 and logits.shape == (2, 1)
    assert tuple(again.maps) == entry.branches
    for name, found in zip(again.maps.values(), maps, strict=True):
        height, width = again.model.get_layer(name).output.shape[1:3]
        assert found.shape == (2, 2, height, width)
        assert np.isfinite(found).all() and float(tf.reduce_min(found)) >= 0
    assert any(float(tf.reduce_max(found)) > 0 for found in maps)


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.id)
def test_it_reads_colour_in_three_classes_and_is_flat_with_the_same_names(entry: Architecture, build: Build) -> None:
    import keras

    graph, grey = build(entry.id, 3, 3), build(entry.id, 1, 1)
    assert graph.model.input_shape == (None, SIDE, SIDE, 3)
    assert graph.model.output_shape == (None, 3)
    last = graph.model.layers[-1]
    assert last.name == "logits" and last.activation is keras.activations.linear and last.compute_dtype == "float32"
    assert not [layer.name for layer in graph.model.layers if isinstance(layer, keras.Model)]
    # Weights are stored under these names: a second graph in one process must not get others.
    assert list(state_of(graph.model)) == list(state_of(grey.model))


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.id)
def test_it_can_be_cut_where_it_says(entry: Architecture, build: Build) -> None:
    import keras

    graph = build(entry.id, 1, 1)
    order = {layer.name: number for number, layer in enumerate(graph.model.layers)}
    assert set(graph.blocks) in ({}.keys(), set(graph.maps))
    assert len({len(names) for names in graph.blocks.values()}) <= 1
    for branch, names in graph.blocks.items():
        places = [order[name] for name in (*names, graph.maps[branch])]
        assert places == sorted(places)
        for count in (1, len(names)):
            # Nothing goes past the cuts: what lies behind them needs no more than their outputs.
            cuts = [graph.model.get_layer(cut).output for cut in graph.cuts(count).values()]
            keras.Model(cuts, graph.model.output)
        assert graph.cuts(len(names) + 1) == {}


@pytest.mark.parametrize("side", [64, 96, 224])
@pytest.mark.parametrize("architecture_id", ["cnn", "cnn2", "cnn3", "cnn4", "vgg16_dense", "vgg19"])
def test_dense_layers_stay_small_at_any_side(architecture_id: str, side: int) -> None:
    model = architecture(architecture_id).build(side=side, channels=1, outputs=3).model
    assert int(np.prod(model.get_layer("dense_1").kernel.shape)) <= 8192 * 256


def test_the_two_networks_of_25_layers_differ_in_their_skips_alone(build: Build) -> None:
    import keras

    plain, residual = build("plain25", 1, 1).model, build("residual25", 1, 1).model
    for model in (plain, residual):
        kinds = [type(layer) for layer in model.layers]
        assert kinds.count(keras.layers.Conv2D) == 20 and kinds.count(keras.layers.MaxPooling2D) == 5
    assert [type(layer) for layer in plain.layers].count(keras.layers.Add) == 0
    assert [type(layer) for layer in residual.layers].count(keras.layers.Add) == 10
    load_state(residual, state_of(plain))
    pixels = squares(1, 1)
    assert not np.allclose(plain(pixels), residual(pixels), rtol=1e-3)


def test_skips_bring_the_signal_through_twenty_convolutions() -> None:
    import keras

    spread = {}
    for name in ("plain25", "residual25"):
        keras.utils.set_random_seed(0)
        graph = architecture(name).build(side=64, channels=1, outputs=1)
        last = keras.Model(graph.model.input, graph.model.get_layer(graph.maps[name]).output)
        spread[name] = float(np.std(last(squares(2, 1))))
    assert spread["plain25"] < 0.05 < 0.3 < spread["residual25"]


def test_the_cnn_before_resnet50_is_the_cnn(build: Build) -> None:
    import keras

    small, joined = build("cnn", 1, 1).model, build("cnn_resnet50", 1, 1).model
    for name in ("conv_1", "conv_2", "conv_3"):
        joined.get_layer(name).set_weights(small.get_layer(name).get_weights())
    pixels = squares(2, 1)
    maps = [keras.Model(model.input, model.get_layer("conv_3").output)(pixels) for model in (small, joined)]
    np.testing.assert_array_equal(*maps)
    adapter = joined.get_layer("adapter_conv")
    assert adapter.input.shape[1:] == maps[0].shape[1:]


@pytest.mark.parametrize("outputs", [1, 3])
def test_an_exam_has_a_classifier_for_each_kind_of_view_and_the_mean_of_both_where_none_is_known(outputs: int) -> None:
    import keras
    import tensorflow as tf

    from core.models.inference import explained

    graph = architecture("exam").build(side=SIDE, channels=2, outputs=outputs)
    kernel, bias = graph.model.get_layer("logits").get_weights()
    rng = np.random.default_rng(0)
    graph.model.get_layer("logits").set_weights([rng.normal(0, 0.05, kernel.shape), bias])
    grey = squares(1, 1)
    planes = [np.concatenate([grey, np.full_like(grey, said)], axis=3) for said in (0.0, 1.0, 0.5)]
    logits, maps, _ = explained(graph.model, tuple(graph.maps.values()))(tf.constant(np.concatenate(planes)))
    cc, mlo, unknown = logits.numpy()
    assert np.abs(cc - mlo).max() > 0.01
    width = (kernel.shape[0] - 1) // 2
    heads = keras.Model(graph.model.input, graph.model.get_layer("heads").output)
    values = heads(np.concatenate(planes)).numpy()
    np.testing.assert_allclose(values[0, :width], values[1, :width])
    np.testing.assert_allclose(values[:, width:-1], 0.3 * np.asarray([[-1.0], [1.0], [0.0]]) * values[:, :width])
    assert values[:, -1].tolist() == [-1.0, 1.0, 0.0]
    np.testing.assert_allclose((cc + mlo) / 2, unknown, atol=1e-5)
    # The view is no finding: with a classifier that looks at nothing else, every map is empty.
    only = np.zeros_like(kernel)
    only[-1] = 1.0
    graph.model.get_layer("logits").set_weights([only, bias])
    _, maps, _ = explained(graph.model, tuple(graph.maps.values()))(tf.constant(planes[1]))
    assert all(float(tf.reduce_max(one)) == 0 for one in maps)
