"""`make mutants` on a made repository whose answers are known, and the clock that says when a change is too late."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mutant_worker
import mutants
import pytest

HERE = Path(__file__).resolve().parent
MODULE = "core/evaluation/made.py"
SOURCE = """\
import threading

FLOOR = 3
SPARE = 7
STEP = 0
while STEP < 3:
    STEP = STEP + 1


def doubled(value):
    return value * 2


SIX = doubled(3)


def is_above(value):
    return value > FLOOR


def is_large(value):
    return value > 10


def is_left_alone(value):
    return value > 20


def is_asked_once(value):
    return value > 30


def counted_down(value):
    while value > 0:
        value = value - 1
    return value


def opened(count):
    lock = threading.Lock()
    lock.acquire()
    if count > 4:
        lock.release()
    return lock.acquire()
"""
TESTS = """\
from pathlib import Path

from core.evaluation.made import SIX, counted_down, is_above, is_asked_once, is_large, opened

ASKED = Path({asked!r})


def test_six_which_importing_computes():
    assert SIX == 6


def test_above_at_its_boundary():
    assert is_above(4) and not is_above(3)


def test_large_far_from_its_boundary():
    assert is_large(100) and not is_large(-100)


def test_that_passes_only_once():
    assert is_asked_once(40) and not ASKED.exists()
    ASKED.touch()


def test_counted_down():
    assert counted_down(3) == 0


def test_opened():
    assert opened(5)
