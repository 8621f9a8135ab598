"""Whose pictures and downloads lie under `/media/`: a file answers only the sessions that it was made in.

Streamlit names a file by what it holds, so the same file may be made in several sessions; each of them is an owner.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from core.errors import NotAllowed
from core.records.database.db import Database
from core.records.people.permissions import SessionActor, person_now, require_permission


class MediaOwners:
    """File id -> the sessions that it was made in, and what each had to be allowed to do. Safe in any thread."""

    def __init__(self) -> None:
        self._owners: dict[str, dict[SessionActor, set[str]]] = {}
        self._lock = Lock()

    def add(self, file_id: str, owner: SessionActor, action: str) -> None:
        """The file was made in this session. action: what the page or the download demands, "" for being signed in."""
        with self._lock:
            self._owners.setdefault(file_id, {}).setdefault(owner, set()).add(action)

    def forget(self, file_id: str) -> None:
        """The file is there no more."""
        with self._lock:
            self._owners.pop(file_id, None)

    def may_fetch(self, db: Database, file_id: str, asking: SessionActor) -> bool:
        """Whether the file was made in this session, which is alive and whose person may still do what it was for."""
        with self._lock:
            actions = set(self._owners.get(file_id, {}).get(asking, ()))
        return any(_may(db, asking, action) for action in actions)


def media_id(path: str) -> str:
    """The id in an address like `/media/<id>.png`."""
    return path.rpartition("/")[2].partition(".")[0]


def wrapped(
    load: Callable[..., str], owners: MediaOwners, maker: Callable[[], tuple[SessionActor, str] | None]
) -> Callable[..., str]:
    """`load`, which stores a file and gives its id, so that it also writes down in which session that happened."""

    def load_and_write_down(*args: object, **named: object) -> str:
        file_id = load(*args, **named)
        made_by = maker()
        if made_by is not None:
            owners.add(file_id, *made_by)
        return file_id

    return load_and_write_down


def _may(db: Database, asking: SessionActor, action: str) -> bool:
    try:
        with db.read() as connection:
            if action:
                require_permission(connection, asking, action)
            else:
                person_now(connection, asking)
    except NotAllowed:
        return False
    return True
