"""A Ray cluster on loopback with real processes: a head without room for work, and nodes that can be killed.

A killed node is gone as after a power cut, and nothing of it is left once the test is over, however it ended: a node
ends with the process of the test, too.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from core.serving.loops import ENDS_WITH_PARENT

TOKEN = "a-token-of-the-tests-and-of-nothing-else"
_MARK = "NODE_OF_A_TEST"
_HEAD = "127.0.0.2"  # each node has an address of its own; 127.0.0.1 is what Ray replaces by the machine's
_START_SECONDS = 60


@dataclass(frozen=True)
class RayNode:
    """mark: in the environment of each of its processes."""

    process: subprocess.Popen[bytes]
    mark: str
    log: Path

    def pids(self) -> list[int]:
        """Of every process of it that lives: of its session, which Ray's own stay in (some overwrite their
        environment), or with its mark, which those have that a job began.
        """
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended, or is another user's
                state, *rest = (folder / "stat").read_text().rpartition(") ")[2].split()
                is_marked = f"{_MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
                if state != "Z" and (is_marked or int(rest[2]) == self.process.pid):
                    found.append(int(folder.name))
        return found

    def kill_raylet(self) -> None:
        """Ray's own process of the node alone: what it began must find out by itself."""
        for pid in self.pids():
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/raylet"):
                    os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """All of its processes at once, as a power cut would."""
        deadline = time.monotonic() + 30
        while pids := self.pids():
            assert time.monotonic() < deadline, f"{pids} of a node do not end"
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process.poll() is None:
                self.process.wait(5)
            time.sleep(0.05)
        self.process.wait(5)


class RayCluster:
    """address: of the head. environment: what a driver needs to be let in. of_nodes: what nodes have besides."""

    def __init__(self, of_nodes: Mapping[str, str]) -> None:
        self._of_nodes = of_nodes
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: paths of sockets end at 107 bytes
        (self.folder / "token").write_text(TOKEN)
        self.environment = {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        self.address = f"{_HEAD}:{_free_port()}"
        self._nodes: list[RayNode] = []

    def start_head(self) -> RayNode:
        """It answers once this returns."""
        port = self.address.rpartition(":")[2]
        head = self._start(
            "--head", f"--port={port}", "--num-cpus=0", f"--temp-dir={self.folder}", "--include-dashboard=false",
            f"--ray-client-server-port={_free_port()}", "--no-monitor",
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and head.process.poll() is None:
            with suppress(OSError), socket.create_connection((_HEAD, int(port)), timeout=1):
                return head
            time.sleep(0.1)
        raise AssertionError(f"the head of the cluster did not start:\n{head.log.read_text()}")

    def add_node(self, cpus: int = 1) -> RayNode:
        """A machine more, which is in the cluster some seconds later."""
        return self._start(f"--address={self.address}", f"--num-cpus={cpus}")

    def stop(self) -> None:
        """End every process of it and remove its folder."""
        try:
            for node in reversed(self._nodes):
                node.kill()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, *arguments: str) -> RayNode:
        mark = uuid4().hex
        log = self.folder / f"{mark}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable, "-c", ENDS_WITH_PARENT, str(Path(sys.executable).with_name("ray")),
                    "start", "--block", "--disable-usage-stats", "--include-log-monitor=false",
                    "--object-store-memory=80000000", f"--node-ip-address=127.0.0.{len(self._nodes) + 2}", *arguments,
                ],
                env={**os.environ, **self.environment, **self._of_nodes, _MARK: mark},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._nodes.append(RayNode(process, mark, log))
        return self._nodes[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HEAD, 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_cluster(of_nodes: Mapping[str, str] | None = None) -> Iterator[RayCluster]:
    """The head alone, until the block ends. of_nodes: what the environment of the nodes has besides."""
    cluster = RayCluster(of_nodes or {})
    try:
        cluster.start_head()
        yield cluster
    finally:
        cluster.stop()
