"""Files made after public bug reports of DICOM readers: each does what the manifest's column `expect` says."""

from __future__ import annotations

import csv
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from core.imaging.intake import Intake, read_study, read_upload
from core.models.aggregate import counts_for_breast
from core.settings import Settings
from core.types import Image

SETTINGS = Settings()


def manifest() -> dict[str, str]:
    """File -> what is right of it; of tables nothing, other tests read them. Empty where there is no test data."""
    path = Path(os.environ.get("SECONDREAD_TEST_DATA", "")) / "data/reports/manifest.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        return {row["file"]: row["expect"] for row in csv.DictReader(file) if not row["file"].endswith(".csv")}


EXPECT = manifest()


@cache
def read(path: Path) -> tuple[Intake, ...]:
    return read_upload(path, path.name, settings=SETTINGS)


def image_of(path: Path) -> Image:
    (intake,) = read(path)
    assert intake.image is not None, intake.refused
    return intake.image


def check_same_picture(folder: Path, file: str, expect: str) -> None:
    found = re.search(r"the same picture as (\S+) \(mean difference below (\.\d+)\)", expect)
    assert found is not None, expect
    (intake,) = read(folder / file)
    if intake.image is None:
        assert "or a sentence that is true" in expect, intake.refused
        return
    reference = image_of(folder / found[1])
    assert intake.image.pixels.shape == reference.pixels.shape
    assert np.abs(intake.image.pixels - reference.pixels).mean() < float(found[2])


def check_place(image: Image, expect: str) -> None:
    warned = " ".join(image.warnings)
    if expect.startswith("spacing .0389 mm"):
        assert image.spacing_mm == pytest.approx((0.0389, 0.0389), abs=5e-5)
    elif expect.startswith("view XCCM"):
        assert image.view == "XCCM"
    elif expect.startswith("a specimen"):
        assert "specimen" in image.not_scored and image.not_scored in warned and not counts_for_breast(image)
    elif expect.startswith("spot compression"):
        assert "spot compression" in warned and "spot compression" in image.view_modifiers
        assert not counts_for_breast(image)
    else:
        raise AssertionError(f"nobody checks {expect!r}")


def check(folder: Path, file: str, expect: str) -> None:
    if "the same picture as" in expect:
        check_same_picture(folder, file, expect)
    elif expect.startswith("read: the reference"):
        assert image_of(folder / file).pixels.std() > 0.02
    elif expect.startswith("both pictures are read"):
        assert all(intake.image is not None for intake in read(folder / file))
        assert len(read(folder / file)) >= 2
    elif expect.startswith("all four of one study on one grey scale"):
        exam = sorted(folder.glob(re.sub(r"view\d", "view*", file)))
        images = [intake.image for intake in read_study(exam, settings=SETTINGS)]
        assert len(exam) == 4 and len({image.guessed_bits for image in images if image is not None}) == 1
    else:
        check_place(image_of(folder / file), expect)


@pytest.mark.real_data("files made after public bug reports; test_dicom_*.py make their kinds in code")
@pytest.mark.parametrize("file", EXPECT or ["without test data"])
def test_a_reported_file_does_what_its_manifest_says(test_data: Path, file: str) -> None:
    assert file in EXPECT, "the manifest of the test data is missing"
    check(test_data / "data/reports", file, EXPECT[file])
