"""Trainings on the site's Ray cluster: the process that `train.queue.child` runs here, run on one of its machines.

The job's row, its lease, its log and its folder stay what they are; only where the process runs is another. So every
machine of the cluster has SecondRead at the same path and the same state folder (a network share). Its process ends
when the Ray actor around it does: when the job is stopped, the worker dies, or the machine is lost.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import Conflict
from core.files import undone_by
from core.records.queue import Lease
from core.serving.cluster import answers, let_go, ray_of
from core.serving.loops import FAILURES_MOST
from core.settings import REPOSITORY, Settings
from train.fitting.parts import n_open
from train.fitting.workers import LOST
from train.queue import child, trainings
from train.queue.child import STOP_SECONDS, NodeLost

log = logging.getLogger(__name__)

_SIGHT = (
    "The node {node} does not see the state folder or the program at the same path as this machine. "
    "See docs/cluster.md."
)


RECRUIT_SECONDS = 2.0
"""How often it is looked whether another process could help with a run."""
LOSS_SECONDS = 90.0
"""After a worker failed, how long the others have to end, or the cluster to find out that their machine is gone."""


@dataclass(slots=True)
class RayExecutor:
    """An actor of the cluster for each process of a job, with a child process in it."""

    settings: Settings
    fit: Sequence[str] = ("-m", "train.queue.child")
    comparison: Sequence[str] = ("-m", "train.publishing.score_live")

    def is_ready(self) -> bool:
        """Whether the cluster answers; a job is taken only then."""
        try:
            return answers(self.settings) and bool(ray_of(self.settings).is_initialized())
        except Conflict:
            return False

    def submit(self, lease: Lease, manifest_sha256: str) -> RayRun | WorkersRun:
        """Raises NotFound when the data set is damaged, OSError when there is no space to begin in."""
        request, folder = child.prepared(self.settings, lease, manifest_sha256)
        arguments = [*self.fit, *request.to_arguments()]
        if request.workers > 1:
            return WorkersRun(self.settings, arguments, folder, f"attempt {lease.attempt}", request.workers)
        joined = JoinedProcesses(self.settings, [*arguments, "--join"], folder) if request.runs > 1 else None
        return RayRun(self.settings, arguments, folder / "log.txt", f"attempt {lease.attempt}", joined)

    def compare(self, lease: Lease, folders: Sequence[Path]) -> RayRun:
        """As `LocalExecutor.compare`."""
        job_log = trainings.folder_of(self.settings, lease.id) / "log.txt"
        return RayRun(self.settings, [*self.comparison, *map(str, folders)], job_log, "comparison with the live model")


class NodeProcess:
    """A child process on a machine of the cluster. where: that machine, "" until it runs.

    scheduling: Ray's, "DEFAULT" for any machine with room. waits: it begins when `begin` says so, not by itself.
    """

    def __init__(
        self, settings: Settings, arguments: Sequence[str], words: Path, heading: str, *, scheduling: Any = "DEFAULT",
        waits: bool = False,
    ) -> None:  # fmt: skip
        words.touch()
        self._ray = ray_of(settings)
        self.where = ""
        self.memory_mib: int | None = None
        self.words, self.heading = words, f"--- {heading}\n".encode()
        here = [f"SECONDREAD_STATE_DIR={settings.state_dir}", f"SECONDREAD_WEIGHTS_DIR={settings.weights_dir}"]
        self._actor = (
            self._ray.remote(_on_node())
            .options(
                num_cpus=settings.ray_cpus, num_gpus=settings.ray_gpus, max_restarts=0, scheduling_strategy=scheduling
            )
            .remote(str(REPOSITORY), here, list(arguments), str(words), heading, waits)
        )
        self._asked: dict[str, Any] = {}

    def look(self, seconds: float) -> int | None:
        """Exit status, None while it runs after these seconds. Raises NodeLost when the machine is gone or the cluster
        does not answer any more, Unseen.
        """
        found = self._said("look", seconds, seconds)
        if found is None:
            return None
        self.where, status, self.memory_mib = found
        return int(status) if status is not None else None

    def address(self) -> str | None:
        """host:port of its machine that is free now; None until it is there. Raises as `look`."""
        found: str | None = self._said("address", 0)
        return found

    def begin(self, environment: Sequence[str]) -> None:
        """Begin what waits, with this in its environment ("NAME=value")."""
        self._actor.begin.remote(list(environment))

    def text(self) -> str:
        """What it wrote, the end of it."""
        return child.text_below(self.words, self.heading)

    def _said(self, what: str, seconds: float, *given: Any) -> Any | None:
        """What the actor answers to this, None while it does not after these seconds. Raises as `look`."""
        if not self._ray.is_initialized():  # another job found that the cluster is away; Ray would begin one of its own
            raise NodeLost
        if what not in self._asked:
            self._asked[what] = getattr(self._actor, what).remote(*given)
        errors = self._ray.exceptions
        try:
            is_awaited = self.where and seconds  # its answer is on its way for a while after these seconds
            if not self._ray.wait([self._asked[what]], timeout=max(seconds, 1.0) if is_awaited else seconds)[0]:
                return None  # it waits for a machine with room, or is on its way
            return self._ray.get(self._asked.pop(what))
        except errors.RayTaskError as error:
            self._asked.pop(what, None)
            raise child.Unseen(_SIGHT.format(node=str(error.cause.args[0]) if error.cause.args else "?")) from error
        except errors.RayActorError as error:
            log.warning("A node with a process of ours was lost")
            raise NodeLost from error
        except (errors.RayError, ConnectionError, RuntimeError) as error:
            log.warning("The cluster does not answer any more: %s", type(error).__name__)
            let_go()
            raise NodeLost from error

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


class JoinedProcesses:
    """Processes that share the parts of a run with the one that leads it (`train.fitting.parts`).

    As many as there are parts and room, one more every `RECRUIT_SECONDS`; what waits for room is never more than one,
    so that another job finds its place. One that is lost is replaced, and its part is done again.
    """

    def __init__(self, settings: Settings, arguments: Sequence[str], folder: Path) -> None:
        self.settings, self.arguments = settings, arguments
        self.work, self.words = folder / "work", folder / "joined.txt"
        self.processes: list[NodeProcess] = []
        self._looked = 0.0
        self._n_failed = 0

    def look(self) -> None:
        """To be called often. Raises NodeLost when the whole cluster does not answer."""
        if time.monotonic() - self._looked < RECRUIT_SECONDS:
            return
        self._looked = time.monotonic()
        for process in list(self.processes):
            if self._is_over(process):
                self.processes.remove(process)
        is_waiting = any(not process.where for process in self.processes)
        n_wanted = n_open(self.work) - 1  # one is the leader's
        if is_waiting and n_wanted <= 0:
            self.stop(waiting_only=True)
        elif not is_waiting and len(self.processes) < n_wanted and self._n_failed < FAILURES_MOST and self._has_room():
            self.processes.append(NodeProcess(self.settings, self.arguments, self.words, "joined"))

    def _is_over(self, process: NodeProcess) -> bool:
        try:
            status = process.look(0)
        except NodeLost:
            if not ray_of(self.settings).is_initialized():
                raise
            return True
        except child.Unseen as unseen:
            log.warning("%s", unseen)
            status = 1
        if status is None:
            return False
        if status:
            self._n_failed += 1
            log.warning("A process that helps with a training ended with status %d on %s", status, process.where)
        process.stop()
        return True

    def _has_room(self) -> bool:
        if not answers(self.settings):  # while the head is away Ray would wait for it, and the run is not looked after
            return False
        ray = ray_of(self.settings)
        free = ray.available_resources()
        return bool(free.get("CPU", 0) >= self.settings.ray_cpus and free.get("GPU", 0) >= self.settings.ray_gpus)

    def stop(self, *, waiting_only: bool = False) -> None:
        """End them now."""
        for process in list(self.processes):
            if not (waiting_only and process.where):
                process.stop()
                self.processes.remove(process)


class RayRun:
    """A child process on a machine of the cluster, as `child.LocalRun`, and those that help it.

    where: its machine, "" until it runs, and those of the processes that joined it.
    """

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        job_log: Path,
        heading: str,
        joined: JoinedProcesses | None = None,
    ) -> None:
        self._leader = NodeProcess(settings, arguments, job_log, heading)
        self._joined = joined

    @property
    def waits(self) -> str:
        return "" if self._leader.where else "Waits for a node with room."

    @property
    def where(self) -> str:
        """The machines, the leader's first."""
        helping = [process.where for process in self._joined.processes] if self._joined is not None else []
        return ", ".join(dict.fromkeys(where for where in (self._leader.where, *helping) if where))

    def wait(self, seconds: float) -> int | None:
        """As `LocalRun.wait`; at its end others have its place. Raises NodeLost when the machine is gone or the cluster
        does not answer any more.
        """
        status = self._leader.look(seconds)
        if status is not None:
            self.stop()  # an actor that has nothing to do any more would keep its processors for life
        elif self._joined is not None:
            self._joined.look()
        return status

    def stop(self) -> None:
        """End it now, and wait until it is gone, or its machine does not answer."""
        self._leader.stop()
        if self._joined is not None:
            self._joined.stop()

    def memory_mib(self) -> int | None:
        """Of the process that leads, as it was when it was last asked."""
        return self._leader.memory_mib

    def text(self) -> str:
        """What the process that leads wrote, the end of it."""
        return self._leader.text()


