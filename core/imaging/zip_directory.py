"""The directory of a zip, read so that one odd entry never loses the others, and what its names say.

A name is bytes. A flag says that they are UTF-8 (APPNOTE 4.4.4, bit 11), without it they are said to be code page 437
(APPNOTE D.1); programs set neither rightly, so the bytes themselves are asked.
"""

from __future__ import annotations

import io
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence

_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
_LOCAL_BYTES, _CENTRAL_BYTES = 30, 46
_NAME_FLAG = 0x08
"""Of the second byte of the flags."""
_NEWEST_VERSION = 63
"""What zipfile reads; a member that needs more is refused by how it is compressed."""
_UNICODE_PATH = 0x7075
_JAPANESE = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "FULLWIDTH LATIN",
             "IDEOGRAPHIC")  # fmt: skip


class ZipBytes(io.BufferedReader):
    """The bytes of a zip as zipfile may read them: no name is called UTF-8, so that each becomes letters of code page
    437, one a byte; extra fields and versions that zipfile refuses a whole zip for are harmless.

    is_directory_read: set once the directory is; what begins like an entry after that is a member's content.
    """

    is_directory_read = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size)
        if data.startswith(_CENTRAL) and not self.is_directory_read:
            return _mended(data)
        if data.startswith(_LOCAL) and len(data) == _LOCAL_BYTES:
            return data[:7] + bytes([data[7] & ~_NAME_FLAG]) + data[8:]
        return data


def _mended(directory: bytes) -> bytes:
    data, place = bytearray(directory), 0
    while data[place : place + 4] == _CENTRAL and place + _CENTRAL_BYTES <= len(data):
        name, extra, comment = struct.unpack_from("<HHH", data, place + 28)
        data[place + 9] &= ~_NAME_FLAG
        data[place + 6] = min(data[place + 6], _NEWEST_VERSION)
        data[place + 7] = 0
        begin = place + _CENTRAL_BYTES + name
        fields = bytes(data[begin : begin + extra])
        if len(fields) >= 4 and sum(4 + len(content) for _, content in _extra_fields(fields)) + 4 <= len(fields):
            struct.pack_into("<HH", data, begin, 0, extra - 4)
        place = begin + extra + comment
    return bytes(data)


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """(id, content) of each, up to one that is longer than what is there."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if 4 + size > len(extra):
            return
        yield kind, extra[4 : 4 + size]
        extra = extra[4 + size :]


def name_entries(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Give entries that were read through `ZipBytes` the names that their bytes say: UTF-8 where they are that, else
    one encoding for all others together."""
    raw = [entry.orig_filename.encode("cp437").partition(b"\0")[0] for entry in entries]
    named = [_unicode_path(entry, one) or _decoded(one, "utf-8") for entry, one in zip(entries, raw, strict=True)]
    encoding = _encoding([one for one, name in zip(raw, named, strict=True) if name is None])
    for entry, one, name in zip(entries, raw, named, strict=True):
        entry.filename = one.decode(encoding) if name is None else name


def use_own_name(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Let zipfile open a member whose own header has its name in another encoding than the directory has it in."""
    assert archive.fp is not None
    archive.fp.seek(entry.header_offset)
    header = archive.fp.read(_LOCAL_BYTES)
    if len(header) == _LOCAL_BYTES and header.startswith(_LOCAL):
        entry.orig_filename = archive.fp.read(struct.unpack_from("<H", header, 26)[0]).decode("cp437")


def _decoded(name: bytes, encoding: str) -> str | None:
    try:
        return name.decode(encoding)
    except UnicodeDecodeError:
        return None


def _unicode_path(entry: zipfile.ZipInfo, raw: bytes) -> str | None:
    """The name in UTF-8 that some programs write beside one in another encoding (APPNOTE 4.6.9)."""
    for kind, content in _extra_fields(entry.extra):
        if kind == _UNICODE_PATH and content[:5] == b"\1" + struct.pack("<I", zlib.crc32(raw)) and content[5:]:
            return _decoded(content[5:].partition(b"\0")[0], "utf-8")
    return None


def _encoding(names: Sequence[bytes]) -> str:
    """Shift-JIS where the letters are Japanese words, a western code page where all are Latin, Shift-JIS again where
    some letters are Japanese and all others are not western, else 437, which has a letter for each byte."""
    for encoding, is_plausible in (
        ("cp932", _is_japanese), ("cp437", _is_latin), ("cp1252", _is_latin), ("cp932", _has_japanese),
        ("cp850", _is_latin),
    ):  # fmt: skip
        text = _decoded(b"\n".join(names), encoding)
        if text is not None and is_plausible(text):
            return encoding
    return "cp437"


def _has_japanese(text: str) -> bool:
    letters = [unicodedata.name(one, "") for one in text if not one.isascii() and unicodedata.category(one)[0] in "LC"]
    return all(name.startswith(_JAPANESE) for name in letters) and any(not name.startswith("HALF") for name in letters)


def _is_japanese(text: str) -> bool:
    """Whether most Japanese letters stand in words of their own: single accents of western names look like some, but
    between letters of those names."""
    within = apart = 0
    for place, letter in enumerate(text):
        if letter.isascii() or unicodedata.category(letter)[0] not in "LC":
            continue
        name = unicodedata.name(letter, "")
        if not name.startswith(_JAPANESE):
            return False
        around = text[max(place - 1, 0) : place] + text[place + 1 : place + 2]
        is_within = name.startswith("FULL") or any(one.isascii() and one.isalpha() for one in around)
        within, apart = within + is_within, apart + (not is_within)
    return apart > within


def _is_latin(text: str) -> bool:
    return all(letter.isascii() or unicodedata.name(letter, "").startswith("LATIN ") for letter in text)
