"""`POST /upload`: one file a request, its bytes as the body, streamed to disk. `DELETE` takes it back.

Memory stays small whatever the file's size: 300 MB through Streamlit's own uploader take twice that in memory.
The header `X-Together` (32 hex digits, chosen by the page) says which files belong to one study. File names are not
sent: they may hold a patient's name, and the server has no use for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.errors import AppError, Conflict, InvalidInput, NotAllowed
from core.files import DISK_FULL, is_disk_full
from core.records import site_settings
from core.records.database.db import Database
from core.records.people import sessions
from core.records.people.permissions import Person, allowed, require_role_for
from core.server import inbox
from core.server.guards import SESSION_COOKIE
from core.settings import Settings

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
            await run_in_threadpool(database().require_state_dir)  # moved away meanwhile, the file is not there
        except AppError as refused:
            return _refusal(refused, 413)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is there to read it
        except OSError as error:
            return _refusal(Conflict(_no_room_or_moved(error)), 409)
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
    status = 403 if isinstance(refused, NotAllowed) else 409 if isinstance(refused, Conflict) else status
    return JSONResponse({"refused": str(refused)}, status, headers={"Connection": "close"})


def _no_room_or_moved(error: OSError) -> str:
    if is_disk_full(error):
        return DISK_FULL
    log.error("An upload could not be written: %s", type(error).__name__)
    return "The state folder cannot be written to any more, so nothing was kept. Ask an administrator to look at it."


async def _receive(request: Request, settings: Settings, person: Person) -> str:
    """Streams the body into a new inbox item and gives its id. Nothing is left behind unless the file is whole."""
    together = request.headers.get("x-together", "")
    announced = request.headers.get("content-length", "")
    n_announced = int(announced) if announced.isdigit() and len(announced) < 19 else 0
    place = await run_in_threadpool(inbox.open_place, settings, person, together=together, n_bytes=n_announced)
    try:
        n_bytes = await _stream_to(request, place)
        if n_bytes == 0:
            raise InvalidInput("The file is empty.")
        place.finish()
    except BaseException:  # also when the browser goes away or the server stops
        place.give_back()
        raise
    log.info("Received a file of %d bytes from person %d", n_bytes, person.id)
    return place.item


async def _stream_to(request: Request, place: inbox.Place) -> int:
    n_bytes = 0
    with place.path.open("wb") as file:
        async for chunk in request.stream():
            n_bytes += len(chunk)
            place.reserve(n_bytes)
            await run_in_threadpool(file.write, chunk)
    return n_bytes
