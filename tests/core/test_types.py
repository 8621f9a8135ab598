"""The nouns refuse what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import UnreadableImage
from core.types import Estimate, Image, Prediction, interval_of, is_called


def test_pixels_are_float32_between_black_and_white() -> None:
    with pytest.raises(ValueError, match="float32"):
        Image(np.zeros((2, 2)), "x")
    with pytest.raises(ValueError, match="float32"):
        Image(np.zeros((2, 2, 4), np.float32), "x")
    for bad in (np.nan, np.inf, -0.1, 1.1):
        with pytest.raises(UnreadableImage):
            Image(np.full((2, 2), bad, np.float32), "x")


def test_sides_and_views_are_those_of_the_standard() -> None:
    with pytest.raises(ValueError, match="laterality"):
        Image(np.zeros((2, 2), np.float32), "x", laterality="left")
    with pytest.raises(ValueError, match="view"):
        Image(np.zeros((2, 2), np.float32), "x", view="front")
    assert Image(np.zeros((2, 3), np.float32), "x", laterality="L", view="MLO").width == 3


def test_an_interval_holds_its_value() -> None:
    low, high = interval_of(np.linspace(0.2, 0.4, 101).tolist(), 0.3)
    assert (low, high) == (pytest.approx(0.205), pytest.approx(0.395))
    assert interval_of([0.2, 0.3], 0.9)[1] == 0.9
    assert interval_of([], 0.5) == (0.5, 0.5)


def test_a_score_at_the_threshold_is_called_and_the_one_before_it_is_not() -> None:
    below = float(np.nextafter(0.3, 0))
    assert is_called(0.3, 0.3) and not is_called(below, 0.3)
    for malignant, is_above in ((0.3, True), (below, False)):
        made = Prediction("m", "w", "a", ("no", "yes"), (1 - malignant, malignant), malignant, (), 0.3, 0.1, "CPU")
        assert made.is_above_threshold is is_above


def test_a_predictive_value_of_no_case_says_whether_nobody_or_everybody_was_called() -> None:
    from pages.parts.tables import UNDEFINED, estimate_cell

    none = Estimate(float("nan"), 0.0, 1.0, 0)
    assert "nobody called" in estimate_cell(none, undefined=UNDEFINED["ppv"])
    assert "everybody called" in estimate_cell(none, undefined=UNDEFINED["npv"])
    assert "called" not in estimate_cell(none) and "not defined" in estimate_cell(none)


def test_wherever_an_estimate_is_shown_it_says_that_its_interval_was_widened() -> None:
    from core.commands.models import _estimate_text
    from core.reports.content import measured
    from pages.parts.card_rows import measure_rows
    from pages.parts.tables import estimate_cell
    from train.publishing.results import as_text

    plain, widened = Estimate(0.06, 0.05, 0.13, 242), Estimate(0.06, 0.06, 0.13, 242, bias=0.037)
    assert plain.widened_text == "" and widened.widened_text == "widened: draws lean +0.037"
    for shown in (
        lambda one: measure_rows({"ece": one})[0]["95 % interval"], lambda one: measured({"ece": one}), estimate_cell,
        _estimate_text, as_text,
    ):  # fmt: skip
        assert "widened" in shown(widened) and "widened" not in shown(plain)
        assert "037" in shown(widened)
