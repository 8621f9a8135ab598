"""Lesions whose words are known, and changes of a picture that must change none of them."""

from __future__ import annotations

import numpy as np
import pytest
from made_lesions import LESION, SHAPE, TISSUE, ellipse, outlined, picture, spiky
from scipy import ndimage

from core.errors import InvalidInput
from core.findings.ultrasound_descriptors import (
    COLOUR_SHARE_MOST,
    ROUGH,
    WORDS,
    Descriptor,
    margin_word,
    measure_lesion,
)


def measured(pixels: np.ndarray, mask: np.ndarray, **more: object) -> dict[str, Descriptor]:
    return {one.name: one for one in measure_lesion(pixels, mask, **more)}  # type: ignore[arg-type]


def words(pixels: np.ndarray, mask: np.ndarray, **more: object) -> dict[str, str]:
    return {name: one.word for name, one in measured(pixels, mask, **more).items()}


def half_moon(angle: np.ndarray) -> np.ndarray:
    return np.where(np.abs(angle) < 1.0, 12.0, 34.0)


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        (ellipse(90, 50), "oval"),
        (ellipse(60, 60), "round"),
        (ellipse(60, 52), "oval"),
        (outlined(half_moon), "irregular"),
        (spiky(7, 0.6, 12), "irregular"),
    ],
    ids=["oval", "round", "nearly round", "with a bay", "star"],
)
def test_shapes(mask: np.ndarray, word: str) -> None:
    assert words(picture(mask), mask)["shape"] == word


def test_three_gentle_lobes_are_still_oval_and_circumscribed() -> None:
    mask = outlined(lambda angle: 32 * (1 + 0.3 * np.cos(angle) ** 2 + 0.06 * np.cos(3 * angle)))
    found = words(picture(mask), mask)
    assert (found["shape"], found["margin"]) == ("oval", "circumscribed")


@pytest.mark.parametrize(
    ("width", "depth", "word"), [(80, 50, "parallel"), (50, 80, "not parallel"), (60, 60, "not parallel")]
)
def test_orientation(width: int, depth: int, word: str) -> None:
    mask = ellipse(width, depth)
    assert words(picture(mask), mask)["orientation"] == word


def test_orientation_counts_distances_and_not_pixels() -> None:
    mask = ellipse(60, 60)
    assert words(picture(mask), mask, spacing_mm=(0.05, 0.1))["orientation"] == "parallel"
    assert words(picture(mask), mask, aspect=0.5)["orientation"] == "parallel"


@pytest.mark.parametrize(
    ("mask", "blur", "word"),
    [
        (ellipse(), 0.7, "circumscribed"),
        (ellipse(), 7.0, "indistinct"),
        (spiky(8, 0.5, 9), 0.7, "spiculated"),
        (outlined(lambda angle: 30 * (1 + 0.1 * np.cos(8 * angle))), 0.7, "microlobulated"),
        (spiky(4, 0.3, 30), 0.7, "angular"),
    ],
    ids=["sharp", "blurred", "spikes", "lobules", "corners"],
)
def test_margins(mask: np.ndarray, blur: float, word: str) -> None:
    assert words(picture(mask, blur=blur), mask)["margin"] == word


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "microlobulated"), ({"roughness": ROUGH - 1e-6}, "circumscribed"), ({"lobes": 5.0}, "angular"),
        ({"lobes": 5.0, "corners": 1.0}, "circumscribed"), ({"spikes": 3.0}, "microlobulated"),
        ({"spikes": 4.0}, "spiculated"), ({"roughness": 0.0, "sharp": 0.49}, "indistinct"),
    ],
)  # fmt: skip
def test_margin_words_at_their_limits(changed: dict[str, float], word: str) -> None:
    values = {"sharp": 0.5, "roughness": ROUGH, "lobes": 6.0, "corners": 2.0, "spikes": 0.0}
    assert margin_word(values | changed) == word


@pytest.mark.parametrize(
    ("level", "word"),
    [(0.02, "anechoic"), (0.25, "hypoechoic"), (0.5, "isoechoic"), (0.75, "hyperechoic")],
)
def test_echo_patterns_of_one_level(level: float, word: str) -> None:
    mask = ellipse()
    found = measured(picture(mask, lesion=level), mask)["echo pattern"]
    assert found.word == word
    assert found.values["level"] == pytest.approx(level / TISSUE, abs=0.06)


