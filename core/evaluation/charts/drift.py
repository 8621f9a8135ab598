"""Plotly figures of drift: each quantity against its alarm line, and scores then and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from core.evaluation.charts.base import ALARM, COLOURS, GREYED, blank_figure
from core.evaluation.statistics.drift import Shift


@dataclass(frozen=True, slots=True)
class NamedShift:
    """A shift under its name. scores: the reference's and the recent ones, for models only."""

    name: str
    against: str
    shift: Shift
    scores: tuple[Sequence[float], Sequence[float]] | None = None


def alarm_figure(found: Sequence[NamedShift]) -> go.Figure:
    """One bar a quantity under its name, its index as a share of its own alarm line at 1; none for too few values."""
    found = [one for one in found if one.shift.is_enough]
    figure = blank_figure("PSI / alarm line", "", None)
    shares = [(one.shift.psi or 0) / (one.shift.alarm_line or 1) for one in found]
    colours = [ALARM if one.shift.is_alarm else COLOURS[0] for one in found]
    names = [escape(one.name) for one in found]
    figure.add_trace(
        go.Bar(
            x=shares, y=names, orientation="h", marker={"color": colours}, showlegend=False, width=0.4,
            text=[f"{one.shift.psi:.2f}" for one in found],
            textposition="outside", hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )  # fmt: skip
    for name in names:  # above its bar, where a narrow screen has room for it
        figure.add_annotation(
            x=0, y=name, text=name, showarrow=False, xanchor="left", yanchor="bottom", yshift=9, font={"size": 12}
        )
    figure.add_vline(x=1, line={"color": ALARM, "dash": "dash"}, annotation_text="alarm line")
    figure.update_layout(
        height=100 + 48 * len(found), margin={"l": 10, "r": 20},
        yaxis={"autorange": "reversed", "showticklabels": False, "showgrid": False},
        xaxis={"range": [0, max(1.25, *shares) * 1.15]},
    )  # fmt: skip
    return figure


def score_figure(reference: Sequence[float], recent: Sequence[float]) -> go.Figure:
    """Both distributions as shares of their cases, in twenty steps of the probability."""
    figure = blank_figure("probability of the positive class", "share of images", None)
    bins = {"start": 0.0, "end": 1.0, "size": 0.05}
    for name, values, colour in (("test cases", reference, GREYED), ("recent images", recent, COLOURS[0])):
        label = f"{name} (n = {len(values)})"
        figure.add_trace(
            go.Histogram(
                x=list(values), xbins=bins, histnorm="probability", name=label, marker={"color": colour}, opacity=0.65
            )
        )
    figure.update_layout(barmode="overlay", height=320)
    return figure
