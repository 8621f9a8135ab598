"""A stand-in for a language model's server, of both protocols, on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from core.language.question import UNTOLD

RIGHT = {
    "shape": "oval", "orientation": "parallel", "margin": "circumscribed", "echo_pattern": "hypoechoic",
    "posterior_features": UNTOLD,
}  # fmt: skip
WORDS = {key.replace("_", " "): word for key, word in RIGHT.items() if word != UNTOLD}


def said(text: str, protocol: str = "openai", **more: Any) -> dict[str, Any]:
    """The body of an answer whose text is this."""
    if protocol == "openai":
        return {"model": "stub-1", "choices": [{"message": {"content": text, **more}, "finish_reason": "stop"}]}
    content = {"parts": [{"text": text}]}
    return {"modelVersion": "stub-1", "candidates": [{"content": content, "finishReason": "STOP", **more}]}


@dataclass
class Stub:
    """A server on this machine. behaves: what it does with a request, after it was noted."""

    url: str = ""
    behaves: Callable[[Any], None] = lambda handler: answer(handler, said(json.dumps(RIGHT)))
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


def answer(handler: Any, body: object, status: int = 200, **headers: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def stub_server() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            headers = {name.lower(): value for name, value in self.headers.items()}
            stub.asked.append((self.path, headers, json.loads(self.rfile.read(length))))
            with suppress(OSError):  # the client went away, as it should
                stub.behaves(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
