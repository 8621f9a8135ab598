"""An S3 service on loopback: moto's server in a process of its own, with one empty bucket each time it is asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class Bucket:
    """endpoint: the service. url: of a new bucket in it, with a prefix."""

    endpoint: str
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def served_bucket() -> Iterator[Bucket]:
    """The service until the block ends; its keys are those of `KEYS`, to be put into the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint, name = f"http://127.0.0.1:{port}", f"pictures-{uuid4().hex[:12]}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, **KEYS}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _make(endpoint, name)
        yield Bucket(endpoint, f"s3://{name}/site", process)
    finally:
        process.kill()
        process.wait(30)


def _make(endpoint: str, name: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT"), timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, "the S3 service did not start"
            time.sleep(0.1)
