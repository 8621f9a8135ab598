"""Lines of text in any script that the fonts have: letters joined, marks placed, both directions, fonts by character.

Paragraph direction is that of the first strong letter, and levels are those of the Unicode Bidirectional Algorithm
(UAX #9, rules P2 to L2; embeddings and isolates are control characters and were taken out before).
HarfBuzz chooses and places the glyphs. Programs that read a PDF (pdfium, poppler) put letters from right to left
back into their order themselves and would turn ActualText (ISO 32000-2, 14.9.4) in that order round once more; so only
glyphs that reportlab can name by no character carry it, all of them from left to right.
"""

from __future__ import annotations

import threading
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import uharfbuzz
from bidi import algorithm
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase.ttfonts import ShapeData, ShapedStr, TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable

from core.reports.fonts import font_for, font_names

_LEADING = 1.6
"""Lines of Arabic letters with marks need more room than the 1.35 of the other text."""
_NEVER_FIRST = frozenset("、。，．・：；？！）］｝」』】〉》〕”’…ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ")
_NEVER_LAST = frozenset("（［｛「『【〈《〔“‘")
_CLOSING = dict(zip("([{（［｛【〔「『〈《", ")]}）］｝】〕」』〉》", strict=True))
_ENCODED_MOST = 0xFFFF
"""reportlab writes the table from glyphs to characters for the Basic Multilingual Plane only."""
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Letter:
    """A character with its font and its bidi level: even from left to right, odd from right to left."""

    character: str
    font: TTFont
    level: int


@dataclass(frozen=True, slots=True)
class _Glyphs:
    """Glyphs of one font in the order of print. width: in points. spelled: the characters where no glyph tells them."""

    font: TTFont
    glyphs: ShapedStr
    width: float
    spelled: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, shaped. size, width: in points. is_rtl: its paragraph begins from the right."""

    size: float
    runs: tuple[_Glyphs, ...]
    is_rtl: bool

    @property
    def width(self) -> float:
        return sum(run.width for run in self.runs)

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """From `x` to the right, on the baseline `y`, in the canvas' colour."""
        for run in self.runs:
            if run.spelled:
                canvas.addLiteral(f"/Span <</ActualText <FEFF{run.spelled.encode('utf-16-be').hex().upper()}>>> BDC")
            canvas.setFont(run.font.fontName, self.size)
            canvas.drawString(x, y, run.glyphs)
            if run.spelled:
                canvas.addLiteral("EMC")
            x += run.width


def line_of(words: str, size: float, *, is_bold: bool = False) -> Line:
    """All on one line. words: as `core.reports.fonts.printable` leaves them."""
    return _line(_letters(words.replace("\n", " "), is_bold), size, algorithm.get_base_level(words))


def shortened(words: str, size: float, most: float) -> str:
    """`words` with their end cut off for an ellipsis where they are wider than `most` points."""
    if line_of(words, size).width <= most:
        return words
    lengths = range(len(words))
    fitting = bisect_right(lengths, most, key=lambda length: line_of(f"{words[:length]}…", size).width) - 1
    return f"{words[: max(fitting, 0)]}…"


class ShapedParagraph(Flowable):  # type: ignore[misc]  # reportlab comes without types
    """Words in any script, broken into lines; a paragraph that begins from the right stands at the right."""

    def __init__(self, words: str, style: ParagraphStyle, lines: Sequence[Line] = ()) -> None:
        super().__init__()
        self.words, self.style = words, style
        self._lines, self._broken_at = list(lines), 0.0

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        if self.words and self._broken_at != width:
            self._lines, self._broken_at = list(self._broken(width)), width
        self.width, self.height = width, self._leading * len(self._lines)
        return self.width, self.height

    def split(self, width: float, height: float) -> list[Flowable]:
        self.wrap(width, height)
        fitting = int(height / self._leading)
        if fitting == 0:
            return []
        if fitting >= len(self._lines):
            return [self]
        return [ShapedParagraph("", self.style, part) for part in (self._lines[:fitting], self._lines[fitting:])]

    def draw(self) -> None:
        self.canv.setFillColor(self.style.textColor)
        for number, line in enumerate(self._lines):
            x = self.width - line.width if line.is_rtl else 0
            line.draw(self.canv, x, self.height - number * self._leading - 1.1 * self.style.fontSize)

    @property
    def _leading(self) -> float:
        return _LEADING * float(self.style.fontSize)

    def _broken(self, width: float) -> Iterator[Line]:
        size, is_bold = self.style.fontSize, self.style.fontName == font_names()[1]
        for words in self.words.split("\n"):
            letters, base = _letters(words, is_bold), algorithm.get_base_level(words)
            for start, end in _breaks(letters, _advances(letters, size), width):
                yield _line(letters[start:end], size, base)


