"""The viewer in a real browser: it draws what `core.imaging` says, and what a hand does lands where it should."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from accessibility import unseen_focus, violations
from made_images import mammogram
from PIL import Image as Raster
from running_app import chromium
from viewer_page import ViewerPage

from core.findings.marks import Mark
from core.findings.marks import measured as measured_by_python
from core.imaging.hanging import Place, Stage, hang, label_of, stages, stages_with_prior
from core.imaging.intake import read_upload
from core.imaging.levels import frame_content
from core.imaging.overlay import paint, to_uint8
from core.imaging.presets import presets
from core.settings import Settings
from core.types import Image, Modality, Window

if TYPE_CHECKING:
    from pages.parts.viewer import Picture

pytestmark = pytest.mark.browser

GRID_TOP_LEFT = ("400px", "400px")
CLIP_CELL = ("calc(400px + 2.3rem)",) * 2
"""The bar with a clip's tools lies under its picture."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(params=["webgl", "canvas"])
def each_way(browser: Any, request: pytest.FixtureRequest) -> Iterator[ViewerPage]:
    """A viewer that draws by WebGL2, and one in a browser without it."""
    yield from opened(browser, has_webgl=request.param == "webgl")


@pytest.fixture
def page(browser: Any) -> Iterator[ViewerPage]:
    yield from opened(browser)


def opened(browser: Any, **options: bool) -> Iterator[ViewerPage]:
    tab = browser.new_page(viewport={"width": 900, "height": 800})
    viewed = ViewerPage(tab, **options)
    yield viewed
    tab.close()
    assert not viewed.failures


def picture_of(pixels: np.ndarray, **facts: Any) -> Image:
    facts.setdefault("modality", Modality.MAMMOGRAPHY)
    pixels = np.ascontiguousarray(pixels, np.float32)
    name = hashlib.sha256(pixels.tobytes() + str(facts).encode()).hexdigest()
    return Image(pixels, name, modality_source="argument", **facts)


def alone(image: Image, *, is_mirrored: bool = False, **more: Any) -> tuple[list[Picture], list[Stage]]:
    from pages.parts.viewer import Picture

    label = label_of([image], 0)
    hung = f"{label} FLIPPED" if is_mirrored else label
    return [Picture(image, label, hung, is_mirrored, **more)], [Stage("All", (Place(0, hung, is_mirrored),), 1)]


def four_views() -> tuple[list[Picture], list[Stage]]:
    from pages.parts.viewer import Picture

    left = mammogram(1000, 700)
    images = [
        picture_of(left if side == "L" else left[:, ::-1], laterality=side, view=view, spacing_mm=(0.1, 0.1))
        for side, view in (("L", "MLO"), ("R", "CC"), ("R", "MLO"), ("L", "CC"))
    ]
    layout = hang(images)
    places = {place.index: place for place in layout.places}
    shown = [
        Picture(image, label_of(images, index), places[index].label, places[index].is_mirrored)
        for index, image in enumerate(images)
    ]
    return shown, list(stages(layout))


