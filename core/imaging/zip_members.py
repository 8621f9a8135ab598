"""The members of a zip, one after another, none of them ever written to disk.

A zip is hostile until shown otherwise: names that climb out, links, bombs, archives in archives and encrypted members
are refused one by one; what remains is handed on as bytes.

The directory of a zip, read so that one odd entry never loses the others, and what its names say.

A name is bytes. A flag says that they are UTF-8 (APPNOTE 4.4.4, bit 11), without it they are said to be code page 437
(APPNOTE D.1); programs set neither rightly, so the bytes themselves are asked.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

from core.errors import UnreadableImage
from core.imaging.sniff import HEAD_BYTES, kind_of
from core.settings import MIB, Settings

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


_ENTRY = b"PK\x01\x02"
_RATIO_LIMIT = 200
_RATIO_COUNTS_FROM = 8 * MIB
_NAME_BYTES = 200
_PATH_BYTES = 1000
"""Of a member's place below a folder; systems allow 255 bytes a name and 1,024 or more a path."""
_ROOTS = ("/", "//")
"""POSIX knows a root of two slashes beside that of one; a server's name on Windows becomes it."""
_NOT_IN_NAMES = set('<>:"|?*\\')
_DRIVE = re.compile("[A-Za-z]:")
_BY_COMPUTERS = {".ds_store", "thumbs.db", "desktop.ini"}
_APPLE_DOUBLE = b"\0\x05\x16\x07"
"""Begins what a Mac writes beside each file, as "._name" (RFC 1740)."""
_DAMAGED = "This zip is damaged or cut short. Make it again, or choose the pictures themselves."


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a zip: its bytes, or the sentence why it is not read.

    name: as the zip has it, or "unnamed" where it has none; for the person who chose the file. path: the same as a
    place below a folder, such as every system can write: without colons, no part above 255 bytes. No two members have
    the same, also where capital letters do not count.
    """

    name: str
    path: PurePosixPath
    data: bytes | None
    refused: str | None


def members(source: bytes | Path, *, settings: Settings) -> Iterator[Member]:
    """Every file of the zip in its order, unpacked when asked for; raises `UnreadableImage` for a zip that is itself
    refused (damaged, too many members, more than a study in all)."""
    _require_few_entries(source, settings)
    taken: set[str] = set()
    with _opened(source) as archive:
        if not archive.infolist() and _has_more_entries(
            source if isinstance(source, bytes) else source.read_bytes(), 0
        ):
            raise UnreadableImage(_DAMAGED)  # an end of another zip, or in a comment, was taken for the end of this one
        entries = [entry for entry in archive.infolist() if _is_wanted(entry)]
        if len(entries) > settings.study_files:
            raise UnreadableImage(
                f"This zip holds {len(entries)} files; a study may have {settings.study_files}. "
                "Choose the breast images."
            )
        if sum(entry.file_size for entry in entries) > settings.study_mib * MIB:
            raise UnreadableImage(
                f"This zip unpacks to more than the {settings.study_mib} MiB a study may have here, "
                "so it is not opened."
            )
        for number, entry in enumerate(entries):
            refused = _refusal_of(entry, settings)
            data = None
            if refused is None:
                data, refused = _unpack(archive, entry, settings)
            path = _path_of(entry, number)
            name = entry.filename if _parts_of(entry) else path.name
            if path.name.startswith("._") and data is not None and data.startswith(_APPLE_DOUBLE):
                continue
            free = _free(path, number, taken)
            yield Member(name if free == path else str(free), free, data, refused)


@contextmanager
def _opened(source: bytes | Path) -> Iterator[zipfile.ZipFile]:
    """With the names that the bytes of names say."""
    with ZipBytes(BytesIO(source) if isinstance(source, bytes) else source.open("rb", buffering=0)) as content:
        try:
            archive = zipfile.ZipFile(content)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError):
            raise UnreadableImage(_DAMAGED) from None
        content.is_directory_read = True
        name_entries(archive.infolist())
        with archive:
            yield archive


def _free(path: PurePosixPath, number: int, taken: set[str]) -> PurePosixPath:
    """The path, or with the member's number where another member has it; added to `taken`."""
    free = path
    while (key := unicodedata.normalize("NFC", str(free)).casefold()) in taken:
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    taken.add(key)
    return free


