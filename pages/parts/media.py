"""Streamlit's files under `/media/`, each written down with the session that it is made in."""

from __future__ import annotations

from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.records.people import sessions
from core.records.people.permissions import SessionActor
from core.server.media_owners import MediaOwners, media_id, wrapped
from pages.parts import session

OWNERS = MediaOwners()


def install() -> None:
    """Once in a server, before the first page: whatever is stored from then on has an owner, or answers nobody."""
    storage = MemoryMediaFileStorage
    delete = storage.delete_file

    def delete_and_forget(self: MemoryMediaFileStorage, file_id: str) -> None:
        delete(self, file_id)
        OWNERS.forget(file_id)

    storage.load_and_get_id = wrapped(storage.load_and_get_id, OWNERS, _maker)  # type: ignore[method-assign]
    storage.delete_file = delete_and_forget  # type: ignore[method-assign]


def may_fetch(path: str, token: str) -> bool:
    """Whether the file at this address may be given to the session of this token; it may block."""
    return OWNERS.may_fetch(session.database(), media_id(path), sessions.actor_of(token))


def _maker() -> tuple[SessionActor, str] | None:
    """The session that a page is drawn in, or that a download is made for, and what that demands."""
    if get_script_run_ctx(suppress_warning=True) is not None:
        token = session.session_token()
        return (sessions.actor_of(token), session.DRAWN_FOR.get()) if token else None
    return session.MADE_FOR.get()
