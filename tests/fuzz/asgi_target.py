"""Requests, as bytes that came in by a socket, to the whole application: an answer, and never a status of 500."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from argon2 import PasswordHasher
from asgi_site import application
from targets import Fault, scratch

from core.records.database.db import open_database
from core.records.people import accounts, passwords, sessions
from core.settings import Settings

PASSWORD = "correct horse battery"
SESSION = b"@SESSION@"
"""Stands in a request for the cookie of somebody who is signed in."""
_UNAVAILABLE = 503
_QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True, slots=True)
class Site:
    app: Any
    session: bytes
    loop: asyncio.AbstractEventLoop


@cache
def site() -> Site:
    """Open as long as the process lives."""
    settings = Settings(state_dir=scratch() / "state", upload_mib=1, study_mib=2, study_files=3)
    db = open_database(settings)
    person = accounts.create_first_administrator(
        db, code=str(accounts.setup_code(db)), name="Anna Berg", password=PASSWORD
    )
    token = sessions.start_session(db, person)
    app = application(db, settings)
    app.state.owners.add("picture", sessions.actor_of(token), "")
    return Site(app, token.encode(), asyncio.new_event_loop())


@contextmanager
def _quick_hashes() -> Iterator[None]:
    """A hash that takes a moment: what is tried here is not how long guessing takes."""
    real = passwords._hasher
    passwords._hasher = lambda: _QUICK  # type: ignore[assignment]
    passwords.nobodys_hash.cache_clear()
    try:
        yield
    finally:
        passwords._hasher = real
        passwords.nobodys_hash.cache_clear()


def ask(data: bytes) -> int:
    """The status of the answer to one raw request; the method WS opens a websocket."""
    with _quick_hashes():
        here = site()
        data = data.replace(SESSION, here.session)
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        return here.loop.run_until_complete(_answer(here.app, _scope(first, lines), body))


def _scope(first: bytes, lines: list[bytes]) -> dict[str, Any]:
    """As the web server below us makes it of a request's head (ASGI 3.0, HTTP and WebSocket)."""
    method, _, rest = first.partition(b" ")
    target = rest.partition(b" ")[0] or b"/"
    raw_path, _, query = target.partition(b"?")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    is_socket = method == b"WS"
    return {
        "type": "websocket" if is_socket else "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method.decode("ascii", "replace") or "GET",
        "scheme": "ws" if is_socket else "http",
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8501),
        "subprotocols": [],
        "state": {},
    }


async def _answer(app: Any, scope: dict[str, Any], body: bytes) -> int:
    is_socket = scope["type"] == "websocket"
    coming = [{"type": "websocket.connect"}] if is_socket else [{"type": "http.request", "body": body}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return coming.pop(0) if coming else {"type": "websocket.disconnect" if is_socket else "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        raise Fault("no answer")
    if is_socket:
        return 101
    for name, value in sent[0]["headers"]:
        if b"\n" in name + value or b"\r" in name + value:
            raise Fault("a header of the answer ends a line")
    status = int(sent[0]["status"])
    if status >= 500 and status != _UNAVAILABLE:
        raise Fault(f"answered {status}")
    return status


def route_seeds() -> list[bytes]:
    own = b"Host: localhost:8501\r\nOrigin: http://localhost:8501\r\n"
    me = own + b"Cookie: secondread_session=" + SESSION + b"\r\n"
    forms = {
        b"/login": b"who=Anna+Berg&password=correct+horse+battery", b"/second-factor": b"code=123456",
        b"/setup": b"code=x&who=A&password=correct+horse&repeated=correct+horse",
        b"/password": b"old=correct+horse+battery&password=another+one&repeated=else",
        b"/set-password": b"link=abc&password=correct+horse&repeated=correct+horse", b"/logout": b"",
    }  # fmt: skip
    posts = [b"POST " + path + b" HTTP/1.1\r\n" + own + b"\r\n" + form for path, form in forms.items()]
    device = b'Cookie: secondread_device="1.a~2.b\\012"; secondread_pending=1.2.3; secondread_session=x\r\n'
    together = b"0123456789abcdef" * 2
    return [
        *posts,
        b"POST /login HTTP/1.1\r\n" + own + device + b"\r\n" + forms[b"/login"],
        b"POST /second-factor HTTP/1.1\r\n" + own + device + b"\r\ncode=1",
        b"POST /password HTTP/1.1\r\n" + me + b"\r\n" + forms[b"/password"],
        b"POST /upload HTTP/1.1\r\n" + me + b"X-Together: " + together + b"\r\nContent-Length: 1\r\n\r\nx",
        b"DELETE /upload/" + together + b"/" + together + b" HTTP/1.1\r\n" + me + b"\r\n",
        b"GET /media/picture.png HTTP/1.1\r\n" + me + b"\r\n",
        b"GET /media/%2e%2e/picture%00.png?x=%zz HTTP/1.1\r\n" + me + b"Range: bytes=0-\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + own + b"Authorization: Bearer x\r\nX-Forwarded-For: 1.2.3.4, ::1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: [::1]:8501\r\n\r\n",
        b"HEAD /readyz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"OPTIONS /_stcore/metrics HTTP/1.1\r\n" + own + b"\r\n",
        b"GET /_stcore/upload_file/x HTTP/1.1\r\n" + me + b"\r\n",
        b"WS /_stcore/stream HTTP/1.1\r\n" + me + b"\r\n",
        b"PUT /?study=%00&said=wrong HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n",
    ]
