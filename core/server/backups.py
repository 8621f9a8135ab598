"""`GET /backup/NAME`: a backup of the site as a download, sent from the disk, for an administrator who is signed in."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from core.errors import AppError, NotAllowed, SignedOut
from core.records.backup.copies import backup_to_send
from core.records.database.db import Database
from core.records.people import sessions
from core.server.guards import SESSION_COOKIE

NO_STORE = {"Cache-Control": "no-store"}


def backup_routes(database: Callable[[], Database]) -> list[Route]:
    """A refusal is a sentence as plain text."""

    async def send(request: Request) -> Response:
        actor, name = sessions.actor_of(request.cookies.get(SESSION_COOKIE, "")), request.path_params["name"]
        try:
            path = await run_in_threadpool(lambda: backup_to_send(database(), actor, name))
        except AppError as refused:
            status = 401 if isinstance(refused, SignedOut) else 403 if isinstance(refused, NotAllowed) else 404
            return PlainTextResponse(str(refused), status, headers=NO_STORE)
        return FileResponse(path, filename=name, media_type="application/octet-stream", headers=NO_STORE)

    return [Route("/backup/{name}", send, methods=["GET"])]
