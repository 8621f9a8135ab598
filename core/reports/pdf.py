"""The report as a paginated A4 PDF, fonts embedded. `core.reports.content` has what it says."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from core.reports import content
from core.reports.content import Report, ReportImage, ReportModel
from core.reports.pictures import FONTS, attention_jpeg, picture_jpeg

_MARGIN = 16 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_PICTURE_HEIGHT = 88 * mm
_INK, _SOFT, _LINE = colors.HexColor("#1b2126"), colors.HexColor("#5b6770"), colors.HexColor("#d5dbe0")
_ACCENT, _WARN, _WARN_PAPER = colors.HexColor("#0b5c7a"), colors.HexColor("#8a4b00"), colors.HexColor("#fff4e0")


def build_pdf(report: Report) -> bytes:
    """The report as PDF bytes. Characters that the font lacks are printed as U+FFFD."""
    out = io.BytesIO()
    document = BaseDocTemplate(
        out,
        pagesize=A4,
        title=f"SecondRead report: {_printable(report.study_name)}",
        author="SecondRead",
        subject=content.RESEARCH_USE,
        lang="en",
    )
    _font_names()
    frame = Frame(
        _MARGIN, 18 * mm, _WIDTH, A4[1] - 34 * mm, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0
    )
    document.addPageTemplates(PageTemplate("page", [frame]))
    document.build(list(_story(report)), canvasmaker=_numbered_canvas(report))
    return out.getvalue()


@cache
def _font_names() -> tuple[str, str]:
    """Register the fonts once a process: (regular, bold)."""
    names = ("DejaVuSansCondensed", "DejaVuSansCondensed-Bold")
    for name in names:
        pdfmetrics.registerFont(TTFont(name, str(FONTS / f"{name}.ttf")))
    pdfmetrics.registerFontFamily(names[0], normal=names[0], bold=names[1], italic=names[0], boldItalic=names[1])
    return names


def _printable(text: str) -> str:
    """`text` without control characters, and with U+FFFD for what the font has no glyph for."""
    glyphs = pdfmetrics.getFont(_font_names()[0]).face.charToGlyph
    composed = unicodedata.normalize("NFC", text)
    kept = (c for c in composed if c == "\n" or not unicodedata.category(c).startswith("C"))
    return "".join(c if c == "\n" or ord(c) in glyphs else "\ufffd" for c in kept)


def _style(
    size: float = 9, *, bold: bool = False, colour: colors.Color = _INK, before: float = 0, after: float = 2
) -> ParagraphStyle:
    regular, heavy = _font_names()
    return ParagraphStyle(
        "text",
        fontName=heavy if bold else regular,
        fontSize=size,
        leading=size * 1.35,
        textColor=colour,
        spaceBefore=before,
        spaceAfter=after,
        splitLongWords=True,
    )


def _text(words: str, style: ParagraphStyle | None = None) -> Paragraph:
    """A paragraph of plain words: markup in them is shown, not obeyed."""
    return Paragraph(escape(_printable(words)).replace("\n", "<br/>"), style or _style())


def _heading(words: str) -> list[Flowable]:
    """A title over a rule, never alone at the foot of a page."""
    rule = Table([[""]], colWidths=[_WIDTH], rowHeights=[1.2], style=[("LINEABOVE", (0, 0), (-1, -1), 1.2, _ACCENT)])
    return [CondPageBreak(40 * mm), _text(words, _style(12, bold=True, before=10, after=3)), rule]


def _banner(words: str) -> Table:
    style = TableStyle(
        [
            ("BACKGROUND", (0, 0), (-1, -1), _WARN_PAPER),
            ("BOX", (0, 0), (-1, -1), 0.5, _WARN),
            ("TOPPADDING", (0, 0), (-1, -1), 4),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
        ]
    )
    return Table([[_text(words, _style(9, bold=True, colour=_WARN))]], colWidths=[_WIDTH], style=style)


def _table(rows: Sequence[Sequence[str]], shares: Sequence[float]) -> Table:
    """A table whose first row heads it and repeats on each page; `shares` are column widths, summing to 1."""
    cells = [
        [_text(cell, _style(8, bold=index == 0, colour=_SOFT if index == 0 else _INK)) for cell in row]
        for index, row in enumerate(rows)
    ]
    style = TableStyle(
        [
            ("LINEBELOW", (0, 0), (-1, -1), 0.5, _LINE),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ]
    )
    return Table(cells, colWidths=[share * _WIDTH for share in shares], repeatRows=1, style=style)


def _facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Name and value, two columns, no lines."""
    cells = [[_text(name, _style(8.5, colour=_SOFT)), _text(value, _style(8.5))] for name, value in rows]
    style = TableStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 0),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
        ]
    )
    return Table(cells, colWidths=[0.22 * _WIDTH, 0.78 * _WIDTH], style=style)


def _story(report: Report) -> Iterator[Flowable]:
    yield _banner(content.RESEARCH_USE)
    if report.is_synthetic:
        yield _banner("Synthetic study: the pictures were made by a program and show no patient.")
    yield _text(report.study_name, _style(17, bold=True, before=8, after=2))
    state = "final" if report.is_final else "preliminary: no final assessment yet"
    site = f" · {report.site_name}" if report.site_name else ""
    yield _text(f"SecondRead report{site} · {state}", _style(9, colour=_SOFT, after=6))
    yield _facts(
        [
            ("Made", f"{content.when(report.made_at)} by {report.made_by}"),
            ("Reading mode", content.READING_MODE_WORDS[report.reading_mode]),
            ("Images", str(len(report.images))),
            ("Study", report.study_id),
        ]
    )
    yield from _reads(report)
    if report.has_ai:
        yield from _scores(report)
    for index, item in enumerate(report.images):
        yield KeepTogether([*(_heading("Images") if index == 0 else ()), *_image(item)])
    if report.models:
        yield from _heading("The models and their limits")
        for model in report.models:
            yield from _model(model)
    for note in report.notes:
        yield _text(note, _style(8, colour=_SOFT))


