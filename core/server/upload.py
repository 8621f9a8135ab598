"""`POST /upload`: one file a request, its bytes as the body, streamed to disk. `DELETE` takes it back.

Memory stays small whatever the file's size: 300 MB through Streamlit's own uploader take twice that in memory.
The header `X-Together` (32 hex digits, chosen by the page) says which files belong to one study. File names are not
sent: they may hold a patient's name, and the server has no use for them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.errors import AppError, InvalidInput, NotAllowed
from core.records import site_settings
from core.records.database.db import Database
from core.records.people import sessions
from core.records.people.permissions import Person, allowed, require_role_for
from core.server import inbox
from core.server.guards import SESSION_COOKIE
from core.settings import MIB, Settings

log = logging.getLogger(__name__)


def upload_routes(database: Callable[[], Database], settings: Settings) -> list[Route]:
    """Answers 201 {"id": ...} or 204, or 4xx {"refused": sentence}."""

    async def person_of(request: Request) -> Person:
        token = request.cookies.get(SESSION_COOKIE, "")
        now = await run_in_threadpool(site_settings.current, database())
        person = await run_in_threadpool(sessions.person_of, database(), now, token)
        if person is None:
            raise NotAllowed("You are not signed in any more. Sign in and choose the files again.")
        if not allowed(person, "manage_data"):  # an administrator's zip travels the same way
            require_role_for(person, "create_study")
        return person

    async def upload(request: Request) -> Response:
        try:
            person = await person_of(request)
            now = await run_in_threadpool(site_settings.current, database())
            item = await _receive(request, now, person)
        except AppError as refused:
            return _refusal(refused, 413)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is there to read it
        return JSONResponse({"id": item}, 201)

    async def take_back(request: Request) -> Response:
        together, item = request.path_params["together"], request.path_params["item"]
        try:
            path = inbox.find_item(settings, await person_of(request), together=together, item=item)
        except AppError as refused:
            return _refusal(refused, 404)
        await run_in_threadpool(inbox.discard, [inbox.InboxFile(path, "")])
        return Response(status_code=204)

    return [
        Route("/upload", upload, methods=["POST"]),
        Route("/upload/{together}/{item}", take_back, methods=["DELETE"]),
    ]


def _refusal(refused: AppError, status: int) -> Response:
    # Of a refused upload the rest of the body is not read: the connection cannot be used again.
    status = 403 if isinstance(refused, NotAllowed) else status
    return JSONResponse({"refused": str(refused)}, status, headers={"Connection": "close"})


async def _receive(request: Request, settings: Settings, person: Person) -> str:
    """Streams the body into a new inbox item and gives its id. Nothing is left behind unless the file is whole."""
    together = request.headers.get("x-together", "")
    await run_in_threadpool(inbox.remove_old, settings)
    limits = await run_in_threadpool(_limits, settings, person, together)
    announced = request.headers.get("content-length", "")
    _check(int(announced) if announced.isdigit() else 0, limits)
    folder = await run_in_threadpool(inbox.new_item, settings, person, together=together)
    try:
        n_bytes = await _stream_to(request, folder / "partial", limits)
        if n_bytes == 0:
            raise InvalidInput("The file is empty.")
        (folder / "partial").rename(folder / "data")
    except BaseException:  # also when the browser goes away or the server stops
        shutil.rmtree(folder, ignore_errors=True)
        raise
    log.info("Received a file of %d bytes from person %d", n_bytes, person.id)
    return folder.name


async def _stream_to(request: Request, path: Path, limits: Sequence[tuple[int, str]]) -> int:
    n_bytes = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            n_bytes += len(chunk)
            _check(n_bytes, limits)
            await run_in_threadpool(file.write, chunk)
    return n_bytes


def _limits(settings: Settings, person: Person, together: str) -> tuple[tuple[int, str], ...]:
    """How many bytes this file may have, for each reason there is, and the sentence when it has more."""
    return (
        (
            settings.upload_mib * MIB,
            f"The file is larger than {settings.upload_mib} MiB, the most this site accepts. "
            "Export fewer frames, or ask an administrator to raise the limit on the page Settings.",
        ),
        (
            inbox.room_in_study(settings, person, together=together),
            f"The files together are larger than {settings.study_mib} MiB, the most one study may have. "
            "Remove some, or make two studies.",
        ),
        (
            inbox.room_of(settings, person),
            "Your earlier uploads, which no study was made of, fill all the room you have. "
            "Save or remove them where you chose them, or wait an hour.",
        ),
    )


def _check(n_bytes: int, limits: Sequence[tuple[int, str]]) -> None:
    for most, sentence in limits:
        if n_bytes > most:
            raise InvalidInput(sentence)
