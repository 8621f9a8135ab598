"""Figures of tables: confusion matrices, subgroups in a forest, paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from core.evaluation.charts.base import COLOURS, GREYED, Provenance, blank_figure
from core.evaluation.statistics.agreement import DescriptorAgreement
from core.evaluation.statistics.comparison import PairedTest
from core.evaluation.statistics.subgroups import FEWEST_OF_A_CLASS, Subgroup


def matrix_figure(matrix: np.ndarray, classes: Sequence[str], *, provenance: Provenance | None = None) -> go.Figure:
    """A confusion matrix; colour is the share of the true class, text the count and that share."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = blank_figure("Called", "Truth", provenance)
    named = [escape(name) for name in classes]
    figure.add_trace(
        go.Heatmap(
            z=shares,
            x=named,
            y=named,
            text=[
                [f"{count}<br>{100 * part:.0f} %" for count, part in zip(row, parts, strict=True)]
                for row, parts in zip(matrix, shares, strict=True)
            ],
            texttemplate="%{text}",
            hovertemplate="truth %{y}, called %{x}: %{text}<extra></extra>",
            colorscale=[[0, "#1c1f22"], [1, "#2b7a99"]],
            zmin=0,
            zmax=1,
            showscale=False,
            name="",
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return figure


def forest_figure(groups: Sequence[Subgroup], *, provenance: Provenance | None = None) -> go.Figure:
    """Area with its interval in every subgroup; small ones are greyed out, those without an area say why."""
    figure = blank_figure("Area under the ROC curve", "", provenance)
    figure.add_vline(x=0.5, line_color=GREYED, line_dash="dot")
    for group in groups:
        name = escape(f"{group.column}: {group.value} (n {group.n}, {group.positives} positive)")
        colour = GREYED if group.is_small else COLOURS[0]
        one = group.auc
        few = f"fewer than {FEWEST_OF_A_CLASS} patients of a class"
        why_not = "one class only" if group.positives in (0, group.n) else few
        text = why_not if one is None else f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
        bars = None
        if one is not None:
            bars = {"array": [one.high - one.value], "arrayminus": [one.value - one.low], "color": colour}
        figure.add_trace(
            go.Scatter(
                x=[None if one is None else one.value],
                y=[name],
                error_x=bars,
                mode="markers",
                marker={"color": colour, "size": 9, "symbol": "square"},
                hovertemplate="%{y}<br>" + text + "<extra></extra>",
                name=name,
            )
        )
        figure.add_annotation(
            x=1.03, y=name, text=text, xanchor="left", showarrow=False, font={"color": colour, "size": 11}
        )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(range=[0, 1.35], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_layout(showlegend=False, height=140 + 28 * max(len(groups), 1))
    return figure


def descriptors_figure(found: Sequence[DescriptorAgreement], *, provenance: Provenance | None = None) -> go.Figure:
    """Kappa with its interval by descriptor, a colour for each pair of those who describe; none where it has none."""
    figure = blank_figure("Kappa: 0 is agreement by chance, 1 the same words throughout", "", provenance)
    figure.add_vline(x=0, line_color=GREYED, line_dash="dot")
    descriptors = list(dict.fromkeys(one.descriptor for one in found))
    pairs = list(dict.fromkeys((one.first, one.second) for one in found))
    for index, pair in enumerate(pairs):
        own = [one for one in found if (one.first, one.second) == pair and not np.isnan(one.kappa.value)]
        colour = COLOURS[index % len(COLOURS)]
        figure.add_trace(
            go.Scatter(
                x=[one.kappa.value for one in own],
                y=[descriptors.index(one.descriptor) + 0.22 * (index - (len(pairs) - 1) / 2) for one in own],
                error_x={
                    "array": [one.kappa.high - one.kappa.value for one in own],
                    "arrayminus": [one.kappa.value - one.kappa.low for one in own],
                    "color": colour,
                },
                mode="markers",
                marker={"color": colour, "size": 9, "symbol": "square"},
                text=[
                    f"{escape(one.descriptor)}: {one.kappa.value:.2f} ({one.kappa.low:.2f} to {one.kappa.high:.2f}), "
                    f"n {one.n}"
                    for one in own
                ],
                hovertemplate="%{text}<extra></extra>",
                name=escape(f"{pair[0]} and {pair[1]}"),
            )
        )
    figure.update_yaxes(
        tickvals=list(range(len(descriptors))), ticktext=[escape(one) for one in descriptors],
        range=[len(descriptors) - 0.5, -0.5],
    )  # fmt: skip
    figure.update_xaxes(range=[-1.02, 1.02])
    figure.update_layout(height=120 + 62 * max(len(descriptors), 1), margin_l=130)
    return figure


def pairs_figure(tests: Sequence[PairedTest], *, provenance: Provenance | None = None) -> go.Figure:
    """Adjusted p-values of all pairs; the hover gives difference, interval and z.

    Columns are numbered as the rows are, so that long names leave room for the cells on a narrow screen.
    """
    names = list(dict.fromkeys(name for test in tests for name in (test.first, test.second)))
    place = {name: index for index, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    hover = np.full(values.shape, "", dtype=object)
    for test in tests:
        row, column = place[test.second], place[test.first]
        values[row, column] = test.p_holm
        if test.why_not:
            continue
        hover[row, column] = escape(
            f"{test.name}: {test.difference:+.4f} ({test.low:.4f} to {test.high:.4f}), z {test.z:.3f}, p {test.p:.3g}, "
            f"adjusted {test.p_holm:.3g}, {test.n} cases"
        )
    figure = blank_figure("", "", provenance)
    numbers = [str(number) for number in range(1, len(names) + 1)]
    figure.add_trace(
        go.Heatmap(
            z=values,
            x=numbers,
            y=[f"{escape(name)}  {number}" for name, number in zip(names, numbers, strict=True)],
            customdata=hover,
            text=[["" if np.isnan(value) else _p_text(value) for value in row] for row in values],
            texttemplate="%{text}",
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=[[0, "#2b7a99"], [0.05, "#2b7a99"], [0.0501, "#1c1f22"], [1, "#1c1f22"]],
            zmin=0,
            zmax=1,
            showscale=False,
            hoverongaps=False,
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return figure


def _p_text(value: float) -> str:
    return "&lt;.001" if value < 0.001 else f"{value:.3f}".lstrip("0")
