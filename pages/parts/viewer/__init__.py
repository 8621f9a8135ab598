"""The pictures of a study at a reading workplace: hung, windowed, zoomed, measured, all of it in the browser.

The browser gets the full grey depth, 16 bits a pixel, through Streamlit's files under `/media/`, which answer only the
session that they were made in (`core.server.media_owners`): no address works without it. Window and level, zoom and
the heat map's opacity are drawn there (WebGL2, or a plain canvas) and need no run of the page; what a run sends anew is
laid over what the reader has set, so that zoom and window stay.

The parts of the JavaScript are joined in the order of `_PARTS` to one module; there is no build step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from streamlit import runtime

from core.errors import InvalidInput
from core.findings.marks import Mark
from core.imaging.hanging import Stage, breast_front
from core.imaging.levels import FIRST_SIDE_PX, Level, levels_of, mean_of_blocks, packed, step_of
from core.imaging.overlay import HUE, LOW_CUT
from core.imaging.presets import Preset, presets, windows_of_file
from core.imaging.spacing import spacing_statement
from core.types import Image

_HERE = Path(__file__).parent
_PARTS = (
    "pixels",
    "software",
    "shader",
    "geometry",
    "measures",
    "labels",
    "toolbar",
    "cine",
    "board",
    "cursor",
    "keys",
    "viewer",
)


def javascript() -> str:
    """The module that the browser runs."""
    return "\n".join((_HERE / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS)


_component = st.components.v2.component(
    "secondread_viewer",
    html='<div class="viewer"></div>',
    css=(_HERE / "viewer.css").read_text(encoding="utf-8"),
    js=javascript(),
)

HEAT_SIDE_PX = 512
"""Longest side of a heat map; models look at far less."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The frames of a clip or a stack. image_id: of the stored image. keys: of the frames in the image store, in their
    order. rate: frames a second. is_stack: slices of a tomosynthesis, which nobody plays. can_choose: the reader may
    still choose the frame that the models read."""

    image_id: str
    keys: tuple[str, ...]
    rate: float
    is_stack: bool = False
    can_choose: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """One image and how it hangs. label: what it is; hung: the same with what hanging did to it. heat: (H, W) in [0, 1]
    of the image, or None. note: what must stand beside the heat map, or in its place, while maps are seen. is_prior: of
    an earlier study, or a copy for another model's map, so that marks on it are not saved. clip: its other frames, if
    it has any."""

    image: Image
    label: str
    hung: str
    is_mirrored: bool = False
    heat: np.ndarray | None = None
    note: str = ""
    is_prior: bool = False
    clip: Clip | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    levels: tuple[Level, ...]
    presets: tuple[Preset, ...]
    front: tuple[float, int] | None


@st.cache_resource(show_spinner=False, max_entries=48, ttl="15m")
def _prepared(
    sha256: str, frame: int, window: int | None, bits: int | None, is_colour: bool, most_side: int | None, _image: Image
) -> _Prepared:
    return _Prepared(levels_of(_image.pixels, most_side=most_side), presets(_image.pixels), breast_front(_image))


def _prepare(image: Image, most_side: int | None) -> _Prepared:
    return _prepared(
        image.sha256, image.frame, image.window_index, image.guessed_bits, image.is_colour, most_side, image
    )


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mark as the browser has it. uid: of the mark, made where it was drawn; `mark.points` as in `Mark`.

    label: what stands at it; "" for what it measures. is_of_model: a proposal of a model. is_on_prior: on a picture of
    an earlier study.
    """

    uid: str
    mark: Mark
    label: str = ""
    is_of_model: bool = False
    is_on_prior: bool = False


@dataclass(frozen=True, slots=True)
class Marking:
    """The marks that the reader may draw and change now. of: the form that they belong to. revision: another number
    means that the page itself has changed the marks, and the browser takes them over. described: uids of those that
    belong to a described finding."""

    of: str
    revision: int
    drawn: tuple[Drawn, ...]
    described: tuple[str, ...] = ()


