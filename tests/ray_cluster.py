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

from namespaces import Network

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
    """address: of the head. environment: what a driver needs to be let in. of_nodes: what nodes have besides.

    has_redis: what the head knows lies in a Redis server, and a head that is started again knows it. network: the head
    is on its `here`, and nodes are on those of its machines whose addresses they are given.
    """

    def __init__(self, of_nodes: Mapping[str, str], *, has_redis: bool = False, network: Network | None = None) -> None:
        self._of_nodes = dict(of_nodes)
        self._network, self._host = network, network.here if network is not None else _HEAD
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: paths of sockets end at 107 bytes
        (self.folder / "token").write_text(TOKEN)
        self.environment = {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        self.address = f"{self._host}:{free_port(self._host)}"
        self.nodes: list[RayNode] = []
        self._n_workers = 0
        self._redis_port = ""
        self._redis = self._start_redis() if has_redis else None

    def _start_redis(self) -> subprocess.Popen[bytes]:
        if not self._redis_port:
            self._redis_port = str(free_port(self._host))
            self._of_nodes["RAY_REDIS_ADDRESS"] = f"{self._host}:{self._redis_port}"
        return subprocess.Popen(
            [
                sys.executable, "-c", ENDS_WITH_PARENT, "-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])",
                "redis-server", "--bind", self._host, "--port", self._redis_port, "--requirepass", TOKEN,
                "--dir", str(self.folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill_redis(self) -> None:
        """As a power cut would: what it had acknowledged is on the disk."""
        assert self._redis is not None
        self._redis.kill()
        self._redis.wait(5)

    def start_redis_again(self) -> None:
        """At the same address, with what it had."""
        self._redis = self._start_redis()

    def start_head(self) -> RayNode:
        """It answers once this returns. After it was killed, another at the same address."""
        port = self.address.rpartition(":")[2]
        (self.folder / "ray_current_cluster").unlink(missing_ok=True)  # or Ray sees its nodes, and thinks that it runs
        of_redis = [f"--redis-password={TOKEN}"] if self._redis is not None else []
        self.head = head = self._start(
            self._host, *of_redis, "--head", f"--port={port}", "--num-cpus=0", f"--temp-dir={self.folder}",
            "--include-dashboard=false", f"--ray-client-server-port={free_port(self._host)}", "--no-monitor",
        )  # fmt: skip
        _has_started(head)
        return head

    def add_node(self, cpus: int = 1, address: str = "", gpus: int = 0) -> RayNode:
        """A machine more, which is in the cluster some seconds later. address: its own, by default the next one. gpus:
        that Ray counts; none is there."""
        _has_started(self.nodes[-1])  # two at once on one machine may choose the same names of sockets
        self._n_workers += not address
        return self._start(
            address or f"127.0.0.{self._n_workers + 2}", f"--address={self.address}", f"--num-cpus={cpus}",
            f"--num-gpus={gpus}",
        )  # fmt: skip

    def stop(self) -> None:
        """End every process of it and remove its folder."""
        try:
            for node in reversed(self.nodes):
                node.kill()
        finally:
            if self._redis is not None:
                self._redis.kill()
                self._redis.wait(5)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, address: str, *arguments: str) -> RayNode:
        mark = uuid4().hex
        log = self.folder / f"{mark}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(self._network.on(address) if self._network is not None else ()),
                    sys.executable, "-c", ENDS_WITH_PARENT, str(Path(sys.executable).with_name("ray")),
                    "start", "--block", "--disable-usage-stats", "--include-log-monitor=false",
                    "--object-store-memory=80000000", f"--node-ip-address={address}",
                    # Its usual port is one for all: where two clusters run, an agent that finds it taken ends its node.
                    f"--dashboard-agent-listen-port={free_port(self._host)}", *arguments,
                ],
                env={**os.environ, **self.environment, **self._of_nodes, _MARK: mark},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.nodes.append(RayNode(process, mark, log))
        return self.nodes[-1]


def _has_started(node: RayNode) -> None:
    """Waits until Ray says that a node is up: its port may answer before, and who comes then may be sent away."""
    deadline = time.monotonic() + _START_SECONDS
    while "Ray runtime started" not in node.log.read_text():
        assert time.monotonic() < deadline and node.process.poll() is None, f"no start:\n{node.log.read_text()}"
        time.sleep(0.1)


def free_port(host: str = _HEAD) -> int:
    """One of this address that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_cluster(
    of_nodes: Mapping[str, str] | None = None, *, has_redis: bool = False, network: Network | None = None
) -> Iterator[RayCluster]:
    """The head alone, until the block ends. of_nodes: what the environment of the nodes has besides."""
    cluster = RayCluster(of_nodes or {}, has_redis=has_redis, network=network)
    try:
        cluster.start_head()
        yield cluster
    finally:
        cluster.stop()
