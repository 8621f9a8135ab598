"""Files between the browser and the study: uploaded, not yet read, gone after a day.

`state_dir/inbox/<person>/<together>/<id>/data`: `together` and `id` are 32 hex digits; file names never reach the disk.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import InvalidInput, NotFound
from core.records.people.permissions import Person, SignedIn
from core.settings import MIB, Settings

log = logging.getLogger(__name__)

LIFETIME_SECONDS = 24 * 3600
ABANDONED_SECONDS = 3600
INBOX_STUDIES = 2
_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class InboxFile:
    """An uploaded file. path: its bytes in the inbox. name: what the person calls it; for the screen only."""

    path: Path
    name: str


def new_item(settings: Settings, person: Person | SignedIn, *, together: str) -> Path:
    """A new empty folder for one file that belongs to the files of `together`.

    Raises InvalidInput when these are as many files as one study may have.
    """
    group = _group(settings, person, together)
    n_files = sum(1 for _ in group.iterdir()) if group.is_dir() else 0
    if n_files >= settings.study_files:
        raise InvalidInput(f"A study has at most {settings.study_files} files. Remove some, or make two studies.")
    item = group / uuid.uuid4().hex
    item.mkdir(parents=True, mode=0o700)
    return item


def room_in_study(settings: Settings, person: Person | SignedIn, *, together: str) -> int:
    """How many more bytes the files of `together` may have."""
    return max(0, settings.study_mib * MIB - _size(_group(settings, person, together)))


def room_of(settings: Settings, person: Person | SignedIn) -> int:
    """How many more bytes this person may have in the inbox, in all: two studies' worth.

    When less than a study is left, what they abandoned more than an hour ago makes room first.
    """
    folder = settings.state_dir / "inbox" / str(int(person.id))
    most = INBOX_STUDIES * settings.study_mib * MIB
    if _size(folder) > most - settings.study_mib * MIB:
        _remove_items(folder.glob("*/*"), older_than_seconds=ABANDONED_SECONDS)
    return max(0, most - _size(folder))


def find_item(settings: Settings, person: Person | SignedIn, *, together: str, item: str) -> Path:
    """The bytes of one finished upload of this person. Raises NotFound."""
    if not _HEX.fullmatch(item) or not _HEX.fullmatch(together):
        raise NotFound("This upload is not known. Choose the file again.")
    path = _group(settings, person, together) / item / "data"
    if not path.is_file():
        raise NotFound("An uploaded file is not there any more (uploads are kept for a day). Choose it again.")
    return path


def discard(files: Iterable[InboxFile]) -> None:
    """Removes these uploads, once a study holds what was in them, or nobody wants them."""
    for file in files:
        shutil.rmtree(file.path.parent, ignore_errors=True)
        _remove_if_empty(file.path.parent.parent)


def remove_old(settings: Settings) -> int:
    """Removes uploads that nobody made a study of, also what an interrupted server left behind; gives their number."""
    n_removed = _remove_items((settings.state_dir / "inbox").glob("*/*/*"), older_than_seconds=LIFETIME_SECONDS)
    if n_removed:
        log.info("Removed %d uploads that were older than a day", n_removed)
    return n_removed


def _remove_items(items: Iterable[Path], *, older_than_seconds: float) -> int:
    n_removed = 0
    for item in list(items):
        with contextlib.suppress(FileNotFoundError):  # somebody else has just removed it
            if time.time() - item.stat().st_mtime > older_than_seconds:
                shutil.rmtree(item, ignore_errors=True)
                _remove_if_empty(item.parent)
                n_removed += 1
    return n_removed


def _group(settings: Settings, person: Person | SignedIn, together: str) -> Path:
    if not _HEX.fullmatch(together):
        raise InvalidInput("This upload does not say which files belong together. Reload the page and choose again.")
    return settings.state_dir / "inbox" / str(int(person.id)) / together


def _remove_if_empty(group: Path) -> None:
    with contextlib.suppress(OSError):  # not empty: another file of the same study is still there
        group.rmdir()


def _size(folder: Path) -> int:
    n_bytes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed while we look
            n_bytes += path.stat().st_size if path.is_file() else 0
    return n_bytes