MARKS_SENT_MOST = 200
_UID = re.compile(r"[0-9a-z-]{1,60}")
_FRAME = re.compile(r"[0-9]{1,6}")


def marks_drawn(key: str, of: str) -> tuple[int, tuple[tuple[str, Mark], ...]] | None:
    """(revision of the form's marks that the browser had, (uid, mark) of each that is drawn) in the workplace `key` for
    the form `of`; None before anything was drawn for it.

    What a browser sends is checked: raises InvalidInput for what is no mark.
    """
    sent = dict(st.session_state.get(key) or {}).get("marks")
    if not isinstance(sent, dict) or sent.get("of") != of:
        return None
    revision = sent.get("revision")
    return revision if isinstance(revision, int) else 0, checked_marks(sent.get("marks"))


def checked_marks(sent: object) -> tuple[tuple[str, Mark], ...]:
    """What a browser sent as marks; raises InvalidInput."""
    if not isinstance(sent, list) or len(sent) > MARKS_SENT_MOST:
        raise InvalidInput(f"At most {MARKS_SENT_MOST} marks can be drawn. Remove some.")
    found: dict[str, Mark] = {}
    for one in sent:
        if not isinstance(one, dict) or not _UID.fullmatch(str(one.get("uid"))):
            raise InvalidInput("This is not a mark on a picture.")
        sha256, _, frame = str(one.get("id")).partition(".")
        if not _FRAME.fullmatch(frame):
            raise InvalidInput("This is not a mark on a picture.")
        stored = {"image": sha256, "frame": int(frame) + 1, "kind": one.get("kind"), "points": one.get("points")}
        found[str(one["uid"])] = Mark.from_json(stored)
    return tuple(found.items())


def _picture_id(sha256: str, frame: int, is_prior: bool) -> str:
    """The same file may lie in both studies; each of its two pictures has a name of its own."""
    return f"{'prior.' if is_prior else ''}{sha256}.{frame}"


def _sent_mark(drawn: Drawn) -> dict[str, object]:
    mark = drawn.mark
    return {
        "uid": drawn.uid,
        "id": _picture_id(mark.image_sha256, mark.frame, drawn.is_on_prior),
        "kind": mark.kind,
        "points": [list(point) for point in mark.points],
    }


def _sent_marking(marking: Marking | None) -> dict[str, object] | None:
    if marking is None:
        return None
    return {
        "of": marking.of,
        "revision": marking.revision,
        "marks": [_sent_mark(one) for one in marking.drawn],
        "labels": {one.uid: one.label for one in marking.drawn if one.label},
        "described": list(marking.described),
    }


def _in_media(content: bytes, coordinates: str) -> str:
    """The address of a file for this session, without a slash in front; "" where no server runs (tests of pages)."""
    if not runtime.exists():
        return ""
    added = runtime.get_instance().media_file_mgr.add(content, "application/octet-stream", coordinates)
    return added.removeprefix("/")


def workplace(
    pictures: Sequence[Picture],
    stages: Sequence[Stage],
    *,
    key: str,
    same_scale: bool = False,
    opacity: float = 0.5,
    cell_height: tuple[str, str] = ("70vh", "60vh"),
    has_tools: bool = True,
    most_side: int | None = None,
    marking: Marking | None = None,
    fixed: Sequence[Drawn] = (),
    remembers: str = "",
    hanging: str = "",
    address: Callable[[bytes, str], str] = _in_media,
) -> dict[str, object]:
    """What the component is sent; arguments as in `show`. address: where the browser finds these bytes; its second
    argument names the place on the page."""
    prepared = [_prepare(picture.image, most_side) for picture in pictures]
    sent = []
    for position, (picture, ready) in enumerate(zip(pictures, prepared, strict=True)):

        def level(one: Level, name: str, place: str = f"{key}.{position}") -> dict[str, object]:
            return {
                "url": address(one.content, f"{place}.{name}"),
                "digest": one.digest,
                "width": one.width,
                "height": one.height,
                "step": one.step,
            }

        levels = [level(one, str(one.step)) for one in ready.levels]
        heat = None if picture.heat is None else level(_heat_level(picture.heat), "heat")
        sent.append({**_described(picture, ready.presets), "front": ready.front, "levels": levels, "heat": heat})
    return {
        "key": key,
        "sameScale": same_scale,
        "opacity": opacity,
        "hue": HUE,
        "lowCut": LOW_CUT,
        "cellHeight": cell_height,
        "hasTools": has_tools,
        "marking": _sent_marking(marking),
        "remembers": remembers,
        "hanging": hanging,
        "shown": [
            {**_sent_mark(one), "label": one.label, "isFixed": True, "isOfModel": one.is_of_model} for one in fixed
        ],
        "pictures": sent,
        "stages": [
            {
                "name": stage.name,
                "columns": stage.columns,
                "places": [[place.index, place.label, place.align] for place in stage.places],
            }
            for stage in stages
        ],
    }


