"""Plotly figures around one operating point, of training runs and of classes; `charts` has the curves."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from core.evaluation.charts.base import COLOURS, INK, Provenance, blank_figure, line_of
from core.types import Estimate

HISTORY_MEASURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "loss": ("Loss", ("loss", "validation_loss")),
    "accuracy": ("Accuracy", ("accuracy", "validation_accuracy")),
    "auc": ("Area under the ROC curve", ("auc", "validation_auc")),
    "learning_rate": ("Learning rate", ("learning_rate",)),
    "seconds": ("Seconds per epoch", ("seconds",)),
}
"""What a history may hold: its title, and the keys, training first (drawn dotted) and validation second."""


def with_points(figure: go.Figure, points: Mapping[str, tuple[float, float, str]]) -> go.Figure:
    """A copy of the figure with one large marker a scorer. points: name -> (x, y, what the hover says, plain)."""
    marked = copy.deepcopy(figure)
    for index, (name, (x, y, words)) in enumerate(points.items()):
        marked.add_trace(
            go.Scatter(
                x=[x],
                y=[y],
                mode="markers",
                marker={"size": 13, "color": COLOURS[index % len(COLOURS)], "line": {"width": 2, "color": INK}},
                name=escape(name),
                legendgroup=str(index),
                showlegend=False,
                hovertemplate=f"{escape(name)} at the operating point<br>{escape(words)}<extra></extra>",
            )
        )
    return marked


def history_figure(
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    measure: str,
    best: Mapping[str, int],
    *,
    provenance: Provenance | None = None,
) -> go.Figure | None:
    """One measure over the epochs of all runs; a star marks the epoch whose weights were kept.

    histories: scorer -> rows with `epoch` and measures. None where no run kept this measure.
    """
    title, keys = HISTORY_MEASURES[measure]
    figure = blank_figure("Epoch", title, provenance)
    drawn = False
    for index, (name, rows) in enumerate(histories.items()):
        for key in keys:
            known = [row for row in rows if row.get(key) is not None]
            if not known:
                continue
            drawn = True
            is_training = len(keys) > 1 and key == keys[0]
            line = line_of(index) | ({"dash": "dot", "width": 1.5} if is_training else {})
            part = "" if len(keys) == 1 else (", training" if is_training else ", validation")
            figure.add_trace(
                go.Scatter(
                    x=[row["epoch"] for row in known],
                    y=[row[key] for row in known],
                    mode="lines",
                    line=line,
                    name=escape(name + part),
                    hovertemplate="epoch %{x}: %{y:.4g}",
                )
            )
            at_best = [row for row in known if not is_training and row["epoch"] == best.get(name)]
            if at_best:
                figure.add_trace(_star(index, name, at_best[0]["epoch"], at_best[0][key]))
    if not drawn:
        return None
    if measure == "learning_rate":
        figure.update_yaxes(type="log", exponentformat="power")
    return figure


def _star(index: int, name: str, x: float, y: float) -> go.Scatter:
    return go.Scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker={"symbol": "star", "size": 14, "color": COLOURS[index % len(COLOURS)], "line": {"color": INK}},
        name=f"{escape(name)}, best epoch",
        showlegend=False,
        hovertemplate="best epoch %{x}: %{y:.4g}",
    )


def class_bars(
    measured: Mapping[str, Mapping[str, Estimate]],
    classes: Sequence[str],
    measure: str,
    *,
    provenance: Provenance | None = None,
) -> go.Figure:
    """Bars of `precision`, `recall` or `f1` of every class and scorer, with intervals."""
    titles = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
    figure = blank_figure("Class", titles[measure], provenance)
    for index, (name, found) in enumerate(measured.items()):
        ones = [found[f"{measure}_{label}"] for label in classes]
        figure.add_trace(
            go.Bar(
                x=[escape(label) for label in classes],
                y=[one.value for one in ones],
                error_y={
                    "array": [one.high - one.value for one in ones],
                    "arrayminus": [one.value - one.low for one in ones],
                    "color": INK,
                    "thickness": 1,
                },
                customdata=[(one.low, one.high, one.n) for one in ones],
                hovertemplate="%{x}: %{y:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f}), %{customdata[2]} cases",
                marker={"color": COLOURS[index % len(COLOURS)]},
                name=escape(name),
            )
        )
    figure.update_yaxes(range=[0, 1.02])
    figure.update_xaxes(type="category")
    figure.update_layout(barmode="group")
    return figure


def seeds_figure(areas: Mapping[str, Mapping[str, Estimate]], *, provenance: Provenance | None = None) -> go.Figure:
    """Every run's area with its interval; a line at each model's mean. areas: model -> run -> area."""
    figure = blank_figure("Area under the ROC curve", "", provenance)
    for index, (model, runs) in enumerate(areas.items()):
        ones = list(runs.values())
        rows = [escape(name) for name in runs]
        figure.add_trace(
            go.Scatter(
                x=[one.value for one in ones],
                y=rows,
                error_x={
                    "array": [one.high - one.value for one in ones],
                    "arrayminus": [one.value - one.low for one in ones],
                    "thickness": 1,
                },
                customdata=[(one.low, one.high) for one in ones],
                hovertemplate="%{y}: %{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>",
                mode="markers",
                marker={"size": 9, "color": COLOURS[index % len(COLOURS)]},
                name=escape(model),
            )
        )
        mean = sum(one.value for one in ones) / len(ones)
        figure.add_trace(
            go.Scatter(
                x=[mean] * len(rows),
                y=rows,
                mode="lines",
                line={"color": COLOURS[index % len(COLOURS)], "dash": "dot"},
                hovertemplate=f"mean {mean:.3f}<extra></extra>",
                name=f"{escape(model)}, mean",
                showlegend=False,
            )
        )
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    figure.update_layout(height=200 + 30 * sum(len(runs) for runs in areas.values()))
    return figure
