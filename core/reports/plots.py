"""Small plots on white paper, drawn once for both layouts: a flowable in the PDF, an SVG picture in the HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, Rect, String
from reportlab.lib import colors

from core.reports.blocks import INK, LINE, SOFT, font_names, printable

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0568c", "#8a7a00", "#3aa0d8", "#4b4bb5", "#666666")
"""Okabe & Ito's palette, its light ones darkened for white paper."""
DASHES = (None, (4, 2), (1, 2), (5, 2, 1, 2))
_LEFT, _BOTTOM, _RIGHT, _TOP = 34, 30, 8, 18
_MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through (x, y), both (points,), and the place of its operating point, if it has one."""

    x: np.ndarray
    y: np.ndarray
    marked: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Axes:
    """Titles and ranges; guide: the ends of a dotted line."""

    title: str
    x_title: str
    y_title: str
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)
    guide: tuple[tuple[float, float], tuple[float, float]] | None = None


def plot(axes: Axes, curves: Mapping[str, Curve], *, width: float, height: float) -> Drawing:
    """A plot with a line a curve, in the order of the legend."""
    drawing = Drawing(width, height)
    box = (_LEFT, _BOTTOM, width - _LEFT - _RIGHT, height - _BOTTOM - _TOP)
    _draw_axes(drawing, axes, box)
    if axes.guide:
        (x0, y0), (x1, y1) = axes.guide
        points = _placed(np.array([x0, x1]), np.array([y0, y1]), axes, box)
        drawing.add(PolyLine(points, strokeColor=SOFT, strokeWidth=0.6, strokeDashArray=(1, 2)))
    for index, curve in enumerate(curves.values()):
        colour, dash = colour_of(index), DASHES[index // len(COLOURS) % len(DASHES)]
        shown = np.isfinite(curve.x) & np.isfinite(curve.y)
        x, y = curve.x[shown], curve.y[shown]
        retained: np.ndarray = (
            np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).round().astype(int))
            if len(x)
            else np.empty(0, int)
        )
        if len(retained) > 1:
            points = _placed(x[retained], y[retained], axes, box)
            drawing.add(PolyLine(points, strokeColor=colour, strokeWidth=1.2, strokeDashArray=dash))
        if curve.marked is not None and np.isfinite(curve.marked).all():
            left, up = _placed(np.array(curve.marked[:1]), np.array(curve.marked[1:]), axes, box)
            drawing.add(Circle(left, up, 2.8, fillColor=colour, strokeColor=colors.white, strokeWidth=0.8))
    return drawing


def legend(names: Sequence[str], *, width: float) -> Drawing:
    """The colours and dashes of the curves, in two columns."""
    rows = (len(names) + 1) // 2
    drawing = Drawing(width, 12 * rows + 2)
    for index, name in enumerate(names):
        x, y = (index % 2) * width / 2, 12 * (rows - 1 - index // 2) + 4
        dash = DASHES[index // len(COLOURS) % len(DASHES)]
        drawing.add(Line(x, y + 2, x + 22, y + 2, strokeColor=colour_of(index), strokeWidth=2, strokeDashArray=dash))
        shown = name if len(name) <= 42 else f"{name[:41]}…"
        drawing.add(_label(x + 27, y, shown, 8, INK))
    return drawing


def colour_of(index: int) -> colors.Color:
    return colors.HexColor(COLOURS[index % len(COLOURS)])


def svg_address(drawing: Drawing) -> str:
    """The drawing as the address of a picture: nothing in it can run or load anything."""
    svg = renderSVG.drawToString(drawing)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _draw_axes(drawing: Drawing, axes: Axes, box: tuple[float, float, float, float]) -> None:
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
    drawing.add(_label(left + width / 2, 6, axes.x_title, 7.5, INK, "middle"))
    drawing.add(_label(left, bottom + height + 6, f"{axes.title}: {axes.y_title}", 8, INK))


def _tick(span: tuple[float, float], share: float) -> str:
    return f"{span[0] + share * (span[1] - span[0]):.3g}"


def _label(x: float, y: float, words: str, size: float, colour: colors.Color, anchor: str = "start") -> String:
    return String(x, y, printable(words), fontName=font_names()[0], fontSize=size, fillColor=colour, textAnchor=anchor)


def _placed(x: np.ndarray, y: np.ndarray, axes: Axes, box: tuple[float, float, float, float]) -> list[float]:
    """[x0, y0, x1, y1, ...] on the drawing; what lies outside the axes is held at their edge."""
    left, bottom, width, height = box
    across = np.clip((x - axes.x_range[0]) / (axes.x_range[1] - axes.x_range[0]), 0, 1)
    up = np.clip((y - axes.y_range[0]) / (axes.y_range[1] - axes.y_range[0]), 0, 1)
    return [float(one) for one in np.column_stack([left + across * width, bottom + up * height]).ravel()]
