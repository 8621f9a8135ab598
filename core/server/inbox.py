"""Files between the browser and the study: uploaded, not yet read, gone after a day.

`state_dir/inbox/<person>/<together>/<id>/data`: `together` and `id` are 32 hex digits; file names never reach the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import InvalidInput, NotFound
from core.files import held_file, sync_folder, temporary_name
from core.periodic import repeated
from core.records.people.permissions import Person, SignedIn
from core.settings import MIB, Settings

log = logging.getLogger(__name__)

LIFETIME_SECONDS = 24 * 3600
LOOK_SECONDS = 3600
"""How often is looked for what is older than that."""
ABANDONED_SECONDS = 3600
INBOX_STUDIES = 2
"""How many studies' worth of bytes and files one person may have here."""
BLOCK_BYTES = 4096
REMEASURED_SECONDS = 10
"""A full inbox is measured on the disk at most so often; otherwise the counts in memory are believed."""
_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class InboxFile:
    """An uploaded file. path: its bytes in the inbox. name: what the person calls it; for the screen only."""

    path: Path
    name: str


@dataclass(slots=True)
class _Account:
    """What one person has in the inbox. Items by id: the files they belong with, and their bytes in whole blocks.

    reserved: of uploads that are still coming; stored: of whole ones, as they were last measured or received.
    """

    stored: dict[str, tuple[str, int]] = field(default_factory=dict)
    reserved: dict[str, tuple[str, int]] = field(default_factory=dict)
    is_measured: bool = False
    made_room_at: float | None = None


_accounts: dict[Path, _Account] = {}
_lock = threading.Lock()


class Place:
    """Room for one file that is coming. path: where its bytes go; item: its id."""

    def __init__(self, settings: Settings, folder: Path, together: str, item: str) -> None:
        self.path = folder / together / item / temporary_name()
        self.item = item
        self._descriptor: int | None = None
        self._settings = settings
        self._folder = folder
        self._together = together
        self._n_bytes = 0

    def reserve(self, n_bytes: int) -> None:
        """Makes sure that the file may have so many bytes. Raises InvalidInput with what is full, reserving nothing."""
        if n_bytes <= self._n_bytes and self._n_bytes:
            return
        if n_bytes > self._settings.upload_mib * MIB:
            raise InvalidInput(
                f"The file is larger than {self._settings.upload_mib} MiB, the most this site accepts. "
                "Export fewer frames, or ask an administrator to raise the limit on the page Settings."
            )
        with _lock:
            account = _measured(self._folder)
            sentence = self._refusal(account, n_bytes)
            if sentence and _make_room(self._folder, account):
                sentence = self._refusal(account, n_bytes)
            if sentence:
                raise InvalidInput(sentence)
            account.reserved[self.item] = (self._together, _blocks(n_bytes))
        self._n_bytes = n_bytes

    def _refusal(self, account: _Account, n_bytes: int) -> str:
        """What is full when this file has so many bytes; "" when nothing is."""
        settings = self._settings
        others = [entry for item, entry in (account.stored | account.reserved).items() if item != self.item]
        together = [n for group, n in others if group == self._together]
        if len(together) >= settings.study_files:
            return f"A study has at most {settings.study_files} files. Remove some, or make two studies."
        if sum(together) + _blocks(n_bytes) > settings.study_mib * MIB:
            return (
                f"The files together are larger than {settings.study_mib} MiB, the most one study may have. "
                "Remove some, or make two studies."
            )
        has_room = sum(n for _, n in others) + _blocks(n_bytes) <= INBOX_STUDIES * settings.study_mib * MIB
        if not has_room or len(others) >= INBOX_STUDIES * settings.study_files:
            return (
                "Your earlier uploads, which no study was made of, fill all the room you have. "
                "Save or remove them where you chose them, or wait an hour."
            )
        return ""

    def open(self) -> None:
        """Make the file, held: while this process lives, no sweep at another's start removes it."""
        self.path.parent.mkdir(parents=True, mode=0o700)
        self._descriptor = held_file(self.path, 0o600)

    def sync(self) -> None:
        """Bring what was written to the disk. May take a while: not to be done within a transaction."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def finish(self) -> None:
        """The file is whole: from now on it can be found."""
        self.path.rename(self.path.with_name("data"))
        sync_folder(self.path.parent)
        self._close()
        with _lock:
            account = _measured(self._folder)
            account.reserved.pop(self.item, None)
            account.stored[self.item] = (self._together, _blocks(self.path.with_name("data").stat().st_size))

    def give_back(self) -> None:
        """Takes away what has come, and the room that was reserved."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        _remove_if_empty(self.path.parent.parent)
        self._close()
        with _lock:
            _measured(self._folder).reserved.pop(self.item, None)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def open_place(settings: Settings, person: Person | SignedIn, *, together: str, n_bytes: int) -> Place:
    """Room for one file that belongs to the files of `together`, to be finished or given back.

    n_bytes: as the browser announces, 0 where it does not. So much is reserved before a single byte is read, for one
    upload after the other: many at once cannot each have the same room. Raises InvalidInput with what is full.
    """
    group = _group(settings, person, together)
    place = Place(settings, group.parent, together, uuid.uuid4().hex)
    place.reserve(n_bytes)
    try:
        place.open()
    except OSError:
        place.give_back()
        raise
    return place