def gradient(height: int, width: int) -> np.ndarray:
    """Every grey level of 16 bits in small steps, and some noise: what 8 bits cannot hold."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width)
    return np.clip(ramp * 0.3 + 0.2 + rng.normal(0, 0.002, ramp.shape).astype(np.float32), 0, 1)


def most_apart(shown: np.ndarray, expected: np.ndarray) -> int:
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    assert shown.shape == expected.shape
    return int(np.abs(shown.astype(int) - expected).max())


def test_every_window_shows_the_grey_levels_that_core_imaging_says(each_way: ViewerPage) -> None:
    pixels = gradient(400, 900)
    each_way.draw(*alone(picture_of(pixels)), cell_height=GRID_TOP_LEFT)
    assert each_way.size() == (900, 400)
    for number, preset in enumerate(presets(pixels), start=1):
        each_way.key(str(number))
        assert most_apart(each_way.shown(), to_uint8(pixels, preset.center, preset.width)) <= 1, preset.name
    each_way.key("i")
    assert most_apart(each_way.shown(), to_uint8(pixels, preset.center, preset.width, invert=True)) <= 1


def test_a_narrow_window_shows_steps_that_eight_bits_do_not_hold(page: ViewerPage) -> None:
    """The whole range of 8 bits would be one or two grey levels here."""
    pixels = np.tile(np.linspace(0.4, 0.405, 900, dtype=np.float32), (400, 1))
    page.draw(*alone(picture_of(pixels)), cell_height=GRID_TOP_LEFT)
    page.key("2")
    assert len(np.unique(page.shown())) > 40


def test_the_mirrored_view_of_a_flip_is_the_picture_mirrored_and_says_so(each_way: ViewerPage) -> None:
    pixels = gradient(400, 900)
    each_way.draw(*alone(picture_of(pixels, laterality="L", view="CC")), cell_height=GRID_TOP_LEFT)
    label = each_way.tab.locator(".label")
    assert label.inner_text() == "L CC"
    each_way.key("h")
    assert most_apart(each_way.shown(), to_uint8(pixels[:, ::-1])) <= 1
    assert label.inner_text() == "L CC FLIPPED"
    each_way.key("h")
    each_way.key("v")
    assert most_apart(each_way.shown(), to_uint8(pixels[::-1])) <= 1
    assert "FLIPPED" in label.inner_text()
    each_way.key("h")
    assert label.inner_text() == "L CC TURNED 180°"
    each_way.key(" ")
    assert label.inner_text() == "L CC"
    assert most_apart(each_way.shown(), to_uint8(pixels)) <= 1


def test_a_hung_mirrored_picture_says_flipped_until_it_is_flipped_back(page: ViewerPage) -> None:
    pixels = gradient(400, 900)
    page.draw(*alone(picture_of(pixels, laterality="R", view="CC"), is_mirrored=True), cell_height=GRID_TOP_LEFT)
    assert page.tab.locator(".label").inner_text() == "R CC FLIPPED"
    assert most_apart(page.shown(), to_uint8(pixels[:, ::-1])) <= 1
    page.key("h")
    assert page.tab.locator(".label").inner_text() == "R CC"
    assert most_apart(page.shown(), to_uint8(pixels)) <= 1


def test_tissue_in_colour_is_drawn_in_its_colours(each_way: ViewerPage) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (400, 900, 3)).astype(np.float32) / 255
    each_way.draw(*alone(picture_of(pixels, modality=Modality.HISTOLOGY)), cell_height=GRID_TOP_LEFT)
    assert most_apart(each_way.shown(), to_uint8(pixels)) <= 1


def test_the_heat_map_lies_over_the_picture_and_one_key_takes_it_off(each_way: ViewerPage) -> None:
    pixels = gradient(400, 900)
    rows, columns = np.mgrid[:400, :900]
    heat = np.exp(-((rows - 150) ** 2 + (columns - 300) ** 2) / 20000).astype(np.float32)
    drawn = alone(picture_of(pixels), heat=heat, note="Model attention")
    each_way.draw(*drawn, cell_height=GRID_TOP_LEFT, opacity=0.6)
    expected = paint(to_uint8(pixels) / np.float32(255), heat, 0.6)
    assert most_apart(each_way.shown(), expected) <= 3  # the map is sent smaller, and steep at its rim
    assert each_way.tab.locator(".note").inner_text() == "Model attention"
    each_way.key("[")
    assert most_apart(each_way.shown(), paint(to_uint8(pixels) / np.float32(255), heat, 0.5)) <= 3
    each_way.key("o")
    assert most_apart(each_way.shown(), to_uint8(pixels)) <= 1
    assert each_way.tab.locator(".note").inner_text() == ""
    each_way.key("o")
    without = each_way.shown()
    each_way.draw(*alone(picture_of(pixels), note="No heat map by Fusion"), cell_height=GRID_TOP_LEFT)
    assert each_way.tab.locator(".note").inner_text() == "No heat map by Fusion"
    each_way.draw(*drawn, cell_height=GRID_TOP_LEFT)
    each_way.key("k")
    line = np.argwhere(np.abs(each_way.shown().astype(int) - without).max(axis=2) > 30)
    assert len(line) > 100
    assert np.all(np.abs(heat[line[:, 0], line[:, 1]] - 0.3) < 0.03)  # the contour is at 30 % of the peak


def dotted(*dots: tuple[int, int]) -> np.ndarray:
    pixels = np.full((1600, 1200), 0.1, np.float32)
    for column, row in dots:
        pixels[row, column] = 1
    return pixels


def bright(shown: np.ndarray, above: int = 200) -> list[tuple[float, float]]:
    """Middles of the single bright screen pixels, (x, y) in the canvas, from left to right."""
    return sorted((x + 0.5, y + 0.5) for y, x in np.argwhere(shown[..., 0] > above))


def test_a_point_on_a_mirrored_and_zoomed_view_is_the_pixel_of_the_stored_image(page: ViewerPage) -> None:
    image = picture_of(dotted((431, 702)), laterality="R", view="CC", frame=2, n_frames=4)
    page.draw(*alone(image, is_mirrored=True), cell_height=GRID_TOP_LEFT)
    box = page.tab.locator(".cell canvas").bounding_box()
    page.tab.mouse.move(box["x"] + 450, box["y"] + 200)
    page.key("f")
    [(x, y)] = bright(page.shown())
    page.key("p")
    page.tab.mouse.click(box["x"] + x, box["y"] + y)
    assert measured(page) == "R CC, frame 3 of 4: column 431, row 702, frame 3"
    assert "not saved with the read" in page.tab.locator(".measures li").last.inner_text()


@pytest.mark.parametrize("spacing", [(0.07, 0.07), (0.2, 0.1), None])
def test_a_distance_is_right_to_a_pixel(page: ViewerPage, spacing: tuple[float, float] | None) -> None:
    dots = (500, 750), (740, 840)
    image = picture_of(dotted(*dots), laterality="L", view="CC", spacing_mm=spacing)
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT)
    box = page.tab.locator(".cell canvas").bounding_box()
    page.tab.mouse.move(box["x"] + 450, box["y"] + 200)
    page.key("f")
    (x0, y0), (x1, y1) = ends(bright(page.shown(), above=150))
    page.key("d")
    page.tab.mouse.move(box["x"] + x0, box["y"] + y0)
    page.tab.mouse.down()
    page.tab.mouse.move(box["x"] + (x0 + x1) / 2, box["y"] + y1, steps=3)
    page.tab.mouse.move(box["x"] + x1, box["y"] + y1)
    page.tab.mouse.up()
    length, unit = measured(page).removeprefix("L CC: distance ").split()[:2]
    row_step, column_step = spacing or (1.0, 1.0)
    true = math.hypot(240 * column_step, 90 * row_step)
    assert unit == ("mm" if spacing else "pixels")
    assert abs(float(length) - true) <= max(row_step, column_step)
    said = page.tab.locator(".readout").inner_text()
    assert ("so distances are in pixels" in said) == (spacing is None)


def measured(page: ViewerPage) -> str:
    """The one measurement in the list under the pictures."""
    page.painted()
    lines = page.tab.locator(".measures li").all_inner_texts()
    assert len(lines) == 2
    return lines[0]


def ends(dots: list[tuple[float, float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The first and the last: a pixel that is higher than wide covers two of the screen."""
    return dots[0], dots[-1]


def drag(page: ViewerPage, path: list[tuple[float, float]], *, cell: int = 0, button: str = "left") -> None:
    box = page.tab.locator(".cell canvas").nth(cell).bounding_box()
    page.tab.mouse.move(box["x"] + path[0][0], box["y"] + path[0][1])
    page.tab.mouse.down(button=button)
    for x, y in path[1:]:
        page.tab.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.tab.mouse.up(button=button)
    page.painted()


