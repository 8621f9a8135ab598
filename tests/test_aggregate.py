"""From images to breasts."""

from __future__ import annotations

import numpy as np
import pytest

from core.models.aggregate import MAX_RULE, MEAN_RULE, ONE_RULE, per_breast
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
    assert (score.breast, score.rule, score.malignant) == (SIDE_NOT_STATED, MAX_RULE, 0.8)
    assert score.interval[0] < 0.8 < score.interval[1]


def test_models_are_kept_apart() -> None:
    answers = [[prediction(0.1, (), "a"), prediction(0.7, (), "b")]]
    scores = per_breast([image("L", Modality.ULTRASOUND)], answers)
    assert [(score.model_id, score.malignant) for score in scores] == [("a", 0.1), ("b", 0.7)]
