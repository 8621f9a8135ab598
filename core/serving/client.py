"""The inference service from the other side: who asks it, and who starts it and starts it again when it dies."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from core.errors import ModelUnavailable
from core.models.cards import Card
from core.models.loaded import Weighted
from core.models.prepared import Prepared, prepared
from core.periodic import FIRST_PAGE_SECONDS
from core.serving import wire
from core.serving.address import new_socket, reachable, serving_dir, serving_key, sockets
from core.serving.desk import Standing, Urgency
from core.serving.inference import PLACE_SECONDS, AtDesk, OnWait, answered_by, inside
from core.serving.replicas import AWAY, OnReplicas
from core.serving.service import warmed
from core.settings import REPOSITORY, Settings

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""How long a service that is being started, or started again, is waited for."""
NO_SIGN_SECONDS = 90.0
"""A service that does not even tell the place for so long hangs."""
STANDING_SECONDS = 0.5
"""A page that only shows how far things are does not wait longer for it."""
RESTART_SECONDS = 1.0
INSIDE_SECONDS = 5.0
"""After the start, until models are loaded in the process that draws pages."""
PROCESS_BYTES = 3 << 30
"""What must be free before a process of its own is started: TensorFlow with the shipped models needs half of it."""
LOG_BYTES_MOST = 4 << 20
GONE = (
    "The inference service ended twice at this image, so this model did not answer. "
    "Ask again, or tell an administrator."
)
AWAY_NOW = "The replicas at SECONDREAD_SERVE_URL do not answer any more, or have another key. Try again."
_BROKEN = (EOFError, OSError, wire.BrokenMessage, AuthenticationError)


class Service(AtDesk):
    """The service that listens at a socket of the site; safe for threads, a connection for each request.

    start_seconds: how long its start is waited for.
    """

    def __init__(self, settings: Settings, name: str, start_seconds: float = START_SECONDS) -> None:
        self.settings, self.name, self.start_seconds = settings, name, start_seconds
        self._last_known: frozenset[str] | None = None

    def ahead(self, card: Card, image: Any) -> str:
        """As `Inference.ahead`."""
        head, _ = self._twice(wire.of_request("ahead", card, prepared(card, image)), lambda place: None)
        return str(head["key"])

    def standing(self, keys: Sequence[str]) -> Standing | None:
        """As `Inference.standing`; None too while the service has no processor for an answer."""
        try:
            with self._proven(STANDING_SECONDS) as connection:
                wire.send(connection, {"do": "standing", "keys": [*keys]})
                if not connection.poll(STANDING_SECONDS):
                    return None
                head, _ = wire.receive(connection)
                return wire.to_standing(head)
        except _BROKEN:
            return None

    def forget_all_but(self, weights_sha256s: frozenset[str]) -> None:
        """As `Inference.forget_all_but`; a service that is gone has forgotten them all."""
        if weights_sha256s == self._last_known:
            return
        try:
            with self._connected(lambda place: None) as connection:
                wire.send(connection, {"do": "forget", "all_but": sorted(weights_sha256s)})
                wire.receive(connection)
            self._last_known = weights_sha256s
        except _BROKEN as gone:
            log.warning("the inference service was not reached: %s", type(gone).__name__)

    def is_there(self) -> bool:
        """Whether it answers and knows the key."""
        try:
            with self._connected(lambda place: None):
                return True
        except _BROKEN:
            return False

    def _asked(self, card: Weighted, image: Prepared, urgency: Urgency, on_wait: OnWait) -> Any:
        return wire.to_found(self._twice(wire.of_request("read", card, image, urgency=int(urgency)), on_wait))

    def _twice(self, request: wire.Message, on_wait: OnWait) -> wire.Message:
        """What a request got; a service that died of it or meanwhile is asked once more."""
        for attempt in (1, 2):
            try:
                return self._once(request, on_wait)
            except _BROKEN as gone:
                log.warning("the inference service broke off (attempt %d): %s", attempt, type(gone).__name__)
        raise ModelUnavailable(GONE)

    def _once(self, request: wire.Message, on_wait: OnWait) -> wire.Message:
        with self._connected(on_wait) as connection:
            wire.send(connection, *request)
            place, heard = 0, time.monotonic()
            while True:
                if not connection.poll(PLACE_SECONDS):
                    if time.monotonic() - heard > NO_SIGN_SECONDS:
                        raise EOFError
                    on_wait(place)
                    continue
                head, arrays = wire.receive(connection)
                heard = time.monotonic()
                if "place" in head:
                    place = int(head["place"])
                    on_wait(place)
                elif "refused" in head:
                    raise wire.refusal(head)
                else:
                    return head, arrays

    @contextmanager
    def _connected(self, on_wait: OnWait) -> Iterator[Connection]:
        connection = self._connection(on_wait)
        with connection:
            yield connection

    def _connection(self, on_wait: OnWait) -> Connection:
        """One that knows the key. A service that is still starting, or is just dying, is tried again: until a request
        was sent it cannot have died of it."""
        deadline = time.monotonic() + self.start_seconds
        while True:
            try:
                return self._proven()
            except (EOFError, OSError):
                if time.monotonic() >= deadline:
                    raise
                on_wait(0)
                time.sleep(0.1)

    def _proven(self, seconds: float = NO_SIGN_SECONDS) -> Connection:
        """seconds: how long its first sign is waited for."""
        with reachable(self.settings, self.name) as path:
            connection = Client(path, "AF_UNIX")
        try:
            if not connection.poll(seconds):
                raise EOFError
            key = serving_key(self.settings)
            answer_challenge(connection, key)
            deliver_challenge(connection, key)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def answering(settings: Settings) -> Iterator[str]:
    """In the block of a command, whoever answers for the site now, or else this process; yields who, in words."""
    with ExitStack() as stack:
        if settings.serving == "cluster":
            replicas = stack.enter_context(OnReplicas(settings, _none_of_its_own))
            if replicas.are_there():
                stack.enter_context(answered_by(replicas))
                yield "the replicas on the site's cluster"
                return
        service = running_service(settings)
        stack.enter_context(answered_by(service) if service else inside())
        yield "the inference service of the running server" if service else "this process"


