"""The file of a backup: a tar without compression that begins with a list of all other entries and their SHA-256."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from core.errors import InvalidInput
from core.records.database_copy import Tell
from core.settings import MIB

FORMAT = 1
DATABASE = "secondread.sqlite3"
LIST = "backup.json"
FILES = ("site.key", "audit_heads.jsonl", "live.json")
FOLDERS = ("store", "data_sets", "candidates", "releases")
_CHUNK = 1 << 20
_TELL_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a backup. n_files: with the database. n_audit: rows of the audit trail."""

    n_files: int
    n_bytes: int
    n_audit: int


def write_archive(folder: Path, file: IO[bytes], n_audit: int, tell: Tell) -> Summary:
    """Everything below `folder`. Pictures and weights are compressed already, so nothing is a second time."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}
    content = json.dumps({"format": FORMAT, "n_audit": n_audit, "files": listed}).encode()
    n_bytes, told = 0, 0
    with tarfile.open(fileobj=file, mode="w") as archive:
        head = tarfile.TarInfo(LIST)
        head.size = len(content)
        archive.addfile(head, io.BytesIO(content))
        for path in paths:
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as one:
                archive.addfile(entry, one)
            n_bytes += entry.size
            told = _tell_now_and_then(tell, "Written", n_bytes, told)
    return Summary(len(paths), n_bytes, n_audit)


def unpack_archive(source: Path, folder: Path, tell: Tell) -> Summary:
    """Every listed file, no other, each with its hash. Names are checked before anything is written.

    Raises InvalidInput for another format; ValueError, KeyError, TypeError, EOFError, OSError, tarfile.TarError or
    zlib.error for a file that is broken or none of ours.
    """
    n_bytes, told = 0, 0
    with tarfile.open(source, mode="r:") as archive:
        head = archive.next()
        if head is None or head.name != LIST or not head.isreg():
            raise ValueError("no list")
        stream = archive.extractfile(head)
        listing = json.loads(stream.read() if stream else b"")
        if listing["format"] != FORMAT:
            raise InvalidInput("This backup was made by another version of SecondRead. Restore it with that one.")
        expected = dict(listing["files"])
        if DATABASE not in expected or "site.key" not in expected:
            raise ValueError("no database")
        while (entry := archive.next()) is not None:
            wanted = expected.pop(entry.name)
            stream = archive.extractfile(entry) if entry.isreg() and _is_ours(entry.name) else None
            if stream is None:
                raise ValueError("not a name of ours")
            path = folder / entry.name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("xb") as file:
                shutil.copyfileobj(stream, file, _CHUNK)
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            if _sha256(path) != wanted:
                raise ValueError("damaged")
            n_bytes += entry.size
            told = _tell_now_and_then(tell, "Unpacked", n_bytes, told)
        if expected:
            raise ValueError("cut off")
    return Summary(len(listing["files"]), n_bytes, int(listing["n_audit"]))


def _tell_now_and_then(tell: Tell, word: str, n_bytes: int, told: int) -> int:
    if n_bytes - told < _TELL_BYTES:
        return told
    tell(f"{word} so far: {n_bytes / MIB:.0f} MiB.")
    return n_bytes


def _is_ours(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if ".." in parts or "\\" in name or name.startswith("/"):
        return False
    return name in (*FILES, DATABASE) or (len(parts) > 1 and parts[0] in FOLDERS)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
