"""What the viewer is sent: bytes that come back as the same pixels, and a guide that names every key."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core.imaging.hanging import Place
from core.settings import REPOSITORY
from core.types import Explanation, Fit, Image, Modality

if TYPE_CHECKING:
    from pages.parts.viewer import Level


@pytest.fixture
def viewer() -> Any:
    """The module, loaded when a test runs: Streamlit takes its time."""
    from pages.parts import viewer

    return viewer


def unpacked(level: Level, channels: int = 1) -> np.ndarray:
    """As pixels.js does it."""
    planes = np.frombuffer(zlib.decompress(level.content[32:]), np.uint8)
    if channels == 3:
        difference = planes.reshape(3, level.height, level.width).transpose(1, 2, 0)
        return np.cumsum(difference, axis=1, dtype=np.uint8)
    low, high = planes.reshape(2, level.height, level.width).astype(np.uint16)
    return np.cumsum(low + (high << 8), axis=1, dtype=np.uint16)


def test_grey_and_colour_come_back_exactly(viewer: Any) -> None:
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 65536, (7, 11), dtype=np.uint16)
    colour = rng.integers(0, 256, (5, 9, 3), dtype=np.uint8)
    assert np.array_equal(unpacked(viewer.packed(grey)), grey)
    assert np.array_equal(unpacked(viewer.packed(colour), 3), colour)


@pytest.mark.parametrize(
    ("side", "most_side", "steps"),
    [(1100, None, [1]), (1101, None, [2, 1]), (4500, None, [8, 1]), (3000, 1024, [4]), (900, 1024, [1])],
)
def test_a_large_picture_is_sent_small_first_and_then_whole(
    viewer: Any, side: int, most_side: int | None, steps: list[int]
) -> None:
    pixels = np.full((side, 40), 0.25, np.float32)
    levels = viewer.levels_of(pixels, most_side=most_side)
    assert [level.step for level in levels] == steps
    assert all(level.height == -(-side // level.step) for level in levels)
    assert np.abs(unpacked(levels[0]).astype(int) - round(0.25 * 65535)).max() <= 1


def test_files_of_two_pictures_differ_in_their_first_bytes(viewer: Any) -> None:
    """Streamlit names a large file by its length, head, middle and tail; the digest in the head tells them apart."""
    one, other = np.zeros((64, 64), np.uint16), np.zeros((64, 64), np.uint16)
    other[20, 20] = 1
    levels = viewer.packed(one), viewer.packed(other)
    assert levels[0].content[:32] != levels[1].content[:32]
    assert levels[0].content[:32].hex() == levels[0].digest


def test_the_guide_names_every_key_of_the_table_with_the_same_words(viewer: Any) -> None:
    guide = (REPOSITORY / "docs" / "reading.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", guide, flags=re.MULTILINE))
    named = {keys.replace("`", ""): does for keys, does in rows.items()}
    table = viewer.javascript().partition("const KEYS = [")[2].partition("\n]")[0]
    pairs = re.findall(r'\["(.+?)", "(.+?)"\]', table.replace("\\u2026", "…").replace("\\u00b0", "°"))
    assert len(pairs) > 20
    for keys, does in pairs:
        assert named.get(keys, "").startswith(does), keys


def test_every_key_that_acts_is_in_the_table(viewer: Any) -> None:
    source = viewer.javascript()
    acts = re.findall(r'(?:"(.)"|\b(\w))(?=: ")', source.partition("const ACTS = {")[2].partition("}")[0])
    listed = source.partition("const KEYS = [")[2].partition("\n]")[0]
    keys = {letter for shown, _ in re.findall(r'\["(.+?)", "(.+?)"\]', listed) for letter in shown.split()}
    assert len(acts) >= 20
    assert {one or other for one, other in acts} <= keys


def test_a_heat_map_with_nothing_on_it_says_so_at_the_picture() -> None:
    """It looks like one that is switched off; the report says the same."""
    from core.reports.content import EMPTY_MAP, Attention
    from core.reports.study import _map_caption
    from pages.parts.attention import AttentionChoice
    from pages.reader.parts.pictures import _named, _picture

    image = Image(np.full((64, 64), 0.5, np.float32), "a" * 64, Modality.ULTRASOUND)
    choice = AttentionChoice("e" * 64, "Fusion, 2 branches", "fused", "malignant", 1)
    for level, is_said in ((0.0, True), (1e-6, False)):
        maps = {"fused": np.full((2, 7, 7), level, np.float32)}
        explained = Explanation(("benign", "malignant"), 1, maps, Fit((64, 64), (0, 64, 0, 64), 64, 0, 0, 64, 64))
        shown = _picture([image], 0, Place(0, "ultrasound"), choice, {"e" * 64: explained})
        assert shown.heat is not None and (EMPTY_MAP in shown.note) == is_said
        assert _named(shown, choice).note.startswith("Fusion, 2 branches: ")  # of two beside one another
        assert _picture([image], 0, Place(0, "ultrasound"), choice, {}).note == "No heat map by Fusion, 2 branches"
        assert _map_caption(Attention(shown.heat, "model"), True) == ("model. " + EMPTY_MAP if is_said else "model")
