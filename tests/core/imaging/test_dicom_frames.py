"""The same picture, however it is stored: bits, colour, samples and fragments are settled whatever the codec."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_frames import (
    BASELINE,
    EXPLICIT,
    JPEG_2000,
    JPEG_LS,
    LOSSLESS,
    RLE,
    jpeg_2000_frame,
    jpeg_frame,
    jpeg_ls_frame,
    lossless_frame,
    raw_jpeg_frame,
    rle_frame,
    to_ycbcr,
)
from made_images import US, dicom, stored_mammogram, tissue, ultrasound
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from core.errors import UnreadableImage
from core.imaging.decoded import Decoded, Limits
from core.imaging.dicom import codestream
from core.imaging.dicom.read import read_dicom
from core.settings import Settings

LIMITS = Limits.of(Settings())
WINDOW = {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}
STORED = stored_mammogram(height=161, width=123)  # odd sizes find what even ones hide
GREY = STORED / 4095
COLOUR = (tissue(96) * 255).astype(np.uint8)
ULTRASOUND = (ultrasound(120, 160) * 255).astype(np.uint8)
GREY_RGB = np.repeat(ULTRASOUND[..., None], 3, axis=2)
OF_US: dict[str, Any] = {"SOPClassUID": US, "Modality": "US", "ViewPosition": None, "bits": 8}
GREY_CODECS: dict[str, Callable[[np.ndarray], bytes] | None] = {
    EXPLICIT: None,
    RLE: rle_frame,
    JPEG_LS: jpeg_ls_frame,
    JPEG_2000: jpeg_2000_frame,
    LOSSLESS: lossless_frame,
}


def read(data: bytes, **options: Any) -> Decoded:
    return read_dicom(io.BytesIO(data), limits=LIMITS, **options)


def grey_file(values: np.ndarray, syntax: str, **tags: Any) -> bytes:
    encode = GREY_CODECS[syntax]
    frames = None if encode is None else [encode(values)]
    return dicom(values, syntax=syntax, frames=frames, **{**WINDOW, **tags})


def colour_file(values: np.ndarray, syntax: str, frame: bytes | None, photometric: str, **tags: Any) -> bytes:
    frames = None if frame is None else [frame]
    return dicom(values, syntax=syntax, frames=frames, PhotometricInterpretation=photometric, **{**OF_US, **tags})


def difference(decoded: Decoded, expected: np.ndarray) -> float:
    assert decoded.pixels.shape == expected.shape
    return float(np.abs(decoded.pixels - expected).mean())


def warned(decoded: Decoded, words: str) -> bool:
    return any(words in sentence for sentence in decoded.warnings)


@pytest.mark.parametrize("syntax", GREY_CODECS)
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bits_above_the_stored_ones_are_no_grey_values(syntax: str, bits: int) -> None:
    stored = np.round(GREY * ((1 << bits) - 1)).astype(np.uint16)
    overlay = stored.copy()
    overlay[20:60, 20:60] |= np.uint16(0xFFFF & ~((1 << bits) - 1))
    window = {"WindowCenter": ((1 << bits) - 1) / 2, "WindowWidth": (1 << bits) - 1}
    decoded = read(grey_file(overlay, syntax, bits=bits, **window))
    assert difference(decoded, GREY) < 1e-3 and warned(decoded, "bits above were left out")
    assert not warned(read(grey_file(stored, syntax, bits=bits, **window)), "bits above")


@pytest.mark.parametrize("syntax", GREY_CODECS)
@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (10, 15)])
def test_values_that_end_at_the_high_bit_are_shifted_down(syntax: str, bits: int, high: int) -> None:
    values = np.round(GREY * ((1 << bits) - 1)).astype(np.uint16) << (high + 1 - bits)
    window = {"WindowCenter": ((1 << bits) - 1) / 2, "WindowWidth": (1 << bits) - 1}
    assert difference(read(grey_file(values, syntax, bits=bits, HighBit=high, **window)), GREY) < 1e-3


def test_a_codestream_without_room_for_the_high_bit_is_not_shifted() -> None:
    import jpeg_ls

    frame = bytes(jpeg_ls.encode(STORED))  # 12 bits, as its own header says
    assert frame[frame.index(b"\xff\xf7") + 4] == 12
    assert difference(read(dicom(STORED, syntax=JPEG_LS, frames=[frame], HighBit=15, **WINDOW)), GREY) < 1e-3


@pytest.mark.parametrize("syntax", GREY_CODECS)
def test_signed_values_keep_their_sign_whatever_the_bits_above(syntax: str) -> None:
    signed = STORED.astype(np.int16) - 2048
    bits = signed.view(np.uint16) & np.uint16(0x0FFF)  # 12 bits of a two's complement, nothing above
    window = {"WindowCenter": -0.5, "WindowWidth": 4095, "PixelRepresentation": 1}
    decoded = read(grey_file(bits, syntax, **window))
    assert difference(decoded, GREY) < 1e-3 and not warned(decoded, "bits above")
    extended = read(grey_file(signed.view(np.uint16), syntax, **window))
    assert difference(extended, GREY) < 1e-3 and not warned(extended, "bits above")


@pytest.mark.parametrize("bits", [12, 16])
def test_a_codestream_with_signs_of_its_own_is_read_by_the_header_s(bits: int) -> None:
    from openjpeg.utils import encode_array

    signed = (np.round(GREY * ((1 << bits) - 1)) - (1 << (bits - 1))).astype(np.int16)
    frame = bytes(encode_array(signed, bits_stored=bits, photometric_interpretation=2, use_mct=False, codec_format=0))
    assert frame[42] & 0x80  # JPEG 2000 that says so itself
    window = {"WindowCenter": -0.5, "WindowWidth": (1 << bits) - 1, "VOILUTFunction": "LINEAR_EXACT"}
    decoded = read(dicom(signed, syntax=JPEG_2000, frames=[frame], bits=bits, **window))
    assert difference(decoded, GREY) < 1e-3


@pytest.mark.parametrize("syntax", GREY_CODECS)
def test_monochrome1_is_inverted_in_every_codec(syntax: str) -> None:
    assert difference(read(grey_file(4095 - STORED, syntax, PhotometricInterpretation="MONOCHROME1")), GREY) < 1e-3


def with_jfif(frame: bytes) -> bytes:
    return frame[:2] + b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + frame[2:]


LOSSY = 0.03
EXACT = 2e-3
RGB = COLOUR / 255
BY_PLANES = COLOUR.transpose(2, 0, 1).tobytes()
COLOURS: dict[str, tuple[bytes, np.ndarray, float]] = {
    "JPEG, JFIF, labelled RGB": (colour_file(COLOUR, BASELINE, jpeg_frame(COLOUR), "RGB"), RGB, LOSSY),
    "JPEG 4:2:0 without a marker, labelled RGB": (
        colour_file(COLOUR, BASELINE, jpeg_frame(COLOUR, jfif=False, subsampling=2), "RGB"), RGB, 2 * LOSSY,
    ),
    "JPEG 4:2:2 without a marker, labelled RGB": (
        colour_file(COLOUR, BASELINE, jpeg_frame(COLOUR, jfif=False, subsampling=1), "RGB"), RGB, 2 * LOSSY,
    ),
    "JPEG 4:4:4 without a marker, labelled RGB, nearly grey": (
        colour_file(GREY_RGB, BASELINE, jpeg_frame(GREY_RGB, jfif=False), "RGB"), GREY_RGB / 255, LOSSY,
    ),
    "JPEG 4:4:4 without a marker, labelled YBR": (
        colour_file(COLOUR, BASELINE, jpeg_frame(COLOUR, jfif=False), "YBR_FULL_422"), RGB, LOSSY,
    ),
    "JPEG, RGB inside by Adobe's marker, labelled YBR": (
        colour_file(COLOUR, BASELINE, raw_jpeg_frame(COLOUR, adobe=True), "YBR_FULL_422"), RGB, LOSSY,
    ),
    "JPEG, RGB inside without a marker, labelled RGB": (
        colour_file(COLOUR, BASELINE, raw_jpeg_frame(COLOUR), "RGB"), RGB, LOSSY,
    ),
    "JPEG, RGB inside without a marker, labelled YBR, nearly grey": (
        colour_file(GREY_RGB, BASELINE, raw_jpeg_frame(GREY_RGB), "YBR_FULL"), GREY_RGB / 255, LOSSY,
    ),
    "JPEG, RGB inside behind a JFIF marker, nearly grey": (
        colour_file(GREY_RGB, BASELINE, with_jfif(raw_jpeg_frame(GREY_RGB)), "RGB"), GREY_RGB / 255, LOSSY,
    ),
    "JPEG 2000 that transformed YCbCr once more, nearly grey": (
        colour_file(GREY_RGB, JPEG_2000, jpeg_2000_frame(to_ycbcr(GREY_RGB), mct=True), "YBR_FULL"),
        GREY_RGB / 255, 2 * EXACT,
    ),
    "JPEG with PlanarConfiguration 1": (
        colour_file(COLOUR, BASELINE, jpeg_frame(COLOUR), "YBR_FULL_422", PlanarConfiguration=1), RGB, LOSSY,
    ),
    "JPEG of a colour picture that calls itself grey": (
        colour_file(COLOUR, BASELINE, jpeg_frame(COLOUR), "MONOCHROME2", SamplesPerPixel=1), RGB, LOSSY,
    ),
    "JPEG lossless with PlanarConfiguration 1": (
        colour_file(COLOUR, LOSSLESS, lossless_frame(COLOUR), "RGB", PlanarConfiguration=1), RGB, EXACT,
    ),
    "JPEG-LS with PlanarConfiguration 1": (
        colour_file(COLOUR, JPEG_LS, jpeg_ls_frame(COLOUR), "RGB", PlanarConfiguration=1), RGB, EXACT,
    ),
    "JPEG-LS of YCbCr": (colour_file(COLOUR, JPEG_LS, jpeg_ls_frame(to_ycbcr(COLOUR)), "YBR_FULL"), RGB, 2 * EXACT),
    "JPEG 2000 with PlanarConfiguration 1": (
        colour_file(COLOUR, JPEG_2000, jpeg_2000_frame(COLOUR, mct=True), "YBR_RCT", PlanarConfiguration=1), RGB, EXACT,
    ),
    "JPEG 2000 with its own transform, labelled YBR_FULL": (
        colour_file(COLOUR, JPEG_2000, jpeg_2000_frame(COLOUR, mct=True), "YBR_FULL"), RGB, EXACT,
    ),
    "JPEG 2000 with its own transform, labelled YBR_FULL_422": (
        colour_file(COLOUR, JPEG_2000, jpeg_2000_frame(COLOUR, mct=True), "YBR_FULL_422"), RGB, EXACT,
    ),
    "JPEG 2000 with its own transform, labelled RGB": (
        colour_file(COLOUR, JPEG_2000, jpeg_2000_frame(COLOUR, mct=True), "RGB"), RGB, EXACT,
    ),
    "JPEG 2000 without a transform, labelled YBR_ICT": (
        colour_file(COLOUR, JPEG_2000, jpeg_2000_frame(COLOUR), "YBR_ICT"), RGB, EXACT,
    ),
    "JPEG 2000 of YCbCr": (
        colour_file(COLOUR, JPEG_2000, jpeg_2000_frame(to_ycbcr(COLOUR)), "YBR_FULL"), RGB, 2 * EXACT,
    ),
    "RLE of YCbCr labelled 4:2:2": (
        colour_file(COLOUR, RLE, rle_frame(to_ycbcr(COLOUR)), "YBR_FULL_422"), RGB, 2 * EXACT,
    ),
    "RLE of YCbCr labelled RGB, nearly grey": (
        colour_file(GREY_RGB, RLE, rle_frame(to_ycbcr(GREY_RGB)), "RGB"), GREY_RGB / 255, 2 * EXACT,
    ),
    "native YCbCr labelled RGB, nearly grey": (
        colour_file(to_ycbcr(GREY_RGB), EXPLICIT, None, "RGB"), GREY_RGB / 255, 2 * EXACT,
    ),
    "native RGB labelled YBR_FULL, nearly grey": (
        colour_file(GREY_RGB, EXPLICIT, None, "YBR_FULL"), GREY_RGB / 255, EXACT,
    ),
    "native 4:2:2 at full size": (colour_file(to_ycbcr(COLOUR), EXPLICIT, None, "YBR_FULL_422"), RGB, 2 * EXACT),
    "native RGB by planes": (
        colour_file(COLOUR, EXPLICIT, None, "RGB", PlanarConfiguration=1, PixelData=BY_PLANES),
        RGB, EXACT,
    ),
    "native RGB in small letters": (colour_file(COLOUR, EXPLICIT, None, "rgb"), RGB, EXACT),
    "native RGB without SamplesPerPixel": (
        colour_file(COLOUR, EXPLICIT, None, "RGB", SamplesPerPixel=None), RGB, EXACT,
    ),
    "native RGB without a photometric interpretation": (
        dicom(COLOUR, **{**OF_US, "PhotometricInterpretation": None}), RGB, EXACT,
    ),
    "native RGB without PlanarConfiguration": (
        colour_file(COLOUR, EXPLICIT, None, "RGB", PlanarConfiguration=None), RGB, EXACT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_those_inside_and_not_those_of_the_label(name: str) -> None:
    data, expected, tolerance = COLOURS[name]
    assert difference(read(data), expected) < tolerance


def test_a_true_4_2_2_picture_is_not_taken_for_one_at_full_size() -> None:
    ycbcr = to_ycbcr(GREY_RGB).reshape(-1, 2, 3)
    packed = np.stack([ycbcr[:, 0, 0], ycbcr[:, 1, 0], ycbcr[:, 0, 1], ycbcr[:, 0, 2]], -1).astype(np.uint8)
    data = colour_file(GREY_RGB, EXPLICIT, None, "YBR_FULL_422", PixelData=packed.tobytes())
    decoded = read(data)
    assert difference(decoded, GREY_RGB / 255) < 2 * EXACT and not warned(decoded, "full size")


def test_4_2_2_under_the_label_of_full_size_is_read_as_what_it_is() -> None:
    ycbcr = to_ycbcr(GREY_RGB).reshape(-1, 2, 3)
    packed = np.stack([ycbcr[:, 0, 0], ycbcr[:, 1, 0], ycbcr[:, 0, 1], ycbcr[:, 0, 2]], -1).astype(np.uint8)
    decoded = read(colour_file(GREY_RGB, EXPLICIT, None, "YBR_FULL", PixelData=packed.tobytes()))
    assert difference(decoded, GREY_RGB / 255) < 2 * EXACT and warned(decoded, "as 4:2:2")


def test_what_the_samples_show_against_the_label_is_said() -> None:
    assert warned(read(COLOURS["native YCbCr labelled RGB, nearly grey"][0]), "look like YCbCr")
    assert not warned(read(COLOURS["JPEG, JFIF, labelled RGB"][0]), "look like")


def test_grey_in_a_file_that_says_colour_is_grey() -> None:
    data = colour_file(GREY_RGB, BASELINE, jpeg_frame(ULTRASOUND), "YBR_FULL_422")
    decoded = read(data)
    assert difference(decoded, ULTRASOUND / 255) < LOSSY and warned(decoded, "disagree on grey and colour")


def table(entries: np.ndarray, bits: int, first: int = 0) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, bits], entries.astype(np.uint16).tolist()
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return Sequence([item])


@pytest.mark.parametrize(
    ("highest", "described", "stored", "depth"),
    [
        (4095, 16, 12, 12), (4095, 14, 12, 12), (1023, 16, 10, 10), (255, 16, 12, 8), (255, 8, 12, 8),
        (4095, 12, 12, 12), (1000, 12, 12, 12), (65535, 16, 12, 16), (16383, 14, 12, 14), (16383, 16, 14, 14),
        (4095, 8, 12, 12), (4096, 16, 12, 16), (4095, 0, 12, 12), (16383, 32, 14, 14),
    ],
)  # fmt: skip
def test_the_depth_of_a_voi_lut_comes_from_its_entries(highest: int, described: int, stored: int, depth: int) -> None:
    values = np.round(GREY * ((1 << stored) - 1)).astype(np.uint16)
    voi = table(np.linspace(0, highest, 1 << stored).round(), described)
    decoded = read(dicom(values, bits=stored, VOILUTSequence=voi))
    assert difference(decoded, GREY * highest / ((1 << depth) - 1)) < 3e-3
    assert warned(decoded, "lookup table") == (depth != described)


@pytest.mark.parametrize("described", [8, 16])
@pytest.mark.parametrize("layout", ["packed", "words"])
def test_palette_entries_of_8_bits_are_read_packed_and_in_words(described: int, layout: str) -> None:
    palette: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        entries = np.arange(256).astype("<u2" if layout == "words" else np.uint8)
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, described]
        palette[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    decoded = read(dicom(ULTRASOUND, **OF_US, PhotometricInterpretation="PALETTE COLOR", **palette))
    assert difference(decoded, GREY_RGB / 255) < EXACT


def test_a_palette_of_16_bits_stays_one_of_16_bits() -> None:
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, share in (("Red", 1.0), ("Green", 0.5), ("Blue", 0.002)):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{colour}PaletteColorLookupTableData"] = (np.arange(256) * 257 * share).astype("<u2").tobytes()
    pixels = read(dicom(ULTRASOUND, **OF_US, **palette)).pixels
    assert np.abs(pixels - GREY_RGB / 255 * [1, 0.5, 0.002]).max() < 1e-4


@pytest.mark.parametrize("padding", [63488, 2048])
def test_padding_written_unsigned_beside_signed_samples_is_black(padding: int) -> None:
    """-2048 of 12 bits, once as 16 bits of two's complement and once as the 12 stored ones."""
    signed = np.clip(STORED.astype(np.int16) - 2047, -2047, 2047)
    signed[:30] = -2048
    tags = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 0, "WindowWidth": 4096}
    data = bytearray(dicom(signed, PixelPaddingValue=-2048, **tags))
    at = data.index(struct.pack("<HH2sHh", 0x0028, 0x0120, b"SS", 2, -2048))
    data[at + 4 : at + 10] = b"US" + struct.pack("<HH", 2, padding)
    assert read(bytes(data)).pixels[:30].max() == 0