def _none_of_its_own() -> AbstractContextManager[Service]:
    raise ModelUnavailable(AWAY_NOW)


def running_service(settings: Settings) -> Service | None:
    """A service of this site that a running application has started; None where there is none."""
    found = (Service(settings, name, start_seconds=0) for name in sockets(settings))
    return next((one for one in found if one.is_there()), None)


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """In the block this process is answered as `Settings.serving` says: by a service beside it, a desk within it, or
    replicas elsewhere."""
    if settings.serving == "cluster":
        with OnReplicas(settings, partial(_own_service, settings)) as replicas, answered_by(replicas):
            yield
        return
    has_room = free_bytes() >= PROCESS_BYTES and hasattr(socket, "AF_UNIX")
    if settings.serving == "inside" or (settings.serving == "auto" and not has_room):
        log.info("models answer in this process")
        with inside(partial(_warmed_later, settings)):
            yield
        return
    with supervised(settings) as service, answered_by(service):
        yield


@contextmanager
def _own_service(settings: Settings) -> Iterator[Service]:
    """What answers while no replica does. Raises ModelUnavailable where this machine has no room for it."""
    if free_bytes() < PROCESS_BYTES or not hasattr(socket, "AF_UNIX"):
        raise ModelUnavailable(AWAY)
    with supervised(settings) as service:
        yield service


def _warmed_later(settings: Settings) -> Iterator[str]:
    """`warmed`, once the first visitors have had the processor for themselves: this process draws their pages too."""
    until = time.monotonic() + INSIDE_SECONDS
    while time.monotonic() < until:
        time.sleep(0.1)
        yield "not yet"
    yield from warmed(settings)


@contextmanager
def supervised(settings: Settings) -> Iterator[Service]:
    """An inference service beside this process, replaced when it dies; it ends with the block, or with this process."""
    folder = settings.state_dir / "logs"
    for needed in (folder, serving_dir(settings)):
        needed.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in sockets(settings):
        if not Service(settings, name, start_seconds=0).is_there():
            (serving_dir(settings) / name).unlink(missing_ok=True)
    name = new_socket()
    serving_key(settings)
    is_over = threading.Event()

    def watch() -> None:
        is_over.wait(FIRST_PAGE_SECONDS)
        while not is_over.is_set():
            try:
                process = _started(settings, name, folder / "serving.log")
            except OSError as error:  # the folder is away, or the machine has no room: both may come back
                log.error("The inference service does not start: %s", type(error).__name__)
                is_over.wait(RESTART_SECONDS)
                continue
            while process.poll() is None and not is_over.wait(0.2):
                pass
            if process.stdin is not None:
                process.stdin.close()  # its sign that we go
            if is_over.is_set():
                _ended(process)
            else:
                log.warning("The inference service ended with status %s; starting another", process.returncode)
                is_over.wait(RESTART_SECONDS)
        (serving_dir(settings) / name).unlink(missing_ok=True)

    thread = threading.Thread(target=watch, name="inference service", daemon=True)
    thread.start()
    try:
        yield Service(settings, name)
    finally:
        is_over.set()
        thread.join(10)


def _started(settings: Settings, name: str, output: Path) -> subprocess.Popen[bytes]:
    (serving_dir(settings) / name).unlink(missing_ok=True)
    with output.open("ab") as file:
        if file.tell() > LOG_BYTES_MOST:
            file.truncate(0)
        return subprocess.Popen(
            [sys.executable, "-m", "core.serving.service", name],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip


def _ended(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_bytes() -> int:
    """Memory that a new process could have: what the machine has available, or the container's limit leaves.

    Where the system does not say, more than anybody needs.
    """
    found = [1 << 62]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(found)
