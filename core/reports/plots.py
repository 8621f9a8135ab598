"""The figures of the screen on white paper: a flowable in the PDF, an SVG picture in the HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, Rect, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm

from core.evaluation.charts.base import GREYED
from core.reports.fonts import font_names, without_controls
from core.reports.shaping import shortened

MARGIN = 16 * mm
WIDTH = A4[0] - 2 * MARGIN
"""What is printed of an A4 page, in points."""
INK, SOFT, LINE = colors.HexColor("#1b2126"), colors.HexColor("#5b6770"), colors.HexColor("#d5dbe0")

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0568c", "#8a7a00", "#3aa0d8", "#4b4bb5", "#666666")
"""Okabe & Ito's palette, its light ones darkened for white paper."""
DASHES = (None, (4, 2), (1, 2), (5, 2, 1, 2))
_LEFT, _BOTTOM, _RIGHT, _TOP = 34, 30, 8, 18
_MOST_POINTS = 400
Box = tuple[float, float, float, float]
"""Left, bottom, width, height of what the axes enclose, in points."""


@dataclass(frozen=True, slots=True)
class Axes:
    """How a figure is framed in print. title: before the name of the y axis. Ranges: of what is drawn."""

    title: str
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)


def plot(figure: go.Figure, axes: Axes, *, side: float, marks: Sequence[tuple[float, float]] = ()) -> Drawing:
    """A figure of `core.evaluation.charts.curves` in print: its curves in the order of the legend, and its guides.

    side: of the square drawing, in points. marks: the place of each curve's operating point, in the same order.
    """
    drawing = Drawing(side, side)
    box = (_LEFT, _BOTTOM, side - _LEFT - _RIGHT, side - _BOTTOM - _TOP)
    titles = (figure.layout.xaxis.title.text, f"{axes.title}: {figure.layout.yaxis.title.text}")
    _draw_axes(drawing, axes, titles, box)
    curves = [trace for trace in figure.data if "lines" in trace.mode and trace.fill is None]
    guides = [trace for trace in curves if trace.line.color == GREYED]
    for trace in guides:
        _draw_line(drawing, trace, axes, box, colour=SOFT, width=0.6, dash=(1, 2))
    for index, trace in enumerate(trace for trace in curves if trace.line.color != GREYED):
        _draw_line(drawing, trace, axes, box, colour=colour_of(index), width=1.2, dash=_dash_of(index))
    for index, mark in enumerate(marks):
        if np.isfinite(mark).all():
            left, up = _placed(np.array(mark[:1]), np.array(mark[1:]), axes, box)
            drawing.add(Circle(left, up, 2.8, fillColor=colour_of(index), strokeColor=colors.white, strokeWidth=0.8))
    return drawing


def _draw_line(
    drawing: Drawing,
    trace: go.Scatter,
    axes: Axes,
    box: Box,
    *,
    colour: colors.Color,
    width: float,
    dash: tuple[int, ...] | None,
) -> None:
    x, y = np.asarray(trace.x, np.float64), np.asarray(trace.y, np.float64)
    shown = np.isfinite(x) & np.isfinite(y)
    x, y = x[shown], y[shown]
    if len(x) < 2:
        return
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).round().astype(int))
    x, y = x[places], y[places]
    if trace.line.shape == "vh":  # first up, then across: precision is not interpolated
        x, y = np.repeat(x, 2)[:-1], np.repeat(y, 2)[1:]
    points = _placed(x, y, axes, box)
    drawing.add(PolyLine(points, strokeColor=colour, strokeWidth=width, strokeDashArray=dash))


def legend(names: Sequence[str], *, width: float) -> Drawing:
    """The colours and dashes of the curves, in two columns."""
    rows = (len(names) + 1) // 2
    drawing = Drawing(width, 12 * rows + 2)
    for index, name in enumerate(names):
        x, y = (index % 2) * width / 2, 12 * (rows - 1 - index // 2) + 4
        dash = _dash_of(index)
        drawing.add(Line(x, y + 2, x + 22, y + 2, strokeColor=colour_of(index), strokeWidth=2, strokeDashArray=dash))
        shown = shortened(without_controls(name), 8, width / 2 - 35)
        drawing.add(_label(x + 27, y, shown, 8, INK))
    return drawing


def colour_of(index: int) -> colors.Color:
    return colors.HexColor(COLOURS[index % len(COLOURS)])


def _dash_of(index: int) -> tuple[int, ...] | None:
    return DASHES[index // len(COLOURS) % len(DASHES)]


def _draw_axes(drawing: Drawing, axes: Axes, titles: tuple[str, str], box: Box) -> None:
    left, bottom, width, height = box
    drawing.add(Rect(left, bottom, width, height, fillColor=None, strokeColor=LINE, strokeWidth=0.6))
    for step in range(6):
        share = step / 5
        x, y = left + share * width, bottom + share * height
        if 0 < step < 5:
            drawing.add(Line(x, bottom, x, bottom + height, strokeColor=LINE, strokeWidth=0.4))
            drawing.add(Line(left, y, left + width, y, strokeColor=LINE, strokeWidth=0.4))
        drawing.add(_label(x, bottom - 9, _tick(axes.x_range, share), 6.5, SOFT, "middle"))
        drawing.add(_label(left - 3, y - 2, _tick(axes.y_range, share), 6.5, SOFT, "end"))
    drawing.add(_label(left + width / 2, 6, titles[0], 7.5, INK, "middle"))
    drawing.add(_label(left, bottom + height + 6, titles[1], 8, INK))


def _tick(span: tuple[float, float], share: float) -> str:
    return f"{span[0] + share * (span[1] - span[0]):.3g}"


def _label(x: float, y: float, words: str, size: float, colour: colors.Color, anchor: str = "start") -> String:
    words = without_controls(words)
    return String(x, y, words, fontName=font_names()[0], fontSize=size, fillColor=colour, textAnchor=anchor)


def _placed(x: np.ndarray, y: np.ndarray, axes: Axes, box: Box) -> list[float]:
    """[x0, y0, x1, y1, ...] on the drawing; what lies outside the axes is held at their edge."""
    left, bottom, width, height = box
    across = np.clip((x - axes.x_range[0]) / (axes.x_range[1] - axes.x_range[0]), 0, 1)
    up = np.clip((y - axes.y_range[0]) / (axes.y_range[1] - axes.y_range[0]), 0, 1)
    return [float(one) for one in np.column_stack([left + across * width, bottom + up * height]).ravel()]