def test_a_padding_value_that_no_stored_bits_can_hold_covers_nothing() -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0x5000, **WINDOW}
    decoded = read(dicom(STORED, **tags))
    assert decoded.pixels.max() == 1 and "padding shown black" not in decoded.notes


def test_8_bits_without_a_window_are_shown_as_stored_in_grey_as_in_colour() -> None:
    dim = ULTRASOUND // 3
    assert difference(read(dicom(dim, **OF_US)), dim / 255) < 1e-4
    assert difference(read(dicom(np.repeat(dim[..., None], 3, axis=2), **OF_US)), GREY_RGB // 3 / 255) < 1e-4
    inverted = dicom(255 - dim, PhotometricInterpretation="MONOCHROME1", **OF_US)
    assert difference(read(inverted), dim / 255) < 1e-4
    in_words = {**OF_US, "BitsStored": 8, "HighBit": 7}
    assert difference(read(dicom(dim.astype(np.uint16), **in_words)), dim / 255) < 1e-4


def test_more_than_8_bits_without_a_window_are_said_to_be_a_guess() -> None:
    assert warned(read(dicom(STORED // 4)), "are a guess") and not warned(read(dicom(ULTRASOUND, **OF_US)), "guess")


GREY_JPEG = jpeg_frame(ULTRASOUND)
PADDINGS = {"zeros": b"\0" * 200, "ones": b"\xff" * 62, "words": b"PADDING " * 20, "a second end": b"\0\0\xff\xd9\0\0"}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("syntax", [BASELINE, JPEG_LS, JPEG_2000, LOSSLESS])
def test_padding_after_the_end_marker_is_no_damage(syntax: str, padding: str) -> None:
    if syntax == BASELINE:
        data = dicom(ULTRASOUND, syntax=syntax, frames=[GREY_JPEG + PADDINGS[padding]], **OF_US)
        assert difference(read(data), ULTRASOUND / 255) < LOSSY
        return
    encode = GREY_CODECS[syntax]
    assert encode is not None
    data = dicom(STORED, syntax=syntax, frames=[encode(STORED) + PADDINGS[padding]], **WINDOW)
    assert difference(read(data), GREY) < 1e-3


@pytest.mark.parametrize("syntax", [BASELINE, JPEG_LS, JPEG_2000, LOSSLESS])
def test_a_codestream_without_its_end_is_cut_short_whatever_pads_it(syntax: str) -> None:
    encode = GREY_CODECS.get(syntax)
    frame = GREY_JPEG if encode is None else encode(STORED)
    values, tags = (ULTRASOUND, OF_US) if encode is None else (STORED, WINDOW)
    cut = frame[: 2 * len(frame) // 3]
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        read(dicom(values, syntax=syntax, frames=[cut + b"\0" * 100], **tags))


def in_parts(frame: bytes, n: int) -> list[bytes]:
    size = -(-len(frame) // n)
    size += size % 2
    parts = [frame[start : start + size] for start in range(0, len(frame), size)]
    return [part + b"\0" * (len(part) % 2) for part in parts]


def encapsulated(fragments: list[bytes], offsets: list[int], *, has_end: bool = True) -> bytes:
    items = [struct.pack("<HHI", 0xFFFE, 0xE000, 4 * len(offsets)) + struct.pack(f"<{len(offsets)}I", *offsets)]
    items += [struct.pack("<HHI", 0xFFFE, 0xE000, len(fragment)) + fragment for fragment in fragments]
    return b"".join([*items, struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if has_end else b""])


def with_pixel_data(data: bytes, item_sequence: bytes) -> bytes:
    """The file with everything from PixelData's value on replaced."""
    at = data.index(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12
    return data[:at] + item_sequence


FRAMES = [jpeg_frame(ULTRASOUND), jpeg_frame(ULTRASOUND // 2), jpeg_frame(ULTRASOUND // 3)]
ONE = dicom(ULTRASOUND, syntax=BASELINE, frames=[GREY_JPEG], **OF_US)
THREE = dicom(ULTRASOUND, syntax=BASELINE, frames=FRAMES, NumberOfFrames=3, **OF_US)


def starts_of(fragments: list[bytes]) -> list[int]:
    return [8 * number + sum(map(len, fragments[:number])) for number in range(len(fragments))]


@pytest.mark.parametrize("offsets", ["none", "of the frame", "of every fragment"])
def test_one_frame_in_many_fragments_is_one_frame_whatever_the_offset_table_says(offsets: str) -> None:
    parts = in_parts(GREY_JPEG, 9)
    table_of = {"none": [], "of the frame": [0], "of every fragment": starts_of(parts)}
    decoded = read(with_pixel_data(ONE, encapsulated(parts, table_of[offsets])))
    assert difference(decoded, ULTRASOUND / 255) < LOSSY


@pytest.mark.parametrize("offsets", ["none", "of the frames", "of every fragment", "wrong"])
def test_fragments_of_several_frames_are_told_apart(offsets: str) -> None:
    parts = [in_parts(frame, n) for frame, n in zip(FRAMES, (4, 1, 3), strict=True)]
    fragments = [part for frame in parts for part in frame]
    starts = starts_of(fragments)
    table_of = {
        "none": [], "of the frames": [starts[0], starts[4], starts[5]], "of every fragment": starts,
        "wrong": [0, 10, 20],
    }  # fmt: skip
    data = with_pixel_data(THREE, encapsulated(fragments, table_of[offsets]))
    for index, share in enumerate((1, 2, 3)):
        assert difference(read(data, frame=index), ULTRASOUND // share / 255) < LOSSY


def test_a_file_without_an_offset_table_begins_with_its_first_fragment() -> None:
    for data, fragments in ((ONE, in_parts(GREY_JPEG, 3)), (THREE, FRAMES)):
        items = encapsulated(fragments, [])[8:]  # nothing before the first fragment
        assert difference(read(with_pixel_data(data, items)), ULTRASOUND / 255) < LOSSY
    rle = dicom(STORED, syntax=RLE, frames=[rle_frame(STORED)], **WINDOW)
    assert difference(read(with_pixel_data(rle, encapsulated([rle_frame(STORED)], [])[8:])), GREY) < 1e-3


def test_frames_that_are_not_there_are_refused_for_what_they_are() -> None:
    data = with_pixel_data(THREE, encapsulated(FRAMES[:2], []))
    with pytest.raises(UnreadableImage, match="announces 3 frames"):
        read(data)


@pytest.mark.parametrize("syntax", [BASELINE, JPEG_LS, JPEG_2000, RLE])
def test_a_file_that_ends_without_a_delimiter_is_read(syntax: str) -> None:
    encode = GREY_CODECS.get(syntax)
    frame = GREY_JPEG if encode is None else encode(STORED)
    values, tags = (ULTRASOUND, OF_US) if encode is None else (STORED, WINDOW)
    data = dicom(values, syntax=syntax, frames=[frame], **tags)
    assert data.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    for end in (-8, -4):
        assert read(data[:end]).pixels.std() > 0.1
    assert warned(read(data[:-8]), "ends without the mark") and not warned(read(data), "ends without the mark")
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        read(data[: -len(frame) // 2])


def that_claims(data: bytes, syntax: str) -> bytes:
    """The file with another transfer syntax in its head."""
    at = data.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = int.from_bytes(data[140:144], "little") + len(value) - length
    head = data[:140] + meta.to_bytes(4, "little") + data[144 : at + 6]
    return head + len(value).to_bytes(2, "little") + value + data[at + 8 + length :]


@pytest.mark.parametrize(("syntax", "claimed"), [("1.2.840.10008.1.2", EXPLICIT), (EXPLICIT, "1.2.840.10008.1.2")])
def test_implicit_data_under_an_explicit_syntax_and_the_reverse_are_read(syntax: str, claimed: str) -> None:
    assert difference(read(that_claims(dicom(STORED, syntax=syntax, **WINDOW), claimed)), GREY) < 1e-3


@pytest.mark.parametrize(
    ("syntax", "inside"), [(BASELINE, LOSSLESS), (LOSSLESS, JPEG_LS), (JPEG_LS, JPEG_2000), (JPEG_2000, JPEG_LS)]
)
def test_a_codestream_is_decoded_as_what_it_is(syntax: str, inside: str) -> None:
    encode = GREY_CODECS[inside]
    assert encode is not None
    assert difference(read(dicom(STORED, syntax=syntax, frames=[encode(STORED)], **WINDOW)), GREY) < 1e-3


def test_native_data_under_a_compressed_syntax_are_read_where_their_size_is_exact() -> None:
    assert difference(read(that_claims(dicom(STORED, **WINDOW), BASELINE)), GREY) < 1e-3


@pytest.mark.parametrize("value", ["Monochrome2", "monochrome2", "MONOCHROME2 ", " MONOCHROME2\0"])
def test_a_photometric_interpretation_in_other_letters_is_the_same(value: str) -> None:
    assert difference(read(dicom(STORED, PhotometricInterpretation=value, **WINDOW)), GREY) < 1e-3


@pytest.mark.parametrize(
    "missing", ["SamplesPerPixel", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"]
)
@pytest.mark.parametrize("syntax", GREY_CODECS)
def test_a_missing_element_takes_the_value_that_the_others_leave_it(missing: str, syntax: str) -> None:
    decoded = read(grey_file(STORED, syntax, **{missing: None}))
    assert difference(decoded, GREY) < 1e-3
    assert warned(decoded, "high values are white") == (missing == "PhotometricInterpretation")


@pytest.mark.parametrize(("shape", "sign"), [("IDENTITY", 1), ("INVERSE", -1)])
def test_a_missing_photometric_interpretation_is_told_by_the_presentation(shape: str, sign: int) -> None:
    decoded = read(dicom(STORED, PhotometricInterpretation=None, PresentationLUTShape=shape, **WINDOW))
    assert difference(decoded, GREY if sign == 1 else 1 - GREY) < 1e-3 and not warned(decoded, "high values")


def test_a_presentation_that_contradicts_the_polarity_is_said() -> None:
    assert warned(read(dicom(STORED, PresentationLUTShape="INVERSE", **WINDOW)), "contradicts itself on what is black")
    assert not warned(read(dicom(STORED, PresentationLUTShape="IDENTITY", **WINDOW)), "contradicts")


def test_a_high_bit_that_leaves_no_room_is_put_right_with_a_warning() -> None:
    decoded = read(dicom(STORED, HighBit=7, **WINDOW))
    assert difference(decoded, GREY) < 1e-3 and warned(decoded, "highest bit")


def test_a_jpeg_2000_in_its_box_is_read() -> None:
    stream = jpeg_2000_frame(STORED)
    boxed = b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I4s4sI4s", 20, b"ftyp", b"jp2 ", 0, b"jp2 ")
    boxed += struct.pack(">I4s", 8 + len(stream), b"jp2c") + stream
    assert difference(read(dicom(STORED, syntax=JPEG_2000, frames=[boxed + b"\0"], **WINDOW)), GREY) < 1e-3


def test_several_native_frames_are_read_one_by_one() -> None:
    stack = np.stack([STORED, STORED // 2, STORED // 4])
    data = dicom(stack, NumberOfFrames=3, **WINDOW)
    for index in range(3):
        assert difference(read(data, frame=index), (STORED >> index) / 4095) < 1e-3


@pytest.mark.parametrize("make", [jpeg_frame, jpeg_2000_frame])
def test_a_codestream_cut_anywhere_is_refused_or_read_and_nothing_else(make: Callable[[np.ndarray], bytes]) -> None:
    whole = make((ultrasound(34, 40) * 255).astype(np.uint8))
    refused = 0
    for end in range(len(whole)):
        cut = whole[:end]
        try:
            if make is jpeg_frame:
                codestream.read_jpeg_header(cut), codestream.end_of_jpeg(cut), codestream.with_jpeg_transform(cut, 1)
            else:
                bare = codestream.bare_jpeg2000(cut)
                codestream.read_jpeg2000_header(bare), codestream.end_of_jpeg2000(bare)
        except UnreadableImage:
            refused += 1
    assert refused > 100


def test_a_segment_that_ends_behind_the_stream_is_damage() -> None:
    whole = bytearray(jpeg_frame((ultrasound(34, 40) * 255).astype(np.uint8)))
    start = whole.index(b"\xff\xc0")
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        codestream.read_jpeg_header(bytes(whole[: start + 9]))
    adobe = b"\xff\xd8\xff\xee\x00\x0eAdobe\x00"
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        codestream.read_jpeg_header(adobe)


def test_more_pixel_data_than_the_header_announces_are_said() -> None:
    words = "more pixel data than its header announces"
    assert warned(read(dicom(np.stack([STORED, STORED]), **WINDOW, NumberOfFrames=1)), words)
    assert warned(read(dicom(STORED, **WINDOW, BitsAllocated=8, BitsStored=8, HighBit=7)), words)
    assert not warned(read(dicom(STORED, **WINDOW)), words)
    odd = dicom(STORED, **WINDOW, PixelData=STORED.tobytes() + bytes(2 * STORED.shape[1] - 2))
    assert not warned(read(odd), words)


@pytest.mark.parametrize("syntax", [syntax for syntax, encode in GREY_CODECS.items() if encode is not None])
def test_a_second_compressed_picture_where_one_is_announced_is_said(syntax: str) -> None:
    frame = GREY_CODECS[syntax](STORED)
    words = "more pixel data than its header announces"
    assert warned(read(dicom(STORED, syntax=syntax, frames=[frame, frame], **WINDOW, NumberOfFrames=1)), words)
    assert not warned(read(dicom(STORED, syntax=syntax, frames=[frame], **WINDOW)), words)


@pytest.mark.parametrize(("allocated", "stored"), [(8, 16), (16, 17), (16, 0)])
def test_more_bits_than_there_is_room_for_are_called_that(allocated: int, stored: int) -> None:
    values = (STORED >> 4).astype(np.uint8) if allocated == 8 else STORED
    with pytest.raises(UnreadableImage, match=f"{stored} bits are stored in {allocated}"):
        read(dicom(values, **WINDOW, BitsStored=stored))


@pytest.mark.parametrize(("values", "allocated"), [(STORED, 8), ((STORED >> 4).astype(np.uint8), 16)])
def test_rle_of_other_bits_than_announced_is_not_called_damaged(values: np.ndarray, allocated: int) -> None:
    tags = {"BitsAllocated": allocated, "BitsStored": 8, "HighBit": 7}
    with pytest.raises(UnreadableImage, match="another number of bits"):
        read(dicom(values, syntax=RLE, frames=[rle_frame(values)], **tags))


def test_a_voi_lut_that_begins_below_zero_is_read_so_where_the_values_are_below_zero() -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [4096, 65536 - 1024, 12])
    item.add_new(0x00283006, "US", list(range(4096)))
    decoded = read(dicom(STORED, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=Sequence([item])))
    assert difference(decoded, GREY) < 1e-4 and not decoded.warnings


@pytest.mark.parametrize("value", ["MONOCHROME 2", ["MONOCHROME2", "MONOCHROME2"]])
def test_a_photometric_interpretation_with_a_gap_or_said_twice_is_the_same(value: Any) -> None:
    assert difference(read(dicom(STORED, **WINDOW, PhotometricInterpretation=value)), GREY) < 1e-4
    with pytest.raises(UnreadableImage, match="photometric"):
        read(dicom(STORED, **WINDOW, PhotometricInterpretation=["MONOCHROME1", "MONOCHROME2"]))


def _with_text(tag: int, value: str) -> Decoded:
    """The picture with a decimal string as it may stand in a file, whatever a library would write."""
    tags = {**WINDOW, "ImagerPixelSpacing": ["0.07", "0.07"], "EstimatedRadiographicMagnificationFactor": "1.25"}
    data = dicom(STORED, RescaleSlope="1", RescaleIntercept="0", **tags)
    at = data.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132)
    (length,) = struct.unpack_from("<H", data, at + 6)
    text = value.encode() + b" " * (len(value) % 2)
    return read(data[: at + 6] + struct.pack("<H", len(text)) + text + data[at + 8 + length :])


@pytest.mark.parametrize(
    ("tag", "value"), [(0x00281050, "2047,5"), (0x00281051, "4095,0"), (0x00281053, "1\\1"), (0x00281052, "0,000")]
)
def test_a_decimal_comma_or_a_number_said_twice_is_that_number(tag: int, value: str) -> None:
    decoded = _with_text(tag, value)
    assert difference(decoded, GREY) < 1e-4 and not decoded.warnings


def test_a_slope_of_two_values_or_none_is_refused() -> None:
    for value in ("1\\2", "nil", "1,000,0", "1,000", "-12,345"):
        with pytest.raises(UnreadableImage, match="rescale slope"):
            _with_text(0x00281053, value)


@pytest.mark.parametrize(
    ("tag", "value", "spacing", "words"),
    [
        (0x00181164, "0,07\\0,07", 0.056, ""), (0x00181164, "0.07x0.07", None, "spacing"),
        (0x00181164, "0.07", None, "spacing"), (0x00181164, "", None, ""), (0x00181114, "1,25", 0.056, ""),
        (0x00181114, "125", None, "magnification"), (0x00181114, "x", None, "magnification"),
        (0x00181114, "", 0.07, ""),
    ],
)  # fmt: skip
def test_a_spacing_or_magnification_that_cannot_be_used_is_said(
    tag: int, value: str, spacing: float | None, words: str
) -> None:
    decoded = _with_text(tag, value)
    assert decoded.spacing_mm == (pytest.approx((spacing, spacing)) if spacing else None)
    assert warned(decoded, "nothing can be measured") == bool(words) and warned(decoded, words) == bool(
        decoded.warnings
    )


@pytest.mark.parametrize("photometric", ["YBR_RCT", "YBR_ICT"])
@pytest.mark.parametrize("syntax", [EXPLICIT, RLE])
def test_colours_that_only_jpeg_2000_may_store_are_read_where_they_show_what_they_are(
    photometric: str, syntax: str
) -> None:
    def labelled(values: np.ndarray) -> Decoded:
        return read(colour_file(values, syntax, rle_frame(values) if syntax == RLE else None, photometric))

    unknown = labelled(COLOUR)
    assert "cannot be known" in unknown.pixels_unknown and unknown.pixels_unknown in unknown.warnings
    for values in (GREY_RGB, to_ycbcr(GREY_RGB)):
        shown = labelled(values)
        assert difference(shown, GREY_RGB / 255) < 2 * EXACT and not shown.pixels_unknown
        assert warned(shown, "only JPEG 2000 may store them")
    assert not read(COLOURS["JPEG 2000 without a transform, labelled YBR_ICT"][0]).pixels_unknown


def with_overlays(data: bytes, *positions: int) -> bytes:
    """With the header of an overlay in each of these bits."""
    from pydicom import dcmread

    header = dcmread(io.BytesIO(data))
    for number, position in enumerate(positions):
        header.add_new((0x6000 + 2 * number, 0x0100), "US", 16)
        header.add_new((0x6000 + 2 * number, 0x0102), "US", position)
    out = io.BytesIO()
    header.save_as(out)
    return out.getvalue()


DEEP = np.round(GREY * 16383).astype(np.uint16)
ROWS, COLUMNS_OF = np.mgrid[: DEEP.shape[0], : DEEP.shape[1]]
BRIGHT_SPOT = np.where(np.hypot(ROWS - 80, COLUMNS_OF - 40) < 12, 4500 - 60 * np.hypot(ROWS - 80, COLUMNS_OF - 40), 0)
RING = (np.abs(np.hypot(ROWS - 80, COLUMNS_OF - 60) - 20) < 1).astype(np.uint16)
HIGH: dict[str, tuple[np.ndarray, tuple[int, ...], bool, bool]] = {
    "14 bits under the label of 12": (DEEP, (), True, True),
    "14 bits under the label of 12, signed": (DEEP.astype(np.int16), (), True, True),
    "a bright spot of 13 bits": (np.maximum(STORED, BRIGHT_SPOT).astype(np.uint16), (), True, True),
    "an outline that no overlay describes": (STORED | RING << 13, (), True, False),
    "an overlay": (STORED | RING << 13, (13,), False, False),
    "two large overlays": (STORED | ((DEEP & 0x3000) << 1), (13, 14), False, False),
    "14 bits beside an overlay": (DEEP | RING << 15, (15,), True, True),
    "an overlay beside signs, repeated": (((STORED - 2048) ^ RING << 14).astype(np.int16), (14,), False, False),
    "an overlay beside signs, not repeated": (
        ((STORED - 2048 & 4095) | RING << 14).astype(np.int16),
        (14,),
        False,
        False,
    ),
    "a bright spot of 13 bits, signed": ((np.maximum(STORED, BRIGHT_SPOT) - 2048).astype(np.int16), (), True, True),
    "an overlay in the stored bits": (DEEP, (4, 5), True, True),
    "the same bits on every pixel": (STORED | np.uint16(0xA000), (), True, False),
    "nothing": (STORED, (), False, False),
}


@pytest.mark.parametrize("name", HIGH)
def test_values_above_the_stored_bits_are_not_scored_and_graphics_are_masked(name: str) -> None:
    values, overlays, is_said, is_unknown = HIGH[name]
    center = -0.5 if values.dtype.kind == "i" else 2047.5
    decoded = read(with_overlays(dicom(values, **WINDOW | {"WindowCenter": center}), *overlays))
    assert bool(decoded.pixels_unknown) == is_unknown
    assert warned(decoded, "bits above were left out") == is_said
    if not is_unknown:
        assert difference(decoded, GREY) < 1e-3


def segments(top: int, words: str) -> tuple[bytes, np.ndarray]:
    """A palette of 256 entries in a run, a line and their repetition, and what it stands for (PS3.3 C.7.9.2)."""
    run, line = [0, 4, 0, top, 30, 40], [1, 124, top]
    repeated = [2, 2, *([0, 0, 0, 0] if words == "u1" else [0, 0])]
    written = np.concatenate([run[2:], 40 + (top - 40) / 124 * np.arange(1, 125)])
    return np.asarray([*run, *line, *repeated], words).tobytes(), np.tile(np.around(written), 2)


@pytest.mark.parametrize(
    ("bits", "words", "syntax"),
    [
        (8, "u1", EXPLICIT), (8, "<u2", EXPLICIT), (12, "<u2", EXPLICIT), (16, "<u2", EXPLICIT),
        (16, ">u2", "1.2.840.10008.1.2.2"), (12, "<u2", "1.2.840.10008.1.2"),
    ],
)  # fmt: skip
def test_a_segmented_palette_is_the_same_as_written_out(bits: int, words: str, syntax: str) -> None:
    segmented, written = segments((1 << bits) - 20, words)
    plain: dict[str, Any] = {**OF_US, "PhotometricInterpretation": "PALETTE COLOR", "syntax": syntax}
    for colour in ("Red", "Green", "Blue"):
        plain[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
    cut = plain | {f"Segmented{colour}PaletteColorLookupTableData": segmented for colour in ("Red", "Green", "Blue")}
    data = written.astype(words if words != "u1" else "<u2").tobytes()
    plain |= {f"{colour}PaletteColorLookupTableData": data for colour in ("Red", "Green", "Blue")}
    assert np.array_equal(read(dicom(ULTRASOUND, **cut)).pixels, read(dicom(ULTRASOUND, **plain)).pixels)


@pytest.mark.parametrize(
    "words", [[1, 256, 9], [0, 300], [2, 1, 0, 0], [0, 1, 5, 1, 300, 9], [0, 1, 5, 2, 9, 0, 0], [0, 0], [3, 1, 1], []]
)
def test_what_is_no_segment_of_a_palette_is_damage(words: list[int]) -> None:
    from core.imaging.dicom.grey_scale import segmented_entries

    assert segmented_entries(np.asarray(words, "<u2").tobytes(), 256) is None
