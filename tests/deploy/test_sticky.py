"""Two applications behind the examples of deploy/: a browser stays with one while that is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from proxies import RunningProxy, running_caddy, running_nginx

PROXIES: dict[str, Callable[..., AbstractContextManager[RunningProxy]]] = {
    "nginx": running_nginx,
    "caddy": running_caddy,
}


@contextmanager
def application(name: bytes) -> Iterator[ThreadingHTTPServer]:
    """A server that answers with its name."""

    class Named(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(name)))
            self.end_headers()
            self.wfile.write(name)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Named)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", sorted(PROXIES))
def test_a_browser_stays_with_its_application_until_that_is_away(kind: str, tmp_path: Path) -> None:
    with (
        application(b"one") as one,
        application(b"two") as two,
        PROXIES[kind](tmp_path, one.server_port, two.server_port) as proxy,
    ):

        def asked(number: int) -> bytes:
            return proxy.ask("GET", "/", headers={"Cookie": f"a={number}; secondread_session={number:064x}"})[1]

        homes = {number: asked(number) for number in range(24)}
        assert all(asked(number) == home for number, home in homes.items())
        if kind == "nginx":  # by session; Caddy's example goes by address, and here all have the same
            assert set(homes.values()) == {b"one", b"two"}
        gone, other = (one, b"two") if homes[0] == b"one" else (two, b"one")
        gone.shutdown()
        gone.server_close()
        assert asked(0) == other
        assert proxy.post("/login", "who=x", f"secondread_session={0:064x}")[1] == other
