"""The images of a study on the screen: hung, windowed, with or without one heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from core.imaging.hanging import Place, hang, label_of
from core.imaging.overlay import paint, to_uint8
from core.imaging.preprocess import heat_map, resize
from core.records.reads.studies import StoredStudy
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


def labels_of(study: StoredStudy) -> dict[str, str]:
    """Image id -> the label that is drawn on the picture, without what hanging did to it."""
    images = [stored.image for stored in study.images]
    return {stored.id: label_of(images, position) for position, stored in enumerate(study.images)}


def show_study(
    study: StoredStudy,
    *,
    choice: AttentionChoice | None = None,
    explanations: Sequence[Mapping[str, Explanation]] = (),
) -> None:
    """Controls and grid. explanations: for each image, weights sha256 -> explanation; without its own it is bare."""
    st.html(STAYS_IN_VIEW)
    look = look_controls(key=f"look_{study.row.id}")
    images = [stored.image for stored in study.images]
    layout = hang(images)
    cells = [
        _cell(
            images, place, look, choice, explanations[place.index] if explanations and place.index is not None else {}
        )
        for place in layout.places
    ]
    heights = ("37vh", "38vh") if len(cells) > layout.columns else ("68vh", "60vh")
    viewer.show(
        cells,
        key=f"pictures_{study.row.id}",
        columns=layout.columns,
        same_scale=layout.is_same_scale,
        cell_height=heights,
    )


def _cell(
    images: Sequence[Image],
    place: Place,
    look: Look,
    choice: AttentionChoice | None,
    explanations: Mapping[str, Explanation],
) -> Cell:
    if place.index is None:
        return Cell(place.label, align=place.align)
    image = images[place.index]
    plain = _plain(*_key(image), look, place.is_mirrored, image)
    bare = Cell(place.label, plain, size=_size(image), align=place.align)
    explanation = explanations.get(choice.weights_sha256) if choice else None
    if choice is None or explanation is None:
        return bare
    painted = _painted(*_key(image), look, place.is_mirrored, choice, image, explanation)
    return replace(bare, painted=painted, note=f"{ATTENTION_CAPTION} · {AI_GENERATED}")


def _key(image: Image) -> tuple[str, int, int | None, int | None]:
    return image.sha256, image.frame, image.window_index, image.guessed_bits


def _size(image: Image) -> tuple[float, float]:
    """Width and height in millimetres, or in columns where the file does not say."""
    row_mm, column_mm = image.spacing_mm or (image.aspect, 1.0)
    return image.width * column_mm, image.height * row_mm


@st.cache_data(show_spinner=False, max_entries=128, ttl="15m")
def _plain(
    sha256: str, frame: int, window: int | None, bits: int | None, look: Look, is_mirrored: bool, _image: Image
) -> bytes:
    return _jpeg(to_uint8(_bounded(_image.pixels), look.center, look.width, look.invert), is_mirrored)


@st.cache_data(show_spinner=False, max_entries=128, ttl="15m")
def _painted(
    sha256: str,
    frame: int,
    window: int | None,
    bits: int | None,
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