class WorkersRun:
    """The processes that fit one network together (`train.fitting.workers`), each in a place of its own.

    The places are reserved all or none, on as many machines as have room; each machine says at which of its addresses
    and ports the others reach it. They end together. Where one was lost, with its machine or alone, or the others did
    not reach it any more, that is NodeLost: the next attempt goes on after the last epoch, wherever there is room.
    """

    def __init__(self, settings: Settings, arguments: Sequence[str], folder: Path, heading: str, n: int) -> None:
        ray = ray_of(settings)
        place = {"CPU": settings.ray_cpus, **({"GPU": settings.ray_gpus} if settings.ray_gpus else {})}
        self._ray, self._log = ray, folder / "log.txt"
        self._places = ray.util.placement_group([place] * n, strategy="SPREAD")
        self._processes: list[NodeProcess] = []
        with undone_by(self.stop):  # where the folder is away: nobody else would give them back
            for rank in range(n):
                words = self._log if rank == 0 else folder / f"worker-{rank}.txt"
                scheduling = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(self._places, rank)
                process = NodeProcess(settings, arguments, words, heading, scheduling=scheduling, waits=True)
                self._processes.append(process)
        self._speaker = self._processes[0]
        self._addresses: dict[int, str] = {}
        self._statuses: dict[int, int] = {}
        self._failed_at: float | None = None

    @property
    def where(self) -> str:
        """The machines, the first worker's first."""
        return ", ".join(dict.fromkeys(process.where for process in self._processes if process.where))

    @property
    def waits(self) -> str:
        return "" if self._has_begun else f"Waits until the cluster has room for its {len(self._processes)} workers."

    @property
    def _has_begun(self) -> bool:
        return len(self._addresses) == len(self._processes)

    def wait(self, seconds: float) -> int | None:
        """As `LocalRun.wait`: the status of the first worker, or of the one that failed by itself. Raises NodeLost."""
        if not self._has_begun:
            self._look_for_addresses()
            time.sleep(seconds)
            return None
        for rank, process in enumerate(self._processes):
            status = None if rank in self._statuses else process.look(0 if rank else seconds)
            if status is not None:
                self._statuses[rank] = status
        first = self._statuses.get(0)
        if first == 0:
            self.stop()
            return 0
        if any(self._statuses.values()) and self._failed_at is None:
            self._failed_at = time.monotonic()
        if (first is None or len(self._statuses) < len(self._processes)) and not self._is_enough():
            return None
        return self._cause()

    def _look_for_addresses(self) -> None:
        for rank, process in enumerate(self._processes):
            address = None if rank in self._addresses else process.address()
            if address is not None:
                self._addresses[rank] = address
        if not self._has_begun:
            return
        workers = [self._addresses[rank] for rank in range(len(self._processes))]
        for rank, process in enumerate(self._processes):
            config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
            process.begin([f"TF_CONFIG={json.dumps(config)}"])

    def _is_enough(self) -> bool:
        """Whether it was waited long enough for the others to end, or to be lost, after one had failed."""
        return self._failed_at is not None and time.monotonic() - self._failed_at > LOSS_SECONDS

    def _cause(self) -> int:
        """The status of the worker that failed by itself, whose words are the job's then. Raises NodeLost for none."""
        for rank, status in sorted(self._statuses.items()):
            process = self._processes[rank]
            if 0 < status <= 128 and LOST not in process.text():
                self._speaker = process
                self.stop()
                return status
        said = f"Its workers lost each other (status {self._statuses}). The next attempt goes on after the last epoch."
        log.warning("%s", said)
        with self._log.open("a") as file:
            file.write(f"--- {said}\n")
        raise NodeLost

    def stop(self) -> None:
        """End them now, wait until they are gone, or their machines do not answer, and let others have the places."""
        for process in self._processes:
            process.stop()
        if self._ray.is_initialized():
            try:
                self._ray.util.remove_placement_group(self._places)
            except (RuntimeError, ConnectionError, self._ray.exceptions.RayError):
                log.info("The cluster has let the places go already")

    def memory_mib(self) -> int | None:
        """Of the first worker, as it was when it was last asked."""
        return self._processes[0].memory_mib

    def text(self) -> str:
        """What the first worker wrote, or the one that failed by itself; the end of it."""
        return self._speaker.text()


