"""`GET /frames/{image}/{frame}`: one frame of a stored clip or stack, as the viewer asks for it while it plays.

Packed as `core.imaging.levels.frame_content` says; `?whole=1` is all of its pixels. It answers whoever may see the
study now, by their session, and nobody else; nothing of it stays in a browser's cache (`core.server.guards`).
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.errors import AppError, NotAllowed
from core.imaging.levels import frame_content
from core.records.database.db import Database
from core.records.people import sessions
from core.records.reads.frames import frame_pixels
from core.server.guards import FRAMES_PATH, SESSION_COOKIE


def frame_routes(database: Callable[[], Database]) -> list[Route]:
    """Answers 200 with the frame, or 403 or 404 with a sentence."""

    def made(token: str, image_id: str, frame: int, is_whole: bool) -> bytes:
        pixels, key = frame_pixels(database(), sessions.actor_of(token), image_id, frame)
        return frame_content(pixels, key, is_whole=is_whole)

    async def frame(request: Request) -> Response:
        asked = request.path_params["image"], request.path_params["frame"], "whole" in request.query_params
        try:
            content = await run_in_threadpool(made, request.cookies.get(SESSION_COOKIE, ""), *asked)
        except NotAllowed as refused:
            return PlainTextResponse(str(refused), 403)
        except AppError as refused:
            return PlainTextResponse(str(refused), 404)
        return Response(content, media_type="application/octet-stream")

    return [Route(FRAMES_PATH + "{image}/{frame:int}", frame, methods=["GET"])]
