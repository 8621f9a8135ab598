"""From images to breasts: one number a breast and model, with its interval. Loads no TensorFlow.

The only place where images become a breast's number: what is shown beside the pictures, what reports say, what readers
are compared with, and what is held against first impressions all come from `breast_scores`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.imaging.decoded import RAW
from core.types import SIDE_NOT_STATED, Image, Modality, Prediction, interval_of, is_called, is_unlike


@dataclass(frozen=True, slots=True)
class ImageScore:
    """What one model said of one image, as far as a breast's number is made of it.

    breast: "R", "L" or `SIDE_NOT_STATED`. malignant, threshold: in [0, 1]; samples: as in `Prediction`.
    is_alone: it is no part of the breast's number. training_distance: as in `Prediction`. name: what the rule calls the
    image, why it stands alone with it; "" where nobody reads the rule.
    """

    breast: str
    modality: Modality | None
    model_id: str
    weights_sha256: str
    malignant: float
    threshold: float
    samples: tuple[float, ...] = ()
    is_alone: bool = False
    training_distance: float | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class BreastScore:
    """What one model says of one breast.

    breast: "R", "L" or `SIDE_NOT_STATED`. malignant: in [0, 1]; samples: as in `Prediction`. rule: how the images were
    brought together and which ones were left out, in words. The threshold was chosen on single images. is_whole: the
    score comes from all of the breast's images that the model answered and that count. Of a model there are several
    scores a breast, none of them whole, only where its images were answered by different weights or against different
    thresholds. is_unlike_training: one of the images lies beyond what the model learnt from, so that the score is no
    evidence for or against another's.
    """

    breast: str
    model_id: str
    malignant: float
    samples: tuple[float, ...]
    threshold: float
    n_images: int
    rule: str
    weights_sha256: str = ""
    is_whole: bool = True
    is_unlike_training: bool = False
    modality: Modality | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `malignant` from the uncertainty of the calibration."""
        return interval_of(self.samples, self.malignant)

    @property
    def is_above_threshold(self) -> bool:
        return is_called(self.malignant, self.threshold)


MEAN_RULE = "mean over the views of the breast"
MAX_RULE = "highest of the breast's images"
UNSIDED_RULE = "highest of the images whose side is not stated, which may be of both breasts"
ONE_RULE = "the breast's only image that the model answered"
_ONE_OF_SEVERAL = "one of the breast's images"


def breast_scores(answers: Iterable[ImageScore]) -> list[BreastScore]:
    """One score for each (breast, model), breasts R, L, not stated, models in the order they come.

    answers: each model's answer to each image, of a model one an image. Images that stand alone (spot and magnification
    views, raw images) are in no score: a part of the breast is no view of it. Mammography averages the views, as the
    published four-view model of Wu et al. (2019) does; ultrasound and histology take the highest, because one frame
    with a finding is enough. So do images whose side is not stated: they may show both breasts.

    Numbers of different weights are not one number, and a score has one threshold: where a model's answers on a breast
    differ in either, each kind has a score of its own, whose rule says so.
    """
    alone: dict[tuple[str, str], list[ImageScore]] = {}
    grouped: dict[tuple[str, str], dict[tuple[str, float], list[ImageScore]]] = {}
    for answer in answers:
        if answer.is_alone:
            alone.setdefault((answer.breast, answer.model_id), []).append(answer)
        else:
            kinds = grouped.setdefault((answer.breast, answer.model_id), {})
            kinds.setdefault((answer.weights_sha256, answer.threshold), []).append(answer)
    order = ("R", "L", SIDE_NOT_STATED)
    return [
        _score(members, alone.get(of, ()), is_whole=len(grouped[of]) == 1)
        for of in sorted(grouped, key=lambda of: order.index(of[0]))
        for members in grouped[of].values()
    ]


def per_breast(images: Sequence[Image], predictions: Sequence[Sequence[Prediction]]) -> list[BreastScore]:
    """The same of decoded images. predictions: a sequence for each image."""
    return breast_scores(
        ImageScore(
            breast=image.laterality or SIDE_NOT_STATED,
            modality=image.modality,
            model_id=prediction.model_id,
            weights_sha256=prediction.weights_sha256,
            malignant=prediction.malignant,
            threshold=prediction.threshold,
            samples=prediction.malignant_samples,
            is_alone=not counts_for_breast(image),
            training_distance=prediction.training_distance,
            name=name,
        )
        for image, answers, name in zip(images, predictions, _names(images), strict=True)
        for prediction in answers
    )


def counts_for_breast(image: Image) -> bool:
    """Whether a model's answer to this image is part of the breast's number."""
    return not (image.is_scored_alone or image.unread)


def _names(images: Sequence[Image]) -> list[str]:
    """What rules call these images; "" where all of them count, and no rule names one."""
    if all(map(counts_for_breast, images)):
        return [""] * len(images)
    from core.imaging.hanging import label_of

    return [f"{label_of(images, index)}{_why_alone(image)}" for index, image in enumerate(images)]


def _why_alone(image: Image) -> str:
    """Behind the name of an image that does not count, why; "" of one that does."""
    if counts_for_breast(image):
        return ""
    return " (no model reads it)" if image.unread else " (raw image)" if RAW in image.warnings else " (no full view)"


def is_comparable(scores: Sequence[BreastScore]) -> bool:
    """Whether these scores of one breast can be counted against each other: each model has one."""
    return all(score.is_whole for score in scores)


def _score(members: Sequence[ImageScore], alone: Sequence[ImageScore], *, is_whole: bool) -> BreastScore:
    first = members[0]
    if len(members) == 1:
        rule = (f"{first.name} alone" if first.name else "one image") if alone else ONE_RULE
        value, samples = first.malignant, first.samples
    elif first.modality is Modality.MAMMOGRAPHY and first.breast != SIDE_NOT_STATED:
        rule, value = MEAN_RULE, float(np.mean([member.malignant for member in members]))
        samples = tuple(np.mean([member.samples for member in members], axis=0).tolist())
    else:
        highest = max(members, key=lambda member: member.malignant)
        rule = MAX_RULE if first.breast != SIDE_NOT_STATED else UNSIDED_RULE
        value, samples = highest.malignant, highest.samples
    if not is_whole:
        rule = f"{_ONE_OF_SEVERAL if rule == ONE_RULE else rule}, as far as the weights "
        rule += f"{first.weights_sha256[:8]} answered it against {100 * first.threshold:.1f}\u00a0%"
    if alone:
        names = ", ".join(one.name for one in alone if one.name)
        n = len(members)
        rule += f"; not counted: {names}" if names else f"; {n} of {n + len(alone)} images counted"
    return BreastScore(
        first.breast, first.model_id, value, samples, first.threshold, len(members), rule,
        first.weights_sha256, is_whole, any(is_unlike(member.training_distance) for member in members), first.modality,
    )  # fmt: skip
