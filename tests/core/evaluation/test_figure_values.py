"""A figure shows the numbers that it was given: places, interval bars, best epochs, colours that come round."""

from __future__ import annotations

import inspect

import numpy as np
import plotly.graph_objects as go
import pytest
from published_ratings import van_dyke

from core.evaluation.charts import base, curves, runs, tables
from core.evaluation.statistics.agreement import DescriptorAgreement
from core.evaluation.statistics.calibration import reliability
from core.evaluation.statistics.comparison import compare_areas
from core.evaluation.statistics.curves import decision_curve, precision_recall_curve, roc_curve
from core.evaluation.statistics.intervals import Bootstrap
from core.evaluation.statistics.subgroups import subgroups
from core.types import Estimate

RNG = np.random.default_rng(3)
LABELS = RNG.random(80) < 0.4
SCORES = np.clip(np.round(0.25 * LABELS + RNG.random(80) * 0.7, 2), 0, 1)
MANY = [f"net {number}" for number in range(2 * len(base.COLOURS) + 1)]
"""More names than there are colours, twice over."""


def coloured(figure: go.Figure, mode: str = "markers") -> list[str]:
    return [(trace.marker if mode == "markers" else trace.line).color for trace in figure.data if trace.mode == mode]


def test_lines_have_a_colour_of_their_own_and_then_the_same_colours_in_another_dash() -> None:
    looks = [base.line_of(index) for index in range(len(MANY))]
    assert [one["color"] for one in looks[: len(base.COLOURS)]] == list(base.COLOURS)
    assert len({(one["color"], one["dash"]) for one in looks}) == len(looks)
    assert [one["dash"] for one in looks][:: len(base.COLOURS)] == list(base.DASHES[:3])
    again = base.line_of(len(base.COLOURS) * len(base.DASHES))
    assert again == looks[0]


def test_a_point_a_star_and_a_bar_have_the_colour_of_their_line() -> None:
    colours = [base.COLOURS[index % len(base.COLOURS)] for index in range(len(MANY))]
    marked = runs.with_points(go.Figure(), dict.fromkeys(MANY, (0.25, 0.75, "<b>10</b> of 20")))
    assert coloured(marked) == colours
    assert (marked.data[3].x, marked.data[3].y, marked.data[3].legendgroup) == ((0.25,), (0.75,), "3")
    assert marked.data[3].hovertemplate == (
        "net 3 at the operating point<br>&lt;b&gt;10&lt;/b&gt; of 20<extra></extra>"
    )
    rows = [{"epoch": 1, "auc": 0.5, "validation_auc": 0.6}]
    trained = runs.history_figure(dict.fromkeys(MANY, rows), "auc", dict.fromkeys(MANY, 1))
    assert trained is not None and coloured(trained) == colours
    one = Estimate(0.5, 0.25, 1.0, 8)
    bars = runs.class_bars({name: {"f1_benign": one} for name in MANY}, ("benign",), "f1")
    assert [trace.marker.color for trace in bars.data] == colours
    areas = runs.seeds_figure({name: {f"{name}-seed1": one} for name in MANY})
    assert coloured(areas) == colours and coloured(areas, "lines") == colours
    readers = curves.reader_areas_figure(["A"], {name: {"A": 0.5} for name in MANY})
    assert coloured(readers) == colours
    found = [DescriptorAgreement("Shape", "A", name, 4, 4, one, one) for name in MANY]
    assert coloured(tables.descriptors_figure(found)) == colours


