"""Streamlit's files under `/media/`, each written down with the session that it is made in.

A file that is made when it is asked for and refused then says why, in the refusal's own sentence: Streamlit's is the
same for every reason.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

from streamlit.proto.BackMsg_pb2 import BackendOperationRequest
from streamlit.proto.ForwardMsg_pb2 import BackendOperationResponse, DeferredFileResponsePayload
from streamlit.runtime.backend_operation_handler import DeferredFileHandler
from streamlit.runtime.media_file_storage import MediaFileStorageError
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core.errors import AppError
from core.records.people import sessions
from core.records.people.permissions import SessionActor
from core.server.media_owners import MediaOwners, media_id, wrapped
from pages.parts import session

log = logging.getLogger(__name__)

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
    DeferredFileHandler.handle = made_or_refused  # type: ignore[method-assign]


def may_fetch(path: str, token: str) -> bool:
    """Whether the file at this address may be given to the session of this token; it may block."""
    return OWNERS.may_fetch(session.database(), media_id(path), sessions.actor_of(token))


async def made_or_refused(
    self: DeferredFileHandler, request: BackendOperationRequest, session_id: str
) -> BackendOperationResponse:
    """Makes the file of a download and answers where it lies, or the sentence why there is none."""
    try:
        url = await asyncio.to_thread(self._get_media_file_mgr().execute_deferred, request.deferred_file.file_id)
    except MediaFileStorageError as failed:
        return BackendOperationResponse(request_id=request.request_id, error_msg=_why_not(failed))
    return BackendOperationResponse(request_id=request.request_id, deferred_file=DeferredFileResponsePayload(url=url))


def _why_not(failed: MediaFileStorageError) -> str:
    """A sentence; of a bug, a number that finds its traceback in the log."""
    cause = failed.__cause__
    if isinstance(cause, AppError):
        log.info("Refused: %s", type(cause).__name__)
        return str(cause)
    if cause is None:  # Streamlit knows no such button: the page was drawn anew, or the server restarted
        return "This download is not offered any more. Reload the page and try again."
    number = secrets.token_hex(4)
    log.error("A download failed (%s)", number, exc_info=cause)
    return f"This file could not be made, and that is our fault. Give an administrator the number {number}."


def _maker() -> tuple[SessionActor, str] | None:
    """The session that a page is drawn in, or that a download is made for, and what that demands."""
    if get_script_run_ctx(suppress_warning=True) is not None:
        token = session.session_token()
        return (sessions.actor_of(token), session.DRAWN_FOR.get()) if token else None
    return session.MADE_FOR.get()
