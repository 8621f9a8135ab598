"""What training adds to a graph: the losses that make it look at the lesion."""

from __future__ import annotations

import numpy as np

from core.models.registry import architecture


def share_outside(activation: np.ndarray, weights: np.ndarray, mask: np.ndarray) -> float:
    """The loss of one branch whose score is the weighted mean of its channels."""
    import tensorflow as tf

    from train.fitting.network import attention_loss

    maps = tf.constant(activation, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = tf.reduce_sum(tf.reduce_mean(maps, axis=(1, 2)) * weights, axis=1)
    return float(attention_loss(score, [maps], [tf.constant(mask, tf.float32)], tape))


def lesion() -> np.ndarray:
    mask = np.zeros((1, 6, 6, 1), np.float32)
    mask[0, 1:3, 1:3] = 1
    return mask


def test_attention_on_the_lesion_costs_nothing_and_beside_it_everything() -> None:
    on, beside = np.zeros((1, 6, 6, 2)), np.zeros((1, 6, 6, 2))
    on[0, 1:3, 1:3, 0] = 5
    beside[0, 4, 4, 0] = 5
    weights = np.array([1.0, 0.0], np.float32)
    assert share_outside(on, weights, lesion()) < 0.01
    assert share_outside(beside, weights, lesion()) > 0.99


def test_a_branch_that_shows_nothing_pays_as_if_it_looked_beside_the_lesion() -> None:
    on = np.zeros((1, 6, 6, 2))
    on[0, 1:3, 1:3, 0] = 5
    assert share_outside(on, np.array([-1.0, 0.0], np.float32), lesion()) > 0.99


def test_a_case_without_a_lesion_asks_nothing_of_the_map() -> None:
    anywhere = np.ones((1, 6, 6, 2))
    assert share_outside(anywhere, np.array([1.0, 0.0], np.float32), np.zeros((1, 6, 6, 1))) == 0


def test_a_mask_head_starts_without_an_opinion_however_large_the_activations() -> None:
    import tensorflow as tf

    from train.fitting.network import make_trainable, mask_loss, of_unit_size

    graph = architecture("cnn").build(side=64, channels=1, outputs=3)
    (head,) = make_trainable(graph, frozen="nothing", freeze_batch_norm=False).mask_heads
    large = [tf.random.stateless_uniform((2, 16, 16, 128), (1, 2)) * 500]
    (scaled,) = of_unit_size(large)
    assert np.isclose(float(tf.sqrt(tf.reduce_mean(tf.square(scaled[0])))), 1, atol=1e-3)
    loss = mask_loss([head(scaled)], [tf.zeros((2, 16, 16, 1))], tf.ones(2))
    assert np.isclose(float(loss), np.log(2), atol=1e-5)


def test_batch_norms_keep_statistics_they_were_given_and_learn_those_they_were_not() -> None:
    from train.fitting.network import make_trainable

    graph = architecture("resnet50_dense").build(side=64, channels=1, outputs=3)
    norms = [layer for layer in graph.model.layers if layer.__class__.__name__ == "BatchNormalization"]
    given = next(layer for layer in norms if not layer.name.endswith("_norm"))
    given.moving_mean.assign(given.moving_mean + 1.0)
    make_trainable(graph, frozen="nothing", freeze_batch_norm=True)
    retained = {layer.name for layer in norms if not layer.trainable}
    assert given.name in retained
    assert retained == {given.name} | {layer.name for layer in norms if layer.name.endswith("_norm")}