@pytest.mark.parametrize("path", [[(300, 200), (260, 210)], [(890, 200), (850, 210)], [(260, 200), (300, 210)]])
def test_the_words_of_a_short_distance_are_not_written_over_it(
    page: ViewerPage, path: list[tuple[float, float]]
) -> None:
    page.draw(*alone(picture_of(np.full((400, 900), 0.5))), cell_height=GRID_TOP_LEFT)
    bare = page.shown().astype(int)
    page.key("d")
    drag(page, path)
    page.tab.mouse.move(2, 2)
    drawn = np.abs(page.shown().astype(int) - bare).max(axis=2) > 40
    left, right = (round(x) for x in sorted(x for x, _ in path))
    assert drawn[:, right + 12 :].any() or drawn[:192].any(), "the words are there"
    on_line = drawn[196:, left + 2 : right - 2]
    assert on_line.sum() and on_line.sum(axis=0).max() < 12, "nothing but the line"


def test_an_angle_and_the_mean_grey_of_an_ellipse_are_measured(page: ViewerPage) -> None:
    pixels = gradient(400, 900)
    page.draw(*alone(picture_of(pixels, laterality="L", view="CC", spacing_mm=(0.1, 0.1))), cell_height=GRID_TOP_LEFT)
    page.key("a")
    drag(page, [(100, 100), (300, 100)])
    drag(page, [(300, 250), (300, 251)])
    assert measured(page).startswith("L CC: angle 90.0°")
    page.key("Delete")
    page.key("e")
    drag(page, [(100, 50), (500, 250)])
    rows, columns = np.mgrid[:400, :900] + 0.5
    inside = pixels[((columns - 300) / 200) ** 2 + ((rows - 150) / 100) ** 2 <= 1]
    words = measured(page)
    assert f"ellipse mean grey {inside.mean():.3f} ± {inside.std():.3f}, " in words
    assert f"{math.pi * 20 * 10:.1f} mm²" in words
    assert "column, row 100.0, 50.0 to 500.0, 250.0; frame 1" in words


def test_a_press_without_a_drag_measures_nothing_and_a_point_of_a_mark_can_be_moved(page: ViewerPage) -> None:
    page.draw(*alone(picture_of(gradient(400, 900))), cell_height=GRID_TOP_LEFT)
    page.key("d")
    drag(page, [(100, 100), (101, 100)])
    assert page.tab.locator(".measures li").count() == 0
    drag(page, [(100, 100), (200, 100)])
    assert "100.0 pixels" in measured(page)
    drag(page, [(200, 100), (350, 100)])
    assert "250.0 pixels" in measured(page)


def test_a_left_drag_windows_all_views_and_the_page_reads_it_back(page: ViewerPage) -> None:
    page.draw(*four_views(), same_scale=True, cell_height=("300px", "300px"))
    before = [page.shown(index).astype(int) for index in range(4)]
    drag(page, [(200, 150), (200, 70)])
    for index in range(4):
        after = page.shown(index).astype(int)
        tissue = (before[index] > 40) & (before[index] < 200)
        assert (after[tissue] > before[index][tissue]).mean() > 0.99  # up is brighter
    assert page.tab.get_by_label("Window", exact=True).input_value() == ""
    drag(page, [(200, 150), (300, 150)])
    assert "window 0.30 / 1.49" in page.tab.locator(".readout").inner_text()


def test_zoom_and_pan_are_linked_across_the_views_and_mirrored_between_the_sides(page: ViewerPage) -> None:
    """The right breast is the left one mirrored, so whatever is done to one the other must show mirrored."""
    page.draw(*four_views(), same_scale=True, cell_height=("300px", "300px"))

    def is_mirrored() -> bool:
        right, left = page.shown(0), page.shown(1)
        return most_apart(right[:, ::-1], left) <= 1

    whole = page.shown(0)
    assert is_mirrored()
    drag(page, [(200, 150), (200, 40)], button="right")
    assert is_mirrored() and most_apart(page.shown(0), whole) > 50
    zoomed = page.shown(0)
    drag(page, [(200, 150), (150, 190)], button="middle")
    assert is_mirrored()
    assert most_apart(page.shown(0)[40:, :-50], zoomed[:-40, 50:]) <= 2
    page.key("l")
    drag(page, [(200, 150), (230, 150)], button="middle")
    assert not is_mirrored()
    page.key("=")
    page.key(" ")
    assert is_mirrored() and most_apart(page.shown(0), whole) <= 1

    shown, hangings = four_views()
    right_mlo = shown[2].image
    further_back = np.roll(right_mlo.pixels, 100, axis=1)
    further_back[:, :100] = 0
    shown[2] = replace(shown[2], image=replace(right_mlo, pixels=further_back, sha256="cd" * 32))
    page.draw(shown, hangings, key="cross", same_scale=True, cell_height=("300px", "300px"))
    bare = [page.shown(index).astype(int) for index in range(4)]
    page.key("x")
    box = page.tab.locator(".cell canvas").nth(0).bounding_box()
    page.tab.mouse.move(box["x"] + box["width"] - 60, box["y"] + 100)
    page.painted()
    lines = [np.flatnonzero((abs(page.shown(index) - bare[index]).max(axis=2) > 40).sum(axis=0) > 100)
             for index in range(4)]  # fmt: skip
    assert re.match(r"[0-9]+ mm behind the front", page.tab.locator(".readout").inner_text())
    assert lines[0].mean() == pytest.approx(box["width"] - 60, abs=1.5)
    assert lines[2].mean() == pytest.approx(box["width"] - 60 + 30, abs=3), "as far behind the front of the breast"
    assert not lines[1].size and not lines[3].size, "the other breast has no such line"


def test_the_wheel_zooms_where_the_pointer_is(page: ViewerPage) -> None:
    image = picture_of(dotted((431, 702)), laterality="L", view="CC")
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT)
    box = page.tab.locator(".cell canvas").bounding_box()
    scale = 400 / 1600
    x, y = (900 - 1200 * scale) / 2 + 431.5 * scale, 702.5 * scale
    pointer = np.array([round(box["x"] + x), round(box["y"] + y)])  # a mouse counts whole pixels
    page.tab.mouse.move(*(float(part) for part in pointer))
    page.tab.mouse.wheel(0, -1000)
    dot = np.mean(bright(page.shown(), above=120), axis=0)
    under = pointer - (box["x"], box["y"])
    expected = under + (np.array([x, y]) - under) * math.exp(1.5)
    assert np.abs(dot - expected).max() < 1.5


