"""Random changes to training squares: the same for the same seed, never more than a preset allows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.types import Modality

if TYPE_CHECKING:
    from train.fitting.inputs import Augmentation

SEED = (3, 4)


def changed(preset: Augmentation, channels: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squares before, squares after, masks after."""
    import tensorflow as tf

    from train.fitting.inputs import augment

    squares = np.random.default_rng(0).uniform(0.1, 0.9, (6, 32, 32, channels)).astype(np.float32)
    masks = np.zeros((6, 32, 32, 1), np.float32)
    masks[:, :, 20:] = 1
    after, moved = augment(tf.constant(squares), tf.constant(masks), preset, tf.constant(SEED))
    return squares, after.numpy(), moved.numpy()


@pytest.mark.parametrize("modality", list(Modality))
def test_a_seed_gives_the_same_changes_again_and_values_stay_in_range(modality: Modality) -> None:
    from train.fitting.inputs import PRESETS

    channels = 3 if modality is Modality.HISTOLOGY else 1
    before, after, _ = changed(PRESETS[modality], channels)
    assert np.array_equal(after, changed(PRESETS[modality], channels)[1])
    assert not np.allclose(after, before, atol=0.01) and after.min() >= 0 and after.max() <= 1


def test_no_change_changes_nothing() -> None:
    from train.fitting.inputs import NO_CHANGE

    before, after, masks = changed(NO_CHANGE)
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert masks[:, :, :20].max() == 0 and masks[:, :, 20:].min() == 1


def test_only_tiles_are_turned_upside_down() -> None:
    from train.fitting.inputs import PRESETS

    assert PRESETS[Modality.ULTRASOUND].flip_up_down == PRESETS[Modality.MAMMOGRAPHY].flip_up_down == 0
    assert PRESETS[Modality.HISTOLOGY].flip_up_down == 0.5


def test_a_mask_moves_with_its_picture() -> None:
    from train.fitting.inputs import NO_CHANGE

    flip = replace(NO_CHANGE, flip_left_right=1.0)
    before, after, masks = changed(flip)
    np.testing.assert_allclose(after, before[:, :, ::-1], atol=1e-4)
    assert masks[:, :, :12].min() == 1 and masks[:, :, 12:].max() == 0


def test_a_column_that_tells_the_class_tells_it_no_longer_in_what_is_drawn() -> None:
    from types import SimpleNamespace

    import pandas as pd

    from core.errors import InvalidInput
    from train.fitting.inputs import order_of, shares

    machines = np.repeat(["a", "b", "c"], [100, 300, 50])
    labels = np.concatenate([np.arange(100) < 80, np.arange(300) < 30, np.zeros(50, bool)]).astype(int)

    class Cases(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.labels)

    cases = Cases(cases=pd.DataFrame({"machine": machines}), labels=labels, positive=1)
    chance = shares(cases, "machine")
    assert chance is not None and chance.sum() == pytest.approx(1)
    for machine in ("a", "b"):
        of = machines == machine
        assert chance[of & (labels == 1)].sum() == pytest.approx(chance[of & (labels == 0)].sum())
    assert chance[machines == "b"].sum() / chance[machines == "a"].sum() == pytest.approx(np.sqrt(3))
    order = order_of(np.random.default_rng(0), 450, chance)
    assert len(order) == 450 and abs(labels[order].mean() - 0.44) < 0.08
    assert shares(cases, "") is None and sorted(order_of(np.random.default_rng(0), 450, None)) == list(range(450))
    with pytest.raises(InvalidInput, match="no column 'site'"):
        shares(cases, "site")


def test_an_input_need_not_be_square() -> None:
    import tensorflow as tf

    from train.fitting.inputs import NO_CHANGE, PRESETS, augment

    portrait = np.random.default_rng(0).uniform(0.1, 0.9, (2, 48, 32, 1)).astype(np.float32)
    masks = np.zeros((2, 48, 32, 1), np.float32)
    same, _ = augment(tf.constant(portrait), tf.constant(masks), NO_CHANGE, tf.constant(SEED))
    np.testing.assert_allclose(same.numpy(), portrait, atol=1e-5)
    turned, _ = augment(
        tf.constant(portrait), tf.constant(masks), replace(NO_CHANGE, flip_up_down=1.0), tf.constant(SEED)
    )
    np.testing.assert_allclose(turned.numpy(), portrait[:, ::-1], atol=1e-5)
    changed_both = augment(tf.constant(portrait), tf.constant(masks), PRESETS[Modality.MAMMOGRAPHY], tf.constant(SEED))
    assert [tuple(one.shape) for one in changed_both] == [(2, 48, 32, 1)] * 2
