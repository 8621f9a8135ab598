"""Trainings on the site's Ray cluster: the process that `train.queue.child` runs here, run on one of its machines.

The job's row, its lease, its log and its folder stay what they are; only where the process runs is another. So every
machine of the cluster has SecondRead at the same path and the same state folder (a network share). Its process ends
when the Ray actor around it does: when the job is stopped, the worker dies, or the machine is lost.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import Conflict
from core.records.queue import Lease
from core.serving.cluster import answers, let_go, ray_of
from core.settings import REPOSITORY, Settings
from train.queue import child, trainings
from train.queue.child import STOP_SECONDS, NodeLost

log = logging.getLogger(__name__)

_SIGHT = (
    "The node {node} does not see the state folder or the program at the same path as this machine. "
    "See docs/cluster.md."
)


@dataclass(slots=True)
class RayExecutor:
    """An actor of the cluster for each job, with a child process in it."""

    settings: Settings
    fit: Sequence[str] = ("-m", "train.queue.child")
    comparison: Sequence[str] = ("-m", "train.publishing.score_live")

    def is_ready(self) -> bool:
        """Whether the cluster answers; a job is taken only then."""
        try:
            return answers(self.settings) and bool(ray_of(self.settings).is_initialized())
        except Conflict:
            return False

    def submit(self, lease: Lease, manifest_sha256: str) -> RayRun:
        """Raises NotFound when the data set is damaged, OSError when there is no space to begin in."""
        request, folder = child.prepared(self.settings, lease, manifest_sha256)
        return RayRun(
            self.settings, [*self.fit, *request.to_arguments()], folder / "log.txt", f"attempt {lease.attempt}"
        )

    def compare(self, lease: Lease, folders: Sequence[Path]) -> RayRun:
        """As `LocalExecutor.compare`."""
        job_log = trainings.folder_of(self.settings, lease.id) / "log.txt"
        return RayRun(self.settings, [*self.comparison, *map(str, folders)], job_log, "comparison with the live model")


class RayRun:
    """A child process on a machine of the cluster: as `child.LocalRun`. where: that machine, "" until it runs."""

    def __init__(self, settings: Settings, arguments: Sequence[str], job_log: Path, heading: str) -> None:
        self.log, self.heading = job_log, f"--- {heading}\n".encode()
        self.log.touch()
        self._ray = ray_of(settings)
        self.where = ""
        self._memory_mib: int | None = None
        here = [f"SECONDREAD_STATE_DIR={settings.state_dir}", f"SECONDREAD_WEIGHTS_DIR={settings.weights_dir}"]
        self._actor = (
            self._ray.remote(_on_node())
            .options(num_cpus=settings.ray_cpus, num_gpus=settings.ray_gpus, max_restarts=0)
            .remote(str(REPOSITORY), here, list(arguments), str(job_log), heading)
        )
        self._asked: Any = None

    def wait(self, seconds: float) -> int | None:
        """As `LocalRun.wait`. Raises NodeLost when the machine is gone or the cluster does not answer any more."""
        if not self._ray.is_initialized():  # another job found that the cluster is away; Ray would begin one of its own
            raise NodeLost
        if self._asked is None:
            self._asked = self._actor.look.remote(seconds)
        errors = self._ray.exceptions
        try:
            if not self._ray.wait([self._asked], timeout=max(seconds, 1.0) if self.where else seconds)[0]:
                return None  # it waits for a machine with room, or is on its way
            found, self._asked = self._ray.get(self._asked), None
        except errors.RayTaskError as error:
            self._asked = None
            raise child.Unseen(_SIGHT.format(node=str(error.cause.args[0]) if error.cause.args else "?")) from error
        except errors.RayActorError as error:
            log.warning("A node with a process of ours was lost")
            raise NodeLost from error
        except (errors.RayError, ConnectionError, RuntimeError) as error:
            log.warning("The cluster does not answer any more: %s", type(error).__name__)
            let_go()
            raise NodeLost from error
        self.where, status, self._memory_mib = found
        return int(status) if status is not None else None

    def stop(self) -> None:
        """End it now, and wait until it is gone, or its machine does not answer."""
        errors = self._ray.exceptions
        if not self._ray.is_initialized():
            return
        try:
            self._ray.get(self._actor.stop.remote(), timeout=4 * STOP_SECONDS if self.where else 0.1)
        except (errors.RayError, ConnectionError, RuntimeError, TimeoutError) as error:
            log.warning("A process of the cluster could not be asked to stop: %s", type(error).__name__)
        finally:
            self._let_actor_go()

    def _let_actor_go(self) -> None:
        try:
            self._ray.kill(self._actor)
        except (ValueError, RuntimeError, ConnectionError, self._ray.exceptions.RayError):
            log.info("The cluster has let the process go already")

    def memory_mib(self) -> int | None:
        """Of the process, as it was when it was last asked."""
        return self._memory_mib

    def text(self) -> str:
        """What this process wrote, the end of it."""
        return child.text_below(self.log, self.heading)


def _on_node() -> type:
    """The actor's class. Made here, so that Ray sends its code along and the machine needs no module of ours for it."""

    class OnNode:
        def __init__(
            self, repository: str, environment: list[str], arguments: list[str], job_log: str, heading: str
        ) -> None:
            import ray

            self.node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            if repository not in sys.path:
                sys.path.insert(0, repository)
            if not Path(job_log).is_file() or not (Path(repository) / "train" / "queue" / "child.py").is_file():
                self.run = None
                return
            from train.queue.child import LocalRun

            # env(1): the process gets its folders from the worker, the rest from this machine's environment.
            self.run = LocalRun(["env", *environment, sys.executable, *arguments], Path(job_log), heading)

        def look(self, seconds: float) -> tuple[str, int | None, int | None]:
            if self.run is None:
                raise FileNotFoundError(self.node)
            status = self.run.wait(seconds)
            return self.node, status, self.run.memory_mib()

        def stop(self) -> None:
            if self.run is not None:
                self.run.stop()

    return OnNode