def test_keys_step_through_the_hangings_and_typing_is_left_alone(page: ViewerPage) -> None:
    page.draw(*four_views(), same_scale=True, cell_height=("300px", "300px"))
    seen = []
    for _ in range(7):
        seen.append(page.tab.locator(".label").all_inner_texts())
        page.key(".")
    views = ["R CC", "L CC", "R MLO", "L MLO"]
    assert seen == [views, views[:2], views[2:], *([view] for view in views)]
    page.key(",")
    assert page.tab.locator(".label").all_inner_texts() == ["R MLO"]
    page.tab.evaluate("document.body.append(Object.assign(document.createElement('input'), { id: 'words' }))")
    page.tab.locator("#words").focus()
    page.tab.keyboard.type("i.,5 ")
    assert page.tab.locator("#words").input_value() == "i.,5 "
    assert page.tab.locator(".label").all_inner_texts() == ["R MLO"]


def test_a_run_of_the_page_leaves_zoom_window_marks_and_canvases_where_they_are(page: ViewerPage) -> None:
    shown, hangings = four_views()
    page.draw(shown, hangings, same_scale=True, cell_height=("300px", "300px"))
    drag(page, [(200, 150), (260, 100)])
    drag(page, [(200, 150), (200, 80)], button="right")
    page.key("d")
    drag(page, [(250, 150), (300, 200)])
    page.tab.evaluate("window.first = document.querySelector('.cell canvas')")
    before, marks, n_files = page.shown(0), page.tab.locator(".measures li").all_inner_texts(), len(page.fetched)
    heat = np.zeros((1000, 700), np.float32)
    page.draw(shown, hangings, same_scale=True, cell_height=("300px", "300px"))
    assert page.tab.evaluate("window.first === document.querySelector('.cell canvas')")
    assert most_apart(page.shown(0), before) == 0
    assert page.tab.locator(".measures li").all_inner_texts() == marks
    assert len(page.fetched) == n_files  # no pixel is sent twice
    with_heat = [replace(one, heat=heat, note="Model attention") for one in shown]
    page.draw(with_heat, hangings, same_scale=True, cell_height=("300px", "300px"))
    assert page.tab.evaluate("window.first === document.querySelector('.cell canvas')")
    assert page.tab.locator(".note").first.inner_text() == "Model attention"
    assert most_apart(page.shown(0), before) == 0  # a map that says nothing tints nothing


@pytest.mark.parametrize("is_left_first", [True, False])
def test_a_viewer_that_is_put_elsewhere_has_all_that_was_set(page: ViewerPage, is_left_first: bool) -> None:
    """As Streamlit does when elements before it come or go: it is taken away and drawn into another place."""
    shown, hangings = four_views()
    page.draw(shown, hangings, same_scale=True, cell_height=("300px", "300px"))
    drag(page, [(200, 150), (260, 100)])
    before = page.shown(0)
    page.tab.evaluate(
        """(isLeftFirst) => {
          window.leaveOld = window.leave
          if (isLeftFirst) leaveOld()
          document.getElementById("root").outerHTML = "<div id=root><div class=viewer></div></div>"
        }""",
        is_left_first,
    )
    page.draw(shown, hangings, same_scale=True, cell_height=("300px", "300px"))
    page.tab.evaluate("(isLeftFirst) => { if (!isLeftFirst) leaveOld() }", is_left_first)
    assert most_apart(page.shown(0), before) == 0
    page.key("i")
    assert most_apart(page.shown(0), before) > 100  # it still has the keys


def test_the_whole_window_opens_on_the_picture_and_escape_returns(page: ViewerPage) -> None:
    page.draw(*four_views(), same_scale=True, cell_height=("300px", "300px"))
    page.tab.locator(".cell canvas").nth(1).dblclick()
    large = page.tab.locator("dialog .cell canvas")
    large.wait_for()
    page.painted()  # the words are written with the next frame
    assert page.tab.locator("dialog .label").inner_text() == "L CC"
    page.key(".")
    assert page.tab.locator("dialog .label").inner_text() == "R MLO"
    page.key("Escape")
    large.wait_for(state="detached")
    assert len(page.tab.locator(".label").all_inner_texts()) == 4
    page.key("?")
    page.tab.get_by_role("dialog", name="Keys and mouse").wait_for()
    page.key("Escape")


def test_a_picture_that_is_not_the_one_asked_for_is_not_drawn(page: ViewerPage) -> None:
    """The server names files by a fingerprint; two pictures under one name must not be taken for each other."""
    shown, hangings = alone(picture_of(gradient(400, 900)))
    page.address = lambda content, coordinates: (
        page.files.update({coordinates: bytes(32) + content[32:]}) or coordinates
    )
    page.draw(shown, hangings, cell_height=GRID_TOP_LEFT)
    assert "another picture than was asked for" in page.tab.locator(".state").inner_text()
    assert int(page.shown().max()) == 0


def test_the_files_own_windows_are_chosen_after_the_presets(page: ViewerPage) -> None:
    windows = (Window(2048, 4096, "LINEAR_EXACT", "NORMAL"), Window(1024, 1024, "LINEAR_EXACT", "HARDER"))
    pixels = gradient(400, 900)
    image = picture_of(pixels, windows=windows, window_index=0)
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT)
    page.key("6")
    assert most_apart(page.shown(), to_uint8(pixels, 0.25, 0.25)) <= 1
    assert "HARDER" in page.tab.get_by_label("Window", exact=True).locator("option:checked").inner_text()


def test_a_file_that_is_read_in_another_way_is_drawn_anew_in_its_first_window(page: ViewerPage) -> None:
    """Another window of the file, or histology instead of grey: the same frame of the same file has other pixels."""
    pixels = gradient(400, 900)
    image = picture_of(pixels)
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT)
    page.key("5")
    page.draw(*alone(replace(image, pixels=1 - pixels, window_index=1)), cell_height=GRID_TOP_LEFT)
    assert most_apart(page.shown(), to_uint8(1 - pixels)) <= 1
    colour = np.stack([pixels, 1 - pixels, np.full_like(pixels, 0.2)], axis=2)
    page.draw(*alone(replace(image, pixels=colour, modality=Modality.HISTOLOGY)), cell_height=GRID_TOP_LEFT)
    tile = page.shown()
    assert most_apart(tile, to_uint8(colour)) <= 1