def _measured(folder: Path) -> _Account:
    """The account of a person's folder, measured when it is first asked for. The caller holds the lock."""
    account = _accounts.setdefault(folder, _Account())
    if not account.is_measured:
        _measure(folder, account)
    return account


def _measure(folder: Path, account: _Account) -> None:
    account.stored.clear()
    for path in folder.glob("*/*/*"):
        item = path.parent.name
        if item not in account.reserved:
            with contextlib.suppress(FileNotFoundError):  # removed while we look
                account.stored[item] = (path.parent.parent.name, _blocks(path.stat().st_size))
    account.is_measured = True


def _make_room(folder: Path, account: _Account) -> bool:
    """Removes what was abandoned more than an hour ago and measures anew; False where that was done just now."""
    if account.made_room_at is not None and time.monotonic() - account.made_room_at < REMEASURED_SECONDS:
        return False
    account.made_room_at = time.monotonic()
    reserved = set(account.reserved)
    abandoned = (item for item in folder.glob("*/*") if item.name not in reserved)
    _remove_items(abandoned, older_than_seconds=ABANDONED_SECONDS)
    _measure(folder, account)
    return True


def _blocks(n_bytes: int) -> int:
    """What a file takes on the disk: whole blocks, at least one."""
    return max(1, -(-n_bytes // BLOCK_BYTES)) * BLOCK_BYTES


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
        item = file.path.parent
        shutil.rmtree(item, ignore_errors=True)
        _remove_if_empty(item.parent)
        with _lock:
            account = _accounts.get(item.parent.parent)
            if account is not None:
                account.stored.pop(item.name, None)


def remove_unfinished(settings: Settings) -> None:
    """At a start: the empty folders of uploads that a killed process left. Opening the site has swept their bytes."""
    for item in list((settings.state_dir / "inbox").glob("*/*/*")):
        if item.is_dir() and not any(item.iterdir()):
            _remove_if_empty(item)
            _remove_if_empty(item.parent)


@contextmanager
def emptied(settings: Settings) -> Iterator[None]:
    """Removes what nobody made a study of in time, now and then every hour, until the block ends."""
    with repeated("inbox", lambda: remove_old(settings), lambda: LOOK_SECONDS):
        yield


def remove_old(settings: Settings) -> int:
    """Removes uploads that nobody made a study of, also what an interrupted server left behind; gives their number."""
    n_removed = _remove_items((settings.state_dir / "inbox").glob("*/*/*"), older_than_seconds=LIFETIME_SECONDS)
    if n_removed:
        with _lock:
            for account in _accounts.values():
                account.is_measured = False
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
