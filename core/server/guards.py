"""ASGI middleware around everything the server answers: headers, host, same origin, crowds, and who may fetch what.

Order matters and is that of `build_middleware`: headers outermost (refusals carry them too), then host, origin, crowd,
what reads the rest of a refused body, gate.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import AppError
from core.server.addresses import Network, client_address, host_of, own_names, peer_of, schemes_of
from core.settings import MIB, Settings

SESSION_COOKIE = "secondread_session"

MayFetch = Callable[[str, str], bool]


class IsSignedIn(Protocol):
    """Whether a session token is that of a living session. is_activity: whether asking keeps it awake."""

    def __call__(self, token: str, *, is_activity: bool = True) -> bool: ...


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

FRAMES_PATH = "/frames/"
SIGNED_IN_PATHS = (MEDIA_PATH, "/_stcore/upload_file/", "/upload", FRAMES_PATH)
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


class AllowedHosts:
    """Answers under its own names only: another name that leads here would make somebody else's page our origin.

    names: in lower case. The address that the connection came in by is always one of them.
    """

    def __init__(self, app: ASGIApp, *, names: frozenset[str]) -> None:
        self.app = app
        self.names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._is_ours(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            refusal = (
                "SecondRead does not answer under this name. Whoever runs it can add it to SECONDREAD_ALLOWED_HOSTS."
            )
            await PlainTextResponse(refusal, 421)(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1:
            return False
        name = host_of(hosts[0])
        server = scope.get("server")
        return bool(name) and (name in self.names or (server is not None and name == str(server[0]).lower()))


class SameOrigin:
    """Refuses what changes something, and every websocket, unless a page of this very origin asks.

    is_behind_tls: people reach the site by HTTPS only. trusted: proxies that may say by what they are reached.
    """

    def __init__(self, app: ASGIApp, *, is_behind_tls: bool = False, trusted: Sequence[Network] = ()) -> None:
        self.app = app
        self.is_behind_tls = is_behind_tls
        self.trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asking = scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in SAFE_METHODS)
        if not is_asking or self._is_same_origin(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("Refused: this form comes from another site.", 403)(scope, receive, send)

    def _is_same_origin(self, scope: Scope) -> bool:
        """Whether `Origin` is scheme and host that were asked. Every browser sends it with forms and websockets."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        schemes = schemes_of(scope, self.trusted, is_behind_tls=self.is_behind_tls)
        if host_of(host) in LOOPBACK_NAMES:  # nobody else's page has this origin, with TLS in front or without
            schemes |= {peer_of(scope)[1]}
        return bool(host_of(host)) and headers.get("origin", "") in {f"{scheme}://{host}" for scheme in schemes}


LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
FORMS_AT_ONCE = 32
"""Requests that change something, of one address, that are not answered yet."""
REST_BYTES = 64 * MIB
"""How much more of a refused body is read than the largest upload has; pages refuse what is larger themselves."""
REST_SECONDS, REST_STALL_SECONDS = 30.0, 2.0
"""How long the rest of a refused body may take, and how long nothing of it may come."""
NOBODYS_SOCKETS = 64
"""Websockets of one address without a living session: so many sign-in pages may be open there."""


class Crowd:
    """Keeps one address from taking every place: 429, or a closed websocket, until something of it has ended."""

    def __init__(self, app: ASGIApp, *, is_signed_in: Callable[[str], bool], trusted: Sequence[Network] = ()) -> None:
        self.app = app
        self.is_signed_in = is_signed_in
        self.trusted = trusted
        self._forms: Counter[str] = Counter()
        self._sockets: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            with _counted(self._forms, client_address(scope, self.trusted), FORMS_AT_ONCE) as has_room:
                if has_room:
                    await self.app(scope, receive, send)
                    return
            sentence = "Too much is being sent from your address at the same time. Wait a moment and try again."
            headers = {"Retry-After": "5", "Connection": "close"}
            await PlainTextResponse(sentence, 429, headers=headers)(scope, receive, send)
        elif scope["type"] == "websocket" and not await self._has_session(scope):
            with _counted(self._sockets, client_address(scope, self.trusted), NOBODYS_SOCKETS) as has_room:
                if has_room:
                    await self.app(scope, receive, send)
                    return
            await send({"type": "websocket.close", "code": 1013})
        else:
            await self.app(scope, receive, send)

    async def _has_session(self, scope: Scope) -> bool:
        token = HTTPConnection(scope).cookies.get(SESSION_COOKIE, "")
        try:
            return bool(token) and await run_in_threadpool(self.is_signed_in, token)
        except AppError:  # the state folder was moved away, the database is restarted: the page says so
            return False