def test_two_fingers_zoom_and_move(browser: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    tab = context.new_page()
    page = ViewerPage(tab)
    page.draw(*alone(picture_of(mammogram(1000, 700), laterality="L", view="CC")), cell_height=GRID_TOP_LEFT)
    before = page.shown()
    touch = context.new_cdp_session(tab)
    top = tab.locator(".cell canvas").bounding_box()["y"]

    def fingers(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": top + y, "id": number} for number, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", (150, 200), (200, 200))
    for step in range(1, 8):
        fingers("touchMove", (150 - 10 * step, 200), (200 + 10 * step, 200))
    fingers("touchEnd")
    after = page.shown()
    assert (after > 60).mean() > 1.3 * (before > 60).mean()
    assert not page.failures
    context.close()


WRITTEN = """() => {
  const write = CanvasRenderingContext2D.prototype.fillText
  window.written = []
  CanvasRenderingContext2D.prototype.fillText = function (words, x, y) {
    const { a } = this.getTransform()
    window.written.push([words, x, y - 13, this.measureText(words).width, 16, this.canvas.height / a])
    return write.call(this, words, x, y)
  }
}"""


def test_words_at_marks_are_not_written_over_one_another(page: ViewerPage) -> None:
    image = picture_of(gradient(400, 900), laterality="L", view="CC", spacing_mm=(0.1, 0.1))
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT)
    page.key("e")
    for start in ((100, 100), (130, 96), (104, 300), (135, 310)):
        drag(page, [start, (start[0] + 60, start[1] + 60)])
    page.key("d")
    drag(page, [(300, 390), (170, 160)])
    page.tab.evaluate(WRITTEN)
    page.key("i")
    written = page.tab.evaluate("window.written")[-9:]
    assert sum("mean grey" in words for words, *_ in written) == 4 and "26.42 mm" in [words for words, *_ in written]
    for number, (one, x, y, width, line, height) in enumerate(written):
        assert -1 <= y <= height - line + 4 and x >= 0
        for other, x2, y2, width2, line2, _ in written[:number]:
            is_over = x < x2 + width2 and x2 < x + width and y < y2 + line2 and y2 < y + line
            assert not is_over, (one, other)


def arrows(page: ViewerPage, right: int = 0, down: int = 0, *, fine: bool = False) -> None:
    for key, n in (("ArrowRight", right), ("ArrowLeft", -right), ("ArrowDown", down), ("ArrowUp", -down)):
        for _ in range(n):
            page.tab.keyboard.press(f"Shift+{key}" if fine else key)
    page.painted()


def test_everything_of_a_picture_is_done_by_keys_alone_and_a_distance_is_right_to_a_pixel(page: ViewerPage) -> None:
    image = picture_of(gradient(400, 900), laterality="L", view="CC", spacing_mm=(0.1, 0.1))
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking())
    page.tab.locator(".cell").focus()
    before = page.shown()
    arrows(page, down=-4)
    assert page.shown().mean() > before.mean() + 5, "up is brighter, as with the mouse"
    page.key(" ")
    assert most_apart(page.shown(), before) == 0
    page.key("d")
    page.key("Enter")
    page.key("Enter")
    arrows(page, right=9, down=4)
    arrows(page, right=3, down=-2, fine=True)
    page.key("Enter")
    [(_, distance)] = sent_marks(page)
    (column0, row0), (column1, row1) = distance.points
    assert (column0, row0) == (450, 200) and (column1 - column0, row1 - row0) == (93, 38)
    page.key("+")
    assert "125 % of its pixels" in page.tab.locator(".readout").inner_text()
    page.key("-")
    page.key("e")
    page.key("Enter")
    page.key("Enter")
    arrows(page, right=-3, down=3)
    n_sent = len(page.sent)
    page.key("Tab")  # away: what was only begun is gone
    assert len(page.sent) == n_sent and len(sent_marks(page)) == 1
    page.tab.locator(".cell").focus()
    page.key("t")
    page.key("Enter")
    for right, down in ((0, 0), (3, 0), (0, 3), (-4, 0)):
        arrows(page, right, down)
        page.key("Enter")
    page.key("Enter")
    assert sent_marks(page)[-1][1].points == ((450.0, 200.0), (480.0, 200.0), (480.0, 230.0), (440.0, 230.0))
    page.key("+")
    arrows(page, right=60)
    assert page.tab.locator(".readout").inner_text().startswith("column 899, "), "the picture comes along at the border"
    page.key("p")
    page.key("Enter")
    page.key("Enter")
    assert [one.kind for _, one in sent_marks(page)] == ["distance", "outline", "point"]


def marking(revision: int = 0, *drawn: Any, of: str = "first", described: tuple[str, ...] = ()) -> Any:
    from pages.parts.viewer import Marking

    return Marking(of, revision, drawn, described)


def sent_marks(page: ViewerPage) -> list[tuple[str, Any]]:
    """What the viewer sent for the form last, as Python takes it."""
    name, sent = page.sent[-1]
    assert (name, sent["of"]) == ("marks", "first")
    return list(page.viewer.checked_marks(sent["marks"]))


