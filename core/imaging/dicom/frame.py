"""One frame as stored values that mean what they say, whatever the codec: samples, colour and bits are settled here.

Decoders hand back containers: bits above BitsStored may hold overlays, HighBit may leave room below, chroma may wear
the label RGB. The codestream is believed before the header, and what the samples themselves show before a label that
nothing proves. Polarity and windows come later (`core.imaging.dicom.grey_scale`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import accumulate

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID

from core.errors import UnreadableImage
from core.imaging.dicom.codestream import (
    DAMAGED,
    CodecHeader,
    bare_jpeg2000,
    end_of_jpeg,
    end_of_jpeg2000,
    read_jpeg2000_header,
    read_jpeg_header,
    with_jpeg_transform,
)
from core.imaging.dicom.header import (
    NATIVE,
    RLE,
    Geometry,
    require_photometric,
)

_PLUGINS = {
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.57": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    RLE: "pydicom",
}
"""Who decodes which codestream; near-lossless and lossy relatives are the same streams."""
_BASELINE, _LOSSLESS, _JPEG_LS, _JPEG_2000 = list(_PLUGINS)[:4]
_ENCAPSULATED = b"\xfe\xff\x00\xe0"
_FRAME_STARTS = (b"\xff\xd8", b"\xff\x4f", b"\0\0\0\x0cjP")
_TRUNCATED = "The pixel data of this DICOM file are cut short. Export it again from where it came from."
_TWELVE_BITS = (
    "This DICOM file is compressed as 12-bit JPEG extended, which this product does not read. "
    "Export it uncompressed, or as lossless JPEG or JPEG 2000."
)
_ANOTHER_SIZE = "The compressed picture in this file has another size than its header announces, so it is not decoded."
_OTHER_BITS = (
    "The compressed picture in this file has another number of bits than its header announces, so it is not decoded."
)
HIGH_BITS = (
    "Some stored values are larger than the file's number of bits allows (graphics in the unused bits, or a wrong "
    "header); the bits above were left out. Check the picture."
)
MORE_BITS = (
    "Many stored values are larger than the file's number of bits allows: its header names too few bits, or other data "
    "lie above the picture, and the bits above were left out. What the picture shows cannot be known, so no model "
    "reads it."
)
COLOURS_UNKNOWN = (
    "The file labels its colours as only JPEG 2000 may store them (YBR_RCT, YBR_ICT) and is not JPEG 2000; they are "
    "shown as if they were RGB. What they are cannot be known, so no model reads the picture."
)
MORE_THAN_ANNOUNCED = (
    "The file holds more pixel data than its header announces: its size, its number of bits or of frames is wrong, or "
    "something else lies behind the picture. Check the picture."
)
_CONSIDERABLE = 0.05
"""Share of pixels that graphics may cover where no overlay is described; text and outlines cover less."""
_FEW = 0.001
"""Share of pixels below which a value above the stored bits is a mark or a fault, and not the range of the picture."""
_OF_JPEG_2000 = ("YBR_RCT", "YBR_ICT")
_NEUTRAL = 0.04
"""How far from grey nine tenths of the samples may lie to prove what they are, as a share of the range."""


@dataclass(slots=True)
class Frame:
    """values: whole numbers, (H, W) or RGB (H, W, 3). geometry: as it turned out to be. warnings: for the reader.

    not_scored: why nobody can know what the values mean, so that no model reads them, or ""; among the warnings too.
    """

    values: np.ndarray
    geometry: Geometry
    warnings: list[str] = field(default_factory=list)
    not_scored: str = ""

    def leave_unscored(self, why: str) -> None:
        self.warnings.append(why)
        self.not_scored = self.not_scored or why


def read_frame(data: bytes, vr: str, syntax: str, geometry: Geometry, index: int) -> Frame:
    """The frame `index` (from 0) of PixelData. Raises `UnreadableImage`, and what the decoders raise.

    Native data are measured and codestreams asked for their own size before anything is decoded.
    """
    is_encapsulated = data[:4] == _ENCAPSULATED and len(data) != geometry.frame_bytes * geometry.frames
    if not is_encapsulated and (syntax in NATIVE or len(data) == geometry.frame_bytes * geometry.frames):
        native = syntax if syntax in NATIVE else "1.2.840.10008.1.2.1"
        return _read_native(data, vr, native, geometry, index)
    codestream, is_alone = _codestream(data, geometry, index)
    frame = _read_rle(codestream, geometry) if syntax == RLE else _read_codestream(codestream, geometry)
    if not is_alone:
        frame.warnings.append(MORE_THAN_ANNOUNCED)
    return frame


def _read_native(data: bytes, vr: str, syntax: str, geometry: Geometry, index: int) -> Frame:
    warnings = []
    full = replace(geometry, photometric="YBR_FULL")
    if geometry.photometric == "YBR_FULL_422" and len(data) >= full.frame_bytes * geometry.frames:
        geometry = full
        warnings.append("The file calls its colours 4:2:2 but stores them at full size; they were read at full size.")
    halved = replace(geometry, photometric="YBR_FULL_422")
    if geometry.photometric == "YBR_FULL" and 0 <= len(data) - halved.frame_bytes * geometry.frames <= 1:
        geometry = halved
        warnings.append("The file calls its colours full size but stores them as 4:2:2; they were read as 4:2:2.")
    if len(data) < geometry.frame_bytes * geometry.frames:
        raise UnreadableImage(_TRUNCATED)
    if len(data) - geometry.frame_bytes * geometry.frames >= geometry.frame_bytes // geometry.rows:  # less is padding
        warnings.append(MORE_THAN_ANNOUNCED)
    require_photometric(geometry)
    start = index * geometry.frame_bytes
    frame = data if geometry.frames == 1 else data[start : start + geometry.frame_bytes]
    stored = _decode(_described(geometry, frame, vr, syntax), syntax)
    return _settled(Frame(stored, geometry, warnings), geometry.bits_allocated, "")


def _read_rle(codestream: bytes, geometry: Geometry) -> Frame:
    """RLE has no word on its own size but the number of byte planes (PS3.5 G.5), each of full size."""
    if len(codestream) < 64:
        raise UnreadableImage(DAMAGED)
    planes = struct.unpack_from("<I", codestream)[0]
    samples, rest = divmod(planes, geometry.bits_allocated // 8)
    if rest or samples not in (1, 3):
        raise UnreadableImage(DAMAGED if planes not in (1, 2, 3, 6) else _OTHER_BITS)
    header = CodecHeader(geometry.rows, geometry.columns, samples, geometry.bits_allocated)
    settled, warnings = _as_the_codestream_says(geometry, header)
    if settled.photometric == "YBR_FULL_422":
        settled = replace(settled, photometric="YBR_FULL")
    stored = _decode(_described(settled, encapsulate([codestream]), "OB", RLE), RLE)
    return _settled(Frame(stored, settled, warnings), settled.bits_allocated, "")


def _read_codestream(codestream: bytes, geometry: Geometry) -> Frame:
    """JPEG, JPEG-LS or JPEG 2000, by what the codestream is and not by what the transfer syntax calls it."""
    if codestream[:2] == b"\xff\xd8":
        header = read_jpeg_header(codestream)
        syntax = {0xC3: _LOSSLESS, 0xF7: _JPEG_LS}.get(header.coding, _BASELINE)
    else:
        codestream, syntax = bare_jpeg2000(codestream), _JPEG_2000
        header = read_jpeg2000_header(codestream)
    if syntax == _BASELINE and header.precision != 8:
        raise UnreadableImage(_TWELVE_BITS)
    if (header.rows, header.columns) != (geometry.rows, geometry.columns) or header.samples not in (1, 3):
        raise UnreadableImage(_ANOTHER_SIZE)
    if not 2 <= header.precision <= 16:
        raise UnreadableImage(
            f"This DICOM file holds samples of {header.precision} bits; 2 to 16 are read. Export it in one of these."
        )
    end = end_of_jpeg2000(codestream) if syntax == _JPEG_2000 else end_of_jpeg(codestream)
    settled, warnings = _as_the_codestream_says(geometry, header)
    codestream = codestream[:end]
    if syntax == _BASELINE and settled.samples == 3:
        codestream = with_jpeg_transform(codestream, transform=int(header.is_subsampled))
    container = replace(
        settled,
        bits_allocated=8 if header.precision <= 8 else 16,
        bits_stored=header.precision,
        photometric="RGB" if settled.samples == 3 else "MONOCHROME2",  # nobody but this module converts
    )
    stored = _decode(_described(container, encapsulate([codestream]), "OB", syntax), syntax)
    frame = Frame(stored, settled, warnings)
    if header.is_subsampled:  # the decoder has turned what is proved to be YCbCr
        return _settled(frame, header.precision, None)
    # A JPEG 2000 under their labels hands back RGB, whether it had to transform it or not (PS3.5 8.2.4).
    is_rgb = syntax == _JPEG_2000 and settled.photometric in _OF_JPEG_2000
    return _settled(frame, header.precision, header.colour or ("RGB" if is_rgb else ""))


def _as_the_codestream_says(geometry: Geometry, header: CodecHeader) -> tuple[Geometry, list[str]]:
    """Samples and bits by the codestream, and a photometric interpretation that fits them."""
    settled, warnings = geometry, []
    if header.samples != geometry.samples:
        warnings.append("The header and the compressed picture disagree on grey and colour; the picture is believed.")
        is_grey = geometry.photometric.startswith(("MONO", "PALETTE"))
        photometric = geometry.photometric if is_grey == (header.samples == 1) else ""
        photometric = photometric or ("MONOCHROME2" if header.samples == 1 else "RGB")
        settled = replace(settled, samples=header.samples, photometric=photometric)
    if header.precision > geometry.bits_allocated:
        warnings.append("The compressed picture has more bits than the header says; the picture is believed.")
        bits = header.precision
        settled = replace(settled, bits_allocated=16, bits_stored=bits, high_bit=bits - 1)
    elif header.precision < settled.bits_stored:
        settled = replace(settled, bits_stored=header.precision, high_bit=header.precision - 1)
    require_photometric(settled)
    return settled, warnings


def _codestream(data: bytes, geometry: Geometry, index: int) -> tuple[bytes, bool]:
    """The fragments of one frame, joined (PS3.5 A.4), and whether no more pictures lie there than are announced.

    Where as many fragments as frames lie there, one is a frame; else the offset table decides if it has an entry a
    frame; else every fragment that begins like a picture begins a frame.
    """
    try:
        fragments = list(generate_fragments(BytesIO(data)))
    except (ValueError, struct.error):
        raise UnreadableImage(
            "The compressed pixel data of this DICOM file are damaged or cut short. Export it again."
        ) from None
    offsets: list[int] = []
    if fragments and not _begins_frame(fragments[0]):  # else the file lacks the table
        table = fragments.pop(0)
        offsets = list(struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4]))
    if geometry.frames == 1:
        return b"".join(fragments), not any(_begins_frame(fragment) for fragment in fragments[1:])
    if len(fragments) == geometry.frames:
        return fragments[index], True
    starts = list(accumulate((8 + len(fragment) for fragment in fragments), initial=0))
    if len(offsets) == geometry.frames and set(offsets) <= set(starts):
        firsts = [starts.index(offset) for offset in offsets]
    else:
        firsts = [number for number, fragment in enumerate(fragments) if _begins_frame(fragment)]
    if len(firsts) != geometry.frames or firsts != sorted(set(firsts)):
        raise UnreadableImage(
            f"This DICOM file announces {geometry.frames} frames, but its compressed parts cannot be told apart as "
            "that many. Export it again, or export the frames one by one."
        )
    return b"".join(fragments[firsts[index] : [*firsts, len(fragments)][index + 1]]), True


def _begins_frame(fragment: bytes) -> bool:
    """Whether it begins like JPEG, JPEG 2000, or the head of an RLE frame, whose first segment lies behind it."""
    return fragment.startswith(_FRAME_STARTS) or (len(fragment) >= 64 and fragment[4:8] == b"\x40\0\0\0")


def _described(geometry: Geometry, data: bytes, vr: str, syntax: str) -> Dataset:
    """One frame with a header that says of it what is known by now, and nothing else, for pydicom's decoders."""
    described = Dataset()
    described.file_meta = FileMetaDataset()
    described.file_meta.TransferSyntaxUID = UID(syntax)
    described.Rows, described.Columns, described.NumberOfFrames = geometry.rows, geometry.columns, 1
    described.SamplesPerPixel, described.PhotometricInterpretation = geometry.samples, geometry.photometric
    described.BitsAllocated = described.BitsStored = geometry.bits_allocated
    if syntax not in NATIVE and syntax != RLE:
        described.BitsStored = geometry.bits_stored
    described.HighBit = described.BitsStored - 1
    described.PixelRepresentation = 0  # containers: the sign is settled from the stored bits
    if geometry.samples == 3:  # means nothing for codestreams
        described.PlanarConfiguration = geometry.planar if syntax in NATIVE else 0
    described.PixelData = data
    described["PixelData"].VR = vr if vr in ("OB", "OW") else "OW"
    return described


