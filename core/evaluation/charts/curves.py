"""Figures of curves over thresholds: ROC, precision and recall, reliability, decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from scipy.stats import rankdata

from core.evaluation.charts.base import COLOURS, GREYED, INK, Provenance, blank_figure, line_of, unit_axes
from core.evaluation.statistics.binormal import FITTED, fit_binormal
from core.evaluation.statistics.calibration import ReliabilityBin
from core.evaluation.statistics.curves import (
    DecisionCurve,
    PrecisionRecallCurve,
    RocCurve,
    mean_sensitivity,
    roc_curve,
)
from core.evaluation.statistics.reader_study import ReaderStudy

MAX_POINTS = 2000


def roc_figure(
    curves: Mapping[str, RocCurve],
    *,
    thresholds: Mapping[str, float] | None = None,
    provenance: Provenance | None = None,
) -> go.Figure:
    """Overlaid ROC curves with bands; a marker where each scorer's threshold lies."""
    figure = blank_figure("1 - specificity", "Sensitivity", provenance)
    figure.add_trace(_guide([0, 1], [0, 1], "no better than chance"))
    for index, (name, curve) in enumerate(curves.items()):
        _add_band(figure, index, curve.grid, curve.low, curve.high, name)
        shown = _thinned(len(curve.thresholds))
        _add_line(
            figure,
            index,
            name,
            curve.false_positive_rate[shown],
            curve.sensitivity[shown],
            np.column_stack(
                [
                    curve.thresholds[shown],
                    1 - curve.false_positive_rate[shown],
                    curve.true_positives[shown],
                    curve.false_positives[shown],
                ]
            ),
            "threshold %{customdata[0]:.4g}<br>sensitivity %{y:.3f} "
            f"(%{{customdata[2]}} of {curve.n_positives})<br>specificity %{{customdata[1]:.3f}} "
            f"(%{{customdata[3]}} of {curve.n_negatives} called falsely)",
        )
        if thresholds is not None and name in thresholds:
            point = curve.at(thresholds[name])
            _add_marker(figure, index, name, curve.false_positive_rate[point], curve.sensitivity[point])
    unit_axes(figure)
    return figure


def mean_roc_figure(study: ReaderStudy, *, with_readers: bool = True) -> go.Figure:
    """The readers' mean ROC curve of each modality (at equal specificity), each reader's own behind it, fainter.

    A reader's curve is of the cases that they read, whatever the scale of their scores.
    """
    figure = blank_figure("1 - specificity", "Sensitivity", None)
    figure.add_trace(_guide([0, 1], [0, 1], "chance"))
    for index, name in enumerate(study.modalities):
        read = [~np.isnan(scores) for scores in study.scores[index]]
        curves = [
            roc_curve(study.is_positive[one], rankdata(scores[one]) / one.sum())
            for one, scores in zip(read, study.scores[index], strict=True)
        ]
        for curve in curves if with_readers else ():
            figure.add_trace(
                go.Scatter(
                    x=curve.false_positive_rate, y=curve.sensitivity, mode="lines", showlegend=False, hoverinfo="skip",
                    opacity=0.35, line={"color": COLOURS[index % len(COLOURS)], "width": 1},
                )
            )  # fmt: skip
        rates, mean = mean_sensitivity(curves)
        _add_line(figure, index, name, rates, mean, None, "sensitivity %{y:.3f} at %{x:.3f}")
    unit_axes(figure)
    return figure


