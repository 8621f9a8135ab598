"""A report of one study as one file: HTML that loads nothing from anywhere, or PDF.

Whatever came from a file or a person is escaped: Jinja2 escapes by itself in `templates/`, `core.reports.pdf` escapes
every paragraph, and the HTML carries a content policy that permits no script.
"""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.reports import content
from core.reports.content import Report, ReportImage, ReportModel, ReportRead
from core.reports.pdf import build_pdf
from core.reports.pictures import attention_jpeg, picture_jpeg

__all__ = ["Report", "ReportImage", "ReportModel", "ReportRead", "build_html", "build_pdf"]

_TEMPLATES = Path(__file__).parent / "templates"


def build_html(report: Report) -> str:
    """The report as one self-contained HTML page, pictures included as data."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            research_use=content.RESEARCH_USE,
            ai_generated=content.AI_GENERATED,
            attention_caption=content.ATTENTION_CAPTION,
            interval_note=content.INTERVAL_NOTE,
            reading_mode=content.READING_MODE_WORDS[report.reading_mode],
            impressions=content.reads_by_breast(report.reads),
            agreements=content.agreements_by_breast(report.scores),
            pictures=[_picture(item) for item in report.images],
            verdict=content.threshold_verdict,
        )
    )


def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    for words in (
        content.percent,
        content.percent_range,
        content.measured,
        content.class_text,
        content.when,
        content.breast_name,
        content.read_title,
    ):
        environment.filters[words.__name__] = words
    return environment


def _picture(item: ReportImage) -> dict[str, object]:
    attention = attention_jpeg(item)
    return {
        "label": item.label,
        "picture": "" if item.removed else base64.b64encode(picture_jpeg(item)).decode(),
        "removed": item.removed,
        "attention": base64.b64encode(attention).decode() if attention else "",
        "attention_words": item.attention.words if item.attention else "",
        "predictions": item.predictions,
        "warnings": content.warnings_of(item.image),
        "sha256": item.image.sha256,
    }
