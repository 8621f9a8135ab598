"""Parts of a run that processes share: each is done once, what a killed one had in hand once again, and no more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import Conflict, InvalidInput
from core.settings import REPOSITORY
from train.fitting.parts import Parts, n_open

JOINS = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from train.fitting.parts import Parts
work = Path(sys.argv[2])
def do(name):
    with (work / "done.txt").open("a") as file:
        file.write(f"{name} {os.getpid()}\\n")
    while not (work / "go").exists():
        time.sleep(0.02)
Parts(work).join(do)
"""


def joined(work: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", JOINS, str(REPOSITORY), str(work)], stderr=subprocess.PIPE)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def done_in(work: Path) -> list[tuple[str, int]]:
    path = work / "done.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, int(pid)) for name, pid in (line.split() for line in lines)]


@pytest.mark.parametrize("n_killed", [0, 1, 2])
def test_a_part_whose_process_is_killed_is_done_once_again_and_no_more(tmp_path: Path, n_killed: int) -> None:
    parts, names, own = Parts(tmp_path), ["one", "two"], threading.Event()
    mine: list[str] = []
    outcome: list[BaseException] = []

    def do(name: str) -> None:
        mine.append(name)
        own.wait(60)

    def lead() -> None:
        try:
            with parts.led():
                parts.do_all(names, do)
        except Conflict as refused:
            outcome.append(refused)

    leader = threading.Thread(target=lead)
    leader.start()
    until(lambda: mine)
    assert mine == ["one"] and n_open(tmp_path) == 2
    others = []
    for number in range(n_killed + 1):
        others.append(joined(tmp_path))
        if number == 2:
            others[-1].wait(60)  # it refuses the part, too
            break
        until(lambda: len(done_in(tmp_path)) == number + 1)  # noqa: B023  (called before the next round)
        if number < n_killed:
            os.kill(others[-1].pid, signal.SIGKILL)
            others[-1].wait()
    (tmp_path / "go").touch()
    own.set()
    leader.join(60)
    for other in others:
        assert other.stderr is not None
        words = other.stderr.read().decode()
        assert other.wait(60) in (0, -signal.SIGKILL, 1), words
    assert [name for name, _ in done_in(tmp_path)] == ["two"] * min(n_killed + 1, 2) and mine == ["one"]
    assert n_open(tmp_path) == 0
    if n_killed == 2:
        assert "two was ended 2 times in the middle" in str(outcome[0])
    else:
        state = json.loads((tmp_path / "parts" / "two.json").read_text())
        assert not outcome and state["taken"] == n_killed + 1 and state["is_done"]


def test_what_needs_a_leader_is_refused_without_one_and_ends_when_it_is_gone(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="Nobody leads"):
        Parts(tmp_path).join(lambda name: None)
    with Parts(tmp_path).led() as _:
        led = Parts(tmp_path)
        (tmp_path / "parts" / "wanted.json").write_text('{"run": "a", "wanted": ["one"]}')
        seen: list[str] = []

        def do(name: str) -> None:
            seen.append(name)
            (tmp_path / "parts" / "wanted.json").unlink()

        led.join(do)
    assert seen == ["one"]


def test_a_process_that_would_do_the_parts_otherwise_is_refused(tmp_path: Path) -> None:
    leader, seen = Parts(tmp_path, "cases and settings"), []

    def do(name: str) -> None:
        with pytest.raises(InvalidInput, match="very options"):
            Parts(tmp_path, "others").join(seen.append)
        seen.append(name)

    with leader.led():
        leader.do_all(["one"], do)
    assert seen == ["one"]