@contextmanager
def _counted(counter: Counter[str], address: str, most: int) -> Iterator[bool]:
    """Counts one more of this address within the block; False, and not counted, where there are `most` already."""
    if counter[address] >= most:
        yield False
        return
    counter[address] += 1
    try:
        yield True
    finally:
        counter[address] -= 1
        if not counter[address]:
            del counter[address]


class Drained:
    """Reads what is left of a request's body before it is answered, so that the answer is read.

    Who is still sending when the connection is closed often loses the answer, a proxy always: people see "bad gateway"
    instead of the sentence. After `most` bytes, `REST_SECONDS` or a stall the answer goes out as it stands, and the
    connection is closed. Who has asked whether to send at all (`Expect`, RFC 9110 10.1.1) sends nothing.
    """

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        is_whole = False
        is_begun = "expect" not in Headers(scope=scope)

        async def receive_and_look() -> Message:
            nonlocal is_whole, is_begun
            is_begun = True
            message = await receive()
            is_whole = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def drain() -> None:
            n_left = self.most
            while not is_whole and n_left >= 0:
                async with asyncio.timeout(REST_STALL_SECONDS):
                    n_left -= len((await receive_and_look()).get("body", b""))

        async def send_when_drained(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_whole:
                if is_begun:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(REST_SECONDS):
                            await drain()
                if not is_whole:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self.app(scope, receive_and_look, send_when_drained)


class Gate:
    """Closes routes that nobody needs, and keeps pictures and uploads for people who are signed in."""

    def __init__(self, app: ASGIApp, *, is_signed_in: IsSignedIn, may_fetch: MayFetch, has_sso: bool) -> None:
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
                # A clip that plays on asks for its frames again and again, whether anybody is there or not.
                is_activity = not path.startswith(FRAMES_PATH)
                try:
                    is_signed_in = bool(token) and await run_in_threadpool(
                        self.is_signed_in, token, is_activity=is_activity
                    )
                except AppError as refused:  # the state folder was moved away, the database is restarted
                    await PlainTextResponse(str(refused), 503)(scope, receive, send)
                    return
                if not is_signed_in:
                    await PlainTextResponse("Please sign in first.", 403)(scope, receive, send)
                    return
                if path.startswith(MEDIA_PATH) and not await run_in_threadpool(self.may_fetch, path, token):
                    await PlainTextResponse("Not here.", 404)(scope, receive, send)
                    return
        await self.app(scope, receive, send)


def build_middleware(
    *, index_html: str, is_signed_in: IsSignedIn, may_fetch: MayFetch, settings: Settings
) -> list[Middleware]:
    """The guards, outermost first. `is_signed_in` takes the session token of the cookie; it may block.

    may_fetch: whether the file at this path (`core.server.media_owners`) answers the session of this token; may block.
    settings: which names the server has, whether TLS and which proxies stand before it, whether single sign-on is open.
    """
    trusted = settings.proxy_networks
    return [
        Middleware(SecurityHeaders, policy=content_security_policy(index_html)),
        Middleware(AllowedHosts, names=own_names() | settings.host_names),
        Middleware(SameOrigin, is_behind_tls=settings.cookie_secure, trusted=trusted),
        Middleware(Crowd, is_signed_in=is_signed_in, trusted=trusted),
        Middleware(Drained, most=settings.upload_mib * MIB + REST_BYTES),
        Middleware(Gate, is_signed_in=is_signed_in, may_fetch=may_fetch, has_sso=settings.has_sso),
    ]
