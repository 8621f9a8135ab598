"""The images of a study on the screen: hung, with or without one heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import streamlit as st

from core.imaging.hanging import Layout, Place, hang, label_of, stages, stages_with_copies, stages_with_prior
from core.imaging.preprocess import heat_map
from core.records.reads.rows import STATES
from core.records.reads.studies import StoredImage, StoredStudy
from core.reports.content import AI_GENERATED, ATTENTION_CAPTION, EMPTY_MAP
from core.types import Explanation, Image, Modality
from pages.parts import viewer
from pages.parts.attention import AttentionChoice
from pages.parts.viewer import Clip, Drawn, Marking, Picture
from pages.reader.parts.marking import workplace_key

_STYLE = (Path(__file__).parent / "read.css").read_text(encoding="utf-8")
_AROUND_REM, _EARLIER_REM, _LINE_REM, _LINE_LETTERS = 17.5, 2.6, 1.4, 105
"""On a wide screen: what stands above and under the pictures (menu, frame, heading, tools, the line below them), the
line that names an earlier study, and a line of a warning, with as many letters as it has room for at 1440 pixels."""
RATE_ASSUMED, RATES = 15.0, (0.5, 120.0)
NO_BREAK = "\u2011"
"""A hyphen at which no line is broken."""


def draw_style() -> None:
    st.html(f"<style>{_STYLE}</style>")


def labels_of(study: StoredStudy) -> dict[str, str]:
    """Image id -> the label that is drawn on the picture, without what hanging did to it."""
    images = [stored.image for stored in study.images]
    return {stored.id: label_of(images, position) for position, stored in enumerate(study.images)}


def show_study(
    study: StoredStudy,
    *,
    choice: AttentionChoice | None = None,
    explanations: Sequence[Mapping[str, Explanation]] = (),
    warnings: Sequence[str] = (),
    marking: Marking | None = None,
    fixed: Sequence[Drawn] = (),
    remembers: str = "",
    prior: StoredStudy | None = None,
) -> None:
    """Tools, grid, and the warnings (Markdown, a line each) under it, all of it in the window at once.

    explanations: for each image, weights sha256 -> explanation; without its own it is bare. marking, fixed,
    remembers: as in `viewer.show`. prior: an earlier study with its pixels, hung under this one.
    """
    images = [stored.image for stored in study.images]
    layout = hang(images)
    places = {place.index: place for place in layout.places if place.index is not None}
    shown = [
        replace(
            _picture(images, index, places[index], choice, explanations[index] if explanations else {}),
            clip=_clip(study.images[index], can_choose=study.row.state == STATES[0]),
        )
        for index in range(len(images))
    ]
    hangings, is_same_scale = stages(layout), layout.is_same_scale
    if prior is not None:
        earlier, of_prior = _earlier(prior)
        shown += earlier
        hangings, is_same_scale = stages_with_prior(layout, of_prior), is_same_scale and of_prior.is_same_scale
    copied = _copied(choice, explanations) if prior is None else []
    if copied and choice is not None and choice.beside is not None:
        copies = [_picture(images, index, places[index], choice.beside, explanations[index]) for index in copied]
        shown = [_named(one, choice) for one in shown]
        shown += [replace(_named(one, choice.beside), is_prior=True) for one in copies]
        hangings = stages_with_copies(layout, copied)
    n_rows = 2 if len(hangings[0].places) > hangings[0].columns else 1
    n_lines = sum(1 + len(line) // _LINE_LETTERS for line in warnings)
    around = _AROUND_REM + (1 + _LINE_REM * n_lines if warnings else 0) + (_EARLIER_REM if prior is not None else 0)
    heights = (f"max(14rem, (100dvh - {around}rem) / {n_rows})", "38vh" if n_rows == 2 else "60vh")
    viewer.show(
        shown,
        hangings,
        key=workplace_key(study.row.id),
        same_scale=is_same_scale,
        opacity=choice.opacity if choice else 0.5,
        cell_height=heights,
        marking=marking,
        fixed=fixed,
        remembers=remembers,
        hanging=prior.row.id if prior else "two models" if copied else "",
    )
    if warnings:
        st.caption("  \n".join(warnings))


def _clip(stored: StoredImage, *, can_choose: bool = False) -> Clip | None:
    """The frames of a clip or a stack; can_choose: as long as nobody has read the study."""
    if not stored.frames:
        return None
    image = stored.image
    is_stack = image.modality is Modality.MAMMOGRAPHY
    can_choose = can_choose and not image.not_scored and image.modality is not None
    return Clip(stored.id, stored.frames, frames_a_second(image), is_stack, can_choose)


def frames_a_second(image: Image) -> float:
    """How fast a clip was taken or is to be played, by its file (PS3.3 C.7.6.5), else `RATE_ASSUMED`."""
    for keyword, of in (("RecommendedDisplayFrameRate", float), ("CineRate", float), ("FrameTime", _rate_of_time)):
        try:
            rate = of(image.tags[keyword])
        except (KeyError, ValueError, ZeroDivisionError):
            continue
        if RATES[0] <= rate <= RATES[1]:
            return rate
    return RATE_ASSUMED


def _rate_of_time(milliseconds: str) -> float:
    return 1000 / float(milliseconds)


def _copied(choice: AttentionChoice | None, explanations: Sequence[Mapping[str, Explanation]]) -> list[int]:
    """The images that both of the chosen models have a map of; none where only one model was chosen."""
    if choice is None or choice.beside is None:
        return []
    wanted = {choice.weights_sha256, choice.beside.weights_sha256}
    return [index for index, found in enumerate(explanations) if wanted <= found.keys()]


def _named(picture: Picture, choice: AttentionChoice) -> Picture:
    """With the name of the model whose map lies on it."""
    return picture if picture.heat is None else replace(picture, note=f"{choice.title}: {picture.note}")


def _earlier(prior: StoredStudy) -> tuple[list[Picture], Layout]:
    """The pictures of an earlier study, each with the day it was taken, and how they hang."""
    images = [stored.image for stored in prior.images]
    layout = hang(images)
    day = f"EARLIER {prior.row.taken_on or prior.row.created_at.date()}".replace("-", NO_BREAK)
    places = {place.index: place for place in layout.places if place.index is not None}
    pictures = [
        replace(
            _picture(images, index, places[index], None, {}),
            label=f"{label_of(images, index)} · {day}",
            hung=f"{places[index].label} · {day}",
            is_prior=True,
            clip=_clip(prior.images[index]),
        )
        for index in range(len(images))
    ]
    return pictures, layout


def _picture(
    images: Sequence[Image],
    index: int,
    place: Place,
    choice: AttentionChoice | None,
    explanations: Mapping[str, Explanation],
) -> Picture:
    bare = Picture(images[index], label_of(images, index), place.label, place.is_mirrored)
    explanation = explanations.get(choice.weights_sha256) if choice else None
    if choice is None:
        return bare
    if explanation is None:
        return replace(bare, note=f"No heat map by {choice.title}")
    heat = heat_map(explanation, choice.branch, choice.class_index)
    return replace(bare, heat=heat, note=f"{ATTENTION_CAPTION if heat.any() else EMPTY_MAP} · {AI_GENERATED}")
