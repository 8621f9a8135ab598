"""How many connections may be open, from where, and how long one may take to say what it wants.

Uvicorn waits for ever for the head of a first request and for the rest of a body. A thousand clients that say nothing,
or half a form, would take every descriptor of the process. So each connection is noted when it is made, looked at once
a second, and closed when it is late; when there are too many, the one that has been waiting longest makes room, so that
whoever has something to say gets in. Uvicorn has no setting for that: `limited` stands between the event loop, which
makes the connections, and uvicorn's protocol.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from core.server.addresses import PEER, Network, is_trusted

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""From the connection, or from the answer before, until a request's head is there."""
BODY_SECONDS = 20.0
"""From the head until the whole body of a request that is no upload is there."""
STALL_SECONDS = 60.0
"""How long the body of an upload may stand still."""
PER_ADDRESS = 256
"""Connections of one address that is no trusted proxy: forty browsers."""
RESERVED_DESCRIPTORS = 256
"""What the database, pictures, logs and child processes need of the process's descriptors beside connections."""
ACCEPTED_AT_ONCE = 128
MOST_CONNECTIONS = 8192
UPLOAD_PATHS = ("/upload", "/_stcore/upload_file/")
"""Bodies that may take long; only people who are signed in get as far as sending one (`core.server.guards.Gate`)."""


@dataclass(eq=False, slots=True)
class Open:
    """One connection. since: when it began to wait for what it waits for; progress: bytes of an upload so far."""

    transport: Any
    protocol: Any
    address: str
    since: float
    cycle: Any = None
    is_answered: bool = False
    n_bytes: int = 0
    n_bytes_before: int = 0


class Connections:
    """The open connections of this process. Used by the event loop's thread alone.

    most: of all addresses. per_address: of one that is in none of `trusted`.
    """

    def __init__(
        self, *, most: int, per_address: int = PER_ADDRESS, trusted: Sequence[Network] = (),
        clock: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self.most = most
        self.per_address = per_address
        self.trusted = trusted
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._open: dict[Any, Open] = {}

    def __len__(self) -> int:
        self._forget_closed()
        return len(self._open)

    def admit(self, transport: Any, protocol: Any, address: str) -> bool:
        """Notes a new connection; False where there is no room for it and nobody waits whose place it could have."""
        self._forget_closed()
        if not is_trusted(address, self.trusted):
            own = [one for one in self._open.values() if one.address == address]
            if len(own) >= self.per_address and not self._make_room(own):
                return False
        if len(self._open) >= self.most and not self._make_room(self._open.values()):
            return False
        self._open[transport] = Open(transport, protocol, address, self._clock())
        return True

    def received(self, transport: Any, n_bytes: int) -> None:
        """Bytes came in."""
        found = self._open.get(transport)
        if found is not None:
            found.n_bytes += n_bytes

    def close_late(self) -> int:
        """Closes every connection that is late; their number. To be called about once a second."""
        self._forget_closed()
        late = [one for one in self._open.values() if self._is_late(one)]
        for one in late:
            self._close(one)
        if late:
            log.info("Closed %d connections that did not say what they want", len(late))
        return len(late)

    def _is_late(self, one: Open) -> bool:
        self._look_at(one)
        waited = self._clock() - one.since
        state = _state(one)
        if state == "head":
            return waited > HEAD_SECONDS
        if state == "body":
            return waited > BODY_SECONDS
        if state == "upload":
            if one.n_bytes != one.n_bytes_before:
                one.n_bytes_before, one.since = one.n_bytes, self._clock()
                return False
            return waited > STALL_SECONDS
        return False

    def _look_at(self, one: Open) -> None:
        """Begins to count anew where a request has begun, or was answered, since the last look."""
        cycle = getattr(one.protocol, "cycle", None)
        is_answered = cycle is not None and cycle.response_complete
        if cycle is not one.cycle or is_answered != one.is_answered:
            one.cycle, one.is_answered, one.since = cycle, is_answered, self._clock()

    def _make_room(self, among: Iterable[Open]) -> bool:
        waiting = [one for one in among if _state(one) in ("head", "body")]
        if not waiting:
            return False
        for one in waiting:
            self._look_at(one)
        self._close(min(waiting, key=lambda one: one.since))
        return True

    def _close(self, one: Open) -> None:
        self._open.pop(one.transport, None)
        one.transport.abort()  # at once: nobody listens, and a polite end would wait for them

    def _forget_closed(self) -> None:
        for transport in [transport for transport in self._open if transport.is_closing()]:
            del self._open[transport]


def _state(one: Open) -> str:
    """What a connection waits for: "head", "body" or "upload" of the client, or "us"."""
    if one.transport.get_protocol() is not one.protocol:
        return "us"  # a websocket by now, which uvicorn pings
    cycle = getattr(one.protocol, "cycle", None)
    if cycle is None or cycle.response_complete:
        return "head"
    if not cycle.more_body:
        return "us"
    return "upload" if str(cycle.scope.get("path", "")).startswith(UPLOAD_PATHS) else "body"


def _end(protocol: Any) -> None:
    """Whoever still answers is told that nobody is there: uvicorn has sent its own 400 and would fail at another."""
    cycle = getattr(protocol, "cycle", None)
    if cycle is not None and not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()


def most_connections() -> int:
    """As many as the process may have descriptors for, less what else it needs them for."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(32, min(MOST_CONNECTIONS, soft - RESERVED_DESCRIPTORS))


def watch(protocol: Any, connections: Connections) -> Any:
    """The protocol of uvicorn for one connection that is still to come, which will pass through `connections`."""
    made, received = protocol.connection_made, protocol.data_received

    def connection_made(transport: Any) -> None:
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not connections.admit(transport, protocol, address):
            protocol.transport = transport
            transport.abort()
            return
        made(transport)
        protocol.app_state = {**protocol.app_state, PEER: (address, protocol.scheme)}

    def data_received(data: bytes) -> None:
        if not protocol.transport.is_closing():
            connections.received(protocol.transport, len(data))
            received(data)
            if protocol.transport.is_closing():
                _end(protocol)

    protocol.connection_made, protocol.data_received = connection_made, data_received
    return protocol


@asynccontextmanager
async def limited(connections: Connections) -> AsyncIterator[None]:
    """Servers that begin to listen within the block have these limits: enter it in the lifespan, which comes before."""
    loop: Any = asyncio.get_running_loop()
    create_server = loop.create_server

    def create_limited(make: Callable[[], Any], *args: Any, backlog: int = ACCEPTED_AT_ONCE, **options: Any) -> Any:
        # asyncio takes as many as the backlog in one go, before a single one of them is asked whether it may stay.
        backlog = min(backlog, ACCEPTED_AT_ONCE)
        return create_server(lambda: watch(make(), connections), *args, backlog=backlog, **options)

    async def look() -> None:
        while True:
            await asyncio.sleep(1)
            connections.close_late()

    loop.create_server = create_limited
    task = asyncio.create_task(look())
    try:
        yield
    finally:
        loop.create_server = create_server
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
