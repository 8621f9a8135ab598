"""A report as one HTML page that loads nothing from anywhere: pictures are in it, and its policy permits no script."""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Drawing

from core.reports.document import Document, Picture

_HALVES = re.compile("[\ud800-\udfff]")


def build_html(document: Document) -> str:
    """The whole page. Halves of letters, which no file can hold, stand as U+FFFD."""
    return _HALVES.sub("\ufffd", _template().render(document=document))


@cache
def _template() -> Template:
    folder = Path(__file__).parent / "templates"
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"jpeg_address": _jpeg_address, "svg_address": _svg_address}
    return environment.get_template("report.html")


def _jpeg_address(picture: Picture) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode()


def _svg_address(drawing: Drawing) -> str:
    """As the address of a picture: nothing in it can run or load anything."""
    return "data:image/svg+xml;base64," + base64.b64encode(renderSVG.drawToString(drawing).encode()).decode()