def test_a_mark_on_a_mirrored_turned_and_zoomed_view_lands_on_the_pixel_of_the_stored_file(
    page: ViewerPage, test_data: Path
) -> None:
    """The pixels on the screen around the press are those of the file around the mark, mirrored and turned."""
    from pages.parts.viewer import Drawn

    file = test_data / "data/mammography/nyu_gmic_exam0_16bit/R_CC.png"
    image = read_upload(file, file.name, settings=Settings(), modality=Modality.MAMMOGRAPHY)[0].image
    assert image is not None
    drawn = alone(replace(image, laterality="R", view="CC"), is_mirrored=True)
    page.draw(*drawn, cell_height=GRID_TOP_LEFT, marking=marking())
    page.key("r")
    box = page.tab.locator(".cell canvas").bounding_box()
    page.tab.mouse.move(box["x"] + 470, box["y"] + 180)
    page.key("f")
    x, y, around = 500, 220, 40
    page.key("p")
    drag(page, [(x + 0.5, y + 0.5)])  # in the middle of a pixel of the screen
    [(uid, point)] = sent_marks(page)
    column, row = (math.floor(part) for part in point.points[0])
    page.draw(*drawn, cell_height=GRID_TOP_LEFT, marking=marking(0, Drawn(uid, point)))
    page.draw(*drawn, cell_height=GRID_TOP_LEFT, marking=marking(1))  # without the mark
    shown = page.shown()[y - around : y + around + 1, x - around : x + around + 1, 0]
    stored = to_uint8(image.pixels)[row - around : row + around + 1, column - around : column + around + 1]
    assert int(np.ptp(stored)) > 30
    assert most_apart(np.repeat(shown[..., None], 3, axis=2), np.rot90(stored[:, ::-1], -1)) <= 1
    assert point.image_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_tool_window_and_hanging_are_remembered_for_this_person_alone(page: ViewerPage) -> None:
    shown, hangings = four_views()

    def drawn(key: str, who: str, tool: str = "distance") -> tuple[str | None, str, list[str]]:
        page.draw(shown, hangings, key=key, same_scale=True, cell_height=("300px", "300px"), remembers=who)
        tool = page.tab.get_by_role("button", name=f"Left drag: {tool}").get_attribute("aria-pressed")
        window = page.tab.get_by_label("Window", exact=True).input_value()
        return tool, window, page.tab.locator(".label").all_inner_texts()

    views = ["R CC", "L CC", "R MLO", "L MLO"]
    assert drawn("one", "7") == ("false", "0", views)
    for key in ("d", "3", "."):
        page.key(key)
    assert drawn("two", "8") == ("false", "0", views)
    assert drawn("three", "7") == ("true", "2", views[:2])
    assert drawn("four", "") == ("false", "0", views)
    for tool, key in (("ellipse", "e"), ("outline", "t"), ("point", "p")):
        drawn("three", "7")
        page.key(key)
        assert drawn(f"after {tool}", "7", tool)[0] == "false", "the next patient's picture is not marked by mistake"
        assert drawn(f"after {tool}", "7", "window")[0] == "true"


def test_the_browser_and_the_saved_read_measure_an_outline_alike(page: ViewerPage) -> None:
    pixels = gradient(400, 900)
    image = picture_of(pixels, laterality="L", view="CC", spacing_mm=(0.1, 0.1))
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT)
    page.key("t")
    path = [(100.0, 50.0), (300.0, 60.0), (260.0, 250.0), (150.0, 200.0), (101.0, 52.0)]
    drag(page, path)
    said = measured(page)
    found = measured_by_python(Mark(image.sha256, 0, "outline", tuple(path)), image)
    grey, area = re.findall(r"mean grey ([0-9.]+) ± [0-9.]+, ([0-9.]+) mm²", said)[0]
    assert abs(float(grey) - found.mean_grey) < 0.002
    assert abs(float(area) - found.area) < 0.01 * found.area


def test_what_the_browser_measures_does_not_change_by_saving(page: ViewerPage) -> None:
    image = picture_of(gradient(1337, 2989), laterality="L", view="CC")
    path = [(101.0, 53.0), (502.0, 254.0)]
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT)
    page.key("e")
    drag(page, path)
    said = measured(page)
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking(), key="form")
    page.key("e")
    drag(page, path)
    [(_, mark)] = sent_marks(page)
    assert f", {measured_by_python(mark, image).area:.0f} pixels" in said


def test_marks_go_to_the_page_and_the_page_may_replace_them(page: ViewerPage) -> None:
    from pages.parts.viewer import Drawn

    image = picture_of(gradient(400, 900), laterality="L", view="CC", spacing_mm=(0.1, 0.1))
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking())
    page.key("e")
    drag(page, [(100, 100), (200, 160)])
    page.key("d")
    drag(page, [(300, 100), (400, 100)])
    (uid, ellipse), (_, distance) = sent_marks(page)
    assert ellipse.points == ((100.0, 100.0), (200.0, 160.0)) and distance.kind == "distance"
    same = marking(0, Drawn(uid, ellipse, "1 mass"), described=(uid,))
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=same)  # a run of the page: nothing is taken back
    page.key("Delete")
    page.key("Delete")
    assert [one for one, _ in sent_marks(page)] == [uid]  # the distance went; what is described stays
    n_sent = len(page.sent)
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking(1))
    page.key("e")
    drag(page, [(10, 10), (30, 30)])
    assert [mark.points[1] for _, mark in sent_marks(page)] == [(30.0, 30.0)] and len(page.sent) == n_sent + 1
    assert page.tab.locator(".measures li").count() == 0


def test_a_mark_that_the_page_has_not_seen_yet_outlives_marks_that_it_adds(page: ViewerPage) -> None:
    """A proposal is accepted while the reader draws: neither takes the other away."""
    from pages.parts.viewer import Drawn

    image = picture_of(gradient(400, 900), laterality="L", view="CC", spacing_mm=(0.1, 0.1))
    accepted = Drawn("proposal", Mark(image.sha256, 0, "point", ((300.0, 200.0),)))
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking())
    page.key("e")
    drag(page, [(100, 100), (200, 160)])
    assert page.sent[-1][1]["revision"] == 0
    [(uid, ellipse)] = sent_marks(page)
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking(1, accepted))
    drag(page, [(10, 10), (30, 30)])
    assert page.sent[-1][1]["revision"] == 1
    assert [one for one, _ in sent_marks(page)][:2] == ["proposal", uid] and len(sent_marks(page)) == 3
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking(2, accepted, Drawn(uid, ellipse)))
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking(3, accepted))
    drag(page, [(50, 10), (70, 30)])
    assert uid not in [one for one, _ in sent_marks(page)], "the page has taken it away"