def test_a_history_is_dotted_for_training_with_a_star_at_the_epoch_that_was_kept() -> None:
    rows = [{"epoch": 1, "loss": 0.9, "validation_loss": 1.0}, {"epoch": 2, "loss": 0.5, "validation_loss": 0.7}]
    figure = runs.history_figure({"net": rows, "old": [{"epoch": 1, "loss": None}]}, "loss", {"net": 2, "old": 1})
    assert figure is not None and figure.layout.yaxis.title.text == "Loss"
    training, validation, star = figure.data
    assert (training.name, training.line.dash, training.line.width) == ("net, training", "dot", 1.5)
    assert training.line.color == validation.line.color == base.COLOURS[0]
    assert (validation.name, validation.line.dash, validation.y) == ("net, validation", base.DASHES[0], (1.0, 0.7))
    assert (star.name, star.marker.symbol, star.x, star.y) == ("net, best epoch", "star", (2,), (0.7,))
    assert figure.layout.yaxis.type != "log"
    rates = runs.history_figure({"net": [{"epoch": 1, "learning_rate": 1e-3}]}, "learning_rate", {"net": 1})
    assert rates is not None and rates.layout.yaxis.type == "log"
    assert [trace.name for trace in rates.data] == ["net", "net, best epoch"] and rates.data[0].line.dash == "solid"
    assert runs.history_figure({"net": rows}, "auc", {}) is None


def test_class_bars_and_areas_of_runs_carry_both_sides_of_their_interval() -> None:
    low, high = Estimate(0.5, 0.375, 0.75, 8), Estimate(0.75, 0.5, 0.875, 9)
    (bars,) = runs.class_bars({"net": {"recall_a": low, "recall_b": high}}, ("a", "b"), "recall").data
    assert (bars.x, bars.y) == (("a", "b"), (0.5, 0.75))
    assert (bars.error_y.array, bars.error_y.arrayminus) == ((0.25, 0.125), (0.125, 0.25))
    assert list(map(tuple, bars.customdata)) == [(0.375, 0.75, 8), (0.5, 0.875, 9)]
    figure = runs.seeds_figure({"net": {"net-seed1": low, "net-seed2": high}, "old": {"old-seed1": low}})
    points, mean, *_ = figure.data
    assert (points.x, points.y) == ((0.5, 0.75), ("net-seed1", "net-seed2"))
    assert (points.error_x.array, points.error_x.arrayminus) == ((0.25, 0.125), (0.125, 0.25))
    assert (mean.x, mean.y, mean.showlegend) == ((0.625, 0.625), ("net-seed1", "net-seed2"), False)
    assert mean.hovertemplate == "mean 0.625<extra></extra>"
    assert figure.layout.height == 290 and figure.layout.yaxis.autorange == "reversed"


def test_descriptors_stand_one_below_the_other_with_their_pairs_around_the_middle_of_the_row() -> None:
    def agreement(descriptor: str, second: str, kappa: float) -> DescriptorAgreement:
        one = Estimate(kappa, kappa - 0.25, kappa + 0.125, 9)
        return DescriptorAgreement(descriptor, "A", second, 9, 8, one, one)

    found = [agreement("Shape", "B", 0.5), agreement("Shape", "C", 0.25), agreement("Margin", "B", 0.0),
             agreement("Margin", "C", np.nan), agreement("Echo", "B", 0.5)]  # fmt: skip
    figure = tables.descriptors_figure(found)
    first, second = figure.data
    assert first.y == pytest.approx((-0.11, 0.89, 1.89)) and second.y == pytest.approx((0.11,))
    assert first.x == (0.5, 0.0, 0.5) and second.x == (0.25,)
    assert first.error_x.array == pytest.approx((0.125,) * 3)
    assert first.error_x.arrayminus == pytest.approx((0.25,) * 3)
    assert figure.layout.yaxis.range == (2.5, -0.5) and figure.layout.yaxis.tickvals == (0, 1, 2)
    low, high = figure.layout.xaxis.range
    assert -1.1 < low < -1 and 1 < high < 1.1  # of kappa, whole
    assert figure.layout.height == 120 + 62 * 3 and tables.descriptors_figure([]).layout.height == 182
    three = tables.descriptors_figure([agreement("Shape", name, 0.5) for name in "BCD"])
    assert [trace.y[0] for trace in three.data] == pytest.approx([-0.22, 0, 0.22])