def test_a_cyst_with_a_solid_part_and_a_mixed_lesion() -> None:
    mask = ellipse(90, 60)
    columns = np.indices(SHAPE)[1]
    cyst = picture(mask)
    cyst[mask & (columns < 150)] = 0.01
    assert words(cyst, mask)["echo pattern"] == "complex cystic and solid"
    mixed = picture(mask)
    mixed[mask & (columns < 150)] = 0.65
    assert words(mixed, mask)["echo pattern"] == "heterogeneous"


@pytest.mark.parametrize(
    ("behind", "word"),
    [(0.2, "shadowing"), (0.5, "no posterior features"), (0.8, "enhancement"), (0.42, "no posterior features")],
)
def test_posterior_features(behind: float, word: str) -> None:
    mask = ellipse()
    found = measured(picture(mask, behind=behind), mask)["posterior features"]
    assert found.word == word
    assert found.values["behind"] == pytest.approx(behind / TISSUE, abs=0.12)


def test_shadow_under_one_half_and_enhancement_under_the_other_is_the_combined_pattern() -> None:
    mask = ellipse()
    made = picture(mask, behind=0.8)
    made[120:, :150] *= 0.25
    made[120:, :105] = TISSUE
    assert words(made, mask)["posterior features"] == "combined pattern"


@pytest.mark.parametrize(("rim", "word"), [(0.8, "present"), (0.5, "absent"), (0.55, "absent")])
def test_echogenic_rim(rim: float, word: str) -> None:
    mask = ellipse()
    assert words(picture(mask, rim=rim), mask)["echogenic rim"] == word


@pytest.mark.parametrize(("points", "word"), [(0, "none seen"), (1, "none seen"), (5, "calcifications in the mass")])
def test_bright_points_inside_are_counted(points: int, word: str) -> None:
    mask = ellipse()
    made = picture(mask)
    for number in range(points):
        made[85 + 4 * (number % 2) : 87 + 4 * (number % 2), 130 + 9 * number : 132 + 9 * number] = 0.95
    found = measured(made, mask)["calcifications"]
    assert (found.word, found.values["points"]) == (word, points)


def test_bright_points_outside_the_outline_are_not_counted() -> None:
    mask = ellipse()
    made = picture(mask)
    made[90:92, 220:260:8] = 0.95
    assert words(made, mask)["calcifications"] == "none seen"


def test_size_in_millimetres_along_and_across() -> None:
    mask = ellipse(80, 50)
    found = measured(picture(mask), mask, spacing_mm=(0.1, 0.1))["size"].values
    assert found["longest_mm"] == pytest.approx(8.0, rel=0.03)
    assert found["across_mm"] == pytest.approx(5.0, rel=0.04)
    assert found["width_mm"] == pytest.approx(8.0, rel=0.03)
    assert found["depth_mm"] == pytest.approx(5.0, rel=0.04)
    taller = measured(picture(mask), mask, spacing_mm=(0.2, 0.1))["size"].values
    assert taller["depth_mm"] == pytest.approx(10.0, rel=0.04)


@pytest.mark.parametrize("kind", ["brighter", "more contrast", "darker and flatter", "mirrored", "larger", "smaller"])
@pytest.mark.parametrize("lesion", ["calm", "suspicious"])
def test_no_word_changes_with_the_picture_s_own_scale(kind: str, lesion: str) -> None:
    mask = ellipse() if lesion == "calm" else spiky(8, 0.5, 9)
    pixels = picture(mask, speckle=0.04) if lesion == "calm" else picture(mask, behind=0.25, rim=0.72, speckle=0.04)
    changes = {
        "brighter": (pixels * 0.7 + 0.2, mask),
        "more contrast": (pixels * 1.25, mask),
        "darker and flatter": (pixels * 0.4 + 0.05, mask),
        "mirrored": (pixels[:, ::-1], mask[:, ::-1]),
        "larger": (ndimage.zoom(pixels, 1.7, order=1), ndimage.zoom(mask.astype(float), 1.7, order=1) > 0.5),
        "smaller": (ndimage.zoom(pixels, 0.75, order=1), ndimage.zoom(mask.astype(float), 0.75, order=1) > 0.5),
    }
    changed, outline = changes[kind]
    before, after = words(pixels, mask), words(np.clip(changed, 0, 1).astype(np.float32), outline)
    assert before == after
    assert "" not in [word for name, word in before.items() if name != "size"]


