"""Parts of one run that several processes share: trials and seeds of a search, folds. Loads no TensorFlow.

One process leads the run and writes into its working folder which parts it wants done. Others that are given the same
folder (`--join`; on a cluster `train.queue.cluster` starts them) take some of them; without others the leader does
them one after the other. Who does a part holds a lock that ends with the process, so what a killed process had in hand
is free at once. What a part gives lies in the part's own folder and is the same whoever did it.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from core.errors import Conflict, InvalidInput
from core.files import has_locks, lock_of, write_whole

log = logging.getLogger(__name__)

TAKEN_MOST = 2
"""How often a part is begun in one attempt of a run: once, and once again when its process was killed."""
LOOK_SECONDS = 0.5
_FOLDER, _WANTED, _LEADER = "parts", "wanted.json", "leader.lock"
_NOBODY = "Nobody leads a run in the folder of --work: start the same command without --join first."
_OTHERWISE = "The run in the folder of --work learns from other cases or in another way: --join needs its very options."
_NO_LOCKS = "The folder of --work lies on a file system without locks, so that several processes cannot share a run."


class Parts:
    """Of the run whose working folder this is."""

    def __init__(self, work: Path, key: str = "") -> None:
        """key: names what is learnt from what; only processes of the same key share parts."""
        self.folder, self.key = work / _FOLDER, key
        self._run = ""

    @contextmanager
    def led(self) -> Iterator[None]:
        """This process leads the run in the block; a second leader waits."""
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = self.folder / _WANTED
        with lock_of(self.folder / _LEADER, waits=True):
            self._run = uuid4().hex
            wanted.unlink(missing_ok=True)
            try:
                yield
            finally:
                wanted.unlink(missing_ok=True)

    def do_all(
        self, names: Sequence[str], do: Callable[[str], None], *, meanwhile: Callable[[], None] = lambda: None,
        is_shared: bool = True,
    ) -> None:  # fmt: skip
        """Returns once all of these are done, here or elsewhere. To be called in a block of `led`.

        meanwhile: called between two looks while others work on the last of them. is_shared: False leaves all to this
        process. Raises what `do` does, and Conflict
        when the processes of a part were killed too often.
        """
        said = {"run": self._run, "key": self.key, "wanted": list(names) if is_shared else []}
        write_whole(self.folder / _WANTED, json.dumps(said), durable=False)
        left = list(names)
        while left := [name for name in left if not self._attempt(name, do)]:
            meanwhile()
            time.sleep(LOOK_SECONDS)

    def join(self, do: Callable[[str], None]) -> None:
        """Take parts that another process wants done, until it wants no more or is gone. Raises as `do_all`;
        InvalidInput where this process would do them otherwise.
        """
        said = _wanted(self.folder)
        if said is None or self._is_leaderless():
            raise Conflict(_NOBODY)
        if not has_locks(self.folder):
            raise Conflict(_NO_LOCKS)
        while said is not None and not self._is_leaderless():
            if said.get("key", self.key) != self.key:
                raise InvalidInput(_OTHERWISE)
            self._run = said["run"]
            for name in said["wanted"]:
                if not self._is_done(name):
                    self._attempt(name, do)
            time.sleep(LOOK_SECONDS)
            said = _wanted(self.folder)

    def _attempt(self, name: str, do: Callable[[str], None]) -> bool:
        """Whether the part is done now; not, where another process is at it."""
        with lock_of(self.folder / f"{name}.lock") as is_ours:
            if not is_ours:
                return False
            if self._is_done(name):
                return True
            taken = self._state(name).get("taken", 0)
            if taken >= TAKEN_MOST:
                raise Conflict(f"The process of {name} was ended {taken} times in the middle. The log may tell why.")
            if taken:
                log.info("%s was ended in the middle; once again", name)
            said = {"taken": taken + 1, "by": f"{platform.node()}:{os.getpid()}"}
            self._note(name, said)
            do(name)
            self._note(name, {**said, "is_done": True})
            return True

    def _is_done(self, name: str) -> bool:
        return bool(self._state(name).get("is_done"))

    def _state(self, name: str) -> Mapping[str, Any]:
        """Of this attempt of the run; empty where nobody has begun with it."""
        said = _read(self.folder / f"{name}.json")
        return said if said.get("run") == self._run else {}

    def _note(self, name: str, said: Mapping[str, Any]) -> None:
        write_whole(self.folder / f"{name}.json", json.dumps({"run": self._run, **said}), durable=False)

    def _is_leaderless(self) -> bool:
        with lock_of(self.folder / _LEADER, shared=True) as is_free:
            return is_free


def n_open(work: Path) -> int:
    """How many parts the leader of the run in this working folder waits for, those in work among them."""
    said = _wanted(work / _FOLDER)
    if said is None:
        return 0
    states = [_read(work / _FOLDER / f"{name}.json") for name in said["wanted"]]
    return sum(not (state.get("is_done") and state.get("run") == said["run"]) for state in states)


def _wanted(folder: Path) -> Mapping[str, Any] | None:
    return _read(folder / _WANTED) or None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        said: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return said
    except (OSError, ValueError):
        return {}