def _letters(words: str, is_bold: bool) -> list[_Letter]:
    """Each character with its level and font; marks, joiners and spaces stay in the font of what they follow."""
    state = algorithm.get_empty_storage()
    state["base_level"] = algorithm.get_base_level(words)
    state["base_dir"] = "LR"[state["base_level"]]
    algorithm.get_embedding_levels(words, state)
    algorithm.explicit_embed_and_overrides(state)  # drops joiners, which get their neighbour's level again below
    algorithm.resolve_weak_types(state)
    _resolve_brackets(state["chars"], state["base_dir"])
    algorithm.resolve_neutral_types(state, False)
    algorithm.resolve_implicit_levels(state, False)
    levels = iter([letter["level"] for letter in state["chars"]])
    found: list[_Letter] = []
    for character in words:
        is_dropped = unicodedata.bidirectional(character) == "BN"
        previous = found[-1] if found else None
        level = (previous.level if previous else state["base_level"]) if is_dropped else next(levels)
        font = previous.font if previous and _follows(character, previous.font) else None
        font = font or font_for(character, is_bold=is_bold) or font_for("?", is_bold=is_bold)
        found.append(_Letter(character, font, level))
    return found


def _resolve_brackets(letters: list[dict[str, Any]], base: str) -> None:
    """N0, which the library leaves out: both brackets of a pair get the direction of what stands in them.

    letters: with "ch" and "type", the bidi class so far; changed in place. base: "L" or "R".
    """

    def strong(letter: dict[str, Any]) -> str:
        return {"L": "L", "R": "R", "AL": "R", "EN": "R", "AN": "R"}.get(letter["type"], "")

    opened: list[int] = []
    pairs: list[tuple[int, int]] = []
    for index, letter in enumerate(letters):
        if letter["ch"] in _CLOSING:
            opened.append(index)
            continue
        match = next((at for at in reversed(opened) if _CLOSING[letters[at]["ch"]] == letter["ch"]), None)
        if match is not None:
            pairs.append((match, index))
            del opened[opened.index(match) :]
    for first, last in sorted(pairs):
        inside = {strong(letter) for letter in letters[first + 1 : last]} - {""}
        before = next((found for letter in reversed(letters[:first]) if (found := strong(letter))), base)
        if inside:
            letters[first]["type"] = letters[last]["type"] = base if base in inside else before


def _follows(character: str, font: TTFont) -> bool:
    if unicodedata.bidirectional(character) == "BN":
        return True
    is_neutral = character.isspace() or unicodedata.category(character) in ("Mn", "Me", "Mc")
    return is_neutral and ord(character) in font.face.charToGlyph


def _line(letters: Sequence[_Letter], size: float, base: int) -> Line:
    letters = list(letters)
    while letters and letters[-1].character.isspace():  # L1: seen by nobody at the end of a line
        letters.pop()
    runs = [list(run) for _, run in groupby(letters, lambda letter: (letter.level, letter.font.fontName))]
    return Line(size, tuple(_shaped(run, size) for run in _in_print_order(runs)), bool(base % 2))