def _decode(described: Dataset, syntax: str) -> np.ndarray:
    if syntax in NATIVE:
        return get_decoder(UID(syntax)).as_array(described, index=0, raw=True)[0]
    try:
        return get_decoder(UID(syntax)).as_array(described, index=0, raw=True, decoding_plugin=_PLUGINS[syntax])[0]
    except (RuntimeError, ValueError):  # pydicom's word for whatever its plugins met
        raise UnreadableImage(DAMAGED) from None


def _settled(frame: Frame, precision: int, colour: str | None) -> Frame:
    """Bits and colour. precision: of the container that was decoded. colour: as in `CodecHeader`, None for RGB that is
    proved."""
    geometry = frame.geometry
    frame.values, above = settle_bits(frame.values, geometry, precision)
    if above is not None and _are_values(frame.values, above, geometry.bits_stored):
        frame.leave_unscored(MORE_BITS)
    elif above is not None:
        frame.warnings.append(HIGH_BITS)
    if geometry.samples == 3 and colour is not None:
        _settle_colour(frame, colour)
    return frame


def settle_bits(values: np.ndarray, geometry: Geometry, precision: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Stored values from containers of `precision` bits, and what the bits above the stored ones held.

    Below HighBit lie the BitsStored bits (PS3.5 8.1.1), if the codestream is deep enough to have them there; a
    signed value is extended from its highest stored bit. The second array, of the values' shape, counts the bits above
    from 0; it is None where they are empty, or hold no more than the overlays that the header describes.
    """
    shift = geometry.high_bit + 1 - geometry.bits_stored if precision > geometry.high_bit else 0
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    raw = values.view(f"u{values.dtype.itemsize}")
    stored = raw >> shift if shift else raw
    mask = (1 << geometry.bits_stored) - 1
    top = (1 << 8 * stored.dtype.itemsize) - 1
    unused = stored & stored.dtype.type(~mask & top)
    if not geometry.is_signed:
        above = (unused & stored.dtype.type(~(geometry.overlay_bits >> shift) & top)) >> geometry.bits_stored
        return (stored & stored.dtype.type(mask) if unused.any() else stored), (above if above.any() else None)
    up = 8 * stored.dtype.itemsize - geometry.bits_stored
    signed = (stored << up).view(f"i{stored.dtype.itemsize}") >> up
    above = _above_signed(stored, signed, geometry, shift) if unused.any() else unused
    return signed, (above if above.any() else None)


def _above_signed(stored: np.ndarray, signed: np.ndarray, geometry: Geometry, shift: int) -> np.ndarray:
    """What the bits above signed values hold beside overlays: nothing where they repeat the sign, nor where they are
    empty in a file that repeats no sign."""
    top = (1 << 8 * stored.dtype.itemsize) - 1
    overlays = stored.dtype.type((geometry.overlay_bits >> shift) & ~((1 << geometry.bits_stored) - 1) & top)
    whole = (stored & ~overlays) | (signed.view(stored.dtype) & overlays)
    if ((whole.view(signed.dtype) == signed) & (signed < 0)).any():
        above: np.ndarray = (whole.view(signed.dtype).astype(np.int32) - signed) >> geometry.bits_stored
    else:
        above = (stored & ~overlays).astype(np.int32) >> geometry.bits_stored
    return above


def _are_values(values: np.ndarray, above: np.ndarray, bits: int) -> bool:
    """Whether the bits above the stored ones may be part of the grey values, so that the picture cannot be known.

    The same bits on every pixel say nothing. Of values that were cut, the stored bits jump by about their whole range
    where the bits above change, and the uncut values do not; graphics on a picture are the other way round. What
    covers much of the picture and is no overlay that the file describes is believed to be neither.
    """
    share = np.count_nonzero(above) / above.size
    if share <= _FEW or above.min() == above.max():
        return False
    if share > _CONSIDERABLE:
        return True
    low, high = values.astype(np.int32), above.astype(np.int32)
    step, rise = np.diff(low, axis=1), np.diff(high, axis=1)
    is_edge = rise != 0
    cut, uncut = np.abs(step[is_edge]), np.abs(step[is_edge] + (rise[is_edge] << bits))
    return float((uncut < cut).mean()) > 0.25


def _settle_colour(frame: Frame, colour: str) -> None:
    """RGB, by what the samples show, else by what the codestream says (`colour`), else by the label."""
    geometry = frame.geometry
    labelled = "YCbCr" if geometry.photometric in ("YBR_FULL", "YBR_FULL_422") else "RGB"
    said = colour or labelled
    shown = colour_of_samples(frame.values, geometry.bits_stored)
    inside = shown or said
    if geometry.photometric in _OF_JPEG_2000 and not colour:  # native, RLE and JPEG have no such colours
        if shown:
            frame.warnings.append(
                f"The file labels its colours as only JPEG 2000 may store them; its samples look like {shown} and "
                "were read so."
            )
        else:
            frame.leave_unscored(COLOURS_UNKNOWN)
    elif inside != said:
        frame.warnings.append(
            f"The file says that its colours are {said}, but its samples look like {inside} and were read so."
        )
    if inside == "YCbCr":
        if geometry.bits_stored != 8:
            raise UnreadableImage(
                "This DICOM file holds colours as YCbCr of more than 8 bits, which is not read here. "
                "Export it as RGB or as the grey-scale original."
            )
        frame.values = convert_color_space(frame.values.astype(np.uint8, copy=False), "YBR_FULL", "RGB")


def colour_of_samples(values: np.ndarray, bits: int) -> str:
    """ "YCbCr" or "RGB" where nearly grey pictures prove it, else "".

    values: (H, W, 3). Of a grey picture in RGB the channels are equal; in YCbCr the last two lie in the middle of the
    range wherever the first does not.
    """
    height, width = values.shape[:2]
    some = values[:: 1 + height // 256, :: 1 + width // 256].reshape(-1, 3).astype(np.float32) / ((1 << bits) - 1)
    away = some[np.abs(some[:, 0] - 0.5) > 0.1]
    if len(away) < 0.05 * len(some):
        return ""
    from_middle = np.quantile(np.abs(away[:, 1:] - 0.5).max(axis=1), 0.9)
    from_first = np.quantile(np.abs(away[:, 1:] - away[:, :1]).max(axis=1), 0.9)
    if from_middle < _NEUTRAL:
        return "YCbCr"
    return "RGB" if from_first < _NEUTRAL else ""
