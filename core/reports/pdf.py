"""A report as numbered A4 pages, fonts embedded. Markup in its words is shown, not obeyed.

Text in any script that the fonts have is shaped (`core.reports.shaping`); a character that they lack stands as its code
point, and a sentence at the end says so.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from reportlab.graphics import renderPDF
from reportlab.graphics.shapes import Drawing, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
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
)
from reportlab.platypus import Table as Grid

from core.reports.content import named
from core.reports.document import (
    RESEARCH_USE,
    Banner,
    Block,
    Document,
    Facts,
    Heading,
    Picture,
    Pictures,
    Plots,
    Table,
    Text,
    Together,
)
from core.reports.fonts import MISSING_NOTE, font_names, is_simple, printable, without_controls
from core.reports.plots import INK, LINE, MARGIN, SOFT, WIDTH
from core.reports.shaping import ShapedParagraph, line_of, shortened

_FOOTER_SIZE = 7.5
_CELL_LETTERS, _CELL_LINES = 800, 40
"""The most of a cell of a table that is printed: a row has about a page (wide letters in a narrow column have more). A
page in HTML shows all of it."""
_PARAGRAPH_LETTERS = 10_000
ALARM = colors.HexColor("#b3261e")
ACCENT, WARN, WARN_PAPER = colors.HexColor("#0b5c7a"), colors.HexColor("#8a4b00"), colors.HexColor("#fff4e0")


def build_pdf(document: Document) -> bytes:
    """PDF bytes; the title stands in the file's properties and in every footer."""
    out = io.BytesIO()
    font_names()
    pages = BaseDocTemplate(
        out,
        pagesize=A4,
        title=f"SecondRead report: {without_controls(document.title)}",
        author="SecondRead",
        subject=RESEARCH_USE,
        lang="en",
    )
    frame = Frame(MARGIN, 18 * mm, WIDTH, A4[1] - 31 * mm, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    pages.addPageTemplates(PageTemplate("page", [frame]))
    blocks = [*document.blocks, *([Text(MISSING_NOTE, "soft")] if _lacks_letters(document) else [])]
    pages.build([flowable for block in blocks for flowable in _flowables(block)],
                canvasmaker=_numbered_canvas(document.title))  # fmt: skip
    return out.getvalue()


def _flowables(block: Block) -> Iterator[Flowable]:
    match block:
        case Banner():
            yield _banner(block.words)
        case Heading():
            yield from _heading(block)
        case Text():
            yield _paragraph(block.words, _look(block.look))
        case Facts():
            yield _facts(block.rows)
        case Table():
            yield _table(block.rows, block.shares)
        case Pictures():
            yield _pictures(block.items, block.print_mm * mm)
        case Plots():
            for start in range(0, len(block.drawings), 2):
                pair = [_Plot(drawing) for drawing in block.drawings[start : start + 2]]
                yield pair[0] if len(pair) == 1 else Grid([pair], colWidths=[WIDTH / 2] * 2)
        case Together():
            yield KeepTogether([flowable for inner in block.blocks for flowable in _flowables(inner)])


def _style(
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


def _look(look: str) -> ParagraphStyle:
    match look:
        case "soft":
            return _style(8, colour=SOFT, before=3)
        case "alarm":
            return _style(9, bold=True, colour=ALARM, before=3)
        case "code":
            return _style(7, colour=SOFT)
        case _:
            return _style(9, before=3)


def _paragraph(words: str, style: ParagraphStyle) -> Flowable:
    """Plain words: markup in them is shown, not obeyed."""
    words = _cut(printable(words), _PARAGRAPH_LETTERS)
    if not is_simple(words):
        return ShapedParagraph(words, style)
    return Paragraph(escape(words).replace("\n", "<br/>"), style)


def _lacks_letters(document: Document) -> bool:
    return any(printable(words) != without_controls(words) for words in (document.title, *_texts(document.blocks)))


def _texts(blocks: Sequence[Block]) -> Iterator[str]:
    """Every text of the blocks, as it was given."""
    for block in blocks:
        match block:
            case Banner() | Heading() | Text():
                yield block.words
            case Facts() | Table():
                yield from (words for row in block.rows for words in row)
            case Pictures():
                yield from (picture.caption for picture in block.items)
            case Plots():
                yield from (shape.text for drawing in block.drawings for shape in drawing.contents
                            if isinstance(shape, String))  # fmt: skip
            case Together():
                yield from _texts(block.blocks)


class _Plot(Flowable):  # type: ignore[misc]  # reportlab comes without types
    """A drawing whose words, which may be a file's names, are shaped as those of paragraphs are."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self.drawing, self.width, self.height = drawing, drawing.width, drawing.height

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        _PlotRenderer().draw(renderPDF.renderScaledDrawing(self.drawing), self.canv, 0, 0)


class _PlotRenderer(renderPDF._PDFRenderer):  # type: ignore[misc]
    def drawString(self, shape: String) -> None:  # the name that reportlab calls
        words = printable(shape.text)
        if is_simple(words):
            super().drawString(shape)
            return
        line = line_of(words, shape.fontSize)
        before = {"start": 0.0, "middle": line.width / 2, "end": line.width}[shape.textAnchor]
        self._canvas.setFillColor(shape.fillColor)
        line.draw(self._canvas, shape.x - before, shape.y)


def _cut(words: str, letters: int) -> str:
    """No more than so many letters; what is left out is marked."""
    return words if len(words) <= letters else f"{words[:letters]} … (cut in print)"


def _cell(words: str, style: ParagraphStyle) -> Flowable:
    lines = words.split("\n")
    words = "\n".join([*lines[: _CELL_LINES - 1], " ".join(lines[_CELL_LINES - 1 :])]) if len(lines) > 1 else words
    return _paragraph(_cut(printable(words), _CELL_LETTERS), style)


def _heading(heading: Heading) -> Iterator[Flowable]:
    """A part's heading stands over a rule, and never alone at the foot of a page."""
    words = f"{named(heading.words)} ({heading.mark})" if heading.mark else heading.words
    if heading.level == 1:
        yield _paragraph(words, _style(17, bold=True, before=8, after=2))
    elif heading.level == 2:
        yield CondPageBreak(40 * mm)
        yield _paragraph(words, _style(12, bold=True, before=10, after=3))
        yield Grid([[""]], colWidths=[WIDTH], rowHeights=[1.2], style=[("LINEABOVE", (0, 0), (-1, -1), 1.2, ACCENT)])
        yield Spacer(1, 3)
    else:
        yield CondPageBreak(20 * mm)
        yield _paragraph(words, _style(10, bold=True, before=8))


def _banner(words: str) -> Grid:
    look = [("BACKGROUND", (0, 0), (-1, -1), WARN_PAPER), ("BOX", (0, 0), (-1, -1), 0.5, WARN), *_padding(4, 5, 6)]
    return Grid([[_paragraph(words, _style(9, bold=True, colour=WARN))]], colWidths=[WIDTH], style=look)


def _padding(top: float, bottom: float, left: float = 0) -> list[tuple[str, tuple[int, int], tuple[int, int], float]]:
    sides = {"TOPPADDING": top, "BOTTOMPADDING": bottom, "LEFTPADDING": left}
    return [(name, (0, 0), (-1, -1), size) for name, size in sides.items()]


def _table(rows: Sequence[Sequence[str]], shares: Sequence[float]) -> Grid:
    """Its first row repeats on each page."""
    cells = [
        [_cell(cell, _style(7.5, bold=index == 0, colour=SOFT if index == 0 else INK)) for cell in row]
        for index, row in enumerate(rows)
    ]
    look = [("LINEBELOW", (0, 0), (-1, -1), 0.5, LINE), ("VALIGN", (0, 0), (-1, -1), "TOP"), *_padding(2, 2)]
    return Grid(cells, colWidths=[share * WIDTH for share in shares], repeatRows=1, splitInRow=1, style=look)


def _facts(rows: Sequence[tuple[str, str]]) -> Grid:
    """Two columns, no lines."""
    cells = [[_cell(name, _style(8.5, colour=SOFT)), _cell(value, _style(8.5))] for name, value in rows]
    look = [("VALIGN", (0, 0), (-1, -1), "TOP"), *_padding(0, 1)]
    return Grid(cells, colWidths=[0.22 * WIDTH, 0.78 * WIDTH], splitInRow=1, style=look)


def _pictures(items: Sequence[Picture], height: float) -> Grid:
    """On black, the captions below on white."""
    width = WIDTH / len(items)
    rows = [[_fitted(picture.jpeg, width - 3 * mm, height) for picture in items]]
    if any(picture.caption for picture in items):
        rows.append([_cell(picture.caption, _style(8, colour=SOFT)) for picture in items])
    look = [
        ("BACKGROUND", (0, 0), (-1, 0), colors.black),
        *(("ALIGN", (at, 0), (at, 0), picture.align.upper()) for at, picture in enumerate(items)),
        ("VALIGN", (0, 0), (-1, 0), "MIDDLE"),
    ]
    return Grid(rows, colWidths=[width] * len(items), style=look)


def _fitted(jpeg: bytes, width: float, height: float) -> Image:
    picture = Image(io.BytesIO(jpeg))
    scale = min(width / picture.imageWidth, height / picture.imageHeight)
    picture.drawWidth, picture.drawHeight = picture.imageWidth * scale, picture.imageHeight * scale
    return picture


def _numbered_canvas(title: str) -> type[Canvas]:
    """A canvas that writes "page x of y": pages are kept until their number is known."""
    shown = shortened(printable(title), _FOOTER_SIZE, 0.45 * WIDTH)

    class NumberedCanvas(Canvas):  # type: ignore[misc]  # reportlab comes without types
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self._cached: list[dict[str, object]] = []

        def showPage(self) -> None:  # the name that reportlab calls
            self._cached.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, state in enumerate(self._cached, 1):
                self.__dict__.update(state)
                _draw_footer(self, f"{named(shown)} · page {number} of {len(self._cached)}")
                Canvas.showPage(self)
            super().save()

    return NumberedCanvas


def _draw_footer(canvas: Canvas, right: str) -> None:
    canvas.setStrokeColor(LINE)
    canvas.line(MARGIN, 14 * mm, A4[0] - MARGIN, 14 * mm)
    canvas.setFillColor(SOFT)
    canvas.setFont(font_names()[0], _FOOTER_SIZE)
    canvas.drawString(MARGIN, 10 * mm, "SecondRead · research use only, not for diagnosis")
    line = line_of(right, _FOOTER_SIZE)
    line.draw(canvas, A4[0] - MARGIN - line.width, 10 * mm)
