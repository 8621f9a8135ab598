"""How many connections may be open, from where, and how long one may take: by a clock, and with a real server."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from core.errors import Conflict
from core.server import connections, guards
from core.server.connections import BODY_SECONDS, HEAD_SECONDS, STALL_SECONDS, Connections
from core.settings import REPOSITORY, Settings


class Transport:
    """What asyncio would give: open until it is aborted."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.is_closed = False

    def is_closing(self) -> bool:
        return self.is_closed

    def get_protocol(self) -> Any:
        return self.protocol

    def abort(self) -> None:
        self.is_closed = True


class Peers:
    """Makes connections that pass through `Connections` by a clock that the test moves."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1000.0
        self.connections = Connections(**{"most": 100, "clock": lambda: self.now, **limits})

    def connect(
        self, address: str = "192.0.2.1", path: str | None = None, *, more_body: bool = False
    ) -> Transport | None:
        transport = Transport()
        transport.protocol = SimpleNamespace(cycle=None)
        admitted = self.connections.admit(transport, transport.protocol, address)
        if admitted and path is not None:
            request(transport, path, more_body=more_body)
        return transport if admitted else None

    def after(self, seconds: float) -> int:
        self.now += seconds
        return self.connections.close_late()


def request(transport: Transport, path: str, *, more_body: bool = False) -> None:
    transport.protocol.cycle = SimpleNamespace(scope={"path": path}, more_body=more_body, response_complete=False)


def is_open(transport: Transport | None) -> bool:
    return transport is not None and not transport.is_closed


def test_a_connection_that_says_nothing_is_closed_after_its_time() -> None:
    peers = Peers()
    one = peers.connect()
    assert peers.after(HEAD_SECONDS) == 0 and is_open(one)
    assert peers.after(0.001) == 1 and not is_open(one)


def test_an_unfinished_body_is_closed_after_its_time() -> None:
    peers = Peers()
    one = peers.connect(path="/login", more_body=True)
    peers.after(0)  # the head was seen now
    assert peers.after(BODY_SECONDS) == 0
    assert peers.after(0.001) == 1 and not is_open(one)


def test_an_upload_may_take_long_but_not_stand_still() -> None:
    peers = Peers()
    one = peers.connect(path="/upload", more_body=True)
    for _ in range(5):
        peers.connections.received(one, 10)
        assert peers.after(STALL_SECONDS) == 0
    assert peers.after(STALL_SECONDS) == 0 and is_open(one)
    assert peers.after(0.001) == 1 and not is_open(one)


def test_an_answer_that_takes_long_is_waited_for_and_then_the_next_head_has_its_time() -> None:
    peers = Peers()
    one = peers.connect(path="/")
    assert peers.after(3600) == 0
    one.protocol.cycle.response_complete = True  # type: ignore[union-attr]
    assert peers.after(0) == 0
    assert peers.after(HEAD_SECONDS) == 0
    peers.connections.received(one, 1)  # a byte at a time is no head
    assert peers.after(0.001) == 1


def test_a_websocket_has_no_time_limit_here() -> None:
    peers = Peers()
    one = peers.connect(path="/_stcore/stream")
    assert one is not None
    one.protocol = SimpleNamespace()  # uvicorn puts its websocket protocol in place
    assert peers.after(3600) == 0 and len(peers.connections) == 1


def test_of_one_address_the_longest_waiting_makes_room() -> None:
    peers = Peers(per_address=3)
    first = peers.connect()
    peers.now += 1
    others = [peers.connect() for _ in range(2)]
    assert is_open(first)
    fourth = peers.connect()
    assert not is_open(first) and all(map(is_open, [*others, fourth]))
    assert is_open(peers.connect("192.0.2.2")) and all(map(is_open, others))


def test_where_nobody_waits_one_more_of_the_address_is_refused() -> None:
    peers = Peers(per_address=2)
    busy = [peers.connect(path="/") for _ in range(2)]
    assert peers.connect() is None and all(map(is_open, busy))
    assert is_open(peers.connect("192.0.2.2"))
    busy[0].abort()  # type: ignore[union-attr]
    assert is_open(peers.connect())


def test_uploads_never_make_room() -> None:
    peers = Peers(per_address=1)
    upload = peers.connect(path="/upload", more_body=True)
    assert peers.connect() is None and is_open(upload)


def test_a_trusted_proxy_has_the_room_of_all() -> None:
    peers = Peers(per_address=1, most=4, trusted=Settings(trusted_proxies="192.0.2.1").proxy_networks)
    busy = [peers.connect(path="/") for _ in range(4)]
    assert all(map(is_open, busy)) and peers.connect("192.0.2.7") is None


def test_a_real_server_of_1024_descriptors_answers_beside_1100_unfinished_forms(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1300:
        pytest.skip("this machine lets no process have 1,300 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
    try:
        with served(tmp_path, descriptors=1024) as port, ExitStack() as held:
            for _ in range(1100):
                attacker = held.enter_context(socket.create_connection(("127.0.0.1", port)))
                attacker.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nwho=")
            began = time.monotonic()
            answers = [httpx.get(f"http://127.0.0.1:{port}/", timeout=10).text for _ in range(3)]
            assert answers == ["a page"] * 3 and time.monotonic() - began < 10
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Traceback" not in (tmp_path / "terminal").read_text()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nw"])
def test_a_real_server_closes_what_is_late(tmp_path: Path, sent: bytes) -> None:
    with served(tmp_path, head_seconds=0.5, body_seconds=0.5) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as late:
            late.sendall(sent)
            began = time.monotonic()
            with pytest.raises(ConnectionResetError):
                late.recv(100)
                late.recv(100)
                raise ConnectionResetError
            assert time.monotonic() - began < 6
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "a page"
    assert "Traceback" not in (tmp_path / "terminal").read_text()


def test_a_body_that_ends_in_nonsense_is_no_traceback(tmp_path: Path) -> None:
    """Anybody could fill the log: the 400 was sent, and then a refusal that had not waited for the body."""
    with served(tmp_path) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as attacker:
            attacker.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
            assert attacker.recv(100).startswith(b"HTTP/1.1 400")
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "a page"
    assert "Traceback" not in (tmp_path / "terminal").read_text()


def test_a_real_server_notes_the_peer_whatever_a_header_says(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/peer", headers={"X-Forwarded-For": "198.51.100.7"})
    assert answer.text == "127.0.0.1 http"


SERVER = """
import resource, sys
from contextlib import asynccontextmanager
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from core.server import connections
from core.server.addresses import peer_of
from starlette.requests import ClientDisconnect
from starlette.responses import Response

