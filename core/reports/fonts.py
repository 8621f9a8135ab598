"""The fonts of print, which of them has a letter, and what is printed for a character that none of them has."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reportlab.pdfbase.ttfonts import TTFont

FONTS = Path(__file__).parent / "fonts"
JOINERS = "\u200c\u200d"
"""Zero width non-joiner and joiner: a part of the spelling in Persian and in the scripts of India."""
LEFT_TO_RIGHT_MARK = "\u200e"
_UNSEEN = "\n" + JOINERS + LEFT_TO_RIGHT_MARK
MISSING_NOTE = (
    "Characters that the fonts of this file lack stand as their code points in square brackets. The HTML report holds "
    "the characters themselves."
)
_FILES = {
    False: ("DejaVuSansCondensed", "NotoSansArabic-Regular", "DroidSansFallbackFull"),
    True: ("DejaVuSansCondensed-Bold", "NotoSansArabic-Bold", "DroidSansFallbackFull"),
}
"""is_bold -> the files in the order in which they are asked for a letter. The Chinese font has no bold face."""


@cache
def font_names() -> tuple[str, str]:
    """Register the fonts of most text once a process: (regular, bold)."""
    from reportlab.pdfbase import pdfmetrics

    names = (_FILES[False][0], _FILES[True][0])
    for name in names:
        _font(name)
    pdfmetrics.registerFontFamily(names[0], normal=names[0], bold=names[1], italic=names[0], boldItalic=names[1])
    return names


def font_for(character: str, *, is_bold: bool) -> TTFont | None:
    """The first font that has the character; None where none has. Arabic comes from the font made for it."""
    first, arabic, last = _FILES[is_bold]
    order = (arabic, first, last) if unicodedata.bidirectional(character) == "AL" else (first, arabic, last)
    return next((font for font in map(_font, order) if ord(character) in font.face.charToGlyph), None)


def without_controls(text: str) -> str:
    """Composed (NFC), without control characters but line ends, joiners and marks of direction, and without choices of
    a letter's variant."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(c for c in composed if c in _UNSEEN or not _is_control(c))


def printable(text: str) -> str:
    """`text` without control characters; what no font has a glyph for stands as its code point, "[U+1F600]"."""
    return "".join(
        c if c in _UNSEEN or font_for(c, is_bold=False) else f"[U+{ord(c):04X}]" for c in without_controls(text)
    )


def is_simple(text: str) -> bool:
    """Whether one glyph after the other from the first font prints the text: no shaping and no second direction."""
    glyphs = _font(_FILES[False][0]).face.charToGlyph
    return all(c == "\n" or (ord(c) in glyphs and not _is_shaped(c)) for c in text)


@cache
def _font(name: str) -> TTFont:
    """Loaded when a letter asks for it: the Chinese one takes half a second."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    font = TTFont(name, str(FONTS / f"{name}.ttf"))
    pdfmetrics.registerFont(font)
    return font


def _is_shaped(character: str) -> bool:
    is_mark = character in _UNSEEN or unicodedata.category(character) in ("Mn", "Me", "Mc")
    return is_mark or ord(character) > 0xFFFF or unicodedata.bidirectional(character) in ("R", "AL", "AN")


def _is_control(character: str) -> bool:
    is_variant = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return is_variant or unicodedata.category(character) in ("Cc", "Cf", "Cs")
