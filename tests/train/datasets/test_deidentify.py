"""Words beside a picture go, every pixel stays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Raster
from PIL import ImageOps
from PIL.PngImagePlugin import PngInfo

from core.errors import UnreadableImage
from train.datasets.deidentify import without_metadata

NAME = "MUSTER^ANNA"
RNG = np.random.default_rng(0)
GREY = Raster.fromarray(RNG.integers(0, 255, (40, 56)).astype(np.uint8))
COLOUR = Raster.fromarray(RNG.integers(0, 255, (40, 56, 3)).astype(np.uint8))
DEEP = Raster.fromarray(RNG.integers(0, 65535, (40, 56)).astype(np.uint16))


def encoded(raster: Raster.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    raster.save(out, kind, **options)
    return out.getvalue()


def pixels(content: bytes) -> np.ndarray:
    with Raster.open(io.BytesIO(content)) as raster:
        return np.asarray(ImageOps.exif_transpose(raster))


def words() -> PngInfo:
    info = PngInfo()
    info.add_text("dcm:PatientName", NAME)
    info.add_itxt("Comment", NAME)
    info.add_text("more", NAME, zip=True)
    return info


def exif(orientation: int) -> bytes:
    tags = Raster.Exif()
    tags[0x0112], tags[0x010E] = orientation, NAME
    return tags.tobytes()


@pytest.mark.parametrize("raster", [GREY, COLOUR, DEEP, COLOUR.quantize(16)], ids=["grey", "rgb", "16 bit", "palette"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_png_loses_its_words_and_no_pixel(raster: Raster.Image, orientation: int) -> None:
    before = encoded(raster, "PNG", pnginfo=words(), exif=exif(orientation))
    after = without_metadata(before, "PNG")
    assert NAME.encode() in before and NAME.encode() not in after and len(after) < len(before)
    np.testing.assert_array_equal(pixels(after), pixels(before))
    with Raster.open(io.BytesIO(after)) as read:
        assert not getattr(read, "text", {}) and dict(read.getexif()) == ({0x0112: 6} if orientation == 6 else {})
    assert without_metadata(after, "PNG") == after


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 2}])
@pytest.mark.parametrize("orientation", [1, 8])
def test_a_jpeg_loses_its_words_and_no_pixel(options: dict[str, Any], orientation: int) -> None:
    for raster in (GREY, COLOUR):
        before = encoded(raster, "JPEG", comment=NAME.encode(), exif=exif(orientation), **options)
        after = without_metadata(before, "JPEG")
        assert before.count(NAME.encode()) == 2 and NAME.encode() not in after
        np.testing.assert_array_equal(pixels(after), pixels(before))
        assert without_metadata(after, "JPEG") == after


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_webp_loses_its_words_and_no_pixel(options: dict[str, Any], orientation: int) -> None:
    for raster in (GREY, COLOUR):
        before = encoded(raster, "WebP", xmp=NAME.encode(), exif=exif(orientation), **options)
        after = without_metadata(before, "WebP")
        assert NAME.encode() in before and NAME.encode() not in after
        np.testing.assert_array_equal(pixels(after), pixels(before))
        with Raster.open(io.BytesIO(after)) as read:
            assert read.getexif().get(0x0112, 1) == orientation
        assert without_metadata(after, "WebP") == after


def test_what_follows_the_end_of_a_picture_goes_too() -> None:
    for kind in ("PNG", "JPEG", "WebP"):
        content = encoded(GREY, kind)
        assert without_metadata(content + NAME.encode(), kind) == content


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
def test_a_file_that_is_cut_is_refused(kind: str) -> None:
    content = encoded(COLOUR, kind)
    for share in (0.1, 0.5, 0.99):
        with pytest.raises(UnreadableImage, match="damaged"):
            without_metadata(content[: int(share * len(content))], kind)


def test_real_pictures_stay_as_they_are(test_data: Path) -> None:
    root = test_data / "data"
    files = [*sorted((root / "ultrasound" / "busi" / "benign").glob("*.png"))[:5]]
    files += sorted(root.rglob("*.jpg"))[:5] + sorted((root / "mammography").rglob("*.png"))[:5]
    assert len(files) >= 10
    for path in files:
        content = path.read_bytes()
        kind = "PNG" if content.startswith(b"\x89PNG") else "JPEG"
        np.testing.assert_array_equal(pixels(without_metadata(content, kind)), pixels(content))
