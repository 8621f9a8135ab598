"""Candidates of mammography models against lesions that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import made_card
from PIL import Image as Raster

from core.errors import InvalidInput
from core.types import Explanation, Fit, Image, Prediction
from train.datasets.manifest import read_manifest
from train.publishing import candidates
from train.publishing.candidates import (
    CENTRE,
    RANDOM,
    candidates_page,
    central_places,
    has_seen,
    hit_lesion,
    lesions_of,
    measure_marks,
    responses,
)

SIDE = 128
SPOT = (60, 40)
"""(row, column) of the lesion of every second picture."""


def mammogram(*, with_lesion: bool) -> np.ndarray:
    rows, columns = np.ogrid[:SIDE, :SIDE]
    pixels = np.where(((rows - 64) / 56) ** 2 + (columns / 80) ** 2 < 1, 0.4, 0.0)
    if with_lesion:
        pixels[(rows - SPOT[0]) ** 2 + (columns - SPOT[1]) ** 2 < 36] = 1.0
    return pixels


def manifest_of(folder: Path, n: int = 24) -> Path:
    """Half normal, half malignant; circles in a picture of 1,024 pixels."""
    circle = f"CIRC:M:{SPOT[1] * 8}:{SPOT[0] * 8}:48"
    rows = []
    for number in range(n):
        Raster.fromarray(np.round(mammogram(with_lesion=number % 2 == 1) * 255).astype(np.uint8)).save(
            folder / f"{number}.png"
        )
        label, drawn = ("malignant", circle) if number % 2 else ("normal", "")
        rows.append({"file": f"{number}.png", "label": label, "patient": f"p{number}", "source": "made", "view": "MLO",
                     candidates._CIRCLES: drawn})  # fmt: skip
    rows.append(rows[1] | {"file": "1.png", "patient": "q", candidates._CIRCLES: "CALC:M:::"})
    rows[-1]["file"] = "undrawn.png"
    (folder / "undrawn.png").write_bytes((folder / "1.png").read_bytes())
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def bright_spot_reader(card: object, image: Image) -> tuple[Prediction, Explanation]:
    """A model that looks at what is brightest, and at a place in the air; it calls what is very bright malignant."""
    heat = np.where(image.pixels >= image.pixels.max(), image.pixels, 0)[None].astype(np.float32)
    heat[0, 2, 120] = 0.9 * image.pixels.max()
    prediction = Prediction(
        "m", "e" * 64, image.sha256, ("n", "m"), (0.5, 0.5), float(image.pixels.max()), (), 0.5, 0, ""
    )
    whole = Fit((SIDE, SIDE), (0, SIDE, 0, SIDE), SIDE, 0, 0, SIDE, SIDE)
    return prediction, Explanation(("n", "m"), 1, {"fused": np.concatenate([0 * heat, heat])}, whole)


def test_a_model_that_finds_every_lesion_is_told_from_places_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "read_image", bright_spot_reader)
    cards = [made_card(tmp_path, modality="mammography", data={"name": "another"}),
             made_card(tmp_path, model_id="learnt", modality="mammography", data={"name": "other, made"})]  # fmt: skip
    measured = measure_marks(read_manifest(manifest_of(tmp_path)), cards)
    assert (len(measured.images), len(measured.lesions), measured.left_out) == (24, 12, 1)
    assert measured.images["is_normal"].sum() == 12 and measured.lesions["is_malignant"].all()
    assert (measured.marks[measured.marks["scorer"] == "model"]["column"] < 100).all()
    found, bootstrap, normal = responses(measured, "made", "inside")
    assert set(found) == {"model", CENTRE, RANDOM} and len(found[RANDOM]) == candidates.REPEATS
    assert np.allclose(found["model"][0].hits, 1.0) and bootstrap.n == len(normal) == 24
    page = "\n".join(candidates_page(measured))
    assert (
        "12 lesions, 12 of them malignant, on 24 pictures of 24 women; 12 of these pictures are without a lesion"
        in page
    )
    assert page.count("a model: `model`.") == 4
    row = next(line for line in page.splitlines() if line.startswith("| `model`"))
    assert row.count("1.000 (1.000-1.000)") == 7 and "learnt" not in page


def test_a_manifest_must_say_where_its_pictures_are_from(tmp_path: Path) -> None:
    pd.read_csv(manifest_of(tmp_path)).drop(columns="source").to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(InvalidInput, match="needs a source"):
        measure_marks(read_manifest(tmp_path / "manifest.csv"), [])


@pytest.mark.parametrize(
    ("name", "is_seen"), [("RSNA 2022", False), ("mini-MIAS", True), ("a, mini-MIAS", True), ("", True)]
)
def test_a_model_has_seen_the_collections_that_its_card_names_and_maybe_all_where_it_names_none(
    name: str, is_seen: bool, tmp_path: Path
) -> None:
    assert has_seen(made_card(tmp_path, data={"name": name}), "mini-MIAS") == is_seen


def test_an_outline_is_what_it_encloses_and_a_lesion_that_is_not_drawn_leaves_the_picture_out(tmp_path: Path) -> None:
    """mini-DDSM draws a thin line with gaps, CBIS-DDSM an area."""
    rows, columns = np.ogrid[:80, :80]
    disc = (rows - 40) ** 2 + (columns - 30) ** 2 <= 400
    line = disc & ((rows - 40) ** 2 + (columns - 30) ** 2 > 350) & ((rows + columns) % 7 < 4)
    for name, drawn in (("area", disc), ("line", line)):
        Raster.fromarray(drawn.astype(np.uint8) * 255).save(tmp_path / f"{name}.png")
    found = lesions_of({"label": "benign", "mask": "area.png|line.png"}, tmp_path, (160, 160))
    assert found is not None and len(found) == 2 and not found[0].is_malignant
    for one in found:
        assert one.centre == pytest.approx((80.5, 60.5), abs=1) and one.outline.sum() == pytest.approx(
            4 * disc.sum(), rel=0.05
        )
    Raster.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "empty.png")
    assert lesions_of({"label": "benign", "mask": "empty.png"}, tmp_path, (64, 64)) is None
    circles = {"label": "benign", candidates._CIRCLES: "CALC:B:287:414:7|CALC:B:531:::"}
    assert lesions_of(circles, tmp_path, (64, 64)) is None
    assert lesions_of({"label": "malignant"}, tmp_path, (64, 64)) is None
    assert lesions_of({"label": "normal"}, tmp_path, (64, 64)) == []


def test_a_mark_hits_the_nearer_lesion_inside_its_outline_or_near_its_centre(tmp_path: Path) -> None:
    circles = {"label": "malignant", candidates._CIRCLES: "CIRC:M:200:200:10|CIRC:B:240:200:10"}
    lesions = lesions_of(circles, tmp_path, (1024, 1024))
    assert lesions is not None
    assert [hit_lesion(200, column, lesions, "inside") for column in (205, 215, 236)] == [0, -1, 1]
    assert [hit_lesion(200, column, lesions, "near") for column in (215, 226, 290)] == [0, 1, -1]


def test_places_without_a_model_begin_in_the_middle_and_stay_within_the_breast() -> None:
    region = mammogram(with_lesion=False) > 0
    rows, columns = np.nonzero(region)
    places = central_places(region)
    assert places[0] == (rows.mean(), columns.mean()) and len(places) > candidates.CANDIDATES_MOST
    away = [round(float(np.hypot(row - rows.mean(), column - columns.mean())), 6) for row, column in places]
    assert away == sorted(away) and all(region[int(row), int(column)] for row, column in places)
