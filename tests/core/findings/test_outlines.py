"""What becomes of a network's answer, and numbers of agreement that are known."""

from __future__ import annotations

import numpy as np
import pytest
from made_lesions import ellipse, spiky

from core.findings.marks import Mark, measured
from core.findings.outlines import BOUNDARY_POINTS, SMALLEST_SHARE, boundary, dice, hausdorff_95, iou, outlines_of
from core.types import Image


def blank() -> np.ndarray:
    return np.zeros((100, 100), np.float32)


def test_regions_are_proposed_by_their_peak_and_the_surest_comes_first() -> None:
    answer = blank()
    answer[10:20, 10:20] = 0.75
    answer[50:70, 50:70] = 0.6
    answer[60, 60] = 0.9
    answer[80:90, 10:20] = 0.55
    found = outlines_of(answer, level=0.5, least_peak=0.75)
    assert [round(one.peak, 2) for one in found] == [0.9, 0.75]
    assert found[0].box == (50, 70, 50, 70)
    assert len(outlines_of(answer, level=0.5, least_peak=0.5)) == 3


def test_a_hole_belongs_to_the_lesion() -> None:
    answer = blank()
    answer[10:30, 10:30] = 0.9
    answer[18:22, 18:22] = 0.1
    assert outlines_of(answer, level=0.5, least_peak=0.5)[0].mask.sum() == 400


@pytest.mark.parametrize(("pixels", "n"), [(4, 0), (5, 1)])
def test_a_few_pixels_are_no_proposal(pixels: int, n: int) -> None:
    answer = blank()
    answer[5, 5 : 5 + pixels] = 0.9
    assert SMALLEST_SHARE * answer.size == 5
    assert len(outlines_of(answer, level=0.5, least_peak=0.5)) == n


def test_agreement_of_squares() -> None:
    one, other = blank() > 1, blank() > 1
    one[10:30, 10:30] = True
    other[10:30, 20:40] = True
    assert dice(one, other) == pytest.approx(0.5)
    assert iou(one, other) == pytest.approx(1 / 3)
    assert hausdorff_95(one, other) == pytest.approx(10 / np.hypot(100, 100), rel=0.01)
    assert (dice(one, one), iou(one, one), hausdorff_95(one, one)) == (1, 1, 0)


def test_nothing_against_nothing_is_no_number_and_against_something_nothing_in_common() -> None:
    empty, one = blank() > 1, blank() < 1
    assert np.isnan([dice(empty, empty), iou(empty, empty), hausdorff_95(empty, one)]).all()
    assert (dice(empty, one), iou(empty, one)) == (0, 0)


def marked(mask: np.ndarray) -> tuple[float, np.ndarray]:
    """Pixels that the outline mark of a mask counts, and their share of the mask that it holds."""
    mark = Mark("ab" * 32, 0, "outline", boundary(mask))
    found = measured(mark, Image(mask.astype(np.float32), "ab" * 32))
    return found.n_pixels or 0, (found.mean_grey or 0) * (found.n_pixels or 0) / mask.sum()


@pytest.mark.parametrize(("mask", "least"), [(ellipse(), 0.99), (spiky(8, 0.5, 10), 0.97), (blank() < 1, 1.0)])
def test_an_outline_becomes_a_mark_that_encloses_the_same_pixels(mask: np.ndarray, least: float) -> None:
    n_pixels, share_held = marked(mask)
    assert share_held >= least and n_pixels <= mask.sum() / least
    assert len(boundary(mask)) == BOUNDARY_POINTS


def test_the_border_of_a_few_pixels_runs_around_the_largest_region_and_over_its_hole() -> None:
    mask = blank() > 1
    mask[10:13, 20:24] = True
    mask[11, 21] = False
    mask[13, 24] = True  # meets it at a corner only
    points = np.array(boundary(mask))
    assert (points.min(0).tolist(), points.max(0).tolist()) == ([20, 10], [24, 13])
    assert marked(mask)[0] == 12
    with pytest.raises(ValueError, match="no border"):
        boundary(blank() > 1)
