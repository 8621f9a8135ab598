"""The pictures of a study on black: labelled, hung, enlarged by a click. Bytes go over the page's own connection.

Nothing is given a URL, so no picture can be fetched by somebody who is not signed in. The grey levels are windowed
here, from the full-depth pixels; the browser only draws.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image as Raster

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "secondread_viewer",
    html='<div class="grid"></div>',
    css=(_HERE / "viewer.css").read_text(encoding="utf-8"),
    js=(_HERE / "viewer.js").read_text(encoding="utf-8"),
)

SHOWN_SIDE_PX = 2048
"""Longest side sent to the browser; an enlarged mammogram fills a large screen at it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid. plain: JPEG bytes, empty for a place that no image fills; painted: the same picture under
    its heat map. size: (width, height) in one unit for the whole grid. align: the side its chest wall is on."""

    label: str
    plain: bytes = b""
    painted: bytes = b""
    size: tuple[float, float] = (1.0, 1.0)
    align: str = "center"
    note: str = ""


def jpeg(pixels: np.ndarray, *, quality: int = 90) -> bytes:
    """JPEG of uint8 (H, W) or (H, W, 3), its longest side bounded by `SHOWN_SIDE_PX`."""
    raster = Raster.fromarray(np.ascontiguousarray(pixels))
    raster.thumbnail((SHOWN_SIDE_PX, SHOWN_SIDE_PX), Raster.Resampling.BOX)
    out = io.BytesIO()
    raster.save(out, "JPEG", quality=quality)
    return out.getvalue()


def packed(cells: Sequence[Cell], *, columns: int, same_scale: bool, cell_height: tuple[str, str]) -> bytes:
    """What the component is sent: little-endian u32 length, that many bytes of JSON, then the JPEGs in order."""
    head = {
        "columns": columns,
        "same_scale": same_scale,
        "cell_height": cell_height[0],
        "cell_height_narrow": cell_height[1],
        "cells": [
            {
                "label": cell.label,
                "size": cell.size,
                "align": cell.align,
                "note": cell.note,
                "plain_bytes": len(cell.plain),
                "painted_bytes": len(cell.painted),
            }
            for cell in cells
        ],
    }
    encoded = json.dumps(head).encode()
    pictures = b"".join(cell.plain + cell.painted for cell in cells)
    return struct.pack("<I", len(encoded)) + encoded + pictures


def show(
    cells: Sequence[Cell],
    *,
    key: str,
    columns: int = 1,
    same_scale: bool = False,
    cell_height: tuple[str, str] = ("70vh", "60vh"),
) -> None:
    """Draw the grid. cell_height: of one cell in CSS, on a wide screen and on a phone."""
    data = packed(cells, columns=columns, same_scale=same_scale, cell_height=cell_height)
    _component(data=data, key=key, height="content")