def _require_few_entries(source: bytes | Path, settings: Settings) -> None:
    """Count directory entries before `zipfile` makes an object of each."""
    limit = 4 * settings.study_files + 64
    if isinstance(source, bytes):
        is_many = _has_more_entries(source, limit)
    elif not source.stat().st_size:
        raise UnreadableImage(_DAMAGED)  # nothing of it can be mapped
    else:
        with source.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as mapped:
            is_many = _has_more_entries(mapped, limit)
    if is_many:
        raise UnreadableImage(f"This zip holds too many files; a study may have {settings.study_files}.")


def _has_more_entries(content: bytes | mmap.mmap, limit: int) -> bool:
    position = -1
    for _ in range(limit + 1):
        position = content.find(_ENTRY, position + 1)
        if position < 0:
            return False
    return True


def _parts_of(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    return PurePosixPath(entry.filename.replace("\\", "/")).parts


def _path_of(entry: zipfile.ZipInfo, number: int) -> PurePosixPath:
    """Where the member may be written below a folder. Two names never meet in one place that were not the same."""
    parts = [part for part in _parts_of(entry) if part not in (*_ROOTS, "..")]
    path = PurePosixPath(*map(_short, parts))
    if not parts:
        return PurePosixPath(f"unnamed-{number + 1}")
    if len(str(path).encode("utf-8", "replace")) > _PATH_BYTES:
        return PurePosixPath(f"deep-{_digest(str(path))}", path.name)
    return path


def _short(part: str) -> str:
    """A name that every system can write: what cannot stand in one becomes "_", what is too long ends in its digest."""
    clean = "".join("_" if letter in _NOT_IN_NAMES or ord(letter) < 32 else letter for letter in part)
    encoded = clean.encode("utf-8", "replace")
    if clean == part and len(encoded) <= _NAME_BYTES:
        return part
    stem, suffix = PurePosixPath(clean).stem, PurePosixPath(clean).suffix
    suffix = suffix if len(suffix) <= 16 else ""
    short = stem.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    return f"{short}-{_digest(part)}{suffix}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _is_wanted(entry: zipfile.ZipInfo) -> bool:
    parts = _parts_of(entry)
    is_by_computer = "__MACOSX" in parts or (len(parts) > 0 and parts[-1].lower() in _BY_COMPUTERS)
    is_folder = entry.filename.endswith("/") or (entry.filename.endswith("\\") and not entry.file_size)
    return not is_folder and not is_by_computer


def _refusal_of(entry: zipfile.ZipInfo, settings: Settings) -> str | None:
    parts = _parts_of(entry)
    if (parts and parts[0] in _ROOTS) or ".." in parts or (len(parts) > 1 and _DRIVE.fullmatch(parts[0])):
        return "This member of the zip has a name that points outside the zip, so it is not read."
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "This member of the zip is a link and not a picture, so it is not read."
    if entry.flag_bits & 0x1:
        return "This member of the zip is encrypted. Unpack it with its password and choose the pictures themselves."
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "This member of the zip is compressed in a way that is not read here. Make the zip again."
    if entry.file_size > settings.upload_mib * MIB:
        return f"This member of the zip is larger than the {settings.upload_mib} MiB one file may have here."
    if entry.file_size > _RATIO_COUNTS_FROM and entry.file_size > _RATIO_LIMIT * max(entry.compress_size, 1):
        return "This member of the zip unpacks to far more than a picture would, so it is not opened."
    return None


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, settings: Settings) -> tuple[bytes | None, str | None]:
    try:
        use_own_name(archive, entry)
        with archive.open(entry) as file:
            data = file.read(entry.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return None, "This member of the zip is damaged. Make the zip again, or choose the picture itself."
    if len(data) != entry.file_size or len(data) > settings.upload_mib * MIB:
        return None, "This member of the zip has another size than the zip says, so it is not read."
    if kind_of(data[:HEAD_BYTES]) == "ZIP":
        return None, "This member of the zip is a zip itself; only one level is opened. Unpack it first."
    return data, None
