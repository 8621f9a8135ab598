"""From images to breasts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.imaging.decoded import RAW
from core.models.aggregate import (
    MAX_RULE,
    MEAN_RULE,
    ONE_RULE,
    UNSIDED_RULE,
    ImageScore,
    breast_scores,
    counts_for_breast,
    per_breast,
)
from core.reading.opinions import Opinion
from core.types import SIDE_NOT_STATED, Image, Modality, Prediction


def image(laterality: str | None, modality: Modality) -> Image:
    return Image(np.zeros((4, 4), np.float32), "a" * 64, modality, laterality=laterality)


def prediction(malignant: float, samples: tuple[float, ...], model: str = "m") -> Prediction:
    return Prediction(
        model, "w", "a" * 64, ("no", "yes"), (1 - malignant, malignant), malignant, samples, 0.3, 0.1, "CPU"
    )


def test_the_views_of_a_breast_are_averaged_and_each_breast_stands_alone() -> None:
    images = [image(side, Modality.MAMMOGRAPHY) for side in ("L", "R", "L")]
    scores = per_breast(images, [[prediction(v, (v, v))] for v in (0.2, 0.9, 0.4)])
    assert [(score.breast, score.rule) for score in scores] == [("R", ONE_RULE), ("L", MEAN_RULE)]
    assert scores[1].malignant == pytest.approx(0.3) and scores[1].n_images == 2


def test_one_suspicious_frame_of_ultrasound_is_enough() -> None:
    images = [image(None, Modality.ULTRASOUND)] * 2
    (score,) = per_breast(images, [[prediction(0.1, (0.05, 0.2))], [prediction(0.8, (0.7, 0.9))]])
    assert (score.breast, score.rule, score.malignant) == (SIDE_NOT_STATED, UNSIDED_RULE, 0.8)
    assert score.interval[0] < 0.8 < score.interval[1]


def test_mammograms_whose_side_is_not_stated_are_not_averaged_over_two_breasts() -> None:
    images = [image(None, Modality.MAMMOGRAPHY)] * 2
    (score,) = per_breast(images, [[prediction(0.1, (0.05, 0.2))], [prediction(0.8, (0.7, 0.9))]])
    assert (score.rule, score.malignant) == (UNSIDED_RULE, 0.8)


def test_models_are_kept_apart() -> None:
    answers = [[prediction(0.1, (), "a"), prediction(0.7, (), "b")]]
    scores = per_breast([image("L", Modality.ULTRASOUND)], answers)
    assert [(score.model_id, score.malignant) for score in scores] == [("a", 0.1), ("b", 0.7)]


@pytest.mark.parametrize("change", [{"threshold": 0.6}, {"weights_sha256": "another"}])
def test_answers_of_other_weights_or_against_another_threshold_are_not_one_number(change: dict[str, Any]) -> None:
    images = [image("L", Modality.ULTRASOUND)] * 3
    first, second, odd = prediction(0.2, ()), prediction(0.4, ()), replace(prediction(0.5, ()), **change)
    scores = per_breast(images, [[first], [odd], [second]])
    assert [(score.malignant, score.n_images, score.threshold) for score in scores] == [
        (0.4, 2, 0.3), (0.5, 1, odd.threshold),
    ]  # fmt: skip
    assert [score.is_above_threshold for score in scores] == [True, odd.threshold == 0.3]
    assert all("as far as the weights" in score.rule for score in scores) and "only image" not in scores[1].rule
    assert Opinion("L", scores[0], tuple(scores[1:])).agreement == ""
    whole = per_breast(images, [[first], [second], [second]])
    assert len(whole) == 1 and whole[0].rule == MAX_RULE


def test_pictures_that_stand_alone_are_no_part_of_the_breast_s_number() -> None:
    """A spot view, a raw image, and what no model should have read."""
    full, other = image("R", Modality.MAMMOGRAPHY), image("R", Modality.MAMMOGRAPHY)
    spot = replace(full, is_scored_alone=True, view_modifiers=("spot compression",))
    specimen = replace(full, not_scored="This is a specimen.")
    both = replace(full, needs_side=True, laterality=None)
    assert counts_for_breast(replace(full, needs_side=True)) and not counts_for_breast(both)
    answers = [[prediction(value, ())] for value in (0.2, 0.4, 0.99, 0.98)]
    (score,) = per_breast([full, other, spot, specimen], answers)
    assert score.malignant == pytest.approx(0.3) and score.n_images == 2
    assert per_breast([spot, specimen], answers[2:]) == []
    (score,) = per_breast([full, spot], [answers[0], answers[2]])
    assert score.malignant == 0.2 and score.n_images == 1


def test_what_is_left_out_of_a_breast_s_number_is_named_with_why() -> None:
    cc, mlo = (replace(image("R", Modality.MAMMOGRAPHY), view=view) for view in ("CC", "MLO"))
    raw = replace(mlo, is_scored_alone=True, warnings=(RAW,))
    spot = replace(cc, is_scored_alone=True, view_modifiers=("spot compression",))
    left = [replace(one, laterality="L") for one in (cc, mlo)]
    answers = [[prediction(value, ())] for value in (0.2, 0.4, 0.3, 0.5)]
    assert [score.rule for score in per_breast([cc, raw, *left], answers)] == [
        "R CC alone; not counted: R MLO (raw image)", MEAN_RULE,
    ]  # fmt: skip
    (score,) = per_breast([cc, mlo, raw, spot], answers)
    left_out = "R MLO 2 of 2 (raw image), R CC, spot compression (no full view)"
    assert score.rule == f"{MEAN_RULE}; not counted: {left_out}" and score.n_images == 2


def test_where_images_have_no_names_it_is_said_how_many_were_counted() -> None:
    one = ImageScore("R", Modality.MAMMOGRAPHY, "m", "w", 0.2, 0.3)
    raw = replace(one, is_alone=True)
    assert [score.rule for score in breast_scores([one, raw])] == ["one image; 1 of 2 images counted"]
    assert [score.rule for score in breast_scores([one, raw, one])] == [f"{MEAN_RULE}; 2 of 3 images counted"]
    elsewhere = [replace(raw, breast="L"), replace(raw, model_id="other")]
    assert [score.rule for score in breast_scores([one, *elsewhere])] == [ONE_RULE]


@pytest.mark.parametrize("modality", [Modality.MAMMOGRAPHY, Modality.ULTRASOUND])
def test_a_model_promoted_between_two_images_of_a_breast_has_no_whole_number_of_it(modality: Modality) -> None:
    before = ImageScore("L", modality, "m", "old", 0.2, 0.3)
    after = replace(before, weights_sha256="new", malignant=0.8)
    elsewhere = replace(after, breast="R", malignant=0.6)
    scores = breast_scores([before, after, elsewhere])
    assert [(s.breast, s.weights_sha256, s.malignant, s.is_whole) for s in scores] == [
        ("R", "new", 0.6, True), ("L", "old", 0.2, False), ("L", "new", 0.8, False),
    ]  # fmt: skip


@pytest.mark.parametrize(("malignant", "is_above"), [(0.3, True), (float(np.nextafter(0.3, 0)), False)])
def test_a_breast_at_the_threshold_is_above_it(malignant: float, is_above: bool) -> None:
    (score,) = breast_scores([ImageScore("L", Modality.ULTRASOUND, "m", "w", malignant, 0.3)])
    assert score.is_above_threshold is is_above
