"""Free-response (FROC) analysis: marks with ratings against lesions, several of either on an image.

References: Bunch et al. 1977 (J Appl Photogr Eng 4:166) for the curve, with lesion localisation fraction against
non-lesion localisations per image, over all images (Chakraborty 2017, Observer Performance Methods for Diagnostic
Imaging); Chakraborty & Berbaum 2004 (Med Phys 31:2313) for the JAFROC figure of merit. Between two operating points the
curve is a straight line, behind the last one it is level: marks that were not made find nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import Bootstrap, percentile
from core.types import Estimate

RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""False marks an image at which a sensitivity is given."""


@dataclass(frozen=True, slots=True)
class FreeResponse:
    """The marks of one scorer, already compared with the lesions. Images have numbers from 0.

    hits: (lesions,) the highest rating of a mark on the lesion, -inf where there is none. lesion_images: (lesions,) its
    image. false: (marks,) ratings of the marks on no lesion at all. false_images: (marks,) their image.
    """

    hits: np.ndarray
    lesion_images: np.ndarray
    false: np.ndarray
    false_images: np.ndarray

    def only(self, lesions: np.ndarray) -> FreeResponse:
        """The same with some of the lesions, (lesions,) bool: marks on the others are neither hit nor false."""
        return FreeResponse(self.hits[lesions], self.lesion_images[lesions], self.false, self.false_images)


@dataclass(frozen=True, slots=True)
class Froc:
    """Sensitivities per lesion at some rates of false marks an image: values (rates,), and of each draw of patients
    (rates, draws), NaN where a draw has no lesion."""

    values: np.ndarray
    samples: np.ndarray
    n_lesions: int

    @property
    def at_rates(self) -> tuple[Estimate, ...]:
        """The sensitivity at each rate."""
        return tuple(
            percentile(float(value), samples, self.n_lesions)
            for value, samples in zip(self.values, self.samples, strict=True)
        )

    @property
    def mean(self) -> Estimate:
        """The mean over the rates, as the LUNA16 and DBTex challenges rank by."""
        return percentile(float(self.values.mean()), self.samples.mean(axis=0), self.n_lesions)

    def above(self, other: Froc) -> Estimate:
        """How much the mean lies above another scorer's on the same lesions, patient by patient the same draws."""
        return percentile(
            float(self.values.mean() - other.values.mean()),
            self.samples.mean(axis=0) - other.samples.mean(axis=0),
            self.n_lesions,
        )


def froc(marks: Sequence[FreeResponse], bootstrap: Bootstrap, rates: Sequence[float] = RATES) -> Froc:
    """The sensitivities of a scorer; of several (repetitions of one made at random) their mean.

    bootstrap: over the images. Raises InvalidInput where there is no lesion.
    """
    if not marks or any(len(one.hits) == 0 for one in marks):
        raise InvalidInput("A free-response curve needs lesions; there are none among these images.")
    whole = np.ones((bootstrap.n, 1), np.float32)
    values = np.mean([_sensitivities(one, whole, rates)[:, 0] for one in marks], axis=0)
    drawn = [np.mean([_sensitivities(one, block, rates) for one in marks], axis=0) for block in bootstrap.blocks()]
    return Froc(values, np.concatenate(drawn, axis=1), len(marks[0].hits))


def _sensitivities(marks: FreeResponse, weights: np.ndarray, rates: Sequence[float]) -> np.ndarray:
    """(rates, draws) of images that count as often as in `weights`, (images, draws)."""
    ratings = np.concatenate([marks.hits, marks.false])
    images = np.concatenate([marks.lesion_images, marks.false_images]).astype(int)
    is_hit = np.arange(len(ratings)) < len(marks.hits)
    made = np.flatnonzero(np.isfinite(ratings))
    made = made[np.argsort(-ratings[made], kind="stable")]
    # Marks with one rating come or go together: only the last of them is an operating point.
    last = np.flatnonzero(np.append(np.diff(ratings[made]) != 0, True)) if len(made) else np.empty(0, int)
    counted = weights[images[made]].astype(np.float64)
    found = np.cumsum(counted * is_hit[made, None], axis=0)[last]
    false = np.cumsum(counted * ~is_hit[made, None], axis=0)[last]
    n_lesions = weights[marks.lesion_images.astype(int)].sum(0, dtype=np.float64)
    n_images = weights.sum(0, dtype=np.float64)
    start = np.zeros((1, weights.shape[1]))
    false, found = np.concatenate([start, false]) / n_images, np.concatenate([start, found])
    with np.errstate(invalid="ignore"):
        found = found / np.where(n_lesions > 0, n_lesions, np.nan)
    return np.column_stack([np.interp(rates, false[:, draw], found[:, draw]) for draw in range(weights.shape[1])])


def jafroc(marks: FreeResponse, normal: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    """How often a lesion is rated above the highest mark on a normal image, a tie counting half: .5 is chance.

    normal: (images,) bool, which images have no lesion. What was not marked lies below every mark.
    """
    highest = np.full(bootstrap.n, -np.inf)
    np.maximum.at(highest, marks.false_images.astype(int), marks.false)
    others = np.flatnonzero(normal)
    if len(marks.hits) == 0 or len(others) == 0:
        raise InvalidInput("The JAFROC figure of merit needs lesions, and images without any.")
    wins = (marks.hits[:, None] > highest[others]) + 0.5 * (marks.hits[:, None] == highest[others])
    samples = []
    for block in bootstrap.blocks():
        of_lesions, of_normals = block[marks.lesion_images.astype(int)], block[others]
        pairs = of_lesions.sum(0, dtype=np.float64) * of_normals.sum(0, dtype=np.float64)
        won = np.einsum("ld,ln,nd->d", of_lesions, wins, of_normals, optimize=True)
        samples.append(np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan))
    return percentile(float(wins.mean()), np.concatenate(samples), len(marks.hits))
