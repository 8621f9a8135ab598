"""Programs of this product on the nodes of the site's cluster: loops over a queue, and one program over some files.

What they share is the database: a node that is lost takes no work with it, because what it had in hand goes back into
the queue once its lease is over. Each node has SecondRead at the same path, and its own environment with
SECONDREAD_DATABASE_URL and what else it needs, in which `ray start` was called.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from core.errors import AppError, Conflict
from core.serving.cluster import ray_of
from core.settings import REPOSITORY, Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
FOLDER = "{folder}"
"""How an argument begins that names a path in the node's folder: files come in `in` and go back from `out`."""
ENDS_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""A Python program that becomes the one of its arguments, which Linux ends with the process that started it (prctl(2),
PR_SET_PDEATHSIG). Not by `preexec_fn`: that forks a process with Ray's threads in it, and may wait for them for ever.
"""
FAILURES_MOST = 3
"""A program that ended badly so often, one after the other, will not do better."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended on a node. folder: what `FOLDER` was there. files: what it left in `out`, by name."""

    node: str
    status: int
    output: bytes
    errors: bytes
    folder: str
    files: Mapping[str, bytes]


def on_every_node(settings: Settings, arguments: Sequence[str], is_wanted: Callable[[], bool]) -> None:
    """As many of this program (`python ARGUMENTS`) as the cluster has room for, until `is_wanted` says no.

    Nodes that come later are used too. Raises Conflict where the cluster is away or the program fails everywhere.
    """
    ray = ray_of(settings)
    program = ray.remote(_program()).options(
        num_cpus=settings.ray_cpus, num_gpus=settings.ray_gpus, max_retries=0, scheduling_strategy="SPREAD"
    )
    running: list[Any] = []
    n_failed = 0
    try:
        while is_wanted():
            room = int(ray.cluster_resources().get("CPU", 0)) // settings.ray_cpus
            running += [program.remote(str(REPOSITORY), list(arguments), {}) for _ in range(room - len(running))]
            over, running = ray.wait(running, timeout=LOOK_SECONDS) if running else ([], [])
            if not running and not over:
                time.sleep(LOOK_SECONDS)
            for one in over:
                ended = _ended(ray, one)
                is_good = ended is not None and ended.status == 0
                n_failed = 0 if is_good else n_failed + (ended is not None)
                if n_failed >= FAILURES_MOST and ended is not None:
                    raise Conflict(f"The nodes cannot do it. Node {ended.node} says: {last_sentence(ended.errors)}")
    finally:  # also where nobody can say whether they are wanted: whoever asks again starts others
        for one in running:
            with suppress(ray.exceptions.RayError, ConnectionError, RuntimeError):  # the cluster itself may be away
                ray.cancel(one, force=True)


def once(settings: Settings, arguments: Sequence[str], files: Mapping[str, bytes]) -> Ran:
    """This program on some node, in a folder of its own with these files. Raises Conflict where the node is lost."""
    ray = ray_of(settings)
    program = ray.remote(_program()).options(num_cpus=settings.ray_cpus, num_gpus=settings.ray_gpus, max_retries=2)
    ended = _ended(ray, program.remote(str(REPOSITORY), list(arguments), dict(files)))
    if ended is None:
        raise Conflict("The node that read this was lost. Try again.")
    return ended


def _ended(ray: Any, one: Any) -> Ran | None:
    """None where the node was lost. Raises Conflict where the node cannot run the program, with what it says."""
    try:
        return Ran(*ray.get(one))
    except ray.exceptions.RayTaskError as error:
        log.error("A node failed: %s", type(error.cause).__name__)
        if isinstance(error.cause, AppError):
            raise Conflict(f"A node says: {error.cause}") from error
        raise Conflict(f"A node has no SecondRead at {REPOSITORY}, or cannot run it. See docs/cluster.md.") from error
    except ray.exceptions.RayError as error:
        log.warning("A node was lost: %s", type(error).__name__)
        return None


def _program() -> Callable[..., Any]:
    """What a node does. Made here, so that Ray sends its code along and its process needs no module of ours."""

    def ran(
        repository: str, arguments: list[str], files: dict[str, bytes]
    ) -> tuple[str, int, bytes, bytes, str, dict[str, bytes]]:
        import ray

        sys.path.insert(0, repository)
        from core.files import temporary_folder, temporary_parent
        from core.settings import Settings

        with temporary_folder(temporary_parent(Settings.from_environment().state_dir)) as folder:
            (folder / "out").mkdir()
            for name, content in files.items():
                path = folder / "in" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            given = [one.replace(FOLDER, str(folder), 1) if one.startswith(FOLDER) else one for one in arguments]
            done = subprocess.run(
                [sys.executable, "-c", ENDS_WITH_PARENT, *given], cwd=repository, stdin=subprocess.DEVNULL,
                capture_output=True, check=False,
            )  # fmt: skip
            left = {path.name: path.read_bytes() for path in (folder / "out").iterdir() if path.is_file()}
            node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            return node, done.returncode, done.stdout, done.stderr, str(folder), left

    return ran


def last_sentence(errors: bytes) -> str:
    """What a program said last before it gave up: its refusals are one sentence."""
    return (errors.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[-1][:300]
