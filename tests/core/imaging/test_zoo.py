"""Every real and every hostile file does what its manifest says it does."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from core.imaging.intake import Intake, read_upload
from core.settings import Settings
from core.types import Modality

SETTINGS = Settings()
SENTENCE = re.compile(r"^[A-Z][^\n<>]{15,400}\.$")


def rows(manifest: Path) -> Iterator[tuple[str, str]]:
    with manifest.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["file"], row["expect"]


@cache
def read(path: Path) -> tuple[Intake, ...]:
    """What comes of a file; each is decoded once, in a process of its own."""
    return read_upload(path, path.name, settings=SETTINGS, site_key=b"k" * 32)


def check(name: str, expect: str, found: tuple[Intake, ...]) -> list[str]:
    """What is wrong with `found`, in words; an empty list when it is what `expect` asks for."""
    must_read = expect.startswith("decode and show")
    must_refuse = expect.startswith("refuse") and not re.search(r"refuse (\(too small\) )?or (read|warn)", expect)
    wrong = []
    for intake in found:
        image, refused = intake.image, intake.refused
        if (image is None) == (refused is None):
            wrong.append(f"{name}: neither or both of image and refusal")
        if refused is not None and (must_read or not SENTENCE.match(refused)):
            wrong.append(f"{name}: refused with {refused!r}")
        if image is None:
            continue
        warned = " ".join(image.warnings)
        if must_refuse:
            wrong.append(f"{name}: was read")
        if "modality RG" in expect and "modality RG" not in warned:
            wrong.append(f"{name}: no warning of RG")
        if "body part not verifiable" in expect and "body part not verifiable" not in warned:
            wrong.append(f"{name}: no warning of the body part")
        if image.n_frames > 1 and "frames" not in warned:
            wrong.append(f"{name}: several frames and no word of it")
        if must_read and (image.modality is None or image.pixels.std() < 0.01):
            wrong.append(f"{name}: no modality or no picture")
    return wrong


def test_every_file_of_the_zoo_does_what_its_manifest_says(test_data: Path) -> None:
    wrong = []
    for name, expect in rows(test_data / "data/dicom/manifest.csv"):
        wrong += check(name, expect, read(test_data / "data" / name))
    assert not wrong


def test_every_hostile_file_does_what_its_manifest_says(test_data: Path) -> None:
    wrong, slow = [], []
    for name, expect in rows(test_data / "corpus/manifest.csv"):
        start = time.monotonic()
        wrong += check(name, expect, read(test_data / "corpus" / name))
        if time.monotonic() - start > 60:  # a busy test machine; alone each takes under 2 s
            slow.append(name)
    assert not wrong and not slow


def picture(test_data: Path, name: str) -> Intake:
    (intake,) = read(test_data / "data/dicom" / name)
    assert intake.image is not None, intake.refused
    return intake


@pytest.mark.parametrize(
    ("name", "laterality", "view"),
    [
        ("mg/mg_ge_rmlo_jpegll_sigmoid.dcm", "R", "MLO"),
        ("mg/cbis_P_00820_R_CC_rle16.dcm", "R", "CC"),
        ("mg/film_lmlo_jpeg2000_lossy_modality_RG.dcm", "L", "MLO"),
        ("mg_derived/exam0_R_CC_MONOCHROME1.dcm", "R", "CC"),
        ("mg_derived/exam0_L_MLO_no_VOI.dcm", "L", "MLO"),
    ],
)
def test_side_and_view_of_the_real_mammograms(test_data: Path, name: str, laterality: str, view: str) -> None:
    image = picture(test_data, name).image
    assert image is not None and (image.modality, image.laterality, image.view) == (
        Modality.MAMMOGRAPHY,
        laterality,
        view,
    )


def test_the_ge_mammogram_offers_three_sigmoid_windows_and_looks_like_the_first(test_data: Path) -> None:
    path = test_data / "data/dicom/mg/mg_ge_rmlo_jpegll_sigmoid.dcm"
    image = picture(test_data, "mg/mg_ge_rmlo_jpegll_sigmoid.dcm").image
    (first,) = read_upload(path, "a", settings=SETTINGS, window=0)
    assert image is not None and first.image is not None
    assert [window.function for window in image.windows] == ["SIGMOID"] * 3
    assert np.abs(image.pixels - first.image.pixels).mean() < 0.01


def test_the_monochrome1_mammogram_has_a_dark_background(test_data: Path) -> None:
    for name in ("exam0_R_CC_MONOCHROME1.dcm", "exam0_R_MLO_for_processing.dcm"):
        image = picture(test_data, f"mg_derived/{name}").image
        assert image is not None and np.median(image.pixels[:, :20]) < 0.05


def test_the_12_bit_jpeg_is_refused_by_name(test_data: Path) -> None:
    (intake,) = read(test_data / "data/dicom/mg/film_lmlo_jpeg_extended12_modality_RG.dcm")
    assert "12-bit JPEG extended" in (intake.refused or "")


def test_real_pictures_of_each_kind_come_through_the_door(test_data: Path) -> None:
    """A few of each source through the child process; `test_suitability` looks at many more without it."""
    for folder, modality in (
        ("mammography", "mammography"),
        ("ultrasound", "ultrasound"),
        ("histopathology", "histology"),
    ):
        names = [name for name, _ in _files(test_data / "data" / folder / "manifest.csv")]
        for name in names[:: len(names) // 3]:
            (intake,) = read(test_data / "data" / name)
            assert intake.image is not None, (name, intake.refused)
            assert intake.image.modality in (None, Modality(modality))


def _files(manifest: Path) -> Iterator[tuple[str, str]]:
    with manifest.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["file"], row["label"]
