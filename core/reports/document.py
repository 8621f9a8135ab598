"""A report before it is laid out: a title and blocks, which `core.reports.html` and `core.reports.pdf` write.

Whatever came from a file or a person stands in the blocks as it is. The writers escape it: Jinja2 does by itself, and
the PDF escapes every paragraph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from reportlab.graphics.shapes import Drawing

RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis or for decisions about patients."


@dataclass(frozen=True, slots=True)
class Banner:
    """A sentence in a box, at the top."""

    kind: ClassVar = "banner"
    words: str


@dataclass(frozen=True, slots=True)
class Heading:
    """level 1: the report's title; 2: of a part; 3: of something in it. mark: a short word in a frame behind it."""

    kind: ClassVar = "heading"
    words: str
    level: Literal[1, 2, 3] = 2
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph. look "comment": a person's own words, with their line breaks; "alarm": in red; "code": a hash."""

    kind: ClassVar = "text"
    words: str
    look: Literal["plain", "soft", "alarm", "comment", "code"] = "plain"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    kind: ClassVar = "facts"
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """rows: the first heads it. shares: widths of the columns in print, summing to 1."""

    kind: ClassVar = "table"
    rows: Sequence[Sequence[str]]
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG. alternative: what stands for it where it cannot be seen. caption: below it; "" for none. align: to which
    side of its place it lies, so that chest walls hang back to back."""

    jpeg: bytes
    alternative: str
    caption: str = ""
    align: Literal["left", "center", "right"] = "center"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Side by side. print_mm: their height in print, at most."""

    kind: ClassVar = "pictures"
    items: Sequence[Picture]
    print_mm: float = 88


@dataclass(frozen=True, slots=True)
class Plots:
    """Drawings, two in a row where they fit."""

    kind: ClassVar = "plots"
    drawings: Sequence[Drawing]
    alternative: str


@dataclass(frozen=True, slots=True)
class Together:
    """Blocks that stand on one page if they can."""

    kind: ClassVar = "together"
    blocks: Sequence[Block]


Block = Banner | Heading | Text | Facts | Table | Pictures | Plots | Together


@dataclass(frozen=True, slots=True)
class Document:
    """title: in the file's properties, and at the foot of every printed page."""

    title: str
    blocks: Sequence[Block]
