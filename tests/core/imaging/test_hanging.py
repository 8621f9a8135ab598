"""Chest walls back to back, whatever order and orientation the files have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_images import mammogram, ultrasound

from core.imaging.hanging import (
    Layout,
    Stage,
    breast_front,
    chest_wall_side,
    contradicts_orientation,
    hang,
    label_of,
    stages,
    stages_with_copies,
    stages_with_prior,
)
from core.types import Image, Modality

LEFT_WALL = mammogram()


def image(side: str | None, view: str | None, *, wall: str = "left", orientation: str = "", **rest: object) -> Image:
    pixels = LEFT_WALL if wall == "left" else np.ascontiguousarray(LEFT_WALL[:, ::-1])
    tags = {"PatientOrientation": orientation} if orientation else {}
    return Image(pixels, "0" * 64, Modality.MAMMOGRAPHY, "tags", side, view, tags=tags, **rest)  # type: ignore[arg-type]


def test_four_views_hang_right_left_over_right_left_in_any_order() -> None:
    images = [image("L", "MLO"), image("R", "CC", wall="right"), image("L", "CC"), image("R", "MLO", wall="right")]
    layout = hang(images)
    assert layout.columns == 2
    assert [place.label for place in layout.places] == ["R CC", "L CC", "R MLO", "L MLO"]
    assert [place.index for place in layout.places] == [1, 2, 3, 0]
    assert [place.align for place in layout.places] == ["right", "left", "right", "left"]
    assert not any(place.is_mirrored for place in layout.places)


def test_a_right_breast_with_its_wall_on_the_left_is_mirrored_and_labelled() -> None:
    place = hang([image("R", "CC", wall="left", orientation="A\\L")]).places[0]
    assert place.is_mirrored and place.label == "R CC FLIPPED"


def test_tags_win_over_pixels() -> None:
    picture = image("R", "CC", wall="left", orientation="P\\L")
    assert chest_wall_side(picture) == ("right", True)
    assert not hang([picture]).places[0].is_mirrored


def test_without_tags_the_pixels_decide_and_the_label_says_so() -> None:
    assert chest_wall_side(image("L", "CC", wall="right")) == ("right", False)
    place = hang([image("L", "CC", wall="right")]).places
    assert place[1].is_mirrored and place[1].label == "L CC FLIPPED (judged by pixels)"


def test_a_breast_between_black_film_margins_is_still_seen() -> None:
    padded = np.pad(LEFT_WALL, ((0, 0), (90, 60)))
    picture = Image(padded, "0" * 64, Modality.MAMMOGRAPHY, "pixels", "L", "MLO")
    assert chest_wall_side(picture) == ("left", False)


def test_a_missing_view_leaves_its_place_empty() -> None:
    layout = hang([image("R", "CC"), image("L", "CC"), image("L", "MLO")])
    assert [place.index for place in layout.places] == [0, 1, None, 2]
    assert "R MLO" in layout.places[2].label


def test_every_image_has_one_place_also_with_doubles_and_unknown_sides() -> None:
    images = [image("R", "CC"), image("R", "CC"), image("L", "XCCL"), image(None, None), image("L", None)]
    images.append(Image(ultrasound(), "1" * 64, Modality.ULTRASOUND))
    indices = [place.index for place in hang(images).places if place.index is not None]
    assert sorted(indices) == list(range(6))


def test_of_one_view_implants_come_first_and_parts_last_and_what_is_not_scored_after_all() -> None:
    images = [
        image("L", "CC", view_modifiers=("spot compression",), is_scored_alone=True),
        image("L", "CC", not_scored="This is a specimen."),
        image("L", "CC"),
        image("L", "CC", view_modifiers=("implant displaced",)),
        image("L", "XCCM"),
        image("L", "XCCL"),
    ]
    hung = [place for place in hang(images).places if place.index is not None]
    assert [place.index for place in hung] == [3, 2, 0, 5, 4, 1]
    assert [place.label for place in hung][:3] == ["L CC, implant displaced", "L CC 1 of 2", "L CC, spot compression"]
    assert [place.label for place in hung][3:] == ["L XCCL", "L XCCM", "L CC 2 of 2"]


def test_of_repeated_views_the_newest_hangs_first_and_the_others_stay_within_reach() -> None:
    """By when they were taken, then by when they were made of it; what has no time hangs behind, in its order."""

    def taken(side: str, **times: str) -> Image:
        rest = {} if side == "R" else {"view_modifiers": ("spot compression",), "is_scored_alone": True}
        made = image(side, "CC", **rest)
        return replace(made, tags={**made.tags, **times})

    times = [{}, {"AcquisitionTime": "093000"}, {"AcquisitionTime": "101500", "ContentTime": "101501.5"},
             {"AcquisitionTime": "10:15:00", "ContentTime": "112000"}, {"ContentTime": "not a time"}]  # fmt: skip
    for side in "RL":
        layout = hang([taken(side, **one) for one in times])
        order = [place.index for place in layout.places if place.index is not None]
        assert order == [3, 2, 1, 0, 4]
        labels = [place.label for place in layout.places if place.index is not None]
        assert all(f" {number} of 5" in label for number, label in enumerate(labels, start=1))
        assert len([stage for stage in stages(layout) if len(stage.places) == 1]) == len(times)
    hung = hang([taken("R", AcquisitionTime="08"), taken("L", AcquisitionTime="12"), taken("R", AcquisitionTime="09")])
    assert [place.index for place in stages(hung)[1].places] == [2, 1]


def test_pictures_of_one_view_are_told_apart_by_number_and_a_stack_by_its_frame() -> None:
    images = [image("L", "CC"), image("L", "CC", n_frames=40, frame=2), image("R", "CC"), image("L", "CC")]
    images += [image(None, "CC"), image(None, "CC")]
    labels = [label_of(images, index) for index in range(len(images))]
    assert labels[:4] == ["L CC 1 of 2", "L CC, frame 3 of 40", "R CC", "L CC 2 of 2"]
    assert labels[4:] == ["side not stated, CC 1 of 2", "side not stated, CC 2 of 2"]
    pair = next(stage for stage in stages(hang(images)) if stage.name == "CC pair")
    assert [place.index for place in pair.places] == [2, 0]
    over = next(stage for stage in stages_with_prior(hang(images), hang(images)) if stage.name.startswith("CC: "))
    assert [place.index for place in over.places] == [2, 0, 8, 6]


def test_one_scale_needs_millimetres_for_all() -> None:
    with_mm = [image(side, "CC", spacing_mm=(0.1, 0.1)) for side in "RL"]
    assert hang(with_mm).is_same_scale
    assert not hang([with_mm[0], image("L", "CC")]).is_same_scale


def test_ultrasound_keeps_its_order_and_is_numbered() -> None:
    frames = [Image(ultrasound(seed=seed), str(seed) * 64, Modality.ULTRASOUND) for seed in range(3)]
    layout = hang(frames)
    assert [place.index for place in layout.places] == [0, 1, 2]
    assert layout.places[1].label == "ultrasound 2 of 3" and not layout.is_same_scale


def test_stages_are_everything_then_the_pairs_then_each_picture_alone() -> None:
    images = [image("L", "MLO"), image("R", "CC", wall="right"), image("L", "CC"), image("R", "MLO", wall="right")]
    layout = hang(images)
    found = stages(layout)
    assert [stage.name for stage in found] == ["All", "CC pair", "MLO pair", "R CC", "L CC", "R MLO", "L MLO"]
    assert found[0].places == layout.places
    assert [place.index for place in found[1].places] == [1, 2]
    assert [place.align for place in found[2].places] == ["right", "left"]
    assert [stage.places[0].index for stage in found[3:]] == [1, 2, 3, 0]
    assert all(stage.columns == 1 and stage.places[0].align == "center" for stage in found[3:])


def test_a_pair_takes_the_picture_that_hangs_first_and_a_missing_side_makes_no_pair() -> None:
    images = [
        image("R", "CC", wall="right"),
        image("R", "CC", wall="right", view_modifiers=("implant displaced",)),
        image("L", "CC"),
        image("L", "MLO"),
    ]
    found = stages(hang(images))
    assert [stage.name for stage in found[:3]] == ["All", "CC pair", "R CC, implant displaced"]
    assert [place.index for place in found[1].places] == [1, 2]


def test_one_picture_or_one_pair_is_no_second_stage_of_the_same() -> None:
    single = Image(ultrasound(), "0" * 64, Modality.ULTRASOUND, "tags")
    assert [stage.name for stage in stages(hang([single]))] == ["All"]
    pair = stages(hang([image("R", "CC", wall="right"), image("L", "CC")]))
    assert [stage.name for stage in pair] == ["All", "R CC", "L CC"]


def seen(stage: Stage) -> list[list[int | None]]:
    """Indices row by row."""
    indices = [place.index for place in stage.places]
    return [indices[start : start + stage.columns] for start in range(0, len(indices), stage.columns)]


def test_the_current_views_hang_over_the_earlier_ones_and_what_is_missing_says_so() -> None:
    current = hang([image("L", "MLO"), image("R", "CC"), image("L", "CC"), image("R", "MLO")])
    prior = hang([image("L", "CC"), image("R", "CC"), image("R", "MLO"), image("L", "XCCL")])
    found = stages_with_prior(current, prior)
    names = [stage.name for stage in found]
    assert names[:4] == ["Current over earlier", "CC: current over earlier", "MLO: current over earlier", "All"]
    assert seen(found[0]) == [[1, 2, 3, 0], [5, 4, 6, None]]
    assert seen(found[1]) == [[1, 2], [5, 4]] and seen(found[2]) == [[3, 0], [6, None]]
    assert found[2].places[3].label == "L MLO: no earlier image"
    assert [place.align for place in found[1].places] == ["right", "left", "right", "left"]
    assert len(set(names)) == len(names) and names.count("Earlier: L XCCL") == 1
    alone = next(stage for stage in found if stage.name == "Earlier: L XCCL")
    assert seen(alone) == [[7]]


def test_one_view_hangs_over_its_earlier_one_only() -> None:
    one = hang([image("R", "MLO"), image("L", "MLO")])
    found = stages_with_prior(one, one)
    assert [stage.name for stage in found][:2] == ["MLO: current over earlier", "All"]
    assert seen(found[0]) == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("n_now", "n_then", "rows"),
    [(1, 1, [[0], [1]]), (1, 3, [[0, None, None], [1, 2, 3]]), (5, 2, [[0, 1, 2, 3], [5, 6, None, None]])],
)
def test_other_pictures_hang_in_their_order(n_now: int, n_then: int, rows: list[list[int | None]]) -> None:
    def several(n: int) -> Layout:
        return hang([Image(ultrasound(), str(place) * 64, Modality.ULTRASOUND) for place in range(n)])

    found = stages_with_prior(several(n_now), several(n_then))
    assert seen(found[0]) == rows
    mammograms = hang([image("R", "CC"), image("L", "CC")])
    assert seen(stages_with_prior(mammograms, several(1))[0]) == [[0, 1], [2, None]]


@pytest.mark.parametrize("wall", ["left", "right"])
def test_the_front_of_the_breast_is_its_foremost_column(wall: str) -> None:
    """A breast of a known shape: it begins at the chest wall and ends 900 columns from it."""
    pixels = np.zeros((1200, 1000), np.float32)
    rows, columns = np.indices(pixels.shape)
    pixels[np.hypot(columns / 900, (rows - 600) / 500) <= 1] = 0.6
    pixels = pixels if wall == "left" else np.ascontiguousarray(pixels[:, ::-1])
    found = breast_front(Image(pixels, "0" * 64, Modality.MAMMOGRAPHY, "tags", "L", "CC"))
    assert found is not None
    column, step = found
    assert (column, step) == ((pytest.approx(901, abs=5), -1) if wall == "left" else (pytest.approx(99, abs=5), 1))


def test_no_breast_has_no_front() -> None:
    black = np.zeros((300, 200), np.float32)
    assert breast_front(Image(black, "0" * 64, Modality.MAMMOGRAPHY, "tags", "L", "CC")) is None
    assert breast_front(Image(ultrasound(), "0" * 64, Modality.ULTRASOUND)) is None


def test_a_picture_hangs_beside_its_copy_and_the_usual_stages_follow() -> None:
    layout = hang([image("L", "CC"), image("R", "CC", wall="right")])
    found = stages_with_copies(layout, [1])
    assert found[1:] == stages(layout)
    assert found[0].name == "R CC: two models" and seen(found[0]) == [[1, 2]]
    assert {place.align for place in found[0].places} == {"left"}, "both are moved the same way"


@pytest.mark.parametrize(
    ("pixels", "is_sure"),
    [
        (LEFT_WALL, True), (np.pad(LEFT_WALL, ((0, 0), (90, 60))), False), (np.zeros((320, 240), np.float32), False),
        (np.maximum(LEFT_WALL, LEFT_WALL[:, ::-1]), False), (np.repeat(LEFT_WALL[..., None], 3, axis=2), True),
        (LEFT_WALL[:, :90], False),
    ],
    ids=["clear", "margins", "empty", "two breasts", "colour", "fills the picture"],
)  # fmt: skip
def test_only_a_clear_chest_wall_contradicts_the_orientation(pixels: np.ndarray, is_sure: bool) -> None:
    assert contradicts_orientation(pixels, {"PatientOrientation": "P\\L"}) == is_sure
    assert contradicts_orientation(np.ascontiguousarray(pixels[:, ::-1]), {"PatientOrientation": "A\\R"}) == is_sure
    for orientation in ("A\\R", "A\\FR", "CC", "L\\F", ""):
        assert not contradicts_orientation(pixels, {"PatientOrientation": orientation})
