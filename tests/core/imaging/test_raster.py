"""PNG, JPEG and TIFF: range by content, upright, and what is refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from made_images import encoded, mammogram, tissue
from PIL import Image as Raster

from core.errors import UnreadableImage
from core.imaging.decoded import Decoded, Limits
from core.imaging.raster import read_raster
from core.settings import Settings

LIMITS = Limits.of(Settings())
GREY = mammogram()


def read(data: bytes, kind: str = "PNG", **options: int) -> Decoded:
    return read_raster(io.BytesIO(data), kind, limits=LIMITS, **options)


def saved(raster: Raster.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    raster.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_bits_a_file_holds_are_recognised_by_range(bits: int, kind: str) -> None:
    picture = GREY / GREY.max()
    decoded = read(encoded(picture, kind, bits), kind)
    assert decoded.pixels.dtype == np.float32
    assert np.abs(decoded.pixels - picture).max() <= 0.6 / ((1 << bits) - 1) + 1e-6


def test_colour_stays_and_equal_channels_become_grey() -> None:
    assert read(encoded(tissue())).pixels.shape == (64, 64, 3)
    assert read(encoded(np.repeat(GREY[..., None], 3, axis=2))).pixels.shape == GREY.shape


def test_a_palette_is_applied() -> None:
    palette = Raster.fromarray((tissue() * 255).astype(np.uint8)).quantize(64)
    assert read(saved(palette)).pixels.shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WebP"])
def test_exif_rotation_is_honoured(kind: str) -> None:
    exif = Raster.Exif()
    exif[0x0112] = 6
    data = saved(Raster.fromarray((GREY * 255).astype(np.uint8)), kind, exif=exif)
    decoded = read(data, kind)
    assert decoded.pixels.shape == GREY.shape[::-1]
    assert np.abs(decoded.pixels - np.rot90(GREY, -1)).mean() < 0.02
    assert any("EXIF" in note for note in decoded.notes)


def test_white_is_zero_in_a_16_bit_tiff_is_inverted() -> None:
    data = saved(Raster.fromarray((60000 * GREY).astype(np.uint16)), "TIFF", tiffinfo={262: 0})
    plain = read(saved(Raster.fromarray((60000 * GREY).astype(np.uint16)), "TIFF"), "TIFF")
    assert np.allclose(read(data, "TIFF").pixels, 1 - plain.pixels)


@pytest.mark.parametrize(("top", "is_down"), [(4095, True), (16383, True), (16384, False)])
def test_fewer_bits_counted_down_from_white_in_a_16_bit_tiff_are_not_black(top: int, is_down: bool) -> None:
    stored = np.rint(top * GREY / GREY.max()).astype(np.uint16)
    decoded = read(saved(Raster.fromarray(65535 - stored), "TIFF", tiffinfo={262: 0}), "TIFF")
    assert decoded.pixels.max() == pytest.approx(1 if is_down else top / 65535, abs=1e-3)
    assert decoded.pixels.min() < 0.1 and bool(decoded.warnings) is is_down


def test_a_frame_of_several_is_chosen_and_named() -> None:
    pages = [Raster.fromarray((GREY * level).astype(np.uint8)) for level in (255, 100, 50)]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    first, second = read(data, "TIFF"), read(data, "TIFF", frame=1)
    assert first.n_frames == 3 and second.frame == 1 and second.pixels.max() < first.pixels.max()
    assert "3 frames" in second.warnings[0]
    with pytest.raises(UnreadableImage, match="from 0 to 2"):
        read(data, "TIFF", frame=3)


def test_partial_transparency_is_shown_over_black() -> None:
    alpha = np.dstack([(GREY * 255).astype(np.uint8), np.full(GREY.shape, 128, np.uint8)])
    pixels = read(saved(Raster.fromarray(alpha))).pixels
    assert np.abs(pixels - GREY * 128 / 255).max() < 0.01


def _16_bit_colour_png() -> bytes:
    import struct
    import zlib

    row = b"\0" + np.full((40, 3), 3000, ">u2").tobytes()
    chunks = [
        (b"IHDR", struct.pack(">2I5B", 40, 40, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 40)),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


ANIMATED = [Raster.fromarray((GREY * level).astype(np.uint8)) for level in (255, 90)]
REFUSED = {
    "1 bit": (saved(Raster.fromarray(GREY > 0.3)), "PNG", "1 bit"),
    "CMYK": (saved(Raster.new("CMYK", (64, 64)), "JPEG"), "JPEG", "CMYK"),
    "transparent": (saved(Raster.new("RGBA", (64, 64))), "PNG", "transparent"),
    "animated": (saved(ANIMATED[0], "PNG", save_all=True, append_images=ANIMATED[1:]), "PNG", "animated"),
    "animated WebP": (saved(ANIMATED[0], "WebP", save_all=True, append_images=ANIMATED[1:]), "WebP", "animated"),
    "small": (saved(Raster.new("L", (31, 200), 90)), "PNG", "fewer than 32"),
    "cut PNG": (encoded(GREY)[:900], "PNG", "cut short"),
    "cut JPEG": (encoded(GREY, "JPEG")[:1500], "JPEG", "cut short"),
    "cut TIFF": (encoded(GREY, "TIFF")[:9000], "TIFF", "cut short"),
    "NaN": (saved(Raster.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF"), "TIFF", "not numbers"),
    "32 bits": (
        saved(Raster.fromarray(np.arange(64 * 64, dtype=np.int32).reshape(64, 64) * 17), "TIFF"),
        "TIFF",
        "further apart than 16 bits",
    ),
    "infinite": (saved(Raster.fromarray(np.full((64, 64), np.inf, np.float32)), "TIFF"), "TIFF", "not numbers"),
    "dark deep colour": (_16_bit_colour_png(), "PNG", "16-bit grey"),
    "another kind": (saved(Raster.new("L", (64, 64)), "GIF"), "PNG", "damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str) -> None:
    data, kind, words = REFUSED[name]
    with pytest.raises(UnreadableImage, match=words):
        read(data, kind)


def test_size_is_refused_from_the_header_alone() -> None:
    data = encoded(GREY)
    header = data[:16] + (65535).to_bytes(4, "big") * 2 + data[24:]
    import zlib

    header = header[:29] + zlib.crc32(header[12:29]).to_bytes(4, "big") + header[33:]
    with pytest.raises(UnreadableImage, match="larger than this site reads"):
        read(header)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("dpi", "aspect"), [((200, 100), 2.0), ((100, 200), 0.5), ((300, 300), 1.0), ((100, 9000), 1.0)]
)
def test_the_aspect_of_pixels_comes_from_the_resolution(kind: str, dpi: tuple[int, int], aspect: float) -> None:
    picture = Raster.fromarray((GREY * 255).astype(np.uint8))
    assert read(saved(picture, kind, dpi=dpi), kind).pixel_aspect == pytest.approx(aspect, abs=0.02)
    exif = Raster.Exif()
    exif[0x0112] = 6
    if kind != "TIFF":
        turned = read(saved(picture, kind, dpi=dpi, exif=exif), kind)
        assert turned.pixel_aspect == pytest.approx(1 / aspect, abs=0.02)


def test_decimal_values_without_a_range_are_said_to_be_a_guess() -> None:
    inside = read(saved(Raster.fromarray(GREY), "TIFF"), "TIFF")
    beyond = read(saved(Raster.fromarray(GREY * 4000), "TIFF"), "TIFF")
    assert not inside.warnings and any("decimal numbers" in sentence for sentence in beyond.warnings)


def _tiff(
    values: np.ndarray, photometric: int, planar: int = 1, extra: dict[int, tuple[int, ...]] | None = None
) -> bytes:
    """A little-endian TIFF, one strip a plane, with the samples of `values`, (H, W) or (H, W, 3), as they are."""
    samples = values.shape[2] if values.ndim == 3 else 1
    data = (np.moveaxis(values, 2, 0) if planar == 2 else values).tobytes()
    strips = samples if planar == 2 else 1
    size = len(data) // strips
    fields: dict[int, tuple[int, ...]] = {
        256: values.shape[1::-1][:1], 257: values.shape[:1], 258: (8 * values.dtype.itemsize,) * samples, 259: (1,),
        262: (photometric,), 273: tuple(8 + number * size for number in range(strips)), 277: (samples,),
        278: values.shape[:1], 279: (size,) * strips, 284: (planar,),
        339: ({"u": 1, "i": 2, "f": 3}[values.dtype.kind],) * samples, **(extra or {}),
    }  # fmt: skip
    entries, behind = b"", b""
    start = 8 + len(data) + 2 + 12 * len(fields) + 4
    for tag in sorted(fields):
        kind = "I" if tag in (273, 279) else "H"
        content = struct.pack(f"<{len(fields[tag])}{kind}", *fields[tag])
        if len(content) > 4:
            content, behind = struct.pack("<I", start + len(behind)), behind + content
        entries += struct.pack("<HHI", tag, 4 if kind == "I" else 3, len(fields[tag])) + content.ljust(4, b"\0")
    directory = struct.pack("<H", len(fields)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + behind


TWELVE = np.round(GREY * 4095).astype(np.uint16)
COLOUR_12, COLOUR_16 = (np.repeat(TWELVE[..., None] * factor, 3, axis=2) for factor in (1, 16))


def test_decimal_values_whose_white_is_zero_are_inverted_too() -> None:
    assert np.abs(read(_tiff((1 - GREY).astype(np.float32), 0), "TIFF").pixels - GREY).max() < 1e-5
    assert np.abs(read(_tiff(GREY.astype(np.float32), 1), "TIFF").pixels - GREY).max() < 1e-5


def test_deep_colour_of_a_tiff_is_read_only_where_its_upper_bits_hold_the_picture() -> None:
    assert np.abs(read(_tiff(COLOUR_16, 2), "TIFF").pixels - GREY).max() < 0.01
    with pytest.raises(UnreadableImage, match="16-bit grey TIFF"):
        read(_tiff(COLOUR_12, 2), "TIFF")
    with pytest.raises(UnreadableImage, match="plane by plane"):
        read(_tiff(COLOUR_16, 2, planar=2), "TIFF")
    eight = (COLOUR_16 >> 8).astype(np.uint8)
    assert np.abs(read(_tiff(eight, 2, planar=2), "TIFF").pixels - GREY).max() < 0.01


def test_a_palette_of_8_bits_in_a_tiff_is_not_shown_black() -> None:
    levels = (GREY * 255).astype(np.uint8)
    wide, narrow = ({320: tuple(level * step for level in range(256)) * 3} for step in (257, 1))
    assert np.abs(read(_tiff(levels, 3, extra=wide), "TIFF").pixels - GREY).max() < 0.01
    with pytest.raises(UnreadableImage, match="palette of 8 bits"):
        read(_tiff(levels, 3, extra=narrow), "TIFF")


@pytest.mark.parametrize(
    ("marker", "precision", "words"),
    [(0xC1, 12, "12 bits"), (0xC3, 8, "lossless"), (0xC9, 8, "arithmetic"), (0xF7, 8, "JPEG-LS")],
)
def test_a_jpeg_that_is_not_read_is_called_what_it_is(marker: int, precision: int, words: str) -> None:
    data = bytearray(encoded(GREY, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, precision
    with pytest.raises(UnreadableImage, match=words):
        read(bytes(data), "JPEG")


def test_a_layout_that_is_not_read_is_not_only_called_damage() -> None:
    with pytest.raises(UnreadableImage, match="in a way this product does not read"):
        read(_tiff(GREY.astype(np.float64), 1), "TIFF")
