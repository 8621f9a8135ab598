"""Density and asymmetry in phantoms whose dense share is known, and what is said of made numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from core.types import Image, Modality
from train.datasets.manifest import read_manifest
from train.publishing.mammograms import (
    breast_in,
    density_numbers,
    density_scores,
    in_classes,
    mammograms_page,
    measure_women,
    pectoral,
    rank_correlation,
    unlike_numbers,
)

HEIGHT, WIDTH = 256, 200


def phantom(dense: float = 0.3, *, seed: int = 0, lump: bool = False, muscle: bool = True) -> Image:
    """A lateral view, chest wall on the left: fat, a dense disc of this share of the breast, pectoral muscle."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    breast = ((rows - 128) / 120) ** 2 + (columns / 170) ** 2 < 1
    radius = np.sqrt(dense * breast.sum() / np.pi)
    pixels = np.where(breast, 0.2, 0.0)
    pixels[breast & ((rows - 150) ** 2 + (columns - 70) ** 2 < radius**2)] = 0.55
    if lump:
        pixels[(rows - 150) ** 2 + (columns - 120) ** 2 < 15**2] = 0.7
    if muscle:
        pixels[breast & (rows / 110 + columns / 60 < 1)] = 0.6
    noise = np.random.default_rng(seed).normal(0, 0.005, pixels.shape)
    return Image(np.clip(pixels + noise * breast, 0, 1).astype(np.float32), "0" * 64, Modality.MAMMOGRAPHY)


def numbers(image: Image) -> dict[str, float]:
    breast = breast_in(image, "MLO")
    assert breast is not None
    return density_numbers(breast)


@pytest.mark.parametrize("dense", [0.05, 0.15, 0.3])
def test_the_dense_share_of_a_phantom_is_found(dense: float) -> None:
    image = phantom(dense)
    breast = breast_in(image, "MLO")
    assert breast is not None
    wanted = (breast.grey[breast.tissue] > 2).mean()
    found = density_numbers(breast)
    assert found["above 2"] == found["otsu"] == pytest.approx(wanted) and dense * 0.9 < wanted < dense * 1.9
    assert found["muscle"] == pytest.approx(found["above 2"], abs=0.02)


def test_more_dense_tissue_gives_more() -> None:
    shares = [numbers(phantom(dense))["above 2"] for dense in (0.02, 0.1, 0.2, 0.3)]
    assert shares == sorted(shares) and shares[0] < shares[-1] / 5


@pytest.mark.parametrize("change", ["mirror", "brighter", "contrast", "larger"])
def test_density_is_the_same_in_another_picture_of_the_same_breast(change: str) -> None:
    image, before = phantom(), numbers(phantom())
    pixels = {
        "mirror": image.pixels[:, ::-1],
        "brighter": image.pixels + 0.2,
        "contrast": image.pixels * 0.6,
        "larger": np.kron(image.pixels, np.ones((2, 2), np.float32)),
    }[change]
    after = numbers(replace(image, pixels=np.ascontiguousarray(pixels)))
    for name in before:
        assert after[name] == pytest.approx(before[name], abs=0.03, rel=0.05), name


def test_the_muscle_is_no_tissue_and_is_looked_for_in_lateral_views_alone() -> None:
    lateral, craniocaudal = breast_in(phantom(), "MLO"), breast_in(phantom(muscle=False), "CC")
    assert lateral is not None and craniocaudal is not None
    assert not lateral.tissue[10:40, :15].any() and craniocaudal.tissue[30:60, :15].any()
    assert lateral.muscle == pytest.approx(3, abs=0.3) and np.isnan(craniocaudal.muscle)
    flat = np.ones((60, 50), bool)
    assert not pectoral(flat.astype(float), flat).any()


def test_a_picture_without_a_breast_is_not_measured() -> None:
    assert breast_in(Image(np.zeros((64, 64), np.float32), "0" * 64, Modality.MAMMOGRAPHY), "CC") is None


def test_equal_sides_differ_by_nothing_and_a_lump_on_one_is_seen_there() -> None:
    right, left, lumpy = (breast_in(one, "MLO") for one in (phantom(), phantom(seed=1), phantom(lump=True)))
    assert right is not None and left is not None and lumpy is not None
    alike, unlike, turned = unlike_numbers(right, left), unlike_numbers(lumpy, left), unlike_numbers(left, lumpy)
    assert all(abs(value) < 0.02 for value in alike.values())
    assert unlike["place"] > 20 * abs(alike["place"]) and unlike["density"] > 0.005
    for name in ("density", "size", "place"):
        assert turned[name] == pytest.approx(-unlike[name])


def test_limits_levels_and_model_come_from_other_women() -> None:
    rng = np.random.default_rng(0)
    given = np.arange(60) % 3
    names = [*(f"above {level:g}" for level in (1.3, 1.5, 1.75, 2, 2.5, 3)), "otsu", "muscle", "apart", "gap", "spread",
             "texture", "quarter", "median"]  # fmt: skip
    women = pd.DataFrame({name: rng.random(60) for name in names}).assign(given=given, muscle=np.nan)
    women["above 2"] += given
    folds = np.arange(60) // 3 % 5
    scores = density_scores(women, folds)
    assert set(scores) == {"percent dense, level over fat", "percent dense, Otsu", "all numbers together"}
    assert np.array_equal(scores["percent dense, level over fat"], women["above 2"])
    assert rank_correlation(scores["all numbers together"], given) > 0.8
    assert (in_classes(scores["percent dense, level over fat"], given, folds, 3) == given).mean() > 0.9
    other = density_scores(women.assign(given=np.where(folds == 0, 2 - given, given)), folds)
    assert np.array_equal(other["all numbers together"][folds == 0], scores["all numbers together"][folds == 0])


def test_a_page_of_women_of_whom_it_is_known(tmp_path: Path) -> None:
    rows = []
    for woman in range(24):
        ill = woman % 2 == 0
        for side in "RL":
            lump, name = ill and side == "R", f"{woman}{side}.png"
            pixels = phantom(0.02 + 0.08 * (woman // 6), seed=woman, lump=lump).pixels
            Raster.fromarray(np.round(pixels * 255).astype(np.uint8)).save(tmp_path / name)
            rows.append({"file": name, "label": "malignant" if lump else "normal", "patient": f"p{woman}",
                         "laterality": side, "view": "MLO", "source": "made", "implant": "1" if woman == 23 else "0",
                         "density": "ABCD"[woman // 6]})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    measured = measure_women(read_manifest(tmp_path / "manifest.csv"))
    assert (measured.n_implants, measured.n_unmeasured, len(measured.density), len(measured.sides)) == (2, 0, 23, 23)
    page = "\n".join(mammograms_page(measured))
    assert "| percent dense, level over fat | made, A to D | 23 |" in page
    level = next(line for line in page.splitlines() if "level over fat" in line)
    assert float(level.split("|")[4].split()[0]) > 0.9
    place = next(line for line in page.splitlines() if line.startswith("| place | made | 23 | 12 |"))
    assert "1.000 (" in place and place.count("1.000") >= 2
