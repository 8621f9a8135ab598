"""What learns and what stays, in every regime, and what the knobs of a run do to it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.errors import InvalidInput
from core.models.registry import architecture
from core.models.weights import state_of
from train.recipe.recipes import FitConfig

if TYPE_CHECKING:
    from core.models.architectures import Graph
    from train.fitting.squares import Squares

SIDE = 64


@pytest.fixture(scope="module")
def squares() -> Squares:
    """48 squares, 16 of them for validation; class 1 is bright."""
    from train.fitting.bench import made_up_squares

    made = made_up_squares(48, SIDE)
    made.pixels[made.labels == 1] = 0.5 + made.pixels[made.labels == 1] / 2
    return replace(made, splits=np.repeat(["train", "validation"], [32, 16]))


def config(name: str, **knobs: object) -> FitConfig:
    values = {"side": SIDE, "epochs": 1, "batch": 8, "views": 1, "attention_weight": 0.0, "mask_weight": 0.0, **knobs}
    return FitConfig(name, "ultrasound", "offline", **values)  # type: ignore[arg-type]


def changed_layers(name: str, squares: Squares, folder: Path, **knobs: object) -> set[str]:
    """Names of the layers whose variables a run changed from what it started with."""
    from train.fitting.fit import fit

    before: dict[str, np.ndarray] = {}

    def start(graph: Graph) -> str:
        before.update({path: value.copy() for path, value in state_of(graph.model).items()})
        return "something that was learned"

    fitted = fit(config(name, **knobs), squares, start=start, folder=folder)
    after = state_of(fitted.graph.model)
    return {path.split("/")[0] for path in after if not np.array_equal(after[path], before[path])}


def test_where_no_case_is_left_to_choose_on_the_last_epoch_is_kept_and_patience_ends_nothing(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.fitting import loop
    from train.fitting.fit import fit

    losses = iter([0.5, 0.6, 0.7, 0.8] * 2)

    def worse(*_: object) -> dict[str, float]:
        return {"validation_loss": next(losses), "validation_auc": 0.5, "validation_accuracy": 0.5}

    monkeypatch.setattr(loop, "validate", worse)
    asked = config("cnn", epochs=4, patience=2)
    kept = [
        fit(asked, squares, start=lambda graph: "random", folder=tmp_path / str(exactly), head_epochs=exactly)
        for exactly in (None, 0)
    ]
    assert [(one.best_epoch, len(one.history)) for one in kept] == [(1, 3), (4, 4)]


def test_a_training_that_learns_nothing_or_diverges_is_refused(squares: Squares, tmp_path: Path) -> None:
    from train.fitting.fit import fit
    from train.fitting.loop import Diverged, validate

    for batch, is_refused in ((32, False), (33, True)):
        asked = config("cnn", batch=batch)
        with pytest.raises(InvalidInput, match="fewer than a batch of 33") if is_refused else nullcontext():
            fit(asked, squares, start=lambda graph: "random", folder=tmp_path / str(batch))
    held = squares.split("validation")
    logits = np.zeros((len(held), 1), np.float32)
    assert validate(logits, held)["validation_auc"] == 0.5
    logits[3] = np.nan
    with pytest.raises(Diverged, match="learning rate"):
        validate(logits, held)


def test_a_frozen_backbone_stays_and_its_last_blocks_learn_when_they_are_freed(
    squares: Squares, tmp_path: Path
) -> None:
    squares = squares.chosen(np.r_[:8, 32:40])  # one step
    features = changed_layers("vgg16_gap", squares, tmp_path / "0", frozen="backbone")
    assert features and not {name for name in features if name.startswith("block")}
    last = changed_layers("vgg16_gap", squares, tmp_path / "1", frozen="blocks", unfreeze=1)
    assert {name for name in last if name.startswith("block")} == {f"block5_conv{number}" for number in (1, 2, 3)}
    two = changed_layers("vgg16_gap", squares, tmp_path / "2", frozen="blocks", unfreeze=2)
    assert {name[:6] for name in two if name.startswith("block")} == {"block4", "block5"}
    whole = changed_layers("vgg16_gap", squares, tmp_path / "all", frozen="nothing")
    assert {name[:6] for name in whole if name.startswith("block")} == {f"block{number}" for number in range(1, 6)}


def test_both_branches_of_the_fusion_are_cut_and_their_batch_norms_stay_in_inference_mode() -> None:
    import tensorflow as tf

    from train.fitting.network import make_trainable

    graph = architecture("fusion").build(side=SIDE, channels=1, outputs=3)
    for layer in graph.model.layers:
        if hasattr(layer, "moving_mean"):
            layer.moving_mean.assign(layer.moving_mean + 0.1)  # as if it had been learned
    trainable = make_trainable(graph, frozen="blocks", unfreeze=1, freeze_batch_norm=True)
    learned = {variable.path.split("/")[0] for variable in trainable.variables}
    assert {name for name in learned if name.startswith("block")} == {f"block5_conv{number}" for number in (1, 2, 3)}
    assert any(name.startswith("conv5_") for name in learned)
    assert not any(name.startswith(("conv1_", "conv2_", "conv3_", "conv4_")) for name in learned)
    assert not {name for name in learned if name.endswith("_bn")}
    given = trainable.stem(tf.zeros((1, SIDE, SIDE, 1)))  # type: ignore[misc]
    assert len(given) == 2


@pytest.mark.parametrize(
    "knobs",
    [
        {"mixup": 0.4},
        {"optimizer": "sgd", "weight_decay": 1e-4, "schedule": "constant"},
        {"class_weights": "balanced", "augmentation": "none", "dropout": 0.0},
    ],
    ids=lambda knobs: next(iter(knobs)),
)
def test_every_knob_changes_what_is_learned(knobs: dict[str, object], squares: Squares, tmp_path: Path) -> None:
    from train.fitting.fit import fit

    def weights(**given: object) -> np.ndarray:
        run = fit(config("cnn", **given), cases, start=lambda graph: "random", folder=tmp_path / str(len(given)))
        return np.asarray(run.graph.model.get_layer("logits").kernel)

    cases = replace(squares, labels=np.where(np.arange(48) % 8 == 0, 0, squares.labels).astype(np.int32))
    assert not np.array_equal(weights(**knobs), weights())


def test_of_the_best_epochs_by_accuracy_and_by_loss_each_is_kept_when_it_is_asked_for(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.fitting.fit import fit

    rows = iter(
        [{"validation_loss": loss, "validation_auc": 0.5, "validation_accuracy": accuracy}]
        for loss, accuracy in ((0.9, 0.5), (0.7, 0.6), (0.8, 0.7), (0.85, 0.7), (0.9, 0.6), (0.9, 0.6))
    )
    measured = [row for (row,) in rows]
    for put, retained in (("loss", 2), ("accuracy", 3)):
        given = iter(measured)
        monkeypatch.setattr("train.fitting.loop.validate", lambda logits, cases, given=given: next(given))
        knobs = {"epochs": 6, "patience": 3, "keep": put}
        fitted = fit(config("cnn", **knobs), squares, start=lambda graph: "random", folder=tmp_path / put)
        assert fitted.best_epoch == retained
        assert len(fitted.history) == 5  # three epochs after the lowest loss, whatever is kept


def test_mixing_takes_the_share_of_each_and_knows_a_mask_only_where_both_are() -> None:
    import tensorflow as tf

    from train.fitting.network import mixed_up

    squares = tf.constant([[1.0], [3.0]])
    masks, known = tf.constant([[0.0], [1.0]]), tf.constant([True, False])
    (mixed,), both, is_known = mixed_up([squares], masks, known, tf.constant([1, 1]), tf.constant(0.75))
    np.testing.assert_allclose(mixed, [[1.5], [3.0]])
    np.testing.assert_allclose(both, [[0.25], [1.0]])
    assert is_known.numpy().tolist() == [False, False]


def test_class_weights_are_what_their_word_says() -> None:
    from train.fitting.network import class_weights

    labels = np.array([0] * 9 + [1], np.int32)
    none, root, balanced = (class_weights(labels, 2, kind) for kind in ("none", "root", "balanced"))
    np.testing.assert_allclose(none, [1, 1])
    assert balanced[1] / balanced[0] == pytest.approx(9)
    assert root[1] / root[0] == pytest.approx(3)
    for weights in (none, root, balanced):
        assert weights[labels].mean() == pytest.approx(1)


def test_frozen_blocks_that_are_run_anew_stay_and_fixed_depthwise_filters_too(squares: Squares, tmp_path: Path) -> None:
    squares = squares.chosen(np.r_[:8, 32:40])  # one step
    kept = changed_layers("efficientnet_lite0", squares, tmp_path / "kept", frozen="blocks", unfreeze=1)
    anew = changed_layers("efficientnet_lite0", squares, tmp_path / "anew", frozen="blocks", unfreeze=1, views=0)
    assert anew == kept and "block_15_depthwise" in anew and not any(name.startswith("block_1_") for name in anew)
    fixed = changed_layers("efficientnet_lite0", squares, tmp_path / "fixed", frozen="nothing", depthwise="fixed")
    assert {"block_1_expand", "block_15_project", "logits"} <= fixed
    assert not {name for name in fixed if name.endswith("_depthwise")}


def test_a_classifier_by_regression_changes_itself_alone_and_leaves_one_row(squares: Squares, tmp_path: Path) -> None:
    from train.fitting.fit import fit

    knobs = {"frozen": "backbone", "classifier": "regression"}
    changed = changed_layers("efficientnet_lite2", squares, tmp_path / "changed", **knobs)
    assert changed == {"logits", *(f"stage_{number}_norm" for number in range(3, 8))}
    rows: list[Any] = []
    fitted = fit(
        config("efficientnet_lite2", **knobs),
        squares,
        start=lambda graph: "something that was learned",
        folder=tmp_path / "row",
        on_epoch=rows.append,
    )
    assert fitted.history == tuple(rows) and len(rows) == 1 and fitted.best_epoch == 1
    assert rows[0]["validation_auc"] > 0.9  # a class that is brighter is told by any backbone
    assert (tmp_path / "row" / "epochs.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("classifier", ["steps", "regression"])
def test_a_network_that_learns_in_bfloat16_is_left_computing_in_float32(
    classifier: str, squares: Squares, tmp_path: Path
) -> None:
    from train.fitting.fit import fit

    learning: list[str] = []

    def start(graph: Graph) -> str:
        learning.append(graph.model.get_layer("stem_conv").compute_dtype)
        return "something that was learned"

    knobs = {"frozen": "backbone"} if classifier == "regression" else {"mask_weight": 0.5, "attention_weight": 0.5}
    found = {}
    for precision in ("float32", "bfloat16"):
        asked = config("efficientnet_lite0", precision=precision, classifier=classifier, epochs=2, **knobs)
        found[precision] = fit(asked, squares, start=start, folder=tmp_path / precision)
    assert learning == ["float32", "bfloat16"]
    layers = {layer.compute_dtype for layer in found["bfloat16"].graph.model.layers}
    assert layers == {"float32"}
    losses = {name: one.history[-1]["validation_loss"] for name, one in found.items()}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)
    assert classifier == "regression" or losses["bfloat16"] != losses["float32"]