def test_grey_numbers_do_not_change_at_all_with_brightness_and_contrast() -> None:
    mask = ellipse()
    pixels = picture(mask, rim=0.7)
    before, after = measured(pixels, mask), measured((pixels * 0.5 + 0.3).astype(np.float32), mask)
    for name in ("margin", "echo pattern", "posterior features", "echogenic rim"):
        assert after[name].values == pytest.approx(before[name].values, abs=2e-3), name


def test_a_lesion_at_the_border_has_no_shape_margin_or_size() -> None:
    mask = ellipse(centre=(90, 20))
    found = measured(picture(mask), mask, spacing_mm=(0.1, 0.1))
    for name in ("shape", "orientation", "margin", "size"):
        assert found[name].word == "" and "border" in found[name].refused, name
    one_off = np.roll(mask, 1 + 20 - int(np.flatnonzero(mask.any(0)).mean()) + 20, axis=1)
    assert not one_off[:, 0].any()
    assert words(picture(one_off), one_off)["shape"] == "oval"


def test_coloured_pictures_give_no_grey_descriptor_and_keep_their_shape() -> None:
    mask = ellipse()
    pixels = picture(mask)
    found = measured(pixels, mask, colour_share=COLOUR_SHARE_MOST * 1.01)
    assert {name for name, one in found.items() if "colour" in one.refused} == {
        "margin", "echo pattern", "posterior features", "echogenic rim", "calcifications",
    }  # fmt: skip
    assert found["shape"].word == "oval"
    assert words(pixels, mask, colour_share=COLOUR_SHARE_MOST)["echo pattern"] == "hypoechoic"


def test_without_spacing_there_is_no_size_and_the_refusal_says_so() -> None:
    mask = ellipse()
    found = measured(picture(mask), mask)["size"]
    assert (found.word, found.values, found.certainty) == ("", {}, None)
    assert "millimetres" in found.refused


def test_a_lesion_at_the_bottom_has_nothing_behind_it() -> None:
    mask = ellipse(centre=(185, 150))
    found = measured(picture(mask), mask)
    assert found["posterior features"].word == "" and "below" in found["posterior features"].refused
    assert found["shape"].word == "oval"


@pytest.mark.parametrize(("diameter", "is_told"), [(11, False), (13, True)])
def test_a_lesion_of_too_few_pixels_has_no_margin(diameter: int, is_told: bool) -> None:
    mask = ellipse(diameter, diameter)
    assert bool(words(picture(mask), mask)["margin"]) is is_told


def test_a_black_picture_has_no_tissue_to_compare_with() -> None:
    mask = ellipse()
    found = measured(np.zeros(SHAPE, np.float32), mask)
    assert found["echo pattern"].word == "" and "tissue" in found["echo pattern"].refused
    assert found["shape"].word == "oval"


def test_how_sure_falls_where_a_word_hangs_on_the_outline() -> None:
    clear, edge = ellipse(90, 50), ellipse(66, 60.5)
    assert measured(picture(clear), clear)["orientation"].certainty == 1
    assert 0 <= measured(picture(edge), edge)["orientation"].certainty < 1  # type: ignore[operator]


def test_every_word_is_one_of_the_lexicon_s() -> None:
    mask = ellipse()
    found = measure_lesion(picture(mask), mask, spacing_mm=(0.1, 0.1))
    assert [one.name for one in found] == list(WORDS)
    assert all(one.word in WORDS[one.name] for one in found)


def test_an_outline_of_another_size_or_an_empty_one_is_refused() -> None:
    mask = ellipse()
    with pytest.raises(InvalidInput, match="another size"):
        measure_lesion(picture(mask), mask[:-1])
    with pytest.raises(InvalidInput, match="no pixels"):
        measure_lesion(picture(mask), np.zeros_like(mask))


def test_speckle_alone_does_not_change_the_words() -> None:
    mask = ellipse()
    seen = [tuple(words(picture(mask, lesion=LESION, seed=seed), mask).values()) for seed in range(4)]
    assert len(set(seen)) == 1