def binormal_figure(study: ReaderStudy, reader: str) -> go.Figure:
    """One reader's points under each modality and, where it was fitted, the binormal curve through them."""
    figure = blank_figure("1 - specificity", "Sensitivity", None)
    figure.add_trace(_guide([0, 1], [0, 1], "chance"))
    rates = np.linspace(0, 1, 201)
    for index, name in enumerate(study.modalities):
        scores = study.scores[index, study.readers.index(reader)]
        read = ~np.isnan(scores)
        labels = study.is_positive[read]
        if labels.all() or not labels.any():
            continue
        curve = roc_curve(labels, rankdata(scores[read]) / read.sum())
        colour = COLOURS[index % len(COLOURS)]
        figure.add_trace(
            go.Scatter(
                x=curve.false_positive_rate, y=curve.sensitivity, mode="lines+markers",
                name=f"{escape(name)}, empirical",
                line={"color": colour, "width": 1, "dash": "dot"}, marker={"size": 6},
                hovertemplate="sensitivity %{y:.3f} at %{x:.3f}",
            )
        )  # fmt: skip
        fit = fit_binormal(scores[study.is_positive], scores[~study.is_positive])
        if fit.state == FITTED:
            figure.add_trace(
                go.Scatter(
                    x=rates, y=fit.sensitivity(rates), mode="lines", name=f"{escape(name)}, binormal",
                    line={"color": colour, "width": 2}, hovertemplate="sensitivity %{y:.3f} at %{x:.3f}",
                )
            )  # fmt: skip
    unit_axes(figure)
    return figure


