"""Where pictures wait on their way into a data set: a zip is unpacked in the state folder, a folder is only named.

What a server that was killed left half unpacked is removed a day later.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from core.errors import InvalidInput, NotFound
from core.files import temporary_folder, temporary_parent
from core.imaging.zip_members import members
from core.settings import Settings

FILES_MOST = 20_000


UNPACKED_MIB = 16 * 1024


ABANDONED_SECONDS = 24 * 3600


_NO_PLACE = "This member of the zip is called like a folder of others in it, so it has no place."


Progress = Callable[[str, float], None]
"""Called with a sentence and how much is done, 0 to 1."""


@contextmanager
def unpacked(archive: Path, settings: Settings, progress: Progress) -> Iterator[tuple[Path, list[str]]]:
    """The folder a zip was unpacked into, gone at the end, and sentences on what was refused."""
    with temporary_folder(temporary_parent(settings.state_dir)) as folder:
        yield folder, unpack(archive, folder, settings, progress)


def new_folder(settings: Settings) -> Path:
    """An empty folder in the state folder, for a day at most."""
    arriving = settings.state_dir / "data_sets" / "arriving"
    arriving.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in arriving.iterdir():
        with suppress(FileNotFoundError):  # somebody else has just removed it
            if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    folder = arriving / uuid4().hex
    folder.mkdir(mode=0o700)
    return folder


def unpack(archive: Path, folder: Path, settings: Settings, progress: Progress) -> list[str]:
    """Write the files of a zip below `folder`; sentences on what was refused. Raises UnreadableImage, InvalidInput."""
    limits = replace(settings, study_files=FILES_MOST, study_mib=UNPACKED_MIB)
    refused: dict[str, int] = {}
    n_read, total = 0, archive.stat().st_size or 1
    for member in members(archive, settings=limits):
        if member.data is None:
            sentence = member.refused or "This member cannot be read."
            refused[sentence] = refused.get(sentence, 0) + 1
            continue
        path = (folder / member.path).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise InvalidInput("A member of the zip has a name that points outside it.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            refused[_NO_PLACE] = refused.get(_NO_PLACE, 0) + 1
        n_read += len(member.data)
        progress("Unpacking", min(n_read / total, 1.0))
    return [f"{n} left out: {sentence}" for sentence, n in refused.items()]


def folder_below_root(settings: Settings, folder: str) -> Path:
    """A folder on this server, given relative to the site's data root. Raises InvalidInput, NotFound."""
    if not settings.data_root:
        raise InvalidInput("This site names no folder for data (SECONDREAD_DATA_ROOT). Upload a zip instead.")
    root = Path(settings.data_root).resolve()
    source = (root / folder).resolve()
    if not source.is_relative_to(root):
        raise InvalidInput("This folder lies outside the site's folder for data.")
    if not source.is_dir():
        raise NotFound("There is no such folder below the site's folder for data.")
    return source