def test_a_dragged_line_of_an_outline_takes_the_points_beside_it_along_and_shift_takes_all(page: ViewerPage) -> None:
    from pages.parts.viewer import Drawn

    image = picture_of(gradient(400, 900), laterality="L", view="CC", spacing_mm=(0.1, 0.1))
    around = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    ring = tuple(zip((300 + 100 * np.cos(around)).tolist(), (200 + 100 * np.sin(around)).tolist(), strict=True))
    outline = Drawn("ring", Mark(image.sha256, 0, "outline", ring))
    ring = outline.mark.points  # as it is kept
    page.draw(*alone(image), cell_height=GRID_TOP_LEFT, marking=marking(1, outline))
    page.key("t")
    drag(page, [(400, 200), (420, 200)])
    [(uid, pulled)] = sent_marks(page)
    moved = np.array(pulled.points) - np.array(ring)
    assert uid == "ring" and moved[0].tolist() == pytest.approx([20, 0], abs=0.5)
    assert abs(moved[:, 1]).max() < 0.01 and moved[3, 0] == pytest.approx(moved[-3, 0], abs=0.01)
    assert 20 > moved[1, 0] > moved[5, 0] > 0 and not moved[10:71].any(), "an eighth of the way around, each way"
    page.tab.keyboard.down("Shift")
    drag(page, [(200, 200), (150, 230)])
    page.tab.keyboard.up("Shift")
    whole = np.array(sent_marks(page)[0][1].points) - np.array(pulled.points)
    assert np.ptp(whole, axis=0).max() < 0.01 and whole[0].tolist() == pytest.approx([-50, 30], abs=0.5)
    page.tab.keyboard.down("Shift")
    drag(page, [(370, 230), (100, 230)])
    page.tab.keyboard.up("Shift")
    assert min(column for column, _ in sent_marks(page)[0][1].points) == 0, "it stops at the border, whole"
    assert len(sent_marks(page)) == 1


def test_a_picture_without_a_spacing_does_not_make_those_in_millimetres_small(page: ViewerPage) -> None:
    from pages.parts.viewer import Picture

    images = [picture_of(mammogram(1000, 700), laterality="L", view="CC", spacing_mm=(0.1, 0.1)),
              picture_of(gradient(800, 800))]  # fmt: skip
    places = tuple(Place(index, f"picture {index}") for index in range(2))
    shown = [Picture(image, place.label, place.label) for image, place in zip(images, places, strict=True)]
    page.draw(shown, [Stage("All", places, 2)], same_scale=True, cell_height=("300px", "300px"))
    for index in range(2):
        assert (page.shown(index) > 40).any(axis=(1, 2)).mean() > 0.6, "it fills its cell"


def test_a_label_of_two_lines_darkens_no_band_across_the_picture(page: ViewerPage) -> None:
    from pages.parts.viewer import Picture

    label = "R MLO \u00b7 EARLIER 2025\u201101\u201101"
    page.tab.set_viewport_size({"width": 218, "height": 400})
    image = picture_of(np.ones((300, 218)), laterality="R", view="MLO")
    page.draw(
        [Picture(image, label, label)], [Stage("All", (Place(0, label, align="right"),), 1)], cell_height=("239px",) * 2
    )
    assert page.tab.locator(".label").bounding_box()["height"] > 30, "the label has two lines"
    box = page.tab.locator(".cell").bounding_box()
    with Raster.open(io.BytesIO(page.tab.locator(".cell").screenshot())) as png:
        cell = np.asarray(png.convert("L"))
    middle = cell[60:200, int(box["width"] / 2)].max()
    darkened = cell[8:50, 10:-2] < 0.9 * middle
    assert 0 < darkened.mean() < 0.6 and not darkened[:, -50:].any(), "nothing at the side of the chest wall"


def test_an_earlier_study_hangs_under_the_current_one_and_marks_on_it_stay_in_the_browser(page: ViewerPage) -> None:
    """The same file in both studies is two pictures, each windowed and marked for itself."""
    from pages.parts.viewer import Picture

    image = picture_of(gradient(400, 900))
    layout = hang([image])
    now = Picture(image, "ultrasound", "ultrasound")
    then = Picture(image, "ultrasound \u00b7 EARLIER 2025-01-01", "ultrasound \u00b7 EARLIER 2025-01-01", is_prior=True)
    page.draw([now], stages(layout), cell_height=("300px", "300px"), marking=marking())
    page.key("d")
    drag(page, [(100, 100), (200, 100)])
    hung = {"cell_height": ("300px", "300px"), "hanging": "before"}
    page.draw([now, then], stages_with_prior(layout, layout), marking=marking(), **hung)
    assert page.tab.locator(".label").all_inner_texts() == ["ultrasound", "ultrasound \u00b7 EARLIER 2025-01-01"]
    n_sent = len(sent_marks(page))
    drag(page, [(100, 200), (220, 200)], cell=1)
    assert len(sent_marks(page)) == n_sent == 1
    lines = page.tab.locator(".measures li").all_inner_texts()
    assert len(lines) == 2 and "EARLIER" in lines[0] and lines[1] == "Measurements are not saved with the read."
    page.draw([now, then], stages_with_prior(layout, layout), marking=marking(1), **hung)  # the page's own marks: none
    assert page.tab.locator(".measures li").count() == 2
    page.draw([now], stages(layout), marking=marking(1), cell_height=("300px", "300px"))
    assert page.tab.locator(".label").all_inner_texts() == ["ultrasound"] and not page.failures


def clip_of(frames: list[np.ndarray], chosen: int, page: ViewerPage, **more: Any) -> tuple[list[Picture], list[Stage]]:
    """A clip whose frames the viewer finds under `frames/clip/`; a frame of its own for the models."""
    from pages.parts.viewer import Clip

    keys = tuple(f"{number + 1:064x}.png" for number in range(len(frames)))
    for number, (pixels, key) in enumerate(zip(frames, keys, strict=True)):
        page.files[f"frames/clip/{number}"] = frame_content(pixels, key)
        page.files[f"frames/clip/{number}?whole=1"] = frame_content(pixels, key, is_whole=True)
    facts = {"modality": Modality.ULTRASOUND, "frame": chosen, "n_frames": len(frames)}
    image = Image(frames[chosen], "c" * 64, modality_source="tags", laterality="L", **facts)
    clip = Clip("clip", keys, more.pop("rate", 20.0), **more)
    shown, hangings = alone(image)
    return [replace(shown[0], clip=clip)], hangings


