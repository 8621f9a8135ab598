"""What printed reports are built from: fonts, paragraphs, tables, numbered A4 pages. Markup is shown, not obeyed."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
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
    PageTemplate,
    Paragraph,
    Table,
    TableStyle,
)

from core.reports import content
from core.reports.pictures import FONTS

MARGIN = 16 * mm
WIDTH = A4[0] - 2 * MARGIN
INK, SOFT, LINE = colors.HexColor("#1b2126"), colors.HexColor("#5b6770"), colors.HexColor("#d5dbe0")
ALARM = colors.HexColor("#b3261e")
ACCENT, WARN, WARN_PAPER = colors.HexColor("#0b5c7a"), colors.HexColor("#8a4b00"), colors.HexColor("#fff4e0")


def build_document(title: str, story: list[Flowable]) -> bytes:
    """A4 PDF bytes with numbered pages. title: in the file's properties and in every footer."""
    out = io.BytesIO()
    font_names()
    document = BaseDocTemplate(
        out,
        pagesize=A4,
        title=f"SecondRead report: {printable(title)}",
        author="SecondRead",
        subject=content.RESEARCH_USE,
        lang="en",
    )
    frame = Frame(MARGIN, 18 * mm, WIDTH, A4[1] - 34 * mm, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    document.addPageTemplates(PageTemplate("page", [frame]))
    document.build(story, canvasmaker=numbered_canvas(title))
    return out.getvalue()


@cache
def font_names() -> tuple[str, str]:
    """Register the fonts once a process: (regular, bold)."""
    names = ("DejaVuSansCondensed", "DejaVuSansCondensed-Bold")
    for name in names:
        pdfmetrics.registerFont(TTFont(name, str(FONTS / f"{name}.ttf")))
    pdfmetrics.registerFontFamily(names[0], normal=names[0], bold=names[1], italic=names[0], boldItalic=names[1])
    return names


def printable(text: str) -> str:
    """`text` without control characters, and with U+FFFD for what the font has no glyph for."""
    glyphs = pdfmetrics.getFont(font_names()[0]).face.charToGlyph
    composed = unicodedata.normalize("NFC", text)
    retained = (c for c in composed if c == "\n" or not unicodedata.category(c).startswith("C"))
    return "".join(c if c == "\n" or ord(c) in glyphs else "\ufffd" for c in retained)


def text_style(
    size: float = 9, *, bold: bool = False, colour: colors.Color = INK, before: float = 0, after: float = 2
) -> ParagraphStyle:
    regular, heavy = font_names()
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


def paragraph(words: str, style: ParagraphStyle | None = None) -> Paragraph:
    """A paragraph of plain words: markup in them is shown, not obeyed."""
    return Paragraph(escape(printable(words)).replace("\n", "<br/>"), style or text_style())


def heading(words: str) -> list[Flowable]:
    """A title over a rule, never alone at the foot of a page."""
    rule = Table([[""]], colWidths=[WIDTH], rowHeights=[1.2], style=[("LINEABOVE", (0, 0), (-1, -1), 1.2, ACCENT)])
    return [CondPageBreak(40 * mm), paragraph(words, text_style(12, bold=True, before=10, after=3)), rule]


def banner(words: str) -> Table:
    look = TableStyle(
        [
            ("BACKGROUND", (0, 0), (-1, -1), WARN_PAPER),
            ("BOX", (0, 0), (-1, -1), 0.5, WARN),
            ("TOPPADDING", (0, 0), (-1, -1), 4),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
        ]
    )
    return Table([[paragraph(words, text_style(9, bold=True, colour=WARN))]], colWidths=[WIDTH], style=look)


def table(rows: Sequence[Sequence[str]], shares: Sequence[float]) -> Table:
    """A table whose first row heads it and repeats on each page; `shares` are column widths, summing to 1."""
    cells = [
        [paragraph(cell, text_style(8, bold=index == 0, colour=SOFT if index == 0 else INK)) for cell in row]
        for index, row in enumerate(rows)
    ]
    look = TableStyle(
        [
            ("LINEBELOW", (0, 0), (-1, -1), 0.5, LINE),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ]
    )
    return Table(cells, colWidths=[share * WIDTH for share in shares], repeatRows=1, style=look)


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Name and value, two columns, no lines."""
    cells = [[paragraph(name, text_style(8.5, colour=SOFT)), paragraph(value, text_style(8.5))] for name, value in rows]
    look = TableStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 0),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
        ]
    )
    return Table(cells, colWidths=[0.22 * WIDTH, 0.78 * WIDTH], style=look)


def numbered_canvas(title: str) -> type[Canvas]:
    """A canvas that writes "page x of y": pages are kept until their number is known."""
    title = printable(title)
    shown = title if len(title) <= 50 else f"{title[:49]}…"

    class NumberedCanvas(Canvas):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self._cached: list[dict[str, object]] = []

        def showPage(self) -> None:  # the name that reportlab calls
            self._cached.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, state in enumerate(self._cached, 1):
                self.__dict__.update(state)
                _draw_footer(self, f"{shown} · page {number} of {len(self._cached)}")
                Canvas.showPage(self)
            super().save()

    return NumberedCanvas


def _draw_footer(canvas: Canvas, right: str) -> None:
    canvas.setStrokeColor(LINE)
    canvas.line(MARGIN, 14 * mm, A4[0] - MARGIN, 14 * mm)
    canvas.setFillColor(SOFT)
    canvas.setFont(font_names()[0], 7.5)
    canvas.drawString(MARGIN, 10 * mm, "SecondRead · research use only, not for diagnosis")
    canvas.drawRightString(A4[0] - MARGIN, 10 * mm, right)
