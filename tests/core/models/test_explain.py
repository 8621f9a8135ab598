"""Grad-CAM inside the forward pass: the right numbers in the right place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import keras


def brightness_model() -> keras.Model:
    """Says "bright" from the mean of its input; its map is the input at a quarter of the size."""
    import keras
    from keras import layers

    inputs = keras.Input((32, 32, 1))
    maps = layers.AveragePooling2D(4, name="maps")(inputs)
    pooled = layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(inputs, layers.Dense(2, name="logits")(pooled))
    model.get_layer("logits").set_weights([np.array([[-1.0, 1.0]], np.float32), np.zeros(2, np.float32)])
    model.trainable = False
    return model


def small_model(outputs: int = 3) -> keras.Model:
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    inputs = keras.Input((24, 24, 1))
    x = layers.Conv2D(6, 3, activation="relu", padding="same")(inputs)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(5, 3, activation="relu", padding="same", name="last")(x)
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    x = layers.Dense(8, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(outputs)(x))


def test_grad_cam_points_at_the_only_bright_spot() -> None:
    import tensorflow as tf

    from core.models.inference import explained

    square = np.zeros((1, 32, 32, 1), np.float32)
    square[0, 20:24, 4:8] = 1
    _, (cam,), _ = explained(brightness_model(), ["maps"])(tf.constant(square))
    assert cam.shape == (1, 2, 8, 8)
    assert np.unravel_index(cam.numpy()[0, 1].argmax(), (8, 8)) == (5, 1)
    assert cam.numpy()[0, 0].max() == 0  # the spot speaks against "dark"


def two_branches(*, is_only_pooled: bool = True) -> keras.Model:
    """Maps of two grids, pooled and joined as the fusion's; else the second are flattened beside it as well."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(6)
    inputs = keras.Input((24, 24, 1))
    fine = layers.Conv2D(4, 3, strides=2, activation="relu", name="fine")(inputs)
    coarse = layers.Conv2D(6, 3, strides=4, activation="relu", name="coarse")(inputs)
    ends = [layers.GlobalAveragePooling2D()(fine), layers.GlobalAveragePooling2D()(coarse)]
    if not is_only_pooled:
        ends.append(layers.Flatten()(coarse))
    x = layers.Dense(8, activation="relu")(layers.Concatenate()(ends))
    return keras.Model(inputs, layers.Dense(3)(x))


@pytest.mark.parametrize("outputs", [1, 3])
def test_maps_of_a_pooled_network_are_those_of_the_gradient_of_every_cell(
    monkeypatch: pytest.MonkeyPatch, outputs: int
) -> None:
    """One gradient of each map's mean stands for those of its cells."""
    import keras
    import tensorflow as tf

    from core.models import inference

    model = two_branches()
    if outputs == 1:
        model = keras.Model(model.input, keras.layers.Dense(1)(model.output))
    assert len(inference.pooled_maps(model, ["fine", "coarse"])) == 2
    square = tf.constant(np.random.default_rng(3).random((2, 24, 24, 1)).astype(np.float32))
    logits, cams, features = inference.explained(model, ["fine", "coarse"])(square)
    monkeypatch.setattr(inference, "pooled_maps", lambda *_: [])
    every_logits, every_cams, every_features = inference.explained(model, ["fine", "coarse"])(square)
    np.testing.assert_allclose(logits, every_logits, atol=1e-6)
    np.testing.assert_allclose(features, every_features, atol=1e-6)
    for cam, every in zip(cams, every_cams, strict=True):
        assert every.numpy().max() > 1e-4
        np.testing.assert_allclose(cam, every, atol=1e-7, rtol=1e-4)


def test_maps_that_are_used_beside_their_mean_keep_the_gradient_of_every_cell() -> None:
    from core.models.inference import pooled_maps

    assert pooled_maps(two_branches(is_only_pooled=False), ["fine", "coarse"]) == []


@pytest.mark.parametrize("class_index", [0, 1, 2])
def test_maps_agree_with_tf_keras_vis(class_index: int) -> None:
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    from core.models.inference import explained

    model = small_model()
    square = np.random.default_rng(0).random((1, 24, 24, 1)).astype(np.float32)
    _, (cam,), _ = explained(model, ["last"])(tf.constant(square))
    reference = Gradcam(model, clone=False)(
        CategoricalScore(class_index),
        square,
        penultimate_layer="last",
        seek_penultimate_conv_layer=False,
        expand_cam=False,
        normalize_cam=False,
    )
    assert cam.numpy()[0, class_index].max() > 0
    np.testing.assert_allclose(cam.numpy()[0, class_index], reference[0], atol=1e-4)


def test_one_logit_explains_both_sides() -> None:
    import tensorflow as tf

    from core.models.inference import explained

    model = small_model(outputs=1)
    square = tf.constant(np.random.default_rng(1).random((2, 24, 24, 1)).astype(np.float32))
    logits, (cam,), _ = explained(model, ["last"])(square)
    assert logits.shape == (2, 1) and cam.shape == (2, 2, 12, 12)
    assert not np.allclose(cam[:, 0], cam[:, 1])


def test_randomised_weights_change_the_map() -> None:
    import tensorflow as tf

    from core.models.inference import explained

    model = small_model()
    square = tf.constant(np.random.default_rng(2).random((1, 24, 24, 1)).astype(np.float32))
    _, (before,), _ = explained(model, ["last"])(square)
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0, 0.2, weight.shape) for weight in model.get_weights()])
    _, (after,), _ = explained(model, ["last"])(square)
    assert np.corrcoef(before.numpy()[0, 1].ravel(), after.numpy()[0, 1].ravel())[0, 1] < 0.9


def test_fusing_counts_each_branch_by_its_share_of_the_score_not_by_its_grid() -> None:
    import tensorflow as tf

    from core.models.inference import fused_map

    fine, coarse = np.zeros((1, 1, 8, 8), np.float32), np.zeros((1, 1, 2, 2), np.float32)
    fine[0, 0, 0, 0] = 1.0  # one cell of 64 carries a score of 1
    coarse[0, 0, 1, 1] = 1.0  # one cell of 4 carries a score of 1, spread over 16 fine cells
    fused = fused_map([tf.constant(fine), tf.constant(coarse)]).numpy()[0, 0]
    assert fused.shape == (8, 8)
    assert fused[0, 0] == pytest.approx(64)
    assert fused[7, 7] == pytest.approx(4)