port, descriptors, head, body = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
if descriptors:
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
connections.HEAD_SECONDS, connections.BODY_SECONDS = head, body

async def page(request):
    return PlainTextResponse("a page")

async def peer(request):
    return PlainTextResponse(" ".join(peer_of(request.scope)))

async def sign_in(request):
    try:
        await request.body()
    except ClientDisconnect:
        return Response(status_code=499)
    return PlainTextResponse("in")

@asynccontextmanager
async def lifespan(app):
    async with connections.limited(connections.Connections(most=connections.most_connections())):
        yield

routes = [Route("/", page), Route("/peer", peer), Route("/login", sign_in, methods=["POST"])]
uvicorn.run(Starlette(routes=routes, lifespan=lifespan), host="127.0.0.1", port=port)
"""


@contextmanager
def served(folder: Path, *, descriptors: int = 0, head_seconds: float = 10, body_seconds: float = 20) -> Iterator[int]:
    """A process of uvicorn within the limits; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVER, str(port), str(descriptors), str(head_seconds), str(body_seconds)]
    environment = {**os.environ, "SECONDREAD_STATE_DIR": str(folder / "state")}
    with (folder / "terminal").open("wb") as terminal:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=terminal, stderr=terminal)
        try:
            for _ in range(300):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/", timeout=2)
                    break
                except httpx.HTTPError:
                    assert process.poll() is None, (folder / "terminal").read_text()
                    time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def crowd(inner: Any, *, sessions: frozenset[str] = frozenset()) -> guards.Crowd:
    return guards.Crowd(inner, is_signed_in=lambda token: token in sessions)


