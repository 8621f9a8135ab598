"""Figures show what was measured: the points, the counts, the provenance; names from a file are inert."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from core.errors import InvalidInput
from core.evaluation.charts import base
from core.evaluation.charts import curves as curve_charts
from core.evaluation.charts import tables as table_charts
from core.evaluation.statistics.calibration import reliability
from core.evaluation.statistics.comparison import compare_areas
from core.evaluation.statistics.curves import decision_curve, mean_sensitivity, precision_recall_curve, roc_curve
from core.evaluation.statistics.intervals import Bootstrap
from core.evaluation.statistics.subgroups import number_bands, subgroups

RNG = np.random.default_rng(0)
LABELS = RNG.random(120) < 0.3
SCORES = np.clip(np.round(0.3 * LABELS + RNG.random(120) * 0.7, 2), 0, 1)
NAME = "<b>net</b>"


def test_the_roc_curve_is_scikit_learns_and_its_band_holds_it():
    curve = roc_curve(LABELS, SCORES, Bootstrap(None, 120, resamples=200))
    false, true, thresholds = sk.roc_curve(LABELS, SCORES, drop_intermediate=False)
    assert np.allclose(curve.false_positive_rate, false) and np.allclose(curve.sensitivity, true)
    assert (curve.thresholds[1:] == thresholds[1:]).all()
    assert curve.low is not None and curve.high is not None
    middle = np.interp(curve.grid, curve.false_positive_rate, curve.sensitivity)
    assert (curve.low <= middle + 0.02).all() and (curve.high >= middle - 0.02).all()
    point = curve.at(0.5)
    assert curve.true_positives[point] == (SCORES[LABELS] >= 0.5).sum()
    assert curve.at(2.0) == 0 and curve.at(0.0) == len(curve.thresholds) - 1


def test_the_band_is_the_spread_of_curves_computed_one_by_one():
    bootstrap = Bootstrap(None, 120, resamples=60, seed=3)
    curve = roc_curve(LABELS, SCORES, bootstrap)
    (weights,) = bootstrap.blocks()
    slow = []
    for column in weights.T.astype(int):
        false, true, _ = sk.roc_curve(np.repeat(LABELS, column), np.repeat(SCORES, column), drop_intermediate=False)
        slow.append(np.interp(curve.grid, false, true))
    assert np.allclose(curve.low, np.percentile(slow, 2.5, axis=0), atol=1e-6)
    assert np.allclose(curve.high, np.percentile(slow, 97.5, axis=0), atol=1e-6)


def test_the_precision_recall_curve_is_scikit_learns():
    curve = precision_recall_curve(LABELS, SCORES, Bootstrap(None, 120, resamples=50))
    precision, recall, _ = sk.precision_recall_curve(LABELS, SCORES)
    assert np.allclose(curve.precision[::-1], precision[:-1]) and np.allclose(curve.recall[::-1], recall[:-1])
    assert curve.prevalence == LABELS.mean()
    assert curve.low is not None and (curve.low <= curve.high).all()
    with pytest.raises(InvalidInput, match="precision-recall"):
        precision_recall_curve(np.ones(3), np.ones(3))


def test_draws_without_positives_leave_the_bands_of_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch):
    labels, scores = np.arange(60) < 2, RNG.random(60)
    bootstrap = Bootstrap(None, 60, resamples=1000)
    weights = next(bootstrap.blocks())
    some = weights[:, weights[:2].sum(axis=0) > 0]
    assert some.shape[1] < 950
    found = [precision_recall_curve(labels, scores, bootstrap), roc_curve(labels, scores, bootstrap)]
    monkeypatch.setattr(bootstrap, "_cached", [some])
    for curve, only_those in zip(
        found, [precision_recall_curve(labels, scores, bootstrap), roc_curve(labels, scores, bootstrap)], strict=True
    ):
        assert np.allclose(curve.low, only_those.low) and np.allclose(curve.high, only_those.high)


def test_the_precision_band_is_the_spread_at_the_first_threshold_that_reaches_each_recall():
    bootstrap = Bootstrap(None, 120, resamples=40, seed=5)
    curve = precision_recall_curve(LABELS, SCORES, bootstrap)
    slow = []
    for column in next(bootstrap.blocks()).T.astype(int):
        labels, scores = np.repeat(LABELS, column), np.repeat(SCORES, column)
        points = [(scores[labels] >= t).mean() for t in np.unique(scores)[::-1]]
        precisions = [labels[scores >= t].mean() for t in np.unique(scores)[::-1]]
        slow.append([precisions[int(np.argmax(np.array(points) >= recall - 1e-9))] for recall in curve.grid])
    assert np.allclose(curve.low, np.percentile(slow, 2.5, axis=0), atol=1e-6)
    assert np.allclose(curve.high, np.percentile(slow, 97.5, axis=0), atol=1e-6)


def test_every_figure_escapes_names_and_states_where_it_comes_from():
    provenance = base.Provenance("data <i>", "test", 120, int(LABELS.sum()), "a" * 64, {NAME: "b" * 64})
    bootstrap = Bootstrap(None, 120, resamples=20)
    scorers = {NAME: SCORES, "other": RNG.random(120)}
    groups = subgroups(NAME, np.where(np.arange(120) < 15, NAME, "x"), LABELS, SCORES, threshold=0.5, resamples=20)
    figures = [
        curve_charts.roc_figure(
            {NAME: roc_curve(LABELS, SCORES, bootstrap)}, thresholds={NAME: 0.5}, provenance=provenance
        ),
        curve_charts.precision_recall_figure(
            {NAME: precision_recall_curve(LABELS, SCORES, bootstrap)}, provenance=provenance
        ),
        curve_charts.reliability_figure({NAME: reliability(LABELS, SCORES)}, provenance=provenance),
        table_charts.matrix_figure(np.array([[70, 14], [9, 27]]), ("others", NAME), provenance=provenance),
        curve_charts.decision_figure({NAME: decision_curve(LABELS, SCORES, bootstrap)}, provenance=provenance),
        table_charts.forest_figure(groups, provenance=provenance),
        table_charts.pairs_figure(compare_areas(LABELS, scorers, bootstrap), provenance=provenance),
    ]
    for figure in figures:
        text = str(figure.to_plotly_json())
        assert "<b>" not in text and "<i>" not in text
        assert "data aaaaaaaa" in text and "120 cases" in text and "bbbbbbbb" in text
        assert figure.layout.paper_bgcolor == base.PAPER  # a saved picture keeps a ground under its light ink


def test_small_subgroups_are_grey_and_those_of_one_class_have_no_area():
    values = np.where(np.arange(120) < 15, "small", np.where(LABELS, "positives", "big"))
    values[np.flatnonzero(~LABELS)[-1]] = ""
    found = {group.value: group for group in subgroups("site", values, LABELS, SCORES, threshold=0.5)}
    assert found["small"].is_small and not found["positives"].is_small
    assert found["positives"].auc is None and found["not stated"].n == 1
    assert found["positives"].sensitivity is not None and found["positives"].sensitivity.n == found["positives"].n
    figure = table_charts.forest_figure(list(found.values()))
    colours = {trace.name.split(" (")[0]: trace.marker.color for trace in figure.data}
    assert colours["site: small"] == base.GREYED


def test_a_forest_says_whether_a_class_is_missing_or_has_too_few_cases():
    labels = np.array([1] * 4 + [0] * 20 + [1] * 10)
    values = np.repeat(["few", "one"], [24, 10])
    groups = subgroups("site", values, labels, np.linspace(0, 1, 34))
    said = {note.y.split(" (")[0]: note.text for note in table_charts.forest_figure(groups).layout.annotations}
    assert said == {"site: few": "fewer than 5 patients of a class", "site: one": "one class only"}


def test_numbers_are_banded_into_quarters_and_names_left_alone():
    bands = number_bands(np.array([str(number) for number in range(40)] + ["?"]))
    assert list(dict.fromkeys(bands)) == ["0 to below 10", "10 to below 20", "20 to below 29", "29 to 39", ""]
    assert list(number_bands(np.array(["a", "b"]))) == ["a", "b"]


def test_a_long_curve_is_thinned_with_both_ends_kept():
    labels, scores = RNG.random(9000) < 0.5, RNG.random(9000)
    figure = curve_charts.roc_figure({"net": roc_curve(labels, scores)})
    line = figure.data[1]
    assert len(line.x) <= curve_charts.MAX_POINTS and (line.x[0], line.y[0], line.x[-1], line.y[-1]) == (0, 0, 1, 1)


def test_the_mean_of_curves_lies_between_them_at_every_specificity() -> None:
    first, second = roc_curve(LABELS, SCORES), roc_curve(LABELS, 1 - SCORES)
    rates, mean = mean_sensitivity([first, second])
    assert mean[-1] == 1 and mean[0] == pytest.approx(
        np.mean([one.sensitivity[one.false_positive_rate == 0].max() for one in (first, second)])
    )
    assert np.allclose(mean_sensitivity([first, first])[1], mean_sensitivity([first])[1])
    low, high = (mean_sensitivity([one])[1] for one in (second, first))
    assert np.allclose(mean, (low + high) / 2) and len(rates) == len(mean)


def test_every_line_of_a_figure_stands_out_from_the_dark_page() -> None:
    """Colours are those of `core.evaluation.charts.base`, all of them well above the ground in luminance."""
    import re

    from core.evaluation.charts import base
    from core.settings import REPOSITORY

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for colour in (*base.COLOURS, base.INK, base.GREYED, base.ALARM):
        assert (luminance(colour) + 0.05) / (luminance(base.PAPER) + 0.05) >= 3, colour
    lines = re.compile(r'line=\{[^}]*"color": "(#[0-9a-f]{6})"')
    for folder in ("core/evaluation/charts", "pages"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            assert not lines.findall(file.read_text(encoding="utf-8")), f"{file.name}: take a colour of charts.base"