def _in_print_order(runs: list[list[_Letter]]) -> list[list[_Letter]]:
    """L2: from the highest level down, whatever has that level or a higher one is turned round."""
    for level in range(max((run[0].level for run in runs), default=0), 0, -1):
        turned: list[list[_Letter]] = []
        for is_turned, block in groupby(runs, lambda run, least=level: run[0].level >= least):  # type: ignore[misc]
            turned += list(block)[:: -1 if is_turned else 1]
        runs = turned
    return runs


def _placed(run: Sequence[_Letter]) -> tuple[Sequence[uharfbuzz.GlyphInfo], Sequence[uharfbuzz.GlyphPosition]]:
    buffer = uharfbuzz.Buffer()
    buffer.cluster_level = uharfbuzz.BufferClusterLevel.MONOTONE_CHARACTERS
    buffer.add_str("".join(letter.character for letter in run))
    buffer.direction = "rtl" if run[0].level % 2 else "ltr"
    buffer.guess_segment_properties()
    # Ligatures of Latin letters are ornament, and a reader of the file would have to take them apart again.
    uharfbuzz.shape(run[0].font.hbFont(), buffer, {"liga": bool(run[0].level % 2)})
    return buffer.glyph_infos, buffer.glyph_positions


def _shaped(run: Sequence[_Letter], size: float) -> _Glyphs:
    font = run[0].font
    codes, places = "", []
    for info, place in zip(*_placed(run), strict=True):
        code = _code_of(font, info.codepoint)
        codes += chr(code)
        moved = [font.pdfScale(one) for one in (place.x_advance, place.y_advance, place.x_offset, place.y_offset)]
        places.append(ShapeData(info.cluster, *moved, font.face.getCharWidth(code)))
    is_private = any("\ue000" <= code <= "\uf8ff" for code in codes)
    spelled = "".join(letter.character for letter in run) if is_private and run[0].level % 2 == 0 else ""
    return _Glyphs(font, ShapedStr(codes, places), sum(place.x_advance for place in places) * size / 1000, spelled)


def _code_of(font: TTFont, glyph: int) -> int:
    """The character by which reportlab embeds a glyph; one of private use where no character has it."""
    with _lock:  # the fonts are shared, and reports are made in several threads
        for code in font.face.glyphToChar.get(glyph, ()):
            if code <= _ENCODED_MOST:
                return int(code)
        advance = font.pdfScale(font.hbFont().get_glyph_h_advance(glyph))
        return int(font.hbAddPrivate(f"glyph {glyph}", glyph, advance))


def _advances(letters: Sequence[_Letter], size: float) -> list[float]:
    """Width of each character in points; of several that are drawn as one glyph, the first has it."""
    widths = [0.0] * len(letters)
    start = 0
    for _, group in groupby(letters, lambda letter: (letter.level, letter.font.fontName)):
        run = list(group)
        for info, place in zip(*_placed(run), strict=True):
            widths[start + info.cluster] += run[0].font.pdfScale(place.x_advance) * size / 1000
        start += len(run)
    return widths


def _breaks(letters: Sequence[_Letter], widths: Sequence[float], most: float) -> Iterator[tuple[int, int]]:
    """Start and end of each line: broken after spaces and between ideographs; in a word only where it fills a line."""
    start = possible = 0
    used = 0.0
    for index, width in enumerate(widths):
        if index > start and _may_break(letters[index - 1].character, letters[index].character):
            possible = index
        if used + width > most and index > start and not letters[index].character.isspace():
            end = possible if possible > start else _before_marks(letters, start, index)
            yield start, end
            start, used = end, sum(widths[end:index])
        used += width
    yield start, len(letters)


def _before_marks(letters: Sequence[_Letter], start: int, index: int) -> int:
    end = index
    while end > start + 1 and unicodedata.category(letters[end].character)[0] == "M":
        end -= 1
    return end


def _may_break(before: str, after: str) -> bool:
    if before.isspace():
        return not after.isspace() and before != "\u00a0"
    is_wide = any(unicodedata.east_asian_width(one) in "WF" for one in (before, after))
    return is_wide and after not in _NEVER_FIRST and before not in _NEVER_LAST and not after.isspace()