def _heat_level(heat: np.ndarray) -> Level:
    step = max(1, -(-max(heat.shape) // HEAT_SIDE_PX))
    return packed(mean_of_blocks(np.rint(heat * 65535).astype(np.uint16), step), step=step)


def _described(picture: Picture, found: Sequence[Preset]) -> dict[str, object]:
    image = picture.image
    row_mm, column_mm = image.spacing_mm or (image.aspect, 1.0)
    return {
        "id": _picture_id(image.sha256, image.frame, picture.is_prior),
        "isPrior": picture.is_prior,
        "side": image.laterality,
        "label": picture.label,
        "hung": picture.hung,
        "mirrored": picture.is_mirrored,
        "width": image.width,
        "height": image.height,
        "colour": image.is_colour,
        "unit": [column_mm, row_mm],
        "hasSpacing": image.spacing_mm is not None,
        "spacing": spacing_statement(image),
        "frame": image.frame + 1,
        "presets": [[preset.name, preset.center, preset.width] for preset in found],
        "windows": [[preset.name, preset.center, preset.width] for preset in windows_of_file(image)],
        "note": picture.note,
        "clip": _sent_clip(picture),
    }


def _sent_clip(picture: Picture) -> dict[str, object] | None:
    """Where the browser finds each frame; `core.server.routes` answers there."""
    clip, shape = picture.clip, picture.image.pixels.shape
    if clip is None:
        return None
    step = step_of(shape, FIRST_SIDE_PX)
    return {
        "imageId": clip.image_id,
        "url": f"frames/{clip.image_id}",
        "digests": [key.partition(".")[0] for key in clip.keys],
        "step": step,
        "width": -(-shape[1] // step),
        "height": -(-shape[0] // step),
        "rate": clip.rate,
        "isStack": clip.is_stack,
        "canChoose": clip.can_choose,
    }


def chosen_frame(key: str) -> tuple[str, int, int] | None:
    """(image id, frame from 0, which choice it is) that the reader chose in the workplace `key` for the models to read;
    None for none."""
    sent = dict(st.session_state.get(key) or {}).get("frame")
    if not isinstance(sent, dict):
        return None
    image, frame, at = (sent.get(name) for name in ("image", "frame", "at"))
    if not isinstance(image, str) or not isinstance(frame, int) or not isinstance(at, int):
        return None
    return image, frame, at


def show(pictures: Sequence[Picture], stages: Sequence[Stage], *, key: str, **options: Any) -> None:
    """Draw the workplace.

    stages: their places' `index` counts `pictures`. same_scale: pictures that have a spacing share one scale.
    opacity: of the heat maps where they are 1. cell_height: of one cell in CSS, on a wide screen and on a phone.
    has_tools: False for one small picture without keys and tools. most_side: nothing longer is sent to the browser.
    marking: what the reader may mark; without it marks are only measured and stay in the browser. fixed: marks that are
    shown and cannot be changed. remembers: under which name this browser stores tool, window and hanging; "" for not.
    hanging: names the set of stages; with another name the first of them is shown.
    What was drawn is found by `marks_drawn` in the run after.
    """
    _component(data=workplace(pictures, stages, key=key, **options), key=key, height="content")
