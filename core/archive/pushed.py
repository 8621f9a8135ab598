"""Objects that archives send by DICOM messages, as files until a study is made of them.

`state_dir/pushed/EXAM/OBJECT.dcm`: both names are keyed hashes, and `sender` beside them holds the archive's number.
The folder of an exam that is being made into a study is called `EXAM.ROW`: what comes later of it is a new folder.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import NotFound
from core.files import whole_file, write_whole

_SENDER = "sender"


@dataclass(frozen=True, slots=True)
class PushedExam:
    """What came of one exam. row_id: of the arrival that has it in hand, or None. idle_seconds: since an object of it
    came, or a part of one."""

    folder: Path
    exam_hash: str
    row_id: int | None
    archive_id: int
    idle_seconds: float
    paths: tuple[Path, ...]


def add(state_dir: Path, exam_hash: str, object_hash: str, *, archive_id: int, file: Path) -> None:
    """Keep a copy of the file, whole and on the disk when this returns; the same object again replaces it.

    Raises Conflict (disk full), OSError.
    """
    folder = state_dir / "pushed" / exam_hash
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / _SENDER).exists():
        write_whole(folder / _SENDER, str(archive_id), mode=0o600)
    with whole_file(folder / f"{object_hash}.dcm", mode=0o600) as half:
        shutil.copyfile(file, half)


def touch(state_dir: Path, exam_hash: str) -> None:
    """Something of an exam is coming; nothing where none of its objects is here, or an arrival has them in hand."""
    with suppress(OSError):
        os.utime(state_dir / "pushed" / exam_hash)


def exams(state_dir: Path) -> Iterator[PushedExam]:
    """Every exam that has come, in no order."""
    root = state_dir / "pushed"
    for folder in root.iterdir() if root.is_dir() else ():
        exam_hash, _, row = folder.name.partition(".")
        try:
            archive_id = int((folder / _SENDER).read_text(encoding="utf-8"))
            idle = time.time() - folder.stat().st_mtime
            paths = tuple(sorted(folder.glob("*.dcm")))
        except (OSError, ValueError):  # is just being made, renamed or removed
            continue
        yield PushedExam(folder, exam_hash, int(row) if row else None, archive_id, idle, paths)


def taken(state_dir: Path, exam_hash: str, row_id: int) -> list[Path]:
    """The files of an exam in the order in which they came, from now on in the hands of this arrival. Raises NotFound
    where there are none."""
    root = state_dir / "pushed"
    mine = root / f"{exam_hash}.{row_id}"
    if not mine.is_dir():
        try:
            (root / exam_hash).rename(mine)
        except OSError:
            raise NotFound("What was sent is not here any more. Have the archive send it again.") from None
    return sorted(mine.glob("*.dcm"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def remove(state_dir: Path, exam_hash: str, row_id: int) -> None:
    """What an arrival that is over had in hand."""
    shutil.rmtree(state_dir / "pushed" / f"{exam_hash}.{row_id}", ignore_errors=True)


def n_bytes(state_dir: Path) -> int:
    """Of all files here; without those that are removed while they are counted."""
    n = 0
    root = state_dir / "pushed"
    for folder in root.iterdir() if root.is_dir() else ():
        with suppress(OSError):
            for path in folder.glob("*.dcm"):
                with suppress(OSError):
                    n += path.stat().st_size
    return n
