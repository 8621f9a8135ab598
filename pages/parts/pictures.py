"""The images of a study on the screen: hung, windowed, with or without one heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from core.imaging.hanging import hang
from core.imaging.overlay import paint, to_uint8
from core.imaging.preprocess import heat_map, resize
from core.reports.content import AI_GENERATED, ATTENTION_CAPTION
from core.types import Explanation, Image
from pages.parts import viewer
from pages.parts.attention import AttentionChoice
from pages.parts.viewer import SHOWN_SIDE_PX, Cell

AS_IN_FILE = "As in the file"
WINDOWS: Mapping[str, tuple[float, float]] = {
    AS_IN_FILE: (0.5, 1.0),
    "More contrast": (0.5, 0.6),
    "Dense tissue": (0.72, 0.5),
    "Dark tissue": (0.28, 0.5),
}
"""Presets: centre and width on the picture's own scale from 0 (black) to 1 (white)."""

STAYS_IN_VIEW = """<style>
@media (min-width: 640px) {
  [data-testid="stColumn"]:has(.st-key-sr-pictures) { position: sticky; top: 3.75rem; align-self: flex-start; }
}
</style>"""
"""The pictures stay where they are while the panel beside them scrolls; on a phone they stand above it."""


@dataclass(frozen=True, slots=True)
class Look:
    """How pictures are shown. center, width: as in `core.imaging.overlay.to_uint8`."""

    center: float = 0.5
    width: float = 1.0
    invert: bool = False


def look_controls(*, key: str) -> Look:
    """Window presets and invert, in one row above the pictures."""
    with st.container(horizontal=True, vertical_alignment="center"):
        name = st.segmented_control(
            "Window",
            list(WINDOWS),
            default=AS_IN_FILE,
            required=True,
            key=f"{key}_window",
            label_visibility="collapsed",
        )
        invert = st.toggle("Invert", key=f"{key}_invert")
        st.caption("Click a picture to enlarge it.")
    center, width = WINDOWS[name or AS_IN_FILE]
    return Look(center, width, invert)


def show_images(
    images: Sequence[Image],
    look: Look,
    *,
    key: str,
    choice: AttentionChoice | None = None,
    explanations: Sequence[Mapping[str, Explanation]] = (),
) -> None:
    """The grid. explanations: for each image, weights sha256 -> explanation; without the chosen one it is bare."""
    layout = hang(images)
    cells = []
    for place in layout.places:
        if place.index is None:
            cells.append(Cell(place.label))
            continue
        explanation = explanations[place.index].get(choice.weights_sha256) if choice and explanations else None
        image = images[place.index]
        cells.append(
            Cell(
                label=place.label,
                plain=_plain(*_key(image), look, place.is_mirrored, image),
                painted=_painted(*_key(image), look, place.is_mirrored, choice, image, explanation)
                if choice and explanation
                else b"",
                size=_size(image),
                align=place.align,
                note=f"{ATTENTION_CAPTION} · {AI_GENERATED}" if explanation else "",
            )
        )
    heights = ("37vh", "38vh") if len(cells) > layout.columns else ("68vh", "60vh")
    viewer.show(cells, key=key, columns=layout.columns, same_scale=layout.is_same_scale, cell_height=heights)


def _key(image: Image) -> tuple[str, int, int | None]:
    return image.sha256, image.frame, image.window_index


def _size(image: Image) -> tuple[float, float]:
    """Width and height in millimetres, or in pixels where the file does not say."""
    row_mm, column_mm = image.spacing_mm or (1.0, 1.0)
    return image.width * column_mm, image.height * row_mm


@st.cache_data(show_spinner=False, max_entries=128, ttl="15m")
def _plain(sha256: str, frame: int, window: int | None, look: Look, is_mirrored: bool, _image: Image) -> bytes:
    return _jpeg(to_uint8(_bounded(_image.pixels), look.center, look.width, look.invert), is_mirrored)


@st.cache_data(show_spinner=False, max_entries=128, ttl="15m")
def _painted(
    sha256: str,
    frame: int,
    window: int | None,
    look: Look,
    is_mirrored: bool,
    choice: AttentionChoice,
    _image: Image,
    _explanation: Explanation,
) -> bytes:
    pixels = _bounded(_image.pixels)
    shown = to_uint8(pixels, look.center, look.width, look.invert).astype(np.float32) / 255
    heat = np.clip(resize(heat_map(_explanation, choice.branch, choice.class_index), pixels.shape[:2]), 0, 1)
    return _jpeg(paint(shown, heat, choice.opacity), is_mirrored)


def _jpeg(pixels: np.ndarray, is_mirrored: bool) -> bytes:
    return viewer.jpeg(pixels[:, ::-1] if is_mirrored else pixels)


def _bounded(pixels: np.ndarray) -> np.ndarray:
    """Scaled down before windowing, not after: the work is smaller and the grey levels stay."""
    height, width = pixels.shape[:2]
    scale = SHOWN_SIDE_PX / max(height, width)
    if scale >= 1:
        return pixels
    shape = (round(height * scale), round(width * scale))
    if pixels.ndim == 2:
        return resize(pixels, shape)
    return np.stack([resize(pixels[..., channel], shape) for channel in range(pixels.shape[2])], axis=-1)
