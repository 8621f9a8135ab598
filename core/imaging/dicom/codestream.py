"""What a compressed frame says of itself, read without decoding it: size, bits, colour, and where it ends.

A DICOM header can promise 64 x 48 pixels around a codestream that asks its decoder for gigabytes; comparing the two
costs a few bytes. The codestream also knows better than the header which colours it holds and how many bits
(JPEG: ITU T.81 B.2, JPEG-LS: ITU T.87 C.2, JPEG 2000: ITU T.800 A.4 to A.6, JFIF: ITU T.871, Adobe: T.872 6.5.3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from core.errors import UnreadableImage

DAMAGED = "The compressed picture in this file is damaged or cut short. Export it again from where it came from."
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_LOSSLESS_FRAMES = {0xC3, 0xC7, 0xCB, 0xCF, 0xF7}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_START_OF_SCAN = 0xDA
_APP0, _ADOBE = 0xE0, 0xEE
_J2K_START = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class CodecHeader:
    """A codestream's own account: pixels, components, bits of one sample.

    colour: "RGB" or "YCbCr" is what a decoder without any colour conversion of its own hands back (for JPEG 2000:
    after the codestream's own component transform); "" where the codestream does not say.
    is_subsampled: the chroma is smaller than the rest, which proves that it is chroma.
    coding: the start-of-frame marker of a JPEG, which says how it is coded (C3 lossless, F7 JPEG-LS).
    """

    rows: int
    columns: int
    samples: int
    precision: int
    colour: str = ""
    is_subsampled: bool = False
    coding: int = 0


def read_jpeg_header(frame: bytes) -> CodecHeader:
    """The first start-of-frame of a JPEG or JPEG-LS stream; `UnreadableImage` when there is none."""
    has_jfif, transform = False, None
    for marker, start, end in _jpeg_segments(frame):
        if marker == _APP0:
            has_jfif |= frame[start : start + 4] == b"JFIF"
        elif marker == _ADOBE and frame[start : start + 5] == b"Adobe" and end - start >= 12:
            transform = frame[start + 11]
        elif marker in _START_OF_FRAME and end - start >= 6:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, start)
            parts = [frame[at : at + 3] for at in range(start + 6, min(start + 6 + 3 * samples, end - 2), 3)]
            is_subsampled = len(parts) == 3 and len({part[1] for part in parts}) > 1
            colour = _jpeg_colour(parts, has_jfif, transform, is_lossless=marker in _LOSSLESS_FRAMES)
            colour = "YCbCr" if is_subsampled else colour
            return CodecHeader(rows, columns, samples, precision, colour, is_subsampled, marker)
    raise UnreadableImage(DAMAGED)


def _jpeg_colour(parts: list[bytes], has_jfif: bool, transform: int | None, *, is_lossless: bool) -> str:
    """parts: (identifier, sampling factors, table) of each component.

    Lossless coders write JFIF around RGB, so it says nothing there.
    """
    if len(parts) != 3:
        return ""
    if has_jfif and not is_lossless:
        return "YCbCr"
    if transform is not None:
        return "YCbCr" if transform == 1 else "RGB"
    return "RGB" if [part[0] for part in parts] == [*b"RGB"] else ""


def _jpeg_segments(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of the segments before the first scan's data; start: behind the length."""
    if frame[:2] != b"\xff\xd8":
        raise UnreadableImage(DAMAGED)
    position = 2
    while position + 4 <= len(frame):
        if frame[position] != 0xFF:
            raise UnreadableImage(DAMAGED)
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        else:
            end = position + 2 + max(2, struct.unpack_from(">H", frame, position + 2)[0])
            if end > len(frame):
                raise UnreadableImage(DAMAGED)
            yield marker, position + 4, end
            if marker == _START_OF_SCAN:
                return
            position = end
    raise UnreadableImage(DAMAGED)


def end_of_jpeg(frame: bytes) -> int:
    """Where the end marker of a JPEG or JPEG-LS stream ends; what follows it is padding. Refuses a stream without one.

    Inside a scan a byte FF is followed by 00, by a restart marker, or (JPEG-LS) by a byte below 80, so the first end
    marker after the first scan's head is the stream's own.
    """
    scan = next((end for marker, _, end in _jpeg_segments(frame) if marker == _START_OF_SCAN), len(frame))
    return _end_after(frame, scan)


def with_jpeg_transform(frame: bytes, transform: int) -> bytes:
    """The JPEG stream with one Adobe marker in place of all that speak of colour.

    transform: 0 leaves the three components as they are, 1 makes a decoder turn YCbCr into RGB.
    """
    kept = [b"\xff\xd8", b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00", bytes([transform])]
    for marker, start, end in _jpeg_segments(frame):
        if marker == _START_OF_SCAN:
            return b"".join([*kept, frame[start - 4 :]])
        if marker not in (_APP0, _ADOBE):
            kept.append(frame[start - 4 : end])
    raise UnreadableImage(DAMAGED)


def bare_jpeg2000(frame: bytes) -> bytes:
    """The codestream itself where it lies in a JP2 box, which DICOM does not foresee (PS3.5 A.4.4)."""
    start = frame[:4096].find(_J2K_START)
    if start < 0:
        raise UnreadableImage(DAMAGED)
    return frame[start:] if start else frame


def read_jpeg2000_header(frame: bytes) -> CodecHeader:
    """The main header of a bare JPEG 2000 codestream: image size, and whether it transforms its components itself."""
    if not frame.startswith(_J2K_START) or len(frame) < 43:
        raise UnreadableImage(DAMAGED)
    x, y, x_offset, y_offset = struct.unpack_from(">4I", frame, 8)
    (samples,) = struct.unpack_from(">H", frame, 40)
    colour = ""
    for marker, start, _ in _jpeg2000_segments(frame):
        if marker == 0x52 and start + 5 <= len(frame) and samples == 3:
            colour = "RGB" if frame[start + 4] else ""
    return CodecHeader(y - y_offset, x - x_offset, samples, (frame[42] & 0x7F) + 1, colour)


def _jpeg2000_segments(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of the main header's segments and of the first tile part's head (90)."""
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        end = position + 2 + max(2, struct.unpack_from(">H", frame, position + 2)[0])
        yield frame[position + 1], position + 4, end
        if frame[position + 1] == 0x90:
            return
        position = end


def end_of_jpeg2000(frame: bytes) -> int:
    """Where the end marker of a bare JPEG 2000 codestream ends, found from tile part to tile part (A.4.2).

    Packets hold no bytes above FF8F, so behind the last tile part, or from one of unknown length on, the first end
    marker is the stream's own.
    """
    position = next((start - 4 for marker, start, _ in _jpeg2000_segments(frame) if marker == 0x90), len(frame))
    while frame[position : position + 2] == b"\xff\x90" and position + 12 <= len(frame):
        (length,) = struct.unpack_from(">I", frame, position + 6)
        if length < 14:
            break
        position += length
    return _end_after(frame, position)


def _end_after(frame: bytes, position: int) -> int:
    end = frame.find(_END, position)
    if end < 0:
        raise UnreadableImage(DAMAGED)
    return end + 2
