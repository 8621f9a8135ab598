"""`POST /upload`: one file a request, its bytes as the body, streamed to disk. `DELETE` takes it back.

Memory stays small whatever the file's size: 300 MB through Streamlit's own uploader take twice that in memory.
The header `X-Together` (32 hex digits, chosen by the page) says which files belong to one study. File names are not
sent: they may hold a patient's name, and the server has no use for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.errors import AppError, Conflict, InvalidInput, NotAllowed, SignedOut
from core.files import DISK_FULL, is_disk_full
from core.records import site_settings
from core.records.database.db import Database
from core.records.people import sessions
from core.records.people.permissions import Person, SessionActor, allowed, person_now, require_role_for
from core.server import inbox
from core.server.guards import SESSION_COOKIE
from core.settings import Settings

log = logging.getLogger(__name__)

SIGNED_OUT = "You are not signed in any more. Sign in and choose the files again."


def upload_routes(database: Callable[[], Database], settings: Settings) -> list[Route]:
    """Answers 201 {"id": ...} or 204, or 4xx {"refused": sentence}."""

    async def person_of(request: Request) -> Person:
        token = request.cookies.get(SESSION_COOKIE, "")
        now = await run_in_threadpool(site_settings.current, database())
        person = await run_in_threadpool(sessions.person_of, database(), now, token)
        if person is None:
            raise NotAllowed(SIGNED_OUT)
        return _required(person)

    async def upload(request: Request) -> Response:
        actor = sessions.actor_of(request.cookies.get(SESSION_COOKIE, ""))

        def finish(place: inbox.Place) -> None:
            # Who sends a large file for an hour may have been signed out or disabled since it began. The transaction
            # keeps session and roles as they are until the file can be found.
            with database().begin() as connection:
                _required(_still_there(connection, actor))
                place.finish()

        try:
            person = await person_of(request)
            now = await run_in_threadpool(site_settings.current, database())
            item = await _receive(request, now, person, finish)
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
        actor = sessions.actor_of(request.cookies.get(SESSION_COOKIE, ""))

        def discard() -> None:
            with database().begin() as connection:
                person = _required(_still_there(connection, actor))
                inbox.discard([inbox.InboxFile(inbox.find_item(settings, person, together=together, item=item), "")])

        try:
            await run_in_threadpool(discard)
        except AppError as refused:
            return _refusal(refused, 404)
        return Response(status_code=204)

    return [
        Route("/upload", upload, methods=["POST"]),
        Route("/upload/{together}/{item}", take_back, methods=["DELETE"]),
    ]


def _still_there(connection: Connection, actor: SessionActor) -> Person:
    try:
        return person_now(connection, actor)
    except SignedOut:
        raise NotAllowed(SIGNED_OUT) from None


def _required(person: Person) -> Person:
    """The person, who may send files: pictures of a study, or an administrator's zip. Raises NotAllowed."""
    if not allowed(person, "manage_data"):
        require_role_for(person, "create_study")
    return person


def _refusal(refused: AppError, status: int) -> Response:
    status = 403 if isinstance(refused, NotAllowed) else 409 if isinstance(refused, Conflict) else status
    return JSONResponse({"refused": str(refused)}, status)


def _no_room_or_moved(error: OSError) -> str:
    if is_disk_full(error):
        return DISK_FULL
    log.error("An upload could not be written: %s", type(error).__name__)
    return "The state folder cannot be written to any more, so nothing was kept. Ask an administrator to look at it."


async def _receive(request: Request, settings: Settings, person: Person, finish: Callable[[inbox.Place], None]) -> str:
    """Streams the body into a new inbox item and gives its id. Nothing is left behind unless the file is whole.

    finish: what makes a whole file one that can be found, unless whoever sent it may not send it any more.
    """
    together = request.headers.get("x-together", "")
    announced = request.headers.get("content-length", "")
    is_number = announced.isascii() and announced.isdigit() and len(announced) < 19
    n_announced = int(announced) if is_number else 0
    place = await run_in_threadpool(inbox.open_place, settings, person, together=together, n_bytes=n_announced)
    try:
        n_bytes = await _stream_to(request, place)
        if n_bytes == 0:
            raise InvalidInput("The file is empty.")
        await run_in_threadpool(place.sync)  # what is acknowledged outlives a power cut
        await run_in_threadpool(finish, place)
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
