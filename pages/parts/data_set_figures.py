"""Figures of a data set: how many of what, and how large."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from core.evaluation.chart_base import COLOURS, INK
from train.split import SPLITS

_HEIGHT = 280


def bars(table: pd.DataFrame, column: str, labels: list[str]) -> go.Figure:
    """Cases (`cases`) for each value of `column`, a bar a value, coloured by `label`."""
    figure = go.Figure()
    for number, label in enumerate(labels):
        rows = table[table["label"] == label]
        figure.add_bar(
            x=rows[column], y=rows["cases"], name=label, text=rows["cases"], textposition="outside", textangle=0,
            cliponaxis=False, marker_color=COLOURS[number % len(COLOURS)],
        )  # fmt: skip
    figure.update_layout(barmode="group", yaxis_title="pictures")
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=[*SPLITS, *sorted(set(table[column]))])
    return _calm(figure)


def sizes(table: pd.DataFrame, labels: list[str]) -> go.Figure:
    """A dot a picture: width against height, coloured by `label`."""
    figure = go.Figure()
    for number, label in enumerate(labels):
        rows = table[table["label"] == label]
        figure.add_scatter(
            x=rows["width"], y=rows["height"], name=label, mode="markers",
            marker={"color": COLOURS[number % len(COLOURS)], "size": 6, "opacity": 0.6},
        )  # fmt: skip
    figure.update_layout(xaxis_title="width in pixels", yaxis_title="height in pixels")
    return _calm(figure)


def _calm(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        height=_HEIGHT, margin={"l": 55, "r": 10, "t": 30, "b": 45}, font_color=INK,
        legend={"orientation": "h", "y": 1.15},
    )  # fmt: skip
    return figure
