"""Which picture hangs where: mammograms as radiologists hang them, everything else in the order it came.

Of one view, pictures with the implant displaced come first, spot and magnification views last, and of those alike the
one that was taken last comes first; what no model reads (specimens, phantoms, stacks) comes after the views.

R-CC | L-CC over R-MLO | L-MLO, chest walls back to back in the middle: the right breast on the left with its chest wall
at its right edge. Whether a picture must be mirrored for that is read from PatientOrientation (the direction of its
rows, PS3.3 C.7.6.1.1.1); only a file without it is judged by its pixels, and its label says so. So is one whose pixels
surely show the chest wall at the other edge (`contradicts_orientation`), which a warning says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image as Raster
from scipy import ndimage

from core.types import IMPLANT_DISPLACED, VIEWS, Image, Modality

_SIDES = ("R", "L")
_ALIGN = {"R": "right", "L": "left"}
_FOUR_VIEWS = ("CC", "MLO")
_OVER = "Current over earlier"
_ROW_MOST = 4
_SEARCH_SIDE = 128
_FRONT_SIDE = 512
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d(?:\.\d{1,6})?))?)?", re.ASCII)
_TOUCHES, _TOUCHES_NOT = 0.5, 0.05
_TAPERED = 0.6
_UPSIDE_DOWN = (
    "By its tags (PatientOrientation) this picture is stored upside down: upper and lower are exchanged on the screen."
)
_ON_ITS_SIDE = (
    "By its tags (PatientOrientation) this picture is stored on its side: it is shown and read as it is stored."
)
CONTRADICTING_WALL = (
    "PatientOrientation says that the chest wall lies at the other edge than the one that the breast touches; the "
    "picture hangs by its pixels. It may be mirrored: check left and right on the image."
)
_FLIPPED = "FLIPPED"
_FLIPPED_BY_PIXELS = "FLIPPED (judged by pixels)"


@dataclass(frozen=True, slots=True)
class Place:
    """One cell of the layout.

    index: which of the images, or None for a place that none fills. label: drawn on the picture after mirroring.
    is_mirrored: the picture is shown left-right reversed. align: "left", "right" or "center", the edge of the cell that
    the chest wall lies against.
    """

    index: int | None
    label: str
    is_mirrored: bool = False
    align: str = "center"


@dataclass(frozen=True, slots=True)
class Layout:
    """Places row by row. is_same_scale: sizes are in millimetres for all mammograms, so show what has a spacing at one
    scale."""

    places: tuple[Place, ...]
    columns: int
    is_same_scale: bool


def hang(images: Sequence[Image]) -> Layout:
    """Lay out the images of one study; every image has exactly one place."""
    pairs = _pairs(images)
    if not pairs:
        return _in_order(images)
    places = [
        _mammogram_place(images, index, side, view)
        for view, *indices in pairs
        for side, index in zip(_SIDES, indices, strict=True)
    ]
    hung = {place.index for place in places}
    rest = [Place(index, label_of(images, index)) for index in range(len(images)) if index not in hung]
    spacings = [image.spacing_mm for image in images if image.modality is Modality.MAMMOGRAPHY]
    return Layout(tuple(places + rest), 2, all(spacing is not None for spacing in spacings))


@dataclass(frozen=True, slots=True)
class Stage:
    """What is on the screen at one time. places: as in `Layout`, row by row."""

    name: str
    places: tuple[Place, ...]
    columns: int


def stages(layout: Layout) -> tuple[Stage, ...]:
    """Everything first, then the right and left breast in one view side by side, then each picture alone.

    Of several pictures of one view the pair shows those that hang first. A study of one picture has one stage; a pair
    is a stage of its own only where it is not all there is.
    """
    shown = [place for place in layout.places if place.index is not None]
    found = [Stage("All", layout.places, layout.columns)]
    for view in _FOUR_VIEWS:
        pair = [
            next((place for place in shown if place.label.split(",")[0].split()[:2] == [side, view]), None)
            for side in _SIDES
        ]
        both = tuple(place for place in pair if place is not None)
        if len(both) == len(_SIDES) and len(both) < len(layout.places):
            found.append(Stage(f"{view} pair", both, len(_SIDES)))
    if len(layout.places) > 1:
        found += [Stage(place.label, (replace(place, align="center"),), 1) for place in shown]
    return tuple(found)


def stages_with_prior(current: Layout, prior: Layout) -> tuple[Stage, ...]:
    """The current pictures over the earlier ones, view by view, then the stages of each study alone.

    The earlier pictures are counted after the current ones. Of mammograms the first stage has a column for each breast
    and view, and each view has a stage of its own; of other pictures it has the first ones of both studies, in order.
    """
    n_current = sum(place.index is not None for place in current.places)
    earlier = replace(
        prior,
        places=tuple(
            replace(place, index=None if place.index is None else place.index + n_current) for place in prior.places
        ),
    )
    here, before = _by_view(current), _by_view(earlier)
    views = [view for view in _FOUR_VIEWS if any((side, view) in here for side in _SIDES)]
    found = []
    if views and before:

        def over(shown: Sequence[str]) -> tuple[Place, ...]:
            cells = [(side, view) for view in shown for side in _SIDES]
            now = [here.get(cell) or Place(None, f"{cell[0]} {cell[1]}: no image") for cell in cells]
            then = [before.get(cell) or Place(None, f"{cell[0]} {cell[1]}: no earlier image") for cell in cells]
            return (*now, *then)

        if len(views) > 1:
            found.append(Stage(_OVER, over(views), len(views) * len(_SIDES)))
        found += [Stage(f"{view}: {_OVER[0].lower()}{_OVER[1:]}", over([view]), len(_SIDES)) for view in views]
    else:
        rows = [
            [place for place in layout.places if place.index is not None][:_ROW_MOST] for layout in (current, earlier)
        ]
        columns = max(len(row) for row in rows)
        padded = [[*row, *[Place(None, "")] * (columns - len(row))] for row in rows]
        found.append(Stage(_OVER, (*padded[0], *padded[1]), columns))
    of_prior = [replace(stage, name=f"Earlier: {stage.name}") for stage in stages(earlier)]
    return (*found, *stages(current), *of_prior)


def stages_with_copies(layout: Layout, copied: Sequence[int]) -> tuple[Stage, ...]:
    """Each of the copied pictures beside its copy, then the usual stages. copied: indices; the copies are counted after
    all pictures, in this order."""
    n = sum(place.index is not None for place in layout.places)
    places = {place.index: replace(place, align="left") for place in layout.places if place.index is not None}
    pairs = [
        Stage(f"{places[index].label}: two models", (places[index], replace(places[index], index=n + number)), 2)
        for number, index in enumerate(copied)
    ]
    return (*pairs, *stages(layout))


def _by_view(layout: Layout) -> dict[tuple[str, str], Place]:
    """(side, view) -> the first picture of it, of CC and MLO."""
    found: dict[tuple[str, str], Place] = {}
    for place in layout.places:
        words = tuple(place.label.split(",")[0].split()[:2])
        if place.index is not None and len(words) == 2 and words[0] in _SIDES and words[1] in _FOUR_VIEWS:
            found.setdefault((words[0], words[1]), place)
    return found


def label_of(images: Sequence[Image], index: int) -> str:
    """ "R MLO" for a mammogram, "R MLO 1 of 2" where there are more, as they hang; "ultrasound 2 of 3"
    otherwise, with the side where it is known; behind it ", frame 3 of 40" of a clip or a stack, the frame that the
    models read."""
    image, label = images[index], _label_alone(images, index)
    return f"{label}, frame {image.frame + 1} of {image.n_frames}" if image.n_frames > 1 else label


def label_on_frame(label: str, frame: int) -> str:
    """The same label of a clip for another of its frames, from 0."""
    return re.sub(r", frame \d+ of ", f", frame {frame + 1} of ", label)


def _label_alone(images: Sequence[Image], index: int) -> str:
    image = images[index]
    same = [position for position, other in enumerate(images) if other.modality is image.modality]
    if image.modality is Modality.MAMMOGRAPHY:
        name, is_stack = _view_name(image), image.n_frames > 1
        same = [one for one in same if _view_name(images[one]) == name and (images[one].n_frames > 1) == is_stack]
        if image.laterality:  # the others hang in the order in which they came
            same.sort(key=lambda one: (1.0,) if images[one].not_scored else (0.0, *_rank(images[one])))
    else:
        kind = image.modality.value if image.modality else "image"
        name = f"{image.laterality} {kind}" if image.laterality else kind
    return f"{name} {same.index(index) + 1} of {len(same)}" if len(same) > 1 else name


def _view_name(image: Image) -> str:
    parts = [image.laterality or "side not stated", image.view or "view not stated"]
    label = " ".join(parts) if image.laterality else ", ".join(parts)
    return ", ".join([label, *image.view_modifiers])


def chest_wall_side(image: Image) -> tuple[str | None, bool]:
    """("left" | "right" | None, whether the tags said so): the edge of the stored picture that the chest wall is on.

    The tags speak first, unless the intake found that the pixels contradict them (`CONTRADICTING_WALL`).
    """
    stated = _stated_wall(image.tags)
    if stated is None or CONTRADICTING_WALL in image.warnings:
        return _wall_by_pixels(image.pixels), False
    return stated, True


def contradicts_orientation(pixels: np.ndarray, tags: Mapping[str, str]) -> bool:
    """Whether the pixels of a mammogram, (H, W) or (H, W, 3), surely show the chest wall where its tags say it is not.

    Sure is a breast that touches one side edge along half of it and the other nowhere, and tapers towards that one; a
    breast between margins or filling the picture proves nothing. Of 3,202 mammograms of nine public collections (RSNA
    2022, MIAS, DDSM and others) 2,679 are judged so and none wrongly, so at most 0.1 % (95 %) of good pictures are
    warned of; 120 of the 474 that lie the other way than pictures usually hang, one a woman, were looked at, the
    others agree with the same woman's pictures.
    """
    stated = _stated_wall(tags)
    if stated is None:
        return False
    seen = _sure_wall(pixels)
    return seen is not None and seen != stated


def turned_text(tags: Mapping[str, str]) -> str:
    """That a mammogram is stored upside down or on its side, by PatientOrientation (PS3.3 C.7.6.1.1.1); "" else.

    Columns of a lateral view run to the feet (`A\\F`); those of a craniocaudal one to a side, so that neither direction
    names head or feet.
    """
    rows, _, columns = tags.get("PatientOrientation", "").upper().partition("\\")
    if columns.strip().startswith("H"):
        return _UPSIDE_DOWN
    return _ON_ITS_SIDE if rows.strip().startswith(("H", "F")) else ""


def _stated_wall(tags: Mapping[str, str]) -> str | None:
    """Rows that run to the anterior (`A`) begin at the chest wall, rows that run to the posterior (`P`) end there."""
    row_direction = tags.get("PatientOrientation", "").split("\\")[0].strip().upper()
    return {"A": "left", "P": "right"}.get(row_direction)


def breast_front(image: Image) -> tuple[float, int] | None:
    """(column, step) of a mammogram: the foremost column of the breast, as a length from the outer edge of the first
    pixel, and the way along the rows from there to the chest wall, 1 or -1. None where the breast is not found.

    The foremost point is the nipple where it is seen in profile. To a pixel of a picture of `_FRONT_SIDE` pixels.
    """
    if image.modality is not Modality.MAMMOGRAPHY:
        return None
    wall, _ = chest_wall_side(image)
    main = _breast_mask(image.pixels, _FRONT_SIDE)
    if wall is None or main is None:
        return None
    columns = np.flatnonzero(main.any(axis=0)) * (image.width / main.shape[1])
    one = image.width / main.shape[1]
    return (float(columns[-1] + one), -1) if wall == "left" else (float(columns[0]), 1)


def _pairs(images: Sequence[Image]) -> list[tuple[str, int | None, int | None]]:
    """(view, index of the right breast, index of the left) row by row; empty when no mammogram states its side."""
    by_view: dict[str, dict[str, list[int]]] = {}
    for index, image in enumerate(images):
        if image.modality is Modality.MAMMOGRAPHY and image.laterality in _SIDES and not image.not_scored:
            by_view.setdefault(image.view or "", {side: [] for side in _SIDES})[image.laterality].append(index)
    for sides in by_view.values():
        for indices in sides.values():
            indices.sort(key=lambda index: _rank(images[index]))
    if (
        len(by_view.keys() & set(_FOUR_VIEWS)) == 1
        and sum(len(side) for v in by_view.values() for side in v.values()) > 2
    ):
        for view in _FOUR_VIEWS:
            by_view.setdefault(view, {side: [] for side in _SIDES})
    order = {view: position for position, view in enumerate((*VIEWS, ""))}
    rows: list[tuple[str, int | None, int | None]] = []
    for view in sorted(by_view, key=order.__getitem__):
        right, left = by_view[view]["R"], by_view[view]["L"]
        for turn in range(max(len(right), len(left), 1 if view in _FOUR_VIEWS else 0)):
            rows.append((view, right[turn] if turn < len(right) else None, left[turn] if turn < len(left) else None))
    return rows


def _rank(image: Image) -> tuple[int, float, float]:
    kind = 2 if image.is_scored_alone else 0 if IMPLANT_DISPLACED in image.view_modifiers else 1
    return kind, -_seconds(image, "AcquisitionTime"), -_seconds(image, "ContentTime")


def _seconds(image: Image, keyword: str) -> float:
    """A time of the day (TM, PS3.5 6.2; colons are the form of ACR-NEMA) in seconds; -1 where the file has none."""
    found = _TIME.fullmatch(image.tags.get(keyword, "").strip())
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, -1.0)
    return 3600 * hours + 60 * minutes + seconds


def _mammogram_place(images: Sequence[Image], index: int | None, side: str, view: str) -> Place:
    if index is None:
        return Place(None, f"{side} {view}: no image".replace("  ", " ").replace(" :", ":"), align=_ALIGN[side])
    wall, is_stated = chest_wall_side(images[index])
    is_mirrored = wall is not None and wall != _ALIGN[side]
    label = label_of(images, index)
    if is_mirrored:
        label = f"{label} {_FLIPPED if is_stated else _FLIPPED_BY_PIXELS}"
    return Place(index, label, is_mirrored, _ALIGN[side])


def _in_order(images: Sequence[Image]) -> Layout:
    places = tuple(Place(index, label_of(images, index)) for index in range(len(images)))
    return Layout(places, 1 if len(images) < 2 else 2 if len(images) < 5 else 3, False)


def _wall_by_pixels(pixels: np.ndarray) -> str | None:
    """The side on which the breast is cut off straight: it touches that edge, or carries more of its area there."""
    main = _breast_mask(pixels, _SEARCH_SIDE)
    if main is None:
        return None
    touches = _touched(main)
    if abs(touches[0] - touches[1]) > 0.2:
        return "left" if touches[0] > touches[1] else "right"
    columns = np.flatnonzero(main.any(axis=0))
    heights = main.sum(axis=0)[columns[0] : columns[-1] + 1]
    middle = float((heights * np.arange(len(heights))).sum() / heights.sum()) / max(len(heights) - 1, 1)
    if abs(middle - 0.5) < 0.02:
        return None
    return "left" if middle < 0.5 else "right"


def _sure_wall(pixels: np.ndarray) -> str | None:
    """The same only where nothing else can be; see `contradicts_orientation`."""
    main = _breast_mask(pixels, _SEARCH_SIDE)
    if main is None:
        return None
    columns = np.flatnonzero(main.any(axis=0))
    heights = main.sum(axis=0)[columns[0] : columns[-1] + 1]
    end = max(1, len(heights) // 8)
    for side, touched, tall in (
        ("left", _touched(main), heights),
        ("right", _touched(main)[::-1], heights[::-1]),
    ):
        is_cut = touched[0] >= _TOUCHES and touched[1] <= _TOUCHES_NOT
        middle = float((tall * np.arange(len(tall))).sum() / tall.sum())
        if is_cut and tall[-end:].mean() <= _TAPERED * tall[:end].mean() and middle < (len(tall) - 1) / 2:
            return side
    return None


def _touched(main: np.ndarray) -> tuple[float, float]:
    """How much of the left and of the right edge the breast touches, as shares of the height."""
    margin = max(2, main.shape[1] // 32)
    return float(main[:, :margin].any(axis=1).mean()), float(main[:, -margin:].any(axis=1).mean())


def _breast_mask(pixels: np.ndarray, side: int) -> np.ndarray | None:
    """bool (h, w), the longer at most `side`: the largest bright region of the picture made smaller; None without."""
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=-1, dtype=np.float32)
    height, width = grey.shape
    scale = min(1.0, side / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = np.asarray(Raster.fromarray(np.ascontiguousarray(grey)).resize(size, Raster.Resampling.BOX))
    low, high = np.percentile(small, (1, 99.5))
    tissue = small > low + 0.12 * (high - low)
    labels, count = ndimage.label(ndimage.binary_opening(tissue, iterations=2))
    return labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1 if count else None
