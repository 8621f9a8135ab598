"""The images of a study on the screen: hung, with or without one heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import streamlit as st

from core.imaging.hanging import Place, hang, label_of, stages
from core.imaging.preprocess import heat_map
from core.records.reads.studies import StoredStudy
from core.reports.content import AI_GENERATED, ATTENTION_CAPTION
from core.types import Explanation, Image
from pages.parts import viewer
from pages.parts.attention import AttentionChoice
from pages.parts.viewer import Picture

STAYS_IN_VIEW = """<style>
@media (min-width: 640px) {
  [data-testid="stColumn"]:has(.st-key-sr-pictures) { position: sticky; top: 3.75rem; align-self: flex-start; }
}
</style>"""
"""The pictures stay where they are while the panel beside them scrolls; on a phone they stand above it."""


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
    """Tools and grid. explanations: for each image, weights sha256 -> explanation; without its own it is bare."""
    st.html(STAYS_IN_VIEW)
    images = [stored.image for stored in study.images]
    layout = hang(images)
    places = {place.index: place for place in layout.places if place.index is not None}
    shown = [
        _picture(images, index, places[index], choice, explanations[index] if explanations else {})
        for index in range(len(images))
    ]
    heights = ("35vh", "38vh") if len(layout.places) > layout.columns else ("68vh", "60vh")
    viewer.show(
        shown,
        stages(layout),
        key=f"pictures_{study.row.id}",
        same_scale=layout.is_same_scale,
        opacity=choice.opacity if choice else 0.5,
        cell_height=heights,
    )


def _picture(
    images: Sequence[Image],
    index: int,
    place: Place,
    choice: AttentionChoice | None,
    explanations: Mapping[str, Explanation],
) -> Picture:
    bare = Picture(images[index], label_of(images, index), place.label, place.is_mirrored)
    explanation = explanations.get(choice.weights_sha256) if choice else None
    if choice is None or explanation is None:
        return bare
    heat = heat_map(explanation, choice.branch, choice.class_index)
    return replace(bare, heat=heat, note=f"{ATTENTION_CAPTION} · {AI_GENERATED}")
