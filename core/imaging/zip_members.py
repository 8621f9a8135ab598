"""The members of a zip, one after another, none of them ever written to disk.

A zip is hostile until shown otherwise: names that climb out, links, bombs, archives in archives and encrypted members
are refused one by one; what remains is handed on as bytes.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

from core.errors import UnreadableImage
from core.imaging.sniff import HEAD_BYTES, kind_of
from core.imaging.zip_directory import ZipBytes, name_entries, use_own_name
from core.settings import MIB, Settings

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
