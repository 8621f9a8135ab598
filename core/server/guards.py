"""ASGI middleware around everything the server answers: headers, same origin, and who may fetch what.

Order matters and is that of `build_middleware`: headers outermost (refusals carry them too), then origin, then gate.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SESSION_COOKIE = "secondread_session"

MayFetch = Callable[[str, str], bool]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

CLOSED_PATHS = (
    "/_stcore/metrics",
    "/_stcore/script-health-check",
    "/_stcore/agent",
    "/auth/logout",
)
"""Streamlit's own routes that this product does not use, and that answer anybody."""

SSO_PATHS = ("/auth/", "/oauth2callback")
"""Closed as well, unless the site has single sign-on."""

MEDIA_PATH = "/media/"

SIGNED_IN_PATHS = (MEDIA_PATH, "/_stcore/upload_file/", "/upload")
"""Pictures, downloads and uploads: only with a living session, whatever secret is in the address.

Below `MEDIA_PATH` only with the session that the file was made in."""


def content_security_policy(index_html: str) -> str:
    """The policy for every answer; the inline scripts of `index_html` (Streamlit's page) are allowed by their hash.

    `blob:` scripts are how Streamlit loads the JavaScript of components; `unsafe-inline` is for styles only, which
    React writes into elements.
    """
    inline = re.findall(r"<script>(.*?)</script>", index_html, flags=re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in inline)
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' blob: {hashes}".rstrip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "frame-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class SecurityHeaders:
    """Adds the headers that browsers need to be told on every answer."""

    def __init__(self, app: ASGIApp, *, policy: str) -> None:
        self.app = app
        self.headers = {
            "Content-Security-Policy": policy,
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            # Not "no-referrer": with it browsers send `Origin: null` with forms, and the origin check would refuse.
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
                if scope["path"].startswith(SIGNED_IN_PATHS):
                    # Pictures of patients stay out of the browser's cache on disk.
                    headers["Cache-Control"] = "private, no-store"
            await send(message)

        await self.app(scope, receive, send_with_headers)


class SameOrigin:
    """Refuses what changes something, and every websocket, unless a page of this very origin asks."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asking = scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in SAFE_METHODS)
        if not is_asking or _is_same_origin(Headers(scope=scope)):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("Refused: this form comes from another site.", 403)(scope, receive, send)


def _is_same_origin(headers: Headers) -> bool:
    """Whether `Origin` names the host that was asked. Every browser sends it with forms, uploads and websockets."""
    origin = headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == headers.get("host", "")


class Gate:
    """Closes routes that nobody needs, and keeps pictures and uploads for people who are signed in."""

    def __init__(
        self, app: ASGIApp, *, is_signed_in: Callable[[str], bool], may_fetch: MayFetch, has_sso: bool
    ) -> None:
        self.app = app
        self.is_signed_in = is_signed_in
        self.may_fetch = may_fetch
        self.closed = CLOSED_PATHS if has_sso else (*CLOSED_PATHS, *SSO_PATHS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path.startswith(self.closed):
                await PlainTextResponse("Not here.", 404)(scope, receive, send)
                return
            if path.startswith(SIGNED_IN_PATHS):
                token = HTTPConnection(scope).cookies.get(SESSION_COOKIE, "")
                if not token or not await run_in_threadpool(self.is_signed_in, token):
                    await PlainTextResponse("Please sign in first.", 403)(scope, receive, send)
                    return
                if path.startswith(MEDIA_PATH) and not await run_in_threadpool(self.may_fetch, path, token):
                    await PlainTextResponse("Not here.", 404)(scope, receive, send)
                    return
        await self.app(scope, receive, send)


def build_middleware(
    *, index_html: str, is_signed_in: Callable[[str], bool], may_fetch: MayFetch, has_sso: bool = False
) -> list[Middleware]:
    """The guards, outermost first. `is_signed_in` takes the session token of the cookie; it may block.

    may_fetch: whether the file at this path (`core.server.media_owners`) answers the session of this token; may block.
    has_sso: opens what signing in with an identity provider needs.
    """
    return [
        Middleware(SecurityHeaders, policy=content_security_policy(index_html)),
        Middleware(SameOrigin),
        Middleware(Gate, is_signed_in=is_signed_in, may_fetch=may_fetch, has_sso=has_sso),
    ]
