"""The Ray cluster that a site names in SECONDREAD_RAY_ADDRESS: reached with a token or not at all.

Whoever may talk to a cluster may run programs on it, so an open one is refused
(https://docs.ray.io/en/latest/ray-security/token-auth.html). Ray is an option (requirements-cluster.txt): it is
imported only when a cluster is named.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from core.errors import Conflict, InvalidSettings
from core.files import write_whole
from core.settings import MIB, Settings

log = logging.getLogger(__name__)

_NO_LIBRARY = "SECONDREAD_RAY_ADDRESS names a cluster, and Ray is not installed. Install requirements-cluster.txt."
_OPEN = (
    "SECONDREAD_RAY_ADDRESS names a cluster without RAY_AUTH_MODE=token: whoever reached its ports could run programs "
    "there. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here and on every node."
)
_AWAY = "The cluster of SECONDREAD_RAY_ADDRESS does not answer, or refuses the token. Look at it with: ray status"
_NOTED = "cluster.json"
_CONNECTING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster. memory_mib: what Ray gives to tasks there."""

    name: str
    is_alive: bool
    cpus: float
    gpus: float
    memory_mib: int


def ray_of(settings: Settings) -> Any:
    """Ray's module, connected to the site's cluster by this process. Raises InvalidSettings, Conflict (away)."""
    require_token(settings)
    try:
        import ray
    except ImportError:
        raise InvalidSettings(_NO_LIBRARY) from None
    with _CONNECTING:
        if not ray.is_initialized():
            with _own_signals():
                try:
                    ray.init(
                        address=settings.ray_address, namespace="secondread", log_to_driver=False,
                        configure_logging=False, ignore_reinit_error=True,
                    )  # fmt: skip
                except (ConnectionError, RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
                    log.warning("The cluster cannot be reached: %s", type(error).__name__)
                    raise Conflict(_AWAY) from error
    return ray


def answers(settings: Settings) -> bool:
    """Whether somebody listens where the cluster's head should; takes two seconds at most."""
    host, _, port = settings.ray_address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


def require_token(settings: Settings) -> None:
    """Raises InvalidSettings where a cluster is named that would let everybody in."""
    if not settings.ray_address:
        raise InvalidSettings("This site has no cluster. Name one in SECONDREAD_RAY_ADDRESS.")
    if Settings.ray_auth_mode() != "token":
        raise InvalidSettings(_OPEN)


def nodes_of(settings: Settings) -> list[Node]:
    """The machines of the cluster now. Raises InvalidSettings, Conflict."""
    ray = ray_of(settings)
    return [
        Node(
            name=node["NodeManagerAddress"],
            is_alive=node["Alive"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            memory_mib=int(node["Resources"].get("memory", 0) // MIB),
        )
        for node in ray.nodes()
    ]


def note_nodes(settings: Settings) -> None:
    """Write down which machines there are now, for pages: they talk to no cluster. Raises InvalidSettings, Conflict."""
    said = {"at": datetime.now(UTC).isoformat(), "nodes": [asdict(node) for node in nodes_of(settings)]}
    write_whole(settings.state_dir / _NOTED, json.dumps(said))


def noted_nodes(settings: Settings) -> tuple[datetime, list[Node]] | None:
    """When a worker last saw the cluster, and what it saw; None where none did."""
    try:
        said = json.loads((settings.state_dir / _NOTED).read_text(encoding="utf-8"))
        return datetime.fromisoformat(said["at"]), [Node(**node) for node in said["nodes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def let_go() -> None:
    """End this process's connection, so that the next `ray_of` makes another: after a cluster was restarted."""
    import ray

    with _CONNECTING:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; whoever connects has said already what it means."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
