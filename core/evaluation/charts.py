"""Plotly figures of what `core.evaluation` measured; they compute nothing, and look right on a dark page.

Names come from files and may hold markup that Plotly would interpret, so every one is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.evaluation.calibration import ReliabilityBin
from core.evaluation.comparison import PairedTest
from core.evaluation.curves import PrecisionRecallCurve, RocCurve
from core.evaluation.decision import DecisionCurve
from core.evaluation.metrics import Confusion
from core.evaluation.subgroups import Subgroup

COLOURS = ("#56b4e9", "#e69f00", "#2fbf9b", "#cc79a7", "#f0e442", "#d55e00", "#8fa8ff", "#b7b7b7")
"""Okabe & Ito's palette, told apart by colour-blind readers, with its two darkest lightened for a dark page."""
DASHES = ("solid", "dash", "dot", "dashdot")
INK, FAINT, GREYED = "#d9dcdf", "#34393e", "#767d85"
ALARM = "#ff6b5e"
"""Numbers that must not be believed: those of a leaking split."""
PAPER = "#121416"
"""The page's own ground: a saved picture with light ink must not stand on nothing."""
CAPTION_LETTERS = 48
MAX_POINTS = 2000


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a figure was computed from; its caption stands under every figure. weights: scorer -> sha256.

    leaking: the scorers whose numbers come from a leaking split.
    """

    dataset: str
    split: str
    n: int
    positives: int | None
    data_sha256: str
    weights: Mapping[str, str] = field(default_factory=dict)
    leaking: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """What is stated, one by one, as it is."""
        parts = [self.dataset, self.split, f"{self.n} cases"]
        if self.positives is not None:
            parts.append(f"{self.positives} positive")
        parts.append(f"data {self.data_sha256[:8]}")
        parts += [f"{name} {sha256[:8]}" for name, sha256 in self.weights.items()]
        return tuple(part for part in parts if part)

    @property
    def words(self) -> str:
        """One line, as it is: not escaped."""
        return ", ".join([*self.parts, *self._alarms])

    def stated_in(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with columns that say what it was computed from; by scorer where it has such a column."""
        stated = table.assign(data_set=self.dataset, split=self.split, data_sha256=self.data_sha256)
        if "scorer" in table:
            stated["weights_sha256"] = table["scorer"].map(dict(self.weights)).fillna("")
            stated["leaking_split"] = table["scorer"].isin(self.leaking)
        else:
            stated["weights_sha256"] = " ".join(f"{name}={sha256}" for name, sha256 in self.weights.items())
            stated["leaking_split"] = " ".join(self.leaking)
        return stated

    @property
    def _alarms(self) -> tuple[str, ...]:
        return tuple(f"LEAKING SPLIT: {name}" for name in self.leaking)

    @property
    def caption(self) -> str:
        """Escaped, in lines of at most `CAPTION_LETTERS` unless one part is longer."""
        lines: list[str] = []
        for part in self.parts:
            if lines and len(lines[-1]) + len(part) < CAPTION_LETTERS:
                lines[-1] += f", {part}"
            else:
                lines.append(part)
        alarms = [f'<span style="color:{ALARM}">{escape(alarm)}</span>' for alarm in self._alarms]
        return ",<br>".join([*(escape(line) for line in lines), *alarms])


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
    _unit_axes(figure)
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
    _unit_axes(figure)
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
    _unit_axes(figure)
    return figure


def confusion_figure(
    counts: Confusion, *, positive: str = "positive", provenance: Provenance | None = None
) -> go.Figure:
    """The four counts at one threshold."""
    matrix = np.array(
        [[counts.true_negatives, counts.false_positives], [counts.false_negatives, counts.true_positives]]
    )
    return matrix_figure(matrix, (f"not {positive}", positive), provenance=provenance)


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


def decision_figure(curves: Mapping[str, DecisionCurve], *, provenance: Provenance | None = None) -> go.Figure:
    """Net benefit over the threshold probability, with acting on everybody and on nobody."""
    figure = blank_figure("Threshold probability", "Net benefit", provenance)
    if curves:
        first = next(iter(curves.values()))
        figure.add_trace(_guide(first.thresholds, first.treat_all, "act on everybody"))
        figure.add_trace(_guide([first.thresholds[0], first.thresholds[-1]], [0, 0], "act on nobody"))
        top = max(float(np.nanmax([curve.net_benefit.max(), first.treat_all[0]])) for curve in curves.values())
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


def forest_figure(groups: Sequence[Subgroup], *, provenance: Provenance | None = None) -> go.Figure:
    """Area with its interval in every subgroup; small ones are greyed out, those without both classes say so."""
    figure = blank_figure("Area under the ROC curve", "", provenance)
    figure.add_vline(x=0.5, line_color=GREYED, line_dash="dot")
    for group in groups:
        name = escape(f"{group.column}: {group.value} (n {group.n}, {group.positives} positive)")
        colour = GREYED if group.is_small else COLOURS[0]
        one = group.auc
        text = "one class only" if one is None else f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
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


# ---- pieces ------------------------------------------------------------------------------------------------------


def blank_figure(x_title: str, y_title: str, provenance: Provenance | None) -> go.Figure:
    """An empty figure in the page's colours, with the provenance as its caption."""
    lines = provenance.caption.count("<br>") + 1 if provenance else 0
    figure = go.Figure()
    figure.update_layout(
        template="plotly_dark",
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        font={"color": INK},
        xaxis={"title": {"text": x_title}, "gridcolor": FAINT, "zerolinecolor": FAINT},
        yaxis={"title": {"text": y_title}, "gridcolor": FAINT, "zerolinecolor": FAINT},
        margin={"l": 60, "r": 45, "t": 20, "b": 80 + 14 * lines if provenance else 60},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "bgcolor": "rgba(0,0,0,0)"},
        hoverlabel={"align": "left"},
        modebar={"orientation": "v", "bgcolor": PAPER},
    )
    if provenance is not None:
        figure.add_annotation(
            text=provenance.caption,
            xref="paper",
            yref="paper",
            x=0,
            y=0,
            yshift=-60,
            xanchor="left",
            yanchor="top",
            align="left",
            showarrow=False,
            font={"size": 11, "color": GREYED},
        )
    return figure


def _unit_axes(figure: go.Figure) -> None:
    figure.update_xaxes(range=[-0.01, 1.01], constrain="domain")
    figure.update_yaxes(range=[-0.01, 1.02], scaleanchor="x", constrain="domain")


def line_of(index: int) -> dict[str, object]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "dash": DASHES[index // len(COLOURS) % len(DASHES)],
        "width": 2,
    }


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


def _p_text(value: float) -> str:
    return "&lt;.001" if value < 0.001 else f"{value:.3f}".lstrip("0")