def test_readers_areas_are_joined_and_a_confusion_matrix_shades_shares_of_the_truth() -> None:
    figure = curves.reader_areas_figure(["A", "B"], {"with": {"A": 0.8, "B": 0.7}, "without": {"A": 0.6, "B": 0.5}})
    first, second, *marks = figure.data
    assert (first.x, first.y, second.x, second.y) == ((0.8, 0.6), ("A", "A"), (0.7, 0.5), ("B", "B"))
    assert not first.showlegend and [mark.x for mark in marks] == [(0.8, 0.7), (0.6, 0.5)]
    (heat,) = tables.matrix_figure(np.array([[3, 1], [0, 0]]), ("a", "b")).data
    assert np.array(heat.z)[0].tolist() == [0.75, 0.25] and (heat.zmin, heat.zmax) == (0, 1)
    assert heat.text[0] == ("3<br>75 %", "1<br>25 %") or list(heat.text[0]) == ["3<br>75 %", "1<br>25 %"]


def test_a_readers_mean_curve_has_each_readers_own_behind_it() -> None:
    study = van_dyke()
    figure = curves.mean_roc_figure(study)
    faint = [trace for trace in figure.data if trace.opacity == 0.35]
    assert [trace.line.color for trace in faint] == [base.COLOURS[0]] * 5 + [base.COLOURS[1]] * 5
    assert len(figure.data) - len(curves.mean_roc_figure(study, with_readers=False).data) == 10
    own = roc_curve(study.is_positive, study.scores[0, 2] / 5)
    assert np.allclose(faint[2].x, own.false_positive_rate) and np.allclose(faint[2].y, own.sensitivity)
    fitted = curves.binormal_figure(study, study.readers[0])
    empirical = [trace for trace in fitted.data if trace.mode == "lines+markers"]
    assert [trace.line.color for trace in empirical] == list(base.COLOURS[:2])
    assert [trace.name for trace in fitted.data[1:]] == [
        f"{name}, {what}" for name in study.modalities for what in ("empirical", "binormal")
    ]
    assert len(fitted.data[2].x) == 201 and (fitted.data[2].x[0], fitted.data[2].x[-1]) == (0, 1)


def test_curves_are_drawn_with_the_counts_behind_each_point() -> None:
    bootstrap = Bootstrap(None, 80, resamples=40)
    curve = roc_curve(LABELS, SCORES, bootstrap)
    figure = curves.roc_figure({"first": curve, "net": curve}, thresholds={"net": 0.5})
    chance, _, _, band, line, marker = figure.data
    assert (chance.x, chance.y) == ((0, 1), (0, 1))
    for low, high in (figure.layout.xaxis.range, figure.layout.yaxis.range):
        assert -0.05 < low < 0 and 1 < high < 1.05
    assert figure.layout.legend.y > 1 and figure.layout.legend.yanchor == "bottom"
    assert np.allclose(np.array(line.customdata)[:, 1], 1 - np.array(line.x))
    red, green, blue = (int(base.COLOURS[1][place : place + 2], 16) for place in (1, 3, 5))
    assert band.fillcolor == f"rgba({red},{green},{blue},0.15)" and len(band.x) == 2 * len(curve.grid)
    assert np.allclose(band.y[: len(curve.grid)], curve.high) and np.allclose(
        band.y[::-1][: len(curve.grid)], curve.low
    )
    assert marker.y[0] == (SCORES[LABELS] >= 0.5).mean() and marker.x[0] == (SCORES[~LABELS] >= 0.5).mean()
    assert marker.marker.color == base.COLOURS[1]
    recall = curves.precision_recall_figure({"net": precision_recall_curve(LABELS, SCORES)})
    assert recall.data[0].y == (LABELS.mean(),) * 2 and recall.data[0].name == f"prevalence {100 * LABELS.mean():.1f} %"
    assert recall.data[-1].line.shape == "vh"
    bins = reliability(LABELS, SCORES)
    (_, points) = curves.reliability_figure({"net": bins}).data
    assert points.error_y.array == pytest.approx([one.observed.high - one.observed.value for one in bins])
    assert points.error_y.arrayminus == pytest.approx([one.observed.value - one.observed.low for one in bins])


