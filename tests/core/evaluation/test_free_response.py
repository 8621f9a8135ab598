"""FROC and JAFROC of marks of which it is known what they hit."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import InvalidInput
from core.evaluation.statistics.free_response import FreeResponse, froc, jafroc
from core.evaluation.statistics.intervals import Bootstrap


def responses(hits: list[float], images: list[int], false: list[float], false_images: list[int]) -> FreeResponse:
    return FreeResponse(np.array(hits), np.array(images), np.array(false), np.array(false_images))


FOUR = responses([0.9, 0.5, -np.inf], [0, 1, 1], [0.8, 0.6, 0.4, 0.3], [2, 3, 0, 2])
"""Four images, three lesions, of which two were marked; four false marks."""


def test_a_curve_by_hand() -> None:
    # Down from the highest rating: hit, false, false, hit, false, false: a third of the lesions at none, two thirds
    # at half a false mark an image, and no more than that.
    found = froc([FOUR], Bootstrap(None, 4, resamples=20), (0.0, 0.25, 0.5, 1.0, 4.0))
    assert found.values == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert found.mean.value == pytest.approx(8 / 15) and found.mean.n == 3
    assert all(one.low <= one.value <= one.high for one in found.at_rates)


def test_marks_of_one_rating_come_together_with_a_straight_line_before_them() -> None:
    same = responses([1.0, 1.0], [0, 1], [1.0, 1.0], [1, 2])
    found = froc([same], Bootstrap(None, 4, resamples=5), (0.25, 0.5, 1.0))
    assert found.values == pytest.approx([0.5, 1.0, 1.0])


def test_marks_on_lesions_that_are_not_asked_about_are_neither_hit_nor_false() -> None:
    chosen = FOUR.only(np.array([False, True, True]))
    found = froc([chosen], Bootstrap(None, 4, resamples=5), (0.25, 0.5))
    assert found.values == pytest.approx([0.0, 0.5])


def test_a_draw_counts_an_image_as_often_as_it_was_drawn() -> None:
    bootstrap = Bootstrap(np.array(["a", "a", "b", "c"]), 4, resamples=50)
    found = froc([FOUR], bootstrap, (0.5,)).samples[0]
    for draw, weights in enumerate(np.concatenate(list(bootstrap.blocks()), axis=1).T.astype(int)):
        images = np.repeat(np.arange(4), weights)
        hits = [hit for image in images for hit in FOUR.hits[FOUR.lesion_images == image]]
        false = sorted((one for image in images for one in FOUR.false[FOUR.false_images == image]), reverse=True)
        if not hits:
            assert np.isnan(found[draw])
            continue
        at = {t: np.mean(np.array(false) >= t) * len(false) / len(images) for t in sorted({*hits, *false} - {-np.inf})}
        points = sorted((rate, float(np.mean(np.array(hits) >= t))) for t, rate in at.items())
        rates, shares = zip((0.0, 0.0), *points, strict=True)
        assert found[draw] == pytest.approx(np.interp(0.5, rates, shares))


def test_a_scorer_lies_above_another_by_the_same_draws_and_above_itself_by_nothing() -> None:
    bootstrap = Bootstrap(None, 4, resamples=200)
    own = froc([FOUR], bootstrap)
    assert (own.above(own).value, own.above(own).low, own.above(own).high) == (0, 0, 0)
    blind = froc([responses([-np.inf] * 3, [0, 1, 1], [0.5], [2])], bootstrap)
    assert own.above(blind).value == pytest.approx(own.mean.value)
    both = froc([FOUR, responses([-np.inf] * 3, [0, 1, 1], [0.5], [2])], bootstrap)
    assert both.mean.value == pytest.approx(own.mean.value / 2)


def test_jafroc_by_hand() -> None:
    # Normal images 2 and 3 have 0.8 and 0.6 as their highest: 0.9 beats both, 0.5 and an unmarked lesion neither.
    normal = np.array([False, False, True, True])
    assert jafroc(FOUR, normal, Bootstrap(None, 4, resamples=50)).value == pytest.approx(2 / 6)
    silent = responses([-np.inf, 0.8], [0, 1], [0.8], [2])
    assert jafroc(silent, normal, Bootstrap(None, 4, resamples=50)).value == pytest.approx((0 + 0.5 + 0.5 + 1) / 4)


def test_without_lesions_or_normal_images_there_is_no_number() -> None:
    nothing = responses([], [], [0.5], [0])
    with pytest.raises(InvalidInput, match="needs lesions"):
        froc([nothing], Bootstrap(None, 4))
    with pytest.raises(InvalidInput, match="images without any"):
        jafroc(FOUR, np.zeros(4, bool), Bootstrap(None, 4))


def test_sensitivities_are_given_at_a_quarter_a_half_one_two_and_four_false_marks_an_image() -> None:
    # Sixteen false marks on four images; the lesions are found behind the 1st, 2nd, 4th, 8th and 16th of them.
    false = [float(rating) for rating in range(16, 0, -1)]
    marks = responses([15.5, 14.5, 12.5, 8.5, 0.5], [0, 1, 2, 3, 3], false, [number % 4 for number in range(16)])
    assert froc([marks], Bootstrap(None, 4, resamples=5)).values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
