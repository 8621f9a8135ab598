"""Does the look at the pixels tell breast images from everything else, and the kinds from one another?"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from made_images import chest_film, mammogram, photograph, tissue, ultrasound
from scipy import ndimage
from sklearn.datasets import load_sample_image

from core.imaging import suitability
from core.imaging.decoded import Limits
from core.imaging.look_measures import describe
from core.imaging.picture import to_grey
from core.imaging.raster import read_raster
from core.imaging.sniff import kind_of
from core.imaging.suitability import NETWORKS, look_at
from core.settings import Settings
from core.types import Modality
from train.datasets.other_pictures import KINDS

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("pixels", "modality"),
    [(mammogram(), Modality.MAMMOGRAPHY), (ultrasound(), Modality.ULTRASOUND), (tissue(), Modality.HISTOLOGY)],
)
def test_phantoms_are_recognised(pixels: np.ndarray, modality: Modality) -> None:
    look = look_at(pixels)
    assert (look.modality, look.refused, look.doubt) == (modality, None, None)


def test_a_mammogram_stays_one_when_mirrored_dimmed_or_lifted_from_black() -> None:
    for pixels in (mammogram()[:, ::-1], 0.6 * mammogram(), 0.05 + 0.95 * mammogram()):
        assert look_at(np.ascontiguousarray(pixels)).modality is Modality.MAMMOGRAPHY


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_pictures_are_refused(value: float) -> None:
    picture = np.full((200, 160), value, np.float32)
    assert "blank" in (look_at(picture).refused or "")
    picture[3, 3] = 1 - value if value != 0.5 else 1
    assert "blank" in (look_at(picture).refused or ""), "one pixel makes no picture"


@pytest.mark.parametrize(
    "noise",
    [
        RANDOM.random((300, 260), np.float32),
        np.clip(RANDOM.normal(0.5, 0.1, (128, 128)), 0, 1).astype(np.float32),
        np.kron(RANDOM.random((64, 64)), np.ones((5, 5))).astype(np.float32),
        (RANDOM.random((256, 256)) < 0.5).astype(np.float32),
        RANDOM.random((128, 128, 3), np.float32),
        (0.5 + 2 * ndimage.gaussian_filter(RANDOM.normal(0, 1, (400, 400)), 4)).clip(0, 1).astype(np.float32),
    ],
    ids=["uniform", "normal", "blocks", "binary", "colour", "blurred"],
)
def test_noise_is_refused(noise: np.ndarray) -> None:
    assert "noise" in (look_at(noise).refused or "")


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_real_photographs_are_doubted_in_colour_and_in_grey(name: str) -> None:
    photo = load_sample_image(name).astype(np.float32) / 255
    for pixels in (photo, to_grey(photo)):
        assert look_at(pixels).doubt, name


def test_a_made_photograph_is_doubted() -> None:
    assert "photograph" in (look_at(photograph()).doubt or "")


@pytest.mark.parametrize("seed", range(4))
def test_chest_films_are_doubted_by_name(seed: int) -> None:
    assert "chest film" in (look_at(chest_film(seed=seed)).doubt or "")


def test_an_inverted_mammogram_is_told_what_to_do() -> None:
    assert "inverted" in (look_at(1 - mammogram()).doubt or "")


@pytest.mark.real_data("the look at a chest film of a person")
def test_a_real_chest_film_is_doubted(test_data: Path) -> None:
    import pydicom

    stored = pydicom.dcmread(test_data / "data/dicom/wrong_modality/cr_chest_MONOCHROME1.dcm").pixel_array
    low, high = np.percentile(stored, (0.1, 99.9))
    pixels = 1 - np.clip((stored - low) / (high - low), 0, 1).astype(np.float32)
    assert "chest film" in (look_at(pixels).doubt or "")


COLLECTIONS = {
    "mammography": "mammography",
    "mammography/rsna": "mammography",
    "mammography/mias1024": "mammography",
    "mammography/ddsm": "mammography",
    "ultrasound": "ultrasound",
    "ultrasound/bus_bra": "ultrasound",
    "histopathology": "histology",
    "histopathology/breakhis_100x": "histology",
}


@pytest.mark.real_data("the share of real images that are recognised")
@pytest.mark.parametrize("folder", COLLECTIONS)
def test_real_images_are_never_refused_and_nearly_all_recognised(test_data: Path, folder: str) -> None:
    """Forty of each at most, spread over the whole; docs/intake.md tells of all of them."""
    limits, modality = Limits.of(Settings()), Modality(COLLECTIONS[folder])
    with (test_data / "data" / folder / "manifest.csv").open(encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    wrong, unsure = [], []
    chosen = files[:: 1 + len(files) // 40]
    for name in chosen:
        path = test_data / "data" / name
        with path.open("rb") as stream:
            pixels = read_raster(stream, kind_of(path.read_bytes()[:512]), limits=limits).pixels
        if pixels.max() < 0.02:
            continue  # one of the collection is black
        look = look_at(pixels)
        if look.refused or look.doubt or look.modality not in (None, modality):
            wrong.append(name)
        elif look.modality is None:
            unsure.append(name)
    assert not wrong
    assert len(unsure) <= 0.02 * len(chosen), unsure


@pytest.mark.parametrize("kind", KINDS)
def test_made_pictures_of_other_things_are_nearly_always_refused(kind: str) -> None:
    """Twenty of each kind that the networks were not fitted on."""
    looks = [look_at(KINDS[kind](np.random.default_rng([1000 + seed, len(kind)]))) for seed in range(20)]
    assert sum(bool(look.refused or look.doubt) for look in looks) >= 18


def test_the_networks_are_those_of_the_measures_and_name_what_they_were_fitted_on() -> None:
    networks = json.loads(NETWORKS.read_text(encoding="utf-8"))
    assert len(networks["measures"]) > 50 and set(networks["measures"]) <= set(describe(mammogram()))
    assert networks["classes"] == [*(kind.value for kind in Modality), "other"]
    assert all(sum(counts.values()) >= 100 for counts in networks["fitted_on"].values())


def test_within_the_bounds_of_a_kind_only_a_sure_network_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = mammogram(), 1 - mammogram()
    assert suitability.is_within_bounds(describe(inside)) and not suitability.is_within_bounds(describe(outside))
    for other, refused in ((0.5, (False, False)), (0.51, (False, True)), (0.98, (False, True)), (0.981, (True, True))):
        found = np.array([1 - other, 0, 0, other])
        monkeypatch.setattr(suitability, "shares", lambda measures, found=found: found)
        assert tuple(bool(look_at(pixels).doubt) for pixels in (inside, outside)) == refused
