"""From images to breasts: one number a breast and model, with its interval. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.types import SIDE_NOT_STATED, Image, Modality, Prediction, interval_of


@dataclass(frozen=True, slots=True)
class BreastScore:
    """What one model says of one breast.

    breast: "R", "L" or `SIDE_NOT_STATED`. malignant: in [0, 1]; samples: as in `Prediction`. rule: how the images were
    brought together, in words. The threshold was chosen on single images. Of a model there are several scores a breast
    only where its images were answered by different weights or against different thresholds.
    """

    breast: str
    model_id: str
    malignant: float
    samples: tuple[float, ...]
    threshold: float
    n_images: int
    rule: str

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `malignant` from the uncertainty of the calibration."""
        return interval_of(self.samples, self.malignant)

    @property
    def is_above_threshold(self) -> bool:
        return self.malignant >= self.threshold


MEAN_RULE = "mean over the views of the breast"
MAX_RULE = "highest of the breast's images"
ONE_RULE = "the breast's only image"
_ONE_OF_SEVERAL = "one of the breast's images"


def per_breast(images: Sequence[Image], predictions: Sequence[Sequence[Prediction]]) -> list[BreastScore]:
    """One score for each (breast, model), breasts R, L, not stated, models in the order they come.

    predictions: a sequence for each image. Images that stand alone (spot and magnification views, raw images) are in no
    score: a part of the breast is no view of it. Mammography averages the views, as the published four-view model of
    Wu et al. (2019) does; ultrasound and histology take the highest, because one frame with a finding is enough.

    Numbers of different weights are not one number, and a score has one threshold: where a model's answers on a breast
    differ in either, each kind has a score of its own, whose rule says so.
    """
    grouped: dict[tuple[str, str], dict[tuple[str, float], list[tuple[Image, Prediction]]]] = {}
    for image, answers in zip(images, predictions, strict=True):
        for prediction in answers if counts_for_breast(image) else ():
            kinds = grouped.setdefault((image.laterality or SIDE_NOT_STATED, prediction.model_id), {})
            kinds.setdefault((prediction.weights_sha256, prediction.threshold), []).append((image, prediction))
    order = ("R", "L", SIDE_NOT_STATED)
    in_order = sorted(grouped.items(), key=lambda item: order.index(item[0][0]))
    return [
        _score(breast, model_id, members, is_whole=len(kinds) == 1)
        for (breast, model_id), kinds in in_order
        for members in kinds.values()
    ]


def counts_for_breast(image: Image) -> bool:
    """Whether a model's answer to this image is part of the breast's number."""
    return not (image.is_scored_alone or image.not_scored)


def is_comparable(scores: Sequence[BreastScore]) -> bool:
    """Whether these scores of one breast can be counted against each other: each model has one."""
    return len({score.model_id for score in scores}) == len(scores)


def _score(breast: str, model_id: str, members: list[tuple[Image, Prediction]], *, is_whole: bool) -> BreastScore:
    predictions = [prediction for _, prediction in members]
    threshold = predictions[0].threshold
    if len(predictions) == 1:
        rule, value, samples = ONE_RULE, predictions[0].malignant, predictions[0].malignant_samples
    elif members[0][0].modality is Modality.MAMMOGRAPHY:
        rule, value = MEAN_RULE, float(np.mean([prediction.malignant for prediction in predictions]))
        samples = tuple(np.mean([prediction.malignant_samples for prediction in predictions], axis=0).tolist())
    else:
        highest = max(predictions, key=lambda prediction: prediction.malignant)
        rule, value, samples = MAX_RULE, highest.malignant, highest.malignant_samples
    if not is_whole:
        rule = f"{_ONE_OF_SEVERAL if rule == ONE_RULE else rule}, as far as the weights "
        rule += f"{predictions[0].weights_sha256[:8]} answered it against {100 * threshold:.1f}\u00a0%"
    return BreastScore(breast, model_id, value, samples, threshold, len(predictions), rule)
