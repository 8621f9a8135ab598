"""The classifier's own phase: it reads the right features, leaves the backbone alone, learns what can be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.errors import InvalidInput
from core.models.registry import architecture
from train.recipe.recipes import FitConfig

if TYPE_CHECKING:
    from core.models.architectures import Graph


@pytest.fixture(scope="module")
def fusion() -> Graph:
    import keras

    keras.utils.set_random_seed(3)
    return architecture("fusion").build(side=64, channels=1, outputs=3)


def features(graph: Graph, squares: np.ndarray) -> list[np.ndarray]:
    from train.fitting.head import features_of
    from train.fitting.network import called, make_trainable

    trainable = make_trainable(graph, frozen="nothing", freeze_batch_norm=True)
    return features_of(graph, lambda parts: called(trainable.body, list(parts), training=False), [squares], batch=4)


def test_the_classifier_reads_what_lies_before_its_first_weights_or_dropout(fusion: Graph) -> None:
    from train.fitting.head import feature_layers

    assert feature_layers(fusion) == ["vgg16_pool", "resnet50v2_pool"]
    lite = architecture("efficientnet_lite0").build(side=64, channels=1, outputs=3)
    assert feature_layers(lite) == ["efficientnet_pool"]


def test_a_branch_that_nothing_listens_to_is_not_missed_and_the_other_is_what_all_was_told_by(fusion: Graph) -> None:
    from train.fitting.folds import logits_without

    squares = np.random.default_rng(2).random((5, 64, 64, 1)).astype(np.float16)
    dense = fusion.model.get_layer("dense_1")
    as_it_was = dense.get_weights()
    deaf = as_it_was[0].copy()
    deaf[512:] = 0  # VGG16's 512 features come first
    try:
        dense.set_weights([deaf, as_it_was[1]])
        whole = fusion.model(squares.astype(np.float32), training=False).numpy()
        without = logits_without(fusion, squares)
    finally:
        dense.set_weights(as_it_was)
    assert set(without) == {"vgg16", "resnet50v2"}
    np.testing.assert_allclose(without["resnet50v2"], whole, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 1e-3
    np.testing.assert_allclose(without["vgg16"], np.tile(without["vgg16"][:1], (5, 1)), atol=1e-6)


def test_the_penalty_of_an_architecture_holds_in_the_classifiers_own_phase() -> None:
    from train.fitting.head import fit_head

    def weights_after(ridge: float) -> float:
        import keras

        keras.utils.set_random_seed(3)
        graph = architecture("efficientnet_lite0").build(side=64, channels=1, outputs=1)
        layer = graph.model.get_layer("logits")
        layer.kernel.regularizer = keras.regularizers.L2(ridge)
        rng = np.random.default_rng(0)
        views = [[rng.normal(size=(64, 1280)).astype(np.float32)]]
        config = FitConfig("efficientnet_lite0", "", head_epochs=40, batch=16)
        fit_head(graph, views, rng.integers(0, 2, 64).astype(np.int32), None, config)
        return float(np.abs(layer.kernel).mean())

    assert weights_after(10.0) < 0.5 * weights_after(0.0)


def test_regression_is_the_optimum_of_the_penalised_loss() -> None:
    from sklearn.linear_model import LogisticRegression

    from train.fitting.head import feature_layers, fit_by_regression, standardise_on

    graph = architecture("efficientnet_lite2").build(side=64, channels=1, outputs=1)
    names = feature_layers(graph)
    assert names == [f"stage_{number}_pool" for number in range(3, 8)]
    rng = np.random.default_rng(0)
    labels = (np.arange(80) % 2).astype(np.int32)
    views = []
    for _ in range(2):
        view = [
            rng.normal(3, 2, (80, graph.model.get_layer(name).output.shape[1])).astype(np.float32) for name in names
        ]
        view[0][:, 5] += 2 * labels
        views.append(view)
    standardise_on(graph, views, damping=0.0)
    chance = np.where(labels == 1, 3.0, 1.0) / np.where(labels == 1, 3.0, 1.0).sum()
    config = FitConfig("efficientnet_lite2", "", classifier="regression", penalty=0.5, class_weights="none")
    fit_by_regression(graph, views, labels, config, chance)

    rows = np.concatenate([np.concatenate(view, axis=1) for view in views])
    # As the graph has it: a little is added to every variance, and nothing lies beyond 4.
    standard = np.clip((rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3), -4, 4)
    weights = np.tile(chance * 80, 2)
    wanted = LogisticRegression(C=1 / (0.5 * 160), max_iter=1000).fit(
        standard, np.tile(labels, 2), sample_weight=weights
    )
    kernel, bias = graph.model.get_layer("logits").get_weights()
    np.testing.assert_allclose(kernel[:, 0], wanted.coef_[0], atol=2e-3)
    np.testing.assert_allclose(bias, wanted.intercept_, atol=2e-3)


def test_regression_refuses_a_classifier_of_several_layers(fusion: Graph) -> None:
    from train.fitting.head import fit_by_regression

    view = [np.zeros((4, 512), np.float32), np.zeros((4, 2048), np.float32)]
    with pytest.raises(InvalidInput, match="more than one linear layer"):
        fit_by_regression(fusion, [view], np.array([0, 1, 2, 0], np.int32), FitConfig("fusion", ""))


def test_features_are_what_the_whole_graph_gives_there(fusion: Graph) -> None:
    import keras

    from train.fitting.head import feature_layers

    squares = np.random.default_rng(0).random((6, 64, 64, 1), np.float32)
    direct = keras.Model(fusion.model.input, [fusion.model.get_layer(name).output for name in feature_layers(fusion)])
    for ours, expected in zip(features(fusion, squares), direct(squares, training=False), strict=True):
        assert ours.shape[0] == 6
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_standardised_features_have_mean_zero_and_none_shouts(fusion: Graph) -> None:
    from train.fitting.head import standardise_on

    rng = np.random.default_rng(1)
    views = [[rng.normal(5, 3, (200, 512)), rng.normal(-1, 0.1, (200, 2048))] for _ in range(2)]
    views[0][0][:, 7] = views[1][0][:, 7] = 2.0  # a silent feature
    standardise_on(fusion, views)
    norm = fusion.model.get_layer("vgg16_norm")
    given = np.concatenate([view[0] for view in views]).astype(np.float32)
    given[0, 7] = 3.0
    normed = norm(given, training=False).numpy()
    assert abs(normed.mean()) < 0.01 and 0.8 < normed[:, :7].std() < 1.0
    assert abs(normed[0, 7]) < 2


def test_the_head_learns_and_the_backbone_stays(fusion: Graph) -> None:
    import keras
    import tensorflow as tf

    from train.fitting.head import feature_layers, fit_head, standardise_on
    from train.fitting.network import class_loss

    rng = np.random.default_rng(2)
    labels = np.arange(96, dtype=np.int32) % 3
    views = []
    for _ in range(2):
        view = [rng.normal(0, 1, (96, 512)).astype(np.float32), rng.normal(0, 1, (96, 2048)).astype(np.float32)]
        view[0][np.arange(96), labels] += 6
        views.append(view)
    standardise_on(fusion, views)
    before = {v.path: np.asarray(v).copy() for v in fusion.model.weights if not v.path.startswith(("dense", "logits"))}
    validation = ([part[:48] for part in views[1]], labels[:48])
    epoch = fit_head(fusion, views, labels, validation, FitConfig("fusion", "ultrasound", head_epochs=30))
    assert 0 < epoch <= 30 and epoch % 5 == 0
    head = keras.Model([fusion.model.get_layer(name).output for name in feature_layers(fusion)], fusion.model.output)
    loss = class_loss(head([tf.constant(part) for part in validation[0]]), labels[:48], tf.ones(3), 0.0)
    assert float(loss) < 0.7 < np.log(3)
    for variable in fusion.model.weights:
        if variable.path in before:
            np.testing.assert_array_equal(np.asarray(variable), before[variable.path])
    logits = fusion.model.get_layer("logits")
    assert np.isfinite(tf.reduce_sum(logits.kernel))


def test_without_validation_cases_the_last_epoch_stays(fusion: Graph) -> None:
    from train.fitting.head import fit_head

    rng = np.random.default_rng(3)
    view = [rng.normal(0, 1, (16, 512)).astype(np.float32), rng.normal(0, 1, (16, 2048)).astype(np.float32)]
    before = np.asarray(fusion.model.get_layer("logits").kernel).copy()
    config = FitConfig("fusion", "ultrasound", head_epochs=3)
    assert fit_head(fusion, [view], np.arange(16, dtype=np.int32) % 3, None, config) == 3
    assert not np.array_equal(np.asarray(fusion.model.get_layer("logits").kernel), before)