def reader_areas_figure(readers: Sequence[str], areas: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """A row a reader with the area under each modality, joined by a line. areas: modality -> reader -> area."""
    figure = blank_figure("Area under the ROC curve", "", None)
    for reader in readers:
        own = [areas[name][reader] for name in areas]
        figure.add_trace(
            go.Scatter(x=own, y=[reader] * len(own), mode="lines", showlegend=False, line={"color": GREYED, "width": 2})
        )
    for index, (name, of_readers) in enumerate(areas.items()):
        figure.add_trace(
            go.Scatter(
                x=[of_readers[reader] for reader in readers], y=list(readers), mode="markers", name=escape(name),
                marker={"size": 12, "color": COLOURS[index % len(COLOURS)]}, hovertemplate="%{y}: %{x:.3f}",
            )
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed")  # the first reader at the top
    return figure


def precision_recall_figure(
    curves: Mapping[str, PrecisionRecallCurve], *, provenance: Provenance | None = None
) -> go.Figure:
    """Overlaid precision-recall curves with bands, and the precision of calling everybody."""
    figure = blank_figure("Recall (sensitivity)", "Precision (PPV)", provenance)
    for prevalence in sorted({curve.prevalence for curve in curves.values()}):
        figure.add_trace(_guide([0, 1], [prevalence, prevalence], f"prevalence {100 * prevalence:.1f} %"))
    for index, (name, curve) in enumerate(curves.items()):
        _add_band(figure, index, curve.grid, curve.low, curve.high, name)
        shown = _thinned(len(curve.thresholds))
        _add_line(
            figure,
            index,
            name,
            curve.recall[shown],
            curve.precision[shown],
            np.column_stack([curve.thresholds[shown], curve.true_positives[shown], curve.called[shown]]),
            "threshold %{customdata[0]:.4g}<br>recall %{x:.3f}<br>precision %{y:.3f} "
            "(%{customdata[1]} of %{customdata[2]} called)",
        )
        figure.data[-1].line.shape = "vh"
    unit_axes(figure)
    return figure


def reliability_figure(
    bins: Mapping[str, Sequence[ReliabilityBin]], *, provenance: Provenance | None = None
) -> go.Figure:
    """Share of positives against mean score, one point a bin, with Wilson's intervals."""
    figure = blank_figure("Mean score of the bin", "Share of positives", provenance)
    figure.add_trace(_guide([0, 1], [0, 1], "perfectly calibrated"))
    for index, (name, points) in enumerate(bins.items()):
        observed = [point.observed for point in points]
        figure.add_trace(
            go.Scatter(
                x=[point.mean_score for point in points],
                y=[one.value for one in observed],
                error_y={
                    "array": [one.high - one.value for one in observed],
                    "arrayminus": [one.value - one.low for one in observed],
                    "thickness": 1,
                },
                customdata=[(point.low, point.high, point.positives, point.observed.n) for point in points],
                hovertemplate="scores %{customdata[0]:.4g} to %{customdata[1]:.4g}<br>%{customdata[2]} of "
                "%{customdata[3]} positive (%{y:.3f})",
                mode="lines+markers",
                name=escape(name),
                line=line_of(index),
            )
        )
    unit_axes(figure)
    return figure


def decision_figure(curves: Mapping[str, DecisionCurve], *, provenance: Provenance | None = None) -> go.Figure:
    """Net benefit over the threshold probability, with acting on everybody, once for each prevalence, and on nobody."""
    figure = blank_figure("Threshold probability", "Net benefit", provenance)
    if curves:
        first = next(iter(curves.values()))
        shares = {curve.positives / curve.n: curve for curve in curves.values()}  # scorers of other cases have others
        for share, curve in sorted(shares.items()):
            of = f", prevalence {100 * share:.1f} %" if len(shares) > 1 else ""
            figure.add_trace(_guide(curve.thresholds, curve.treat_all, f"act on everybody{of}"))
        figure.add_trace(_guide([first.thresholds[0], first.thresholds[-1]], [0, 0], "act on nobody"))
        top = max(float(np.nanmax([curve.net_benefit.max(), curve.treat_all[0]])) for curve in curves.values())
        # Below a little under 0 everything is harmful; the fall of "everybody" would flatten the rest.
        figure.update_yaxes(range=[-0.3 * top if top > 0 else -0.05, 1.1 * top if top > 0 else 0.05])
    for index, (name, curve) in enumerate(curves.items()):
        low, high = (curve.low, curve.high) if np.isfinite(curve.low).all() else (None, None)
        _add_band(figure, index, curve.thresholds, low, high, name)
        _add_line(
            figure,
            index,
            name,
            curve.thresholds,
            curve.net_benefit,
            None,
            "threshold %{x:.3f}<br>net benefit %{y:.4f}",
        )
    figure.update_xaxes(tickformat=".0%")
    return figure


def _guide(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, name: str) -> go.Scatter:
    return go.Scatter(x=x, y=y, mode="lines", name=name, line={"color": GREYED, "dash": "dot"}, hoverinfo="skip")


def _add_line(
    figure: go.Figure, index: int, name: str, x: np.ndarray, y: np.ndarray, data: np.ndarray | None, hover: str
) -> None:
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            customdata=data,
            hovertemplate=hover,
            mode="lines",
            name=escape(name),
            legendgroup=str(index),
            line=line_of(index),
        )
    )


def _add_band(
    figure: go.Figure, index: int, x: np.ndarray, low: np.ndarray | None, high: np.ndarray | None, name: str
) -> None:
    if low is None or high is None:
        return
    red, green, blue = (int(COLOURS[index % len(COLOURS)][place : place + 2], 16) for place in (1, 3, 5))
    figure.add_trace(
        go.Scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.15)",
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=str(index),
            name=f"{escape(name)}, 95 % band",
        )
    )


def _add_marker(figure: go.Figure, index: int, name: str, x: float, y: float) -> None:
    figure.add_trace(
        go.Scatter(
            x=[x],
            y=[y],
            mode="markers",
            marker={"size": 11, "color": COLOURS[index % len(COLOURS)], "line": {"width": 2, "color": INK}},
            name=f"{escape(name)} at its threshold",
            legendgroup=str(index),
            showlegend=False,
            hovertemplate="at the threshold<br>sensitivity %{y:.3f}, 1 - specificity %{x:.3f}",
        )
    )


def _thinned(points: int) -> np.ndarray:
    """Places of at most `MAX_POINTS` points, both ends kept: more cannot be told apart on a screen."""
    return np.unique(np.linspace(0, points - 1, min(points, MAX_POINTS)).round().astype(int))
