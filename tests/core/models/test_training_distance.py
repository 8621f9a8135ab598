"""How far an image lies from the training images: the level, what it tells apart, and what is said of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from made_cards import made_card

from core.errors import ModelUnavailable
from core.models.aggregate import ImageScore, breast_scores
from core.models.cards import Card, shipped_cards
from core.models.training_distance import (
    SHARE_WITHIN,
    TrainingDistance,
    distance_name,
    fit_training_distance,
    read_training_distance,
    to_bytes,
)
from core.reading.opinions import Opinion
from core.settings import REPOSITORY
from core.types import Modality, is_unlike

SHA = "12345678" + "0" * 56


def features(n: int, seed: int) -> np.ndarray:
    """(n, 40) of three hidden causes and a little noise; one feature never speaks."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(n, 3)) @ np.random.default_rng(99).normal(size=(3, 40))
    found = causes + 0.1 * rng.normal(size=(n, 40))
    found[:, 7] = 0
    return found


@pytest.fixture(scope="module")
def fitted() -> TrainingDistance:
    return fit_training_distance(features(400, 1), features(200, 2))


def test_of_images_like_those_it_was_fitted_on_as_many_lie_within_the_level_as_was_said(fitted: TrainingDistance):
    assert (fitted.relative(features(200, 2)) <= 1).mean() == pytest.approx(SHARE_WITHIN, abs=0.006)
    assert (fitted.relative(features(2000, 3)) <= 1).mean() == pytest.approx(SHARE_WITHIN, abs=0.03)


def test_what_lies_far_along_the_causes_and_what_no_cause_explains_are_both_beyond_it(fitted: TrainingDistance):
    usual = features(100, 4)
    assert (fitted.relative(4 * usual) > 1).mean() > 0.9
    strange = usual + np.random.default_rng(5).normal(size=usual.shape)
    assert (fitted.relative(strange) > 1).all()
    speaking = usual.copy()
    speaking[:, 7] = 50
    assert (fitted.relative(speaking) > 1).all()


def test_it_does_not_depend_on_the_scale_of_a_feature(fitted: TrainingDistance):
    scale = np.geomspace(0.01, 100, 40)
    scaled = fit_training_distance(features(400, 1) * scale, features(200, 2) * scale)
    assert scaled.relative(features(50, 6) * scale) == pytest.approx(fitted.relative(features(50, 6)), rel=1e-6)


def test_its_directions_and_what_lies_outside_them_are_those_of_the_training_images():
    fitted = fit_training_distance(features(400, 1), features(200, 2))
    scaled = (features(400, 1) - fitted.centre) / fitted.scale
    along = scaled @ fitted.axes.T
    outside = scaled - along @ fitted.axes
    assert fitted.axes.shape == (3, 40)  # the three causes
    assert fitted.spread == pytest.approx(along.std(axis=0)) and fitted.spread.min() > 1
    assert fitted.rest == pytest.approx(np.sqrt((outside**2).sum(axis=1).mean())) and fitted.rest < 1
    assert fitted.axes @ fitted.axes.T == pytest.approx(np.eye(3), abs=1e-12)


@pytest.mark.parametrize(("n_images", "n_axes"), [(9, 1), (19, 1), (20, 2), (639, 63), (640, 64), (2000, 64)])
def test_a_direction_needs_ten_training_images_and_there_are_at_most_64(n_images: int, n_axes: int):
    noise = np.random.default_rng(0).normal(size=(n_images, 80))
    assert len(fit_training_distance(noise, noise).axes) == n_axes


def test_two_training_images_alike_give_distances_that_are_numbers():
    alike = np.ones((2, 5))
    distance = fit_training_distance(alike, alike[:1])
    assert np.isfinite(distance.relative(np.array([[1.0] * 5, [9.0] * 5]))).all()


def written(folder: Path, distance: TrainingDistance) -> Card:
    raw = to_bytes(distance)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / distance_name(SHA)).write_bytes(raw)
    named = {"file": distance_name(SHA), "sha256": hashlib.sha256(raw).hexdigest(), "n_fitted": 400, "n_level": 200}
    return made_card(folder, weights={"sha256": SHA}, training_distance=named)


def test_it_is_read_as_it_was_written_and_only_if_it_is_what_the_card_names(fitted: TrainingDistance, tmp_path: Path):
    card = written(tmp_path, fitted)
    again = read_training_distance(card)
    assert again is not None
    assert again.relative(features(50, 6)) == pytest.approx(fitted.relative(features(50, 6)), rel=1e-4)
    assert read_training_distance(made_card(tmp_path)) is None

    path = tmp_path / distance_name(SHA)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelUnavailable, match="missing or damaged"):
        read_training_distance(card)
    path.unlink()
    with pytest.raises(ModelUnavailable, match="missing or damaged"):
        read_training_distance(card)


@pytest.mark.parametrize(("distance", "unlike"), [(None, False), (0.5, False), (1.0, False), (1.0001, True)])
def test_at_the_level_an_image_is_still_known(distance: float | None, unlike: bool):
    assert is_unlike(distance) is unlike


def score(model_id: str, malignant: float, distance: float | None) -> ImageScore:
    return ImageScore("L", Modality.MAMMOGRAPHY, model_id, model_id, malignant, 0.5, training_distance=distance)


def test_a_breast_of_which_one_view_is_unlike_is_counted_on_neither_side():
    answers = [score("a", 0.9, 0.8), score("b", 0.8, 0.9), score("c", 0.1, 0.9), score("c", 0.1, 1.2)]
    scores = breast_scores(answers)
    assert [one.is_unlike_training for one in scores] == [False, False, True]
    of_three, of_two = (Opinion("L", found[0], tuple(found[1:])) for found in (scores, scores[:2]))
    left_out = " Not counted: 1 that learnt from pictures unlike this one."
    assert of_three.agreement == f"{of_two.agreement}{left_out}" and of_two.agreement


@pytest.mark.parametrize(
    "card",
    [card for card in shipped_cards(REPOSITORY / "weights") if card.has_weights and not card.members],
    ids=lambda card: card.model_id,
)
def test_a_shipped_network_knows_its_training_images_and_says_how_well(card: Card):
    distance, named = read_training_distance(card), card.training_distance
    assert distance is not None and named is not None and distance.level > 0
    assert named.n_fitted >= 10 * len(distance.spread) and named.n_level >= 20
    assert named.own_beyond is not None and named.own_beyond <= 0.15
    assert {"its own, inverted", "its own, a quarter cut out", "its own, with noise"} < set(named.measured)
    others = [one for name, one in named.measured.items() if not name.startswith((f"{card.modality}:", "its own"))]
    is_blind = bool(np.mean([one.auroc for one in others]) < 0.9)
    assert any(limit.startswith("It misses many") for limit in card.limits) is is_blind
