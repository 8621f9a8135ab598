"""The classifier alone, on pooled features of kept views: the first phase of transfer learning, seconds an epoch.

A head that fits its features before anything else learns keeps the first steps of fine-tuning from destroying them
(Kumar et al. 2022, "Fine-tuning can distort pretrained features").
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.linear_model import LogisticRegression

from core.errors import InvalidInput
from core.models.architectures import Graph
from train.fitting.inputs import order_of
from train.fitting.network import class_loss, class_weights
from train.recipe.recipes import FitConfig

log = logging.getLogger(__name__)

_LEARNING_RATE = 5e-4
_WEIGHT_DECAY = 2e-2
_EVERY = 5
"""Epochs between two looks at the validation cases."""

HEAD_VIEWS = 4
"""Views at most whose features are computed for this phase."""

Forward = Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]


def feature_layers(graph: Graph) -> list[str]:
    """The layer, for each branch, whose output the classifier reads: the last after the last map without weights.

    What lies between (pooling, flattening) learns nothing, so its outputs can be kept; dropout must stay behind it.
    """
    names = []
    for name in graph.maps.values():
        while True:
            tensor = graph.model.get_layer(name).output
            consumers = [
                layer
                for layer in graph.model.layers
                if not isinstance(layer, layers.InputLayer)
                and any(given is tensor for given in tf.nest.flatten(layer.input))
            ]
            if len(consumers) != 1 or consumers[0].weights or isinstance(consumers[0], layers.Dropout):
                break
            if len(tf.nest.flatten(consumers[0].input)) > 1:  # branches meet here
                break
            name = consumers[0].name
        names.append(name)
    return names


def features_of(graph: Graph, body: Forward, parts: Sequence[np.ndarray], batch: int = 32) -> list[np.ndarray]:
    """What the classifier reads, a float32 array (n, …) a branch; `body` turns kept parts into the last maps."""
    maps = [graph.model.get_layer(name).output for name in graph.maps.values()]
    pooled = keras.Model(maps, [graph.model.get_layer(name).output for name in feature_layers(graph)])
    pool = tf.function(lambda tensors: tf.nest.flatten(pooled(tensors, training=False)), reduce_retracing=True)
    pieces = []
    for index in range(0, len(parts[0]), batch):
        tensors = body([tf.constant(part[index : index + batch].astype(np.float32)) for part in parts])
        pieces.append([piece.numpy().astype(np.float32) for piece in pool(tensors if len(tensors) > 1 else tensors[0])])
    return [np.concatenate(piece) for piece in zip(*pieces, strict=True)]


def standardise_on(graph: Graph, features: Sequence[Sequence[np.ndarray]], *, damping: float = 0.1) -> None:
    """Give the normalisation of pooled features ("…_norm") the mean and variance of these features of all views.

    Better than statistics gathered batch by batch while everything else moves: they are right from the first step on.
    damping: this share of the typical variance is added to each, so that a feature that is nearly always silent does
    not shout. Where a penalty weighs every feature alike, none is needed.
    """
    for position, name in enumerate(feature_layers(graph)):
        consumers = [layer for layer in graph.model.layers if layer.name == name.replace("_pool", "_norm")]
        for layer in consumers:
            if isinstance(layer, layers.BatchNormalization):
                values = np.concatenate([view[position] for view in features])
                variance = values.var(0)
                layer.moving_mean.assign(values.mean(0))
                layer.moving_variance.assign(variance + damping * variance.mean())


def fit_by_regression(
    graph: Graph,
    features: Sequence[Sequence[np.ndarray]],
    labels: np.ndarray,
    config: FitConfig,
    chance: np.ndarray | None = None,
) -> None:
    """Logistic regression with `config.penalty` as the linear layer that reads the features (as in `fit_head`).

    Its optimum, which steps of an optimiser come near to only after as many epochs as nobody waits for. Raises
    InvalidInput where more than one linear layer lies behind the features.
    """
    inputs = [graph.model.get_layer(name).output for name in feature_layers(graph)]
    logits = graph.model.get_layer("logits")
    head = keras.Model(inputs, graph.model.output)
    learned = [layer for layer in head.layers if layer.trainable_weights and not layer.name.endswith("_norm")]
    if [layer.name for layer in learned] != ["logits"]:
        raise InvalidInput(
            f"Between the features of {graph.model.name} and its logits lies more than one linear layer: its "
            "classifier cannot be fitted by regression. Leave classifier=regression out."
        )
    standardised = keras.Model(inputs, logits.input)
    rows = [standardised(list(view) if len(view) > 1 else view[0], training=False).numpy() for view in features]
    weights = class_weights(labels, max(2, logits.units), config.class_weights)[labels]
    if chance is not None:
        weights = weights * chance * len(chance)
    n = len(labels) * len(rows)
    model = LogisticRegression(C=1 / (config.penalty * n), max_iter=1000)
    model.fit(np.concatenate(rows), np.tile(labels, len(rows)), sample_weight=np.tile(weights, len(rows)))
    logits.set_weights([model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)])


def fit_head(
    graph: Graph,
    features: Sequence[Sequence[np.ndarray]],
    labels: np.ndarray,
    validation: tuple[Sequence[np.ndarray], np.ndarray] | None,
    config: FitConfig,
    chance: np.ndarray | None = None,
) -> int:
    """Train what reads the features for `config.head_epochs`: for each view a list of arrays (n, …), a branch each.

    The weights of the lowest validation loss, looked at every few epochs, stay in the graph; without validation cases
    the last ones. chance: see `train.fitting.inputs.shares`. Returns the epoch that they are of.
    """
    epochs = config.head_epochs
    inputs = [graph.model.get_layer(name).output for name in feature_layers(graph)]
    head = keras.Model(inputs, graph.model.output)
    classes = max(2, graph.model.output_shape[-1])
    weights = tf.constant(class_weights(labels, classes, config.class_weights))
    variables = head.trainable_variables
    optimizer = keras.optimizers.AdamW(_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    optimizer.build(variables)

    @tf.function  # type: ignore[untyped-decorator]
    def step(tensors: list[tf.Tensor], wanted: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = head(tensors if len(tensors) > 1 else tensors[0], training=True)
            loss = class_loss(logits, wanted, weights, config.label_smoothing)
            # What the architecture itself asks for: a ridge under a linear layer.
            loss += tf.add_n([tf.constant(0.0), *head.losses])
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    given = [tf.constant(part) for part in validation[0]] if validation is not None else []
    rng = np.random.default_rng(config.seed)
    best, best_epoch, retained = np.inf, epochs, [np.asarray(variable) for variable in variables]
    for epoch in range(1, epochs + 1):
        order, drawn = order_of(rng, len(labels), chance), rng.integers(0, len(features), len(labels))
        for index in range(0, len(order) - config.batch + 1, config.batch):
            chosen = order[index : index + config.batch]
            parts = [np.stack([features[drawn[i]][part][i] for i in chosen]) for part in range(len(inputs))]
            step([tf.constant(part) for part in parts], tf.constant(labels[chosen]))
        if validation is not None and (epoch % _EVERY == 0 or epoch == epochs):
            logits = head(given if len(given) > 1 else given[0], training=False)
            loss = float(class_loss(logits, tf.constant(validation[1]), tf.ones(classes), 0.0))
            if loss < best:
                best, best_epoch, retained = loss, epoch, [np.asarray(variable) for variable in variables]
    if validation is None:
        log.info("classifier alone: %d epochs", epochs)
        return epochs
    for variable, value in zip(variables, retained, strict=True):
        variable.assign(value)
    log.info("classifier alone: %d of %d epochs, validation loss %.3f", best_epoch, epochs, best)
    return best_epoch
