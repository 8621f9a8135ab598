"""The members of a zip, one after another, none of them ever written to disk.

A zip is hostile until shown otherwise: names that climb out, links, bombs, archives in archives and encrypted members
are refused one by one; what remains is handed on as bytes.
"""

from __future__ import annotations

import mmap
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

from core.errors import UnreadableImage
from core.settings import MIB, Settings

_ENTRY = b"PK\x01\x02"
_RATIO_LIMIT = 200
_RATIO_COUNTS_FROM = 8 * MIB
_BY_COMPUTERS = {".ds_store", "thumbs.db", "desktop.ini"}
_DAMAGED = "This zip is damaged or cut short. Make it again, or choose the pictures themselves."


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a zip: its bytes, or the sentence why it is not read."""

    name: str
    data: bytes | None
    refused: str | None


def members(source: bytes | Path, *, settings: Settings) -> Iterator[Member]:
    """Every file of the zip in its order, unpacked when asked for; raises `UnreadableImage` for a zip that is itself
    refused (damaged, too many members, more than a study in all)."""
    _demand_few_entries(source, settings)
    try:
        archive = zipfile.ZipFile(BytesIO(source) if isinstance(source, bytes) else source)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError):
        raise UnreadableImage(_DAMAGED) from None
    with archive:
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
        for entry in entries:
            refused = _refusal_of(entry, settings)
            data = None
            if refused is None:
                data, refused = _unpack(archive, entry, settings)
            yield Member(entry.filename, data, refused)


def _demand_few_entries(source: bytes | Path, settings: Settings) -> None:
    """Count directory entries before `zipfile` makes an object of each."""
    limit = 4 * settings.study_files + 64
    if isinstance(source, bytes):
        is_many = _has_more_entries(source, limit)
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


def _is_wanted(entry: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(entry.filename)
    is_by_computer = "__MACOSX" in path.parts or path.name.lower() in _BY_COMPUTERS
    return not entry.is_dir() and not is_by_computer


def _refusal_of(entry: zipfile.ZipInfo, settings: Settings) -> str | None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
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
        with archive.open(entry) as file:
            data = file.read(entry.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return None, "This member of the zip is damaged. Make the zip again, or choose the picture itself."
    if len(data) != entry.file_size or len(data) > settings.upload_mib * MIB:
        return None, "This member of the zip has another size than the zip says, so it is not read."
    if data[:4] == b"PK\x03\x04":
        return None, "This member of the zip is a zip itself; only one level is opened. Unpack it first."
    return data, None