"""
OF_THE_FILE = "tests/core/evaluation/test_made.py::test_"
ANSWERS = {
    "`return value > FLOOR` → `return value >= FLOOR`": f"noticed by {OF_THE_FILE}above_at_its_boundary",
    "`FLOOR = 3` → `FLOOR = 4`": "noticed in a new process",
    "`return value * 2` → `return value + 2`": "noticed in a new process",
    "`SPARE = 7` → `SPARE = 8`": "no test of 5 fails in a new process",
    "`STEP = STEP + 1` → `STEP = STEP - 1`": "too late in a new process",
    "`return value > 10` → `return value >= 10`": "no test of 1 fails",
    "`return value > 20` → `return value >= 20`": "no test runs the line",
    "`return value > 30` → `return value >= 30`": "no test that runs the line can be relied on",
    "`value = value - 1` → `value = value * 1`": f"too late by {OF_THE_FILE}counted_down",
    "`if count > 4:` → `if count > 5:`": f"too late by {OF_THE_FILE}opened",
}
"""Of the made module's changes, what is said of them."""
PROGRAM = """\
import sys
from pathlib import Path
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
import mutants, mutant_worker
mutant_worker.ALLOWED, mutant_worker.TIMES = 1.0, 2.0
what, *told = sys.argv[1:]
def is_asked_for(change):
    source = change.module_path.read_text()
    changed = mutate_code(source, get_operator(change.operator_name)(), change.occurrence)
    return mutant_worker.changed_lines(source, changed) in told
if what == "prepare":
    mutants.is_of_interest = is_asked_for
    mutants.prepare(1000)
elif what == "report":
    session = mutants.WorkDB(str(mutants.SESSION), mutants.WorkDB.Mode.open)
    mutants.REPORT.write_text(mutants.report(session, 0.0))
else:
    sys.exit(mutant_worker.main([what, "0", "1", "1000"]))
"""
"""What `make mutants` does, with the changes that are asked for, one process and little patience."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the made module, in which its changes have been tested."""
    folder = tmp_path_factory.mktemp("repository")
    for name, text in {
        MODULE: SOURCE,
        "tests/core/evaluation/test_made.py": TESTS.format(asked=str(folder / "asked")),
        "tests/made_test_data.py": "def make_test_data(folder): return folder\n",
        "pytest.ini": "[pytest]\npythonpath = . tests\n",
        ".gitignore": ".state\n",
        "program.py": PROGRAM,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "docs").mkdir()
    for name in ("mutants.py", "mutant_worker.py"):
        shutil.copy(HERE / name, folder / "tests")
    person = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "."], [*person, "commit", "-q", "-m", "Made"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    for what in (["prepare", *ANSWERS], ["measure"], ["test"]):
        told(folder, *what)
    return folder


def told(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "program.py", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": "tests"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def report_of(folder: Path) -> str:
    told(folder, "report")
    return (folder / "docs" / "mutants.md").read_text()


def test_a_change_is_noticed_where_a_test_fails_by_it_and_by_nothing_else(repository: Path) -> None:
    session = mutants.WorkDB(str(repository / ".state" / "mutants" / "session.sqlite"), mutants.WorkDB.Mode.open)
    found = {result.diff: (result.output, result.is_killed) for _, result in session.completed_work_items}
    assert found == {change: (said, not said.startswith("no test")) for change, said in ANSWERS.items()}


def test_the_page_counts_what_was_noticed_and_lists_what_was_not(repository: Path) -> None:
    text = report_of(repository)
    assert "| core/evaluation | 10 | 6 | 3 | 60.0 % |" in text
    assert f"| `{MODULE}` 22 | `return value > 10` → `return value >= 10` | no test of 1 fails |  |" in text
    assert "return value >= FLOOR" not in text


def test_a_reason_is_kept_until_its_change_is_noticed_or_its_line_is_gone(repository: Path) -> None:
    page = repository / "docs" / "mutants.md"
    rows = {
        "`return value > 10` → `return value >= 10`": "tested",
        "`return value > 20` → `return value < 20`": "pending",
        "`return value > FLOOR` → `return value >= FLOOR`": "noticed",
        "`return value > 50` → `return value < 50`": "gone",
    }
    page.write_text("".join(f"| `{MODULE}` 1 | {change} | no test | {why} |\n" for change, why in rows.items()))
    for _ in range(2):  # written from a page that it wrote itself, too
        text = report_of(repository)
        assert f"| `{MODULE}` 22 | `return value > 10` → `return value >= 10` | no test of 1 fails | tested |" in text
        assert f"| `{MODULE}` | `return value > 20` → `return value < 20` | not tested | pending |" in text
        assert not [why for why in ("noticed |", "gone |") if why in text.partition("## Not noticed")[2]]


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts Python programs, which end with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(program: str, before: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-S", "-c", program]
        processes.append(subprocess.Popen(command, preexec_fn=before))
        return processes[-1]

    yield start
    for process in processes:
        mutant_worker.end_group(process.pid)
        process.wait()


def watched(leader: int, seconds: float) -> float:
    """What the clock of a process says after so many seconds."""
    clock, end = mutant_worker.Clock(leader), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        clock.look()
    return clock.seconds


def test_a_process_that_waits_for_the_processor_has_had_no_time(
    started: Callable[..., subprocess.Popen[bytes]],
) -> None:
    one = {min(os.sched_getaffinity(0))}

    def on_one_processor() -> None:
        os.sched_setaffinity(0, one)

    def behind_all_others() -> None:
        on_one_processor()
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    started("while True: pass", on_one_processor)
    assert watched(started("while True: pass", behind_all_others).pid, 2.0) < 0.5


def test_a_process_that_waits_for_a_lock_or_computes_in_a_child_has_had_the_time(
    started: Callable[..., subprocess.Popen[bytes]],
) -> None:
    waiting = started("import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()")
    assert 1.0 < watched(waiting.pid, 2.0) <= 2.1
    computing = started("import os, sys; os.fork() or exec('while True: pass'); os.wait()")
    before = time.monotonic()
    clock = mutant_worker.Clock(computing.pid)
    while clock.look() < 0.5 and time.monotonic() - before < 60:
        time.sleep(0.05)
    assert clock.seconds >= 0.5


def test_a_child_that_made_a_group_of_its_own_ends_with_its_parent(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    number = tmp_path / "number"
    leader = started(
        "import os, pathlib, time\n"
        "os.setsid()\n"
        "child = os.fork()\n"
        f"os.setsid() if child == 0 else pathlib.Path({str(number)!r}).write_text(str(child))\n"
        "time.sleep(30)"
    )
    while not number.exists() or not number.read_text():
        time.sleep(0.05)
    child = int(number.read_text())
    while os.getpgid(child) != child:
        time.sleep(0.05)
    mutant_worker.end_group(leader.pid)
    leader.wait()
    end = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:  # until its new parent has waited for it
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
