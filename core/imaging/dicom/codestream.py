"""What a compressed frame says of its own size, read without decoding it.

A DICOM header can promise 64 x 48 pixels around a codestream that asks its decoder for gigabytes; comparing the two
costs a few bytes (JPEG: ITU T.81 B.2.2, JPEG-LS: ITU T.87 C.2.2, JPEG 2000: ITU T.800 A.5.1, RLE: DICOM PS3.5 G).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from core.errors import UnreadableImage

_DAMAGED = "The compressed picture in this file is damaged or cut short. Export it again from where it came from."
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_J2K_START = b"\xff\x4f\xff\x51"


@dataclass(frozen=True, slots=True)
class CodecHeader:
    """Size of a codestream: pixels, components, and the bits of one sample."""

    rows: int
    columns: int
    samples: int
    precision: int


def read_jpeg_header(frame: bytes) -> CodecHeader:
    """The first start-of-frame of a JPEG or JPEG-LS stream; `UnreadableImage` when there is none."""
    if frame[:2] != b"\xff\xd8":
        raise UnreadableImage(_DAMAGED)
    position = 2
    while position + 10 <= len(frame):
        if frame[position] != 0xFF:
            raise UnreadableImage(_DAMAGED)
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        elif marker in _START_OF_FRAME:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, position + 4)
            return CodecHeader(rows, columns, samples, precision)
        else:
            position += 2 + max(2, struct.unpack_from(">H", frame, position + 2)[0])
    raise UnreadableImage(_DAMAGED)


def read_jpeg2000_header(frame: bytes) -> CodecHeader:
    """The SIZ segment of a JPEG 2000 codestream, bare or in a JP2 box."""
    start = frame[:4096].find(_J2K_START)
    if start < 0 or len(frame) < start + 43:
        raise UnreadableImage(_DAMAGED)
    x, y, x_offset, y_offset = struct.unpack_from(">4I", frame, start + 8)
    (samples,) = struct.unpack_from(">H", frame, start + 40)
    return CodecHeader(y - y_offset, x - x_offset, samples, (frame[start + 42] & 0x7F) + 1)


def demand_end_marker(frame: bytes) -> None:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 stream without its end marker (FF D9): decoders fill the rest with grey."""
    if frame.rfind(b"\xff\xd9", max(0, len(frame) - 64)) < 0:
        raise UnreadableImage(_DAMAGED)


def decode_rle(frame: bytes, *, planes: int, plane_bytes: int) -> list[bytes]:
    """The `planes` byte planes of one RLE frame, most significant byte of a sample first, `plane_bytes` each.

    Stops at `plane_bytes`, whatever the run lengths add up to.
    """
    if len(frame) < 64:
        raise UnreadableImage(_DAMAGED)
    n_segments, *offsets = struct.unpack_from("<16I", frame)
    if n_segments != planes or planes > 15:
        raise UnreadableImage(_DAMAGED)
    ends = [*offsets[1:n_segments], len(frame)]
    return [
        _decode_rle_segment(frame[start:end], plane_bytes)
        for start, end in zip(offsets[:n_segments], ends, strict=True)
    ]


def _decode_rle_segment(segment: bytes, wanted: int) -> bytes:
    out = bytearray()
    position = 0
    while len(out) < wanted and position < len(segment) - 1:
        control = segment[position]
        if control < 128:
            out += segment[position + 1 : position + 2 + control]
            position += 2 + control
        elif control > 128:
            out += segment[position + 1 : position + 2] * (257 - control)
            position += 2
        else:
            position += 1
    if len(out) < wanted:
        raise UnreadableImage(_DAMAGED)
    return bytes(out[:wanted])