def test_net_benefit_is_drawn_from_a_little_below_nothing() -> None:
    curve = decision_curve(LABELS, SCORES, Bootstrap(None, 80, resamples=40))
    figure = curves.decision_figure({"net": curve})
    top = max(curve.net_benefit.max(), curve.treat_all[0])
    assert figure.layout.yaxis.range == pytest.approx((-0.3 * top, 1.1 * top))
    everybody, nobody, *_ = figure.data
    assert np.allclose(everybody.y, curve.treat_all) and nobody.y == (0, 0)
    assert nobody.x == (curve.thresholds[0], curve.thresholds[-1])
    assert not curves.decision_figure({}).data


def test_acting_on_everybody_is_drawn_for_each_prevalence_and_the_axis_holds_every_curve() -> None:
    of_all = decision_curve(LABELS, SCORES)
    few = np.flatnonzero(LABELS)[:2].tolist() + np.flatnonzero(LABELS == 0).tolist()
    of_few = decision_curve(LABELS[few], SCORES[few])
    figure = curves.decision_figure({"few": of_few, "all": of_all, "again": of_all})
    guides = {trace.name: trace.y for trace in figure.data if trace.name.startswith("act on everybody")}
    assert list(guides) == [
        f"act on everybody, prevalence {100 * one.positives / one.n:.1f} %" for one in (of_few, of_all)
    ]
    assert all(np.allclose(drawn, one.treat_all) for drawn, one in zip(guides.values(), (of_few, of_all), strict=True))
    top = max(max(one.net_benefit.max(), one.treat_all[0]) for one in (of_few, of_all))
    assert figure.layout.yaxis.range[1] == pytest.approx(1.1 * top)


def test_a_forest_has_room_for_every_group_and_both_sides_of_each_interval() -> None:
    groups = subgroups("site", np.where(np.arange(80) < 40, "a", "b"), LABELS, SCORES, threshold=0.5, resamples=20)
    figure = tables.forest_figure(groups)
    assert figure.layout.height == 140 + 28 * len(groups) and tables.forest_figure([]).layout.height == 168
    for trace, group in zip(figure.data, groups, strict=True):
        assert group.auc is not None and trace.x == (group.auc.value,)
        assert trace.error_x.array == pytest.approx((group.auc.high - group.auc.value,))
        assert trace.error_x.arrayminus == pytest.approx((group.auc.value - group.auc.low,))
        assert trace.marker.color == base.COLOURS[0]


def test_pairs_show_p_in_the_row_of_the_second_and_the_column_of_the_first() -> None:
    found = compare_areas(LABELS, {"a": SCORES, "b": 1 - SCORES, "c": SCORES**2}, Bootstrap(None, 80, resamples=40))
    (heat,) = tables.pairs_figure(found).data
    assert list(heat.x) == ["1", "2", "3"] and list(heat.y) == ["a  1", "b  2", "c  3"]
    shown = np.array(heat.z)
    for one in found:
        assert shown["abc".index(one.second), "abc".index(one.first)] == one.p_holm
    assert np.isnan(shown[np.triu_indices(3)]).all()
    assert [tables._p_text(value) for value in (0.00099, 0.001, 0.05, 1.0)] == ["&lt;.001", ".001", ".050", "1.000"]


def test_a_caption_makes_room_below_the_figure_for_each_of_its_lines() -> None:
    parts = base.Provenance("data", "test", 120, 40, "a" * 64, {f"net {number}": "b" * 64 for number in range(6)})
    lines = parts.caption.count("<br>") + 1
    assert lines > 1 and all(len(line) <= base.CAPTION_LETTERS for line in parts.caption.split("<br>"))
    for letters in (38, 39):  # with ", 1 cases," they are 48 letters and 49
        first, *_ = base.Provenance("d" * letters, "", 1, None, "a" * 64).caption.split("<br>")
        assert first.endswith(", 1 cases,") == (letters == 38)
    assert base.blank_figure("x", "y", parts).layout.margin.b == 80 + 14 * lines
    assert base.blank_figure("x", "y", None).layout.margin.b == 60


def test_where_a_figure_comes_from_is_said_by_name() -> None:
    for make in (runs.history_figure, runs.class_bars, runs.seeds_figure, curves.roc_figure, tables.forest_figure):
        assert inspect.signature(make).parameters["provenance"].kind is inspect.Parameter.KEYWORD_ONLY
