"""The fonts of print, and which letters they have."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

FONTS = Path(__file__).parent / "fonts"


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
