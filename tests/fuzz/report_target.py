"""Any text into a report: both formats are made of it, and none of it becomes markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser

import numpy as np
from targets import Fault

from core.models.aggregate import BreastScore
from core.reading.opinions import Opinion
from core.reports.content import Attention, Report, ReportImage, ReportModel, ReportRead
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.reports.study import study_document
from core.types import Estimate, Image, Modality, Prediction

AT = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
WEIGHTS = "cd" * 32
FIELDS = 14


def make_report(data: bytes) -> tuple[str, bytes]:
    """The fields are separated by line feeds doubled; what is missing is empty. The HTML and the PDF."""
    texts = [field.decode("utf-8", "surrogateescape") for field in data.split(b"\n\n")]
    return built([*texts, *[""] * FIELDS][:FIELDS])


def built(texts: list[str]) -> tuple[str, bytes]:
    """Raises Fault where a text has become an element or an attribute of the page."""
    document = study_document(_report(texts))
    html, pdf = build_html(document), build_pdf(document)
    html.encode()
    if _Elements(html).found - _usual():
        raise Fault("text became markup")
    if not pdf.startswith(b"%PDF-") or b"%%EOF" not in pdf[-32:]:
        raise Fault("no whole PDF")
    return html, pdf


class _Elements(HTMLParser):
    """Which elements with which attributes a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[tuple[str, tuple[str, ...]]] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, tuple(name for name, _ in attrs)))


@cache
def _usual() -> set[tuple[str, tuple[str, ...]]]:
    return _Elements(build_html(study_document(_report(["x"] * FIELDS)))).found


def _report(texts: list[str]) -> Report:
    """Every text that comes from a file, a card or a person is one of these."""
    name, reader, comment, made_by, site, model, title, threshold, learnt, limit, leak, note, words, label = texts
    picture = Image(np.full((40, 30), 0.5, np.float32), "ab" * 32, Modality.MAMMOGRAPHY, warnings=(note,))
    prediction = Prediction(
        model, WEIGHTS, "ab" * 32, (label, "malignant"), (0.7, 0.3), 0.3, (0.2, 0.3, 0.4), 0.3, 0.2, "CPU"
    )
    heat = np.zeros((40, 30), np.float32)
    image = ReportImage(name, picture, predictions=(prediction,), attention=Attention(heat, words))
    reads = (ReportRead("first", reader, AT, {"R": ("2", 5)}, "read_first", comment, sentence=comment),)
    return Report(
        study_id="0f" * 16, study_name=name, images=(image, replace(image, removed=note)), reads=reads, made_at=AT,
        made_by=made_by, reading_mode="read_first", site_name=site, notes=(note,),
        opinions=(
            Opinion(
                "R", BreastScore("R", model, 0.13, (0.08, 0.2), 0.3, 1, words, WEIGHTS), remarks={WEIGHTS: (limit,)}
            ),
        ),
        models=(
            ReportModel(
                model, title, WEIGHTS, threshold, {label: Estimate(0.8, 0.7, 0.9, 60)}, learnt, (limit,), (leak,)
            ),
        ),
    )  # fmt: skip


def report_seeds() -> list[bytes]:
    fields = [
        "Case twelve", "Dr One", "Biopsy\nadvised.", "Dr Two", "Site", "mammography-fusion", "Fusion", "30 %.", "MIAS",
        "Demonstration only.", "Leaking split.", "A note.", "fused branches", "benign",
    ]  # fmt: skip
    markup = '<b>&amp;</b><script>alert("x")</script>]]>--><img src=x onerror=alert(1)>'
    letters = "Ünïcödé 病人 مريض 👩🏽‍⚕️ \u202e\u0000\u0007\ufeff{{ 7*7 }} {% x %}"
    return [
        "\n\n".join(one).encode() for one in (fields, [markup] * FIELDS, [letters] * FIELDS, ["word" * 60] * FIELDS)
    ]