def _reads(report: Report) -> Iterator[Flowable]:
    yield from _heading("The radiologist's reads")
    if not report.reads:
        yield _text("No read has been saved.")
        return
    heads = [f"{content.read_title(read)}\n{read.reader}, {content.when(read.at)}" for read in report.reads]
    rows = [[breast, *cells] for breast, cells in content.reads_by_breast(report.reads)]
    share = 0.8 / len(report.reads)
    yield _table([["Breast", *heads], *rows], [0.2, *[share] * len(report.reads)])
    for read in report.reads:
        if read.comment:
            yield _text(f"Comment, {content.read_title(read).lower()}", _style(9, bold=True, before=6))
            yield _text(read.comment)


def _scores(report: Report) -> Iterator[Flowable]:
    yield from _heading(f"Second read by breast ({content.AI_GENERATED})")
    head = ["Breast", "Model", "Malignant", "95 % interval", "Against the threshold", "From"]
    rows = [
        [
            content.breast_name(score.breast),
            score.model_id,
            content.percent(score.malignant),
            content.percent_range(score.interval),
            content.threshold_verdict(score.malignant, score.threshold),
            f"{score.n_images} image(s); {score.rule}",
        ]
        for score in report.scores
    ]
    yield _table([head, *rows], [0.14, 0.2, 0.11, 0.17, 0.18, 0.2])
    for sentence in content.agreements_by_breast(report.scores):
        yield _text(sentence, _style(9, before=3))
    yield _text(content.INTERVAL_NOTE, _style(8, colour=_SOFT, before=3))


def _image(item: ReportImage) -> list[Flowable]:
    attention = attention_jpeg(item)
    encoded = [picture_jpeg(item), *([attention] if attention else [])]
    width = _WIDTH / len(encoded) - 3 * mm
    pictures = Table(
        [[_fitted(jpeg, width) for jpeg in encoded]],
        colWidths=[_WIDTH / len(encoded)] * len(encoded),
        style=[
            ("BACKGROUND", (0, 0), (-1, -1), colors.black),
            ("ALIGN", (0, 0), (-1, -1), "CENTER"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ],
    )
    block: list[Flowable] = [_text(item.label, _style(10, bold=True, before=8)), pictures]
    if item.attention:
        words = f"Right: {content.ATTENTION_CAPTION.lower()}. {item.attention.words} ({content.AI_GENERATED})"
        block.append(_text(words, _style(8, colour=_SOFT)))
    if item.predictions:
        head = [f"Model ({content.AI_GENERATED})", "Malignant", "95 % interval", "Against the threshold", "Classes"]
        rows = [
            [
                p.model_id,
                content.percent(p.malignant),
                content.percent_range(p.interval),
                content.threshold_verdict(p.malignant, p.threshold),
                content.class_words(p),
            ]
            for p in item.predictions
        ]
        block.append(_table([head, *rows], [0.24, 0.11, 0.18, 0.22, 0.25]))
    block += [_text(warning, _style(8, colour=_SOFT)) for warning in content.warnings_of(item.image)]
    return [*block, _text(f"image sha256 {item.image.sha256}", _style(7, colour=_SOFT))]


def _fitted(jpeg: bytes, width: float) -> Image:
    picture = Image(io.BytesIO(jpeg))
    scale = min(width / picture.imageWidth, _PICTURE_HEIGHT / picture.imageHeight)
    picture.drawWidth, picture.drawHeight = picture.imageWidth * scale, picture.imageHeight * scale
    return picture


def _model(model: ReportModel) -> Iterator[Flowable]:
    facts = [
        ("Model", model.model_id),
        ("Weights", f"sha256 {model.weights_sha256}"),
        ("Threshold", model.threshold_words),
        *([("Learnt from", model.data)] if model.data else []),
        *((name, content.measured(estimate)) for name, estimate in model.headline.items()),
    ]
    yield KeepTogether([_text(model.title, _style(10, bold=True, before=6)), _facts(facts)])
    for limit in model.limits:
        yield _text(f"•  {limit}", _style(8.5))
    yield Spacer(1, 3)


def _numbered_canvas(report: Report) -> type[Canvas]:
    """A canvas that writes "page x of y": pages are kept until their number is known."""
    name = _printable(report.study_name)
    shown = name if len(name) <= 50 else f"{name[:49]}…"

    class NumberedCanvas(Canvas):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self._kept: list[dict[str, object]] = []

        def showPage(self) -> None:  # the name that reportlab calls
            self._kept.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, state in enumerate(self._kept, 1):
                self.__dict__.update(state)
                _draw_footer(self, f"{shown} · page {number} of {len(self._kept)}")
                Canvas.showPage(self)
            super().save()

    return NumberedCanvas


def _draw_footer(canvas: Canvas, right: str) -> None:
    canvas.setStrokeColor(_LINE)
    canvas.line(_MARGIN, 14 * mm, A4[0] - _MARGIN, 14 * mm)
    canvas.setFillColor(_SOFT)
    canvas.setFont(_font_names()[0], 7.5)
    canvas.drawString(_MARGIN, 10 * mm, "SecondRead · research use only, not for diagnosis")
    canvas.drawRightString(A4[0] - _MARGIN, 10 * mm, right)
