"""Our routes and guards around what Streamlit would serve, as one application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from core.records.database.db import Database
from core.records.people import sessions
from core.server.guards import build_middleware
from core.server.media_owners import MediaOwners, media_id
from core.server.routes import build_routes
from core.settings import Settings


def application(db: Database, settings: Settings) -> Starlette:
    """`state.owners` says whose the files below `/media/` are."""

    async def page(_: object) -> PlainTextResponse:
        return PlainTextResponse("a page")

    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("a page")
        await socket.close()

    owners = MediaOwners()
    inner = [Route("/{path:path}", page), WebSocketRoute("/_stcore/stream", stream)]
    middleware = build_middleware(
        index_html="<script>inline</script>",
        is_signed_in=lambda token, *, is_activity=True: (
            sessions.person_of(db, settings, token, is_activity=is_activity) is not None
        ),
        may_fetch=lambda path, token: owners.may_fetch(db, media_id(path), sessions.actor_of(token)),
        settings=settings,
    )
    application = Starlette(routes=[*build_routes(lambda: db, settings), *inner], middleware=middleware)
    application.state.owners = owners
    return application
