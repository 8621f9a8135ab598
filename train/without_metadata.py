"""PNG and JPEG files without what converters and cameras write beside the picture; every pixel stays as it was.

Programs that make pictures of DICOM files copy headers, with names, into text chunks and comments. Kept are the parts
that decoding needs (PNG 3rd edition, 4.7; ITU-T T.81, annex B; JFIF; Adobe's APP14) and which way is up.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator

from PIL import Image as Raster

from core.errors import UnreadableImage

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"bKGD",
             b"acTL", b"fcTL", b"fdAT"}  # fmt: skip
_ORIENTATION = 0x0112
_SOI, _EOI, _SOS, _COM, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0, 0xEE
_ALONE = {0x01, *range(0xD0, 0xD8)}
_DAMAGED = "The file is damaged or cut short."


def without_metadata(content: bytes, kind: str) -> bytes:
    """The same picture; the same bytes where there was nothing to leave out. kind: "PNG" or "JPEG".

    Raises UnreadableImage for a file whose parts do not follow each other as the format asks.
    """
    try:
        if kind == "PNG":
            return _PNG + b"".join(_png_parts(content, _orientation(content)))
        return b"\xff\xd8" + b"".join(_jpeg_parts(content, _orientation(content)))
    except (struct.error, IndexError):
        raise UnreadableImage(_DAMAGED) from None


def _orientation(content: bytes) -> int:
    """EXIF's 1 (upright) to 8, as decoding will turn the picture (`core.imaging.raster`)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Raster.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as raster:
                found = raster.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, struct.error):
        raise UnreadableImage(_DAMAGED) from None
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _exif(orientation: int) -> bytes:
    """A TIFF header with one entry: which way is up (EXIF 2.32, 4.6.4)."""
    return b"MM\x00*\x00\x00\x00\x08\x00\x01" + struct.pack(">HHIHHI", _ORIENTATION, 3, 1, orientation, 0, 0)


def _png_parts(content: bytes, orientation: int) -> Iterator[bytes]:
    place = len(_PNG)
    while place < len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        end = place + 12 + size
        if end > len(content):
            raise UnreadableImage(_DAMAGED)
        if name == b"IDAT" and orientation != 1:
            body = b"eXIf" + _exif(orientation)
            yield struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            orientation = 1
        if name in _PNG_KEPT:
            yield content[place:end]
        if name == b"IEND":
            return
        place = end
    raise UnreadableImage(_DAMAGED)


def _jpeg_parts(content: bytes, orientation: int) -> Iterator[bytes]:
    if orientation != 1:
        body = b"Exif\x00\x00" + _exif(orientation)
        yield b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    place = 2
    while True:
        if content[place] != 0xFF:
            raise UnreadableImage(_DAMAGED)
        marker = content[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        if marker in _ALONE:
            yield content[place : place + 2]
            place += 2
            continue
        if marker == _EOI:
            yield content[place : place + 2]
            return
        (size,) = struct.unpack_from(">H", content, place + 2)
        end = place + 2 + size
        if marker == _SOS:
            end = _end_of_scan(content, end)
        if end > len(content):
            raise UnreadableImage(_DAMAGED)
        is_application = 0xE0 <= marker <= 0xEF and marker not in (_APP0, _APP14)
        if not is_application and marker != _COM:
            yield content[place:end]
        place = end


def _end_of_scan(content: bytes, place: int) -> int:
    """Where the next marker after entropy-coded data begins; in these data 0xFF is followed by 0 or a restart."""
    while True:
        place = content.find(b"\xff", place)
        if place < 0:
            raise UnreadableImage(_DAMAGED)
        if content[place + 1] not in (0x00, 0xFF, *range(0xD0, 0xD8)):
            return place
        place += 1 if content[place + 1] == 0xFF else 2