def test_one_address_has_so_many_unanswered_forms_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "FORMS_AT_ONCE", 3)

    async def run() -> list[int]:
        free = asyncio.Event()
        statuses: list[int] = []

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await free.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        app = crowd(slow)

        async def ask(address: str, method: str = "POST") -> None:
            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            scope = {"type": "http", "method": method, "path": "/login", "client": (address, 1), "headers": []}
            await app(scope, None, send)  # type: ignore[arg-type]

        tasks = [asyncio.create_task(ask("192.0.2.1")) for _ in range(4)]
        tasks += [asyncio.create_task(ask("192.0.2.2")), asyncio.create_task(ask("192.0.2.1", "GET"))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert statuses == [429]
        free.set()
        await asyncio.gather(*tasks)
        await ask("192.0.2.1")  # the place is free again
        return statuses

    assert asyncio.run(run()) == [429, 200, 200, 200, 200, 200, 200]


def test_one_address_has_so_many_websockets_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "NOBODYS_SOCKETS", 2)

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await (stream if scope["type"] == "websocket" else Starlette())(scope, receive, send)

    with TestClient(crowd(inner, sessions=frozenset({"living"}))) as client, ExitStack() as open_sockets:
        for _ in range(2):
            open_sockets.enter_context(client.websocket_connect("/_stcore/stream"))
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/_stcore/stream"):
            pass
        assert refused.value.code == 1013
        cookie = {"Cookie": f"{guards.SESSION_COOKIE}=living"}
        open_sockets.enter_context(client.websocket_connect("/_stcore/stream", headers=cookie))


def test_a_websocket_opens_where_it_cannot_be_known_whose_it_is() -> None:
    """Its page says why; a refused handshake shows an empty window that asks again for ever."""

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await (stream if scope["type"] == "websocket" else Starlette())(scope, receive, send)

    def away(_token: str) -> bool:
        raise Conflict("The database is away.")

    cookie = {"Cookie": f"{guards.SESSION_COOKIE}=living"}
    app = guards.Crowd(inner, is_signed_in=away)
    with TestClient(app) as client, client.websocket_connect("/_stcore/stream", headers=cookie):
        pass


def test_connections_leave_descriptors_for_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for soft, expected in ((1024, 1024 - connections.RESERVED_DESCRIPTORS), (100, 32), (10**6, 8192)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert connections.most_connections() == expected


def _asked(
    guard: guards.Drained, parts: list[Message], headers: dict[str, str] | None = None
) -> tuple[list[Message], int]:
    """What is sent to whoever sends `parts`, and how many of them were read."""
    sent: list[Message] = []
    n_read = 0

    async def receive() -> Message:
        nonlocal n_read
        if n_read == len(parts):
            await asyncio.sleep(3600)
        n_read += 1
        return parts[n_read - 1]

    async def send(message: Message) -> None:
        sent.append(message)

    head = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    asyncio.run(guard({"type": "http", "method": "POST", "path": "/upload", "headers": head}, receive, send))
    return sent, n_read


async def _refusing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"No."})


def _part(n_bytes: int, *, more_body: bool = True) -> Message:
    return {"type": "http.request", "body": b"x" * n_bytes, "more_body": more_body}


def test_the_rest_of_a_refused_body_is_read_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guards.Drained(_refusing, most=100)
    whole = [_part(60), _part(40, more_body=False)]
    sent, n_read = _asked(guard, whole)
    assert n_read == 2 and sent[0]["headers"] == [] and sent[1]["body"] == b"No."
    closing = [(b"connection", b"close")]
    sent, n_read = _asked(guard, [_part(60), _part(41), _part(1, more_body=False)])
    assert n_read == 2 and sent[0]["headers"] == closing
    sent, n_read = _asked(guard, whole, {"expect": "100-continue"})
    assert n_read == 0 and sent[0]["headers"] == closing
    sent, n_read = _asked(guard, [_part(10), {"type": "http.disconnect"}])
    assert n_read == 2 and sent[0]["headers"] == []
    for limit in ("REST_STALL_SECONDS", "REST_SECONDS"):
        with monkeypatch.context() as patch:
            patch.setattr(guards, limit, 0.05)
            sent, n_read = _asked(guard, [_part(10)])
        assert n_read == 1 and sent[0]["headers"] == closing