def _on_node() -> type:
    """The actor's class. Made here, so that Ray sends its code along and the machine needs no module of ours for it."""

    class OnNode:
        def __init__(
            self, repository: str, environment: list[str], arguments: list[str], job_log: str, heading: str, waits: bool
        ) -> None:
            import ray

            self.node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            if repository not in sys.path:
                sys.path.insert(0, repository)
            self.sees_all = Path(job_log).is_file() and (Path(repository) / "train" / "queue" / "child.py").is_file()
            self.run: child.LocalRun | None = None
            self.has_begun = False
            self.given = (environment, arguments, Path(job_log), heading)
            if not waits:
                self.begin([])

        def begin(self, more: list[str]) -> None:
            self.has_begun = True
            if not self.sees_all:
                return
            from train.queue.child import LocalRun

            environment, arguments, job_log, heading = self.given
            # env(1): the process gets its folders from the worker, the rest from this machine's environment.
            self.run = LocalRun(["env", *environment, *more, sys.executable, *arguments], job_log, heading)

        def address(self) -> str:
            if not self.sees_all:
                raise FileNotFoundError(self.node)
            with socket.socket() as probe:
                probe.bind(("", 0))
                return f"{self.node}:{probe.getsockname()[1]}"

        def look(self, seconds: float) -> tuple[str, int | None, int | None]:
            if not self.sees_all or (self.has_begun and self.run is None):  # its log could not be opened meanwhile
                raise FileNotFoundError(self.node)
            if self.run is None:
                return self.node, None, None
            status = self.run.wait(seconds)
            return self.node, status, self.run.memory_mib()

        def stop(self) -> None:
            if self.run is not None:
                self.run.stop()

    return OnNode