def steps_of_grey(n: int, height: int = 400, width: int = 900) -> list[np.ndarray]:
    """Frames of one grey each, with a ramp in the first rows so that none is flat."""
    frames = [np.full((height, width), 0.1 + 0.8 * number / n, np.float32) for number in range(n)]
    for frame in frames:
        frame[:10] = np.linspace(0, 1, width, dtype=np.float32)
    return frames


def test_a_mark_that_was_begun_on_one_frame_of_a_clip_is_not_finished_on_another(page: ViewerPage) -> None:
    frames = steps_of_grey(12)
    page.draw(*clip_of(frames, 2, page), cell_height=CLIP_CELL, marking=marking())
    page.tab.locator(".cell canvas").hover()
    page.key("a")
    drag(page, [(450, 100), (550, 100)])  # an angle lacks its third point
    page.tab.mouse.wheel(0, 100)
    page.painted()
    frame = int(page.tab.get_by_role("slider").input_value()) - 1
    drag(page, [(450, 200), (550, 200)])
    drag(page, [(550, 300), (550, 301)])
    assert [(one.kind, one.frame, len(one.points)) for _, one in sent_marks(page)] == [("angle", frame, 3)]
    assert frame > 2
    page.key("d")
    page.key("c")  # it plays
    page.tab.wait_for_function("document.querySelector('.cine input').value === '8'")
    drag(page, [(450, 150), (550, 150)])
    frame = int(page.tab.get_by_role("slider").input_value()) - 1
    page.tab.wait_for_timeout(200)
    assert int(page.tab.get_by_role("slider").input_value()) - 1 == frame, "it stands still"
    assert (sent_marks(page)[-1][1].kind, sent_marks(page)[-1][1].frame) == ("distance", frame)


def test_a_clip_is_stepped_played_and_marked_frame_by_frame(each_way: ViewerPage) -> None:
    from pages.parts.viewer import Drawn

    frames, page = steps_of_grey(12), each_way
    drawn = clip_of(frames, 2, page, can_choose=True)
    page.draw(*drawn, cell_height=CLIP_CELL, marking=marking())
    label, slider = page.tab.locator(".label"), page.tab.get_by_role("slider")
    assert not [name for name in page.fetched if name.startswith("frames/")], "the picture first, frames when wanted"
    assert label.inner_text() == "L ultrasound, frame 3 of 12" and slider.input_value() == "3"
    choose = page.tab.get_by_role("button", name="The models read this frame")
    assert choose.is_hidden()
    page.tab.locator(".cell canvas").hover()
    page.key("ArrowRight")
    assert label.inner_text() == "L ultrasound, frame 4 of 12"
    assert most_apart(page.shown(), to_uint8(frames[3])) <= 1
    page.key("End")
    assert most_apart(page.shown(), to_uint8(frames[11])) <= 1
    page.tab.mouse.wheel(0, -100)
    page.painted()
    assert label.inner_text() == "L ultrasound, frame 10 of 12"
    page.key("p")
    drag(page, [(450, 200)])
    [(uid, point)] = sent_marks(page)
    assert (point.frame, point.image_sha256) == (9, "c" * 64)
    page.draw(*drawn, cell_height=CLIP_CELL, marking=marking(0, Drawn(uid, point)))
    page.draw(*drawn, cell_height=CLIP_CELL, marking=marking(1))  # a run of the page leaves the reader where he is
    assert label.inner_text() == "L ultrasound, frame 10 of 12"
    choose.click()
    name, sent = page.sent[-1]
    assert (name, sent["image"], sent["frame"]) == ("frame", "clip", 9)
    page.draw(*clip_of(frames, 9, page, can_choose=True), cell_height=CLIP_CELL, marking=marking(1))
    assert choose.is_hidden() and most_apart(page.shown(), to_uint8(frames[9])) <= 1
    page.key("Home")
    page.key("c")
    page.tab.wait_for_function("document.querySelector('.cine input').value === '12'")  # frame by frame, none left out
    page.tab.wait_for_function("document.querySelector('.cine input').value === '2'")  # and again from the first one
    page.tab.get_by_role("button", name="Play L ultrasound (c)").click()
    stopped = page.shown()
    page.tab.wait_for_timeout(200)
    assert most_apart(page.shown(), stopped) == 0
    frame = int(slider.input_value()) - 1
    assert most_apart(stopped, to_uint8(frames[frame])) <= 1, "what the slider says is what is seen"


def test_a_stack_of_large_slices_is_scrolled_small_and_whole_where_the_reader_rests(page: ViewerPage) -> None:
    frames = [gradient(1200, 2700) * (0.5 + 0.1 * number) for number in range(4)]
    page.draw(*clip_of(frames, 0, page, is_stack=True), cell_height=CLIP_CELL)
    assert page.tab.locator(".cine button").count() == 2, "nobody plays slices, and no model reads one"
    page.tab.locator(".cell canvas").hover()
    page.key("ArrowRight")
    for _ in range(100):
        if "frames/clip/1?whole=1" in page.fetched:
            break
        page.tab.wait_for_timeout(100)
    assert page.fetched.index("frames/clip/1") < page.fetched.index("frames/clip/1?whole=1")
    assert "frames/clip/2?whole=1" not in page.fetched
    assert violations(page.tab, but=("<html",)) == []
    assert unseen_focus(page.tab, steps=30) == []


def test_a_frame_that_does_not_come_is_said_and_another_is_not_shown_in_its_place(page: ViewerPage) -> None:
    drawn = clip_of(steps_of_grey(3), 0, page)
    page.files["frames/clip/1"] = bytes(32) + page.files["frames/clip/1"][32:]
    page.draw(*drawn, cell_height=CLIP_CELL)
    page.tab.locator(".cell canvas").hover()
    page.key("ArrowRight")
    page.tab.get_by_text("This frame did not arrive").wait_for()
    assert int(page.shown().max()) == 0
