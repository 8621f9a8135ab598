"""One way from a file's bytes to a picture, for reading and training; one grey scale for the pictures of a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_images import dicom, encoded, mammogram, stored_mammogram, tissue, ultrasound

from core.errors import UnreadableImage
from core.imaging.decoded import BITS_GUESSED, Limits
from core.imaging.intake import read_study, read_upload
from core.imaging.picture import bits_of_studies, on_one_scale, read_picture, settled_bits
from core.settings import Settings
from core.types import Image, Modality

SETTINGS = Settings()
LIMITS = Limits.of(SETTINGS)
PICTURE = mammogram() / mammogram().max()


def png_of(highest: int, kind: str = "PNG") -> bytes:
    """A 16-bit grey file whose brightest value is `highest`."""
    return encoded((PICTURE * highest / 65535).astype(np.float64), kind, 16)


def read_all(files: list[bytes], folder: Path) -> list[Image]:
    paths = []
    for number, data in enumerate(files):
        paths.append(folder / f"{number}.png")
        paths[-1].write_bytes(data)
    found = [intake.image for intake in read_study(paths, settings=SETTINGS)]
    return [image for image in found if image is not None]


def tops(images: list[Image]) -> list[float]:
    return [round(float(image.pixels.max()), 4) for image in images]


def scale(highest: int, bits: int) -> float:
    return round(highest / ((1 << bits) - 1), 4)


@pytest.mark.parametrize(
    ("highest", "bits"),
    [
        ((935, 1050), 12), ((1023, 1023), 10), ((1023, 1024), 12), ((4095, 200), 12), ((4096, 1023), 14),
        ((16384, 1023), 16),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_pictures_of_a_study_share_one_grey_scale(
    highest: tuple[int, int], bits: int, kind: str, tmp_path: Path
) -> None:
    images = read_all([png_of(value, kind) for value in highest], tmp_path)
    assert tops(images) == [scale(value, bits) for value in highest]
    assert not any(BITS_GUESSED in image.warnings for image in images)
    assert all(any(f"{bits} bits, as the pictures" in note for note in image.notes) for image in images)


@pytest.mark.parametrize(("highest", "is_guess"), [(1023, True), (4095, True), (16383, True), (16384, False)])
def test_a_single_picture_says_that_its_bits_are_a_guess_unless_it_needs_all(
    highest: int, is_guess: bool, tmp_path: Path
) -> None:
    (image,) = read_all([png_of(highest)], tmp_path)
    assert (BITS_GUESSED in image.warnings) == is_guess


def test_pictures_that_say_their_bits_neither_guess_nor_take_part(tmp_path: Path) -> None:
    images = read_all(
        [png_of(1023), encoded(PICTURE), dicom(stored_mammogram(), WindowCenter=2048, WindowWidth=4096)], tmp_path
    )
    assert [image.guessed_bits for image in images] == [10, None, None]
    assert tops(images)[:2] == [1, 1] and BITS_GUESSED in images[0].warnings


def test_files_of_a_zip_and_files_chosen_one_by_one_come_to_the_same_scale(tmp_path: Path) -> None:
    together = read_all([png_of(935), png_of(1050)], tmp_path)
    alone = [read_upload(png_of(value), "a.png", settings=SETTINGS)[0].image for value in (935, 1050)]
    brought = on_one_scale([image for image in alone if image is not None])
    for one, other in zip(together, brought, strict=True):
        assert np.allclose(one.pixels, other.pixels, atol=1e-6) and one.warnings == other.warnings
    again = on_one_scale(brought)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(brought, again, strict=True))


def test_settled_bits_are_the_most_of_those_that_were_guessed() -> None:
    assert settled_bits([10, None, 12, 8]) == 12 and settled_bits([None]) is None and settled_bits([]) is None


@pytest.mark.parametrize(
    ("data", "modality"),
    [
        (encoded(PICTURE), Modality.MAMMOGRAPHY), (png_of(1023), Modality.MAMMOGRAPHY),
        (encoded(tissue()), Modality.HISTOLOGY), (encoded(ultrasound()), Modality.ULTRASOUND),
        (encoded(tissue()), Modality.ULTRASOUND),
        (dicom(stored_mammogram(), PixelSpacing=[0.2, 0.1]), Modality.MAMMOGRAPHY),
    ],
)  # fmt: skip
def test_training_sees_the_picture_that_an_upload_gives(data: bytes, modality: Modality) -> None:
    (uploaded,) = read_upload(data, "a", settings=SETTINGS, modality=modality)
    trained = read_picture(data, modality, limits=LIMITS)
    if uploaded.image is None:
        assert "look more like histology" in (uploaded.refused or "")
        return
    assert np.array_equal(trained.pixels, uploaded.image.pixels)
    assert (trained.sha256, trained.aspect) == (uploaded.image.sha256, uploaded.image.aspect)


def test_training_takes_the_bits_of_the_whole_study(tmp_path: Path) -> None:
    files = []
    for name, highest, study in (("a", 935, "p1"), ("b", 1050, "p1"), ("c", 900, "p2"), ("d", 4000, "")):
        (tmp_path / name).write_bytes(png_of(highest))
        files.append((tmp_path / name, study))
    (tmp_path / "e").write_bytes(encoded(PICTURE))
    files += [(tmp_path / "e", "p3"), (tmp_path / "missing", "p1")]
    bits = bits_of_studies(files)
    assert bits == {"p1": 12, "p2": 10}
    read = read_picture((tmp_path / "a").read_bytes(), Modality.MAMMOGRAPHY, limits=LIMITS, bits=bits["p1"])
    assert round(float(read.pixels.max()), 4) == scale(935, 12)
    deeper = read_picture(png_of(4000), Modality.MAMMOGRAPHY, limits=LIMITS, bits=10)
    assert round(float(deeper.pixels.max()), 4) == scale(4000, 12)


def test_what_is_no_picture_is_refused_by_what_it_is() -> None:
    for data, words in ((b"%PDF-1.7", "PDF"), (b"PK\x03\x04" + b"x" * 40, "ZIP"), (b"", "not a file")):
        with pytest.raises(UnreadableImage, match=words):
            read_picture(data, Modality.MAMMOGRAPHY, limits=LIMITS)
