"""One of the processes of `make mutants`: everything is imported and collected once, and each change has a fork of it.

    python tests/mutant_worker.py measure|test NUMBER OF MOST

`measure` runs the tests without a change and notes which lines each of them runs. `test` runs, for each change of the
session, those that run the changed line. In the fork the functions that were changed get their new code; what is run
while modules are imported (a constant, a decorator) is tested by a new process instead. Both see the changed file.

A change counts as noticed only where the same tests in the same order pass without it.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

REPOSITORY = Path(__file__).resolve().parent.parent
WORK = REPOSITORY / ".state" / "mutants"
TREE, SESSION, PLAN, MEASURED, DATA = (
    WORK / name for name in ("tree", "session.sqlite", "plan.json", "measured", "data")
)
IMPORTED = MEASURED / "imported"
TRIED = WORK / "tried.json"
"""The tests that there were when changes were not noticed, of a run that tests these again."""
SEED = 11
LONGEST, BUDGET, IN_A_NEW_PROCESS = 10.0, 10.0, 5.0
"""Seconds without a change: of a test, and of all the tests that one change gets, the quickest first; and of those in a
new process, which imports everything first."""
ALLOWED, TIMES = 20.0, 10.0
"""With a change a test may take so many seconds of its own (`Clock`), and so many times those without it, besides."""
LOOK = 0.25
"""Seconds from one look at what a child has had to the next."""
MEASURED_MOST = 40.0
"""Seconds of its own after which a test that is measured is left out, and the next goes on."""
Lines = dict[str, list[int]]
Key = tuple[str, str, int]
"""Of a function: its file, its qualified name, its first line."""


@dataclass(frozen=True)
class Ran:
    """What a fork told. records: of each test that ended. ended: whether it came to its end. late: it was stopped."""

    records: list[dict[str, Any]]
    ended: bool
    late: bool

    @property
    def passed(self) -> bool:
        return self.ended and not any(one["failed"] for one in self.records)


class Clock:
    """The seconds of a process and its children: those that they had the processor for, and those in which none of
    them wanted it (a lock that never opens takes no processor). What they only wait for because the machine is busy
    is not theirs. Read from Linux's /proc.
    """

    def __init__(self, leader: int) -> None:
        self.leader, self.seconds = leader, 0.0
        self._used, self._seen = 0.0, time.monotonic()

    def look(self) -> float:
        """Those until now; to be asked every LOOK seconds or oftener."""
        now = time.monotonic()
        if now - self._seen >= LOOK:
            used, is_ready = _asked_for(self.leader)
            own = max(0.0, used - self._used)
            self.seconds += own if is_ready else max(own, now - self._seen)
            self._used, self._seen = used, now
        return self.seconds


class Worker:
    """The pytest plugin that does the work in place of running all tests that were collected."""

    def __init__(self, what: str, number: int, workers: int, most: int) -> None:
        self.what, self.number, self.workers, self.most = what, number, workers, most
        self.plan: dict[str, list[str]] = json.loads(PLAN.read_text())
        self.files = {str(Path(module).resolve()): module for module in self.plan}
        self.lines: dict[str, set[int]] = defaultdict(set)
        self.reports: list[pytest.TestReport] = []
        self.kills: Counter[str] = Counter()
        self.fine: set[tuple[str, ...]] = set()
        self.cold: dict[str, tuple[list[str], float]] = {}
        self.unreliable: set[str] = set()
        self.items: dict[str, pytest.Item] = {}
        self.live: dict[Key, list[FunctionType]] = {}
        self.known: dict[str, dict[str, Any]] = {}
        self.imported: Lines = {}
        self.share: list[WorkItem] = []
        self.files_to_measure: list[str] = []
        self.tried: frozenset[str] | None = frozenset(json.loads(TRIED.read_text())) if TRIED.is_file() else None

    def take_share(self) -> None:
        """What this worker measures or tests of what is left; before any of the workers has done something of it."""
        self.files_to_measure = stale(self.plan, Path())[self.number :: self.workers]
        session = WorkDB(str(SESSION), WorkDB.Mode.open)
        self.share = pending(session)[: self.most][self.number :: self.workers]
        session.close()

    def trace(self) -> None:
        """From here on, `lines` takes the lines of the changed modules that are run, in every thread."""
        of_file = {file: _line_tracer(self.lines[module]) for file, module in self.files.items()}

        def tracer(frame: FrameType, _event: str, _arg: object) -> Any:
            return of_file.get(frame.f_code.co_filename)

        threading.settrace(tracer)
        sys.settrace(tracer)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} files of tests cannot be collected")
        self.items = {item.nodeid: item for item in session.items if not needs_postgres(item)}
        gc.collect()
        self.live = _functions(set(self.files))
        gc.freeze()
        self.measure() if self.what == "measure" else self.test()
        return True

    def fork(self, tests: Sequence[str], limits: Sequence[float], before: Callable[[], None] | None = None) -> Ran:
        """Run these tests in a child, until one fails or its limit in seconds is over; nothing of it stays."""
        reading, writing = os.pipe()
        folder = tempfile.mkdtemp(prefix="mutant", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            try:
                self._in_child(tests, writing, folder, before)
            finally:
                os._exit(3)
        os.close(writing)
        try:
            return _told(reading, Clock(child), limits)
        finally:
            os.close(reading)
            end_group(child)
            os.waitpid(child, 0)
            shutil.rmtree(folder, ignore_errors=True)

    def _in_child(self, tests: Sequence[str], writing: int, folder: str, before: Callable[[], None] | None) -> None:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        output = os.open(WORK / f"output{self.number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if before:
            before()
        items = [self.items[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            self.reports.clear()
            for known in self.lines.values():
                known.clear()
            began = time.monotonic()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            failed = any(report.failed for report in self.reports)
            record = {
                "test": item.nodeid,
                "failed": failed,
                "passed": not failed and any(report.when == "call" and report.passed for report in self.reports),
                "seconds": time.monotonic() - began,
                "lines": {module: sorted(lines) for module, lines in self.lines.items() if lines},
            }
            os.write(writing, json.dumps(record).encode() + b"\n")
            if failed and self.what == "test":
                break
        sys.stdout.flush()
        os.write(writing, b'"end"\n')

    def measure(self) -> None:
        """Which lines each test runs, for the files of tests that are new or were changed."""
        if not IMPORTED.is_file():
            IMPORTED.write_text(json.dumps({module: sorted(lines) for module, lines in self.lines.items()}))
        files: dict[str, list[str]] = defaultdict(list)
        for test in self.items:
            files[test.partition("::")[0]].append(test)
        for file in self.files_to_measure:
            began, records, left = time.monotonic(), [], files[file]
            while left:
                ran = self.fork(left, [MEASURED_MOST] * len(left))
                records += ran.records
                left = [] if ran.ended else left[len(ran.records) + 1 :]  # without the one that it was stopped in
            tests = {one["test"]: one for one in records if one["passed"]}
            measured_file(file).write_text(json.dumps({"source": hash_of(Path(file)), "tests": tests}))
            failed = [one["test"] for one in records if one["failed"]]
            say(f"{file}: {len(tests)} of {len(files[file])} in {time.monotonic() - began:.0f} s", *failed)

    def test(self) -> None:
        """Test this worker's share of what is pending, last what needs a new process."""
        self.known, self.imported = load_measured()
        self.known = {test: one for test, one in self.known.items() if test in self.items}
        session = WorkDB(str(SESSION), WorkDB.Mode.open)
        for item in sorted(self.share, key=lambda item: self.is_imported(item.mutations[0])):
            began = time.monotonic()
            result = self.result(item.mutations[0])
            session.set_result(item.job_id, result)
            change = item.mutations[0]
            say(f"{time.monotonic() - began:5.1f} s {result.output}: {change.module_path}:{change.start_pos[0]}")
        session.close()

    def result(self, change: MutationSpec) -> WorkResult:
        """The verdict; `output` says in a few words how it came about."""
        path = Path(change.module_path)
        source = (TREE / path).read_text(encoding="utf-8")
        changed = mutate_code(source, get_operator(change.operator_name)(), change.occurrence)
        assert changed is not None, change
        swaps = None if self.is_imported(change) else self.swaps(path, source, changed)
        try:
            write_source(path, changed)
            if swaps is None:
                why = self.by_new_process(str(path), source, changed)
            else:
                why = self.by_fork(change, places_of(change), swaps)
        finally:
            write_source(path, source)
        outcome = TestOutcome.SURVIVED if why.startswith("no test") else TestOutcome.KILLED
        return WorkResult(WorkerOutcome.NORMAL, why, outcome, changed_lines(source, changed))

    def is_imported(self, change: MutationSpec) -> bool:
        """Whether the changed line is run while the tests and the modules are imported."""
        return bool(places_of(change) & set(self.imported.get(str(change.module_path), ())))

    def swaps(self, path: Path, source: str, changed: str) -> list[tuple[FunctionType, CodeType]] | None:
        """The functions in memory and their new code; none where the module will be read anew from the file, and None
        where it cannot be done so.
        """
        file = str(path.resolve())
        old, new = (compile(text, file, "exec") for text in (source, changed))
        pairs = list(_pairs(old, new))
        keys = Counter(_key(before) for before, _ in pairs if before)
        if not any(key[0] == file for key in self.live):
            return []
        if any(before is None or after is None for before, after in pairs):
            return None
        found = []
        for before, after in pairs:
            assert before is not None and after is not None
            functions = self.live.get(_key(before), []) if before != after else []
            if functions and (keys[_key(before)] > 1 or before.co_freevars != after.co_freevars):
                return None
            found += [(function, after) for function in functions]
        return found or None

    def by_fork(self, change: MutationSpec, places: set[int], swaps: list[tuple[FunctionType, CodeType]]) -> str:
        module = str(change.module_path)
        running = [test for test, one in self.known.items() if places & set(one["lines"].get(module, ()))]
        if not running:
            return "no test runs the line"

        def swap() -> None:
            for function, code in swaps:
                function.__code__ = code

        while tests := self.chosen(module, set(running) - self.unreliable):
            ran = self.fork(tests, self.limits(tests), swap)
            if ran.passed:
                return f"no test of {len(tests)} fails"
            prefix = tuple(tests[: len(ran.records) + (not ran.records or not ran.records[-1]["failed"])])
            if self.passes(module, prefix):
                self.kills[prefix[-1]] += 1
                return f"{'too late' if ran.late else 'noticed'} by {prefix[-1]}"
            self.unreliable.add(prefix[-1])
            say(f"{prefix[-1]} fails without a change, too, and is left out")
        return "no test that runs the line can be relied on"

    def passes(self, module: str, tests: tuple[str, ...]) -> bool:
        """Whether these tests pass in this order without the change of this module; asked once."""
        if tests not in self.fine:
            path = Path(module)
            changed = path.read_text(encoding="utf-8")
            write_source(path, (TREE / path).read_text(encoding="utf-8"))
            if self.fork(tests, self.limits(tests)).passed:
                self.fine.add(tests)
            write_source(path, changed)
        return tests in self.fine

    def limits(self, tests: Sequence[str]) -> list[float]:
        return [ALLOWED + TIMES * float(self.known[test]["seconds"]) for test in tests]

    def chosen(self, module: str, tests: set[str], budget: float = BUDGET) -> list[str]:
        """Those that noticed most in the shortest time, as many as there is room for in the budget in seconds; of those
        that are new since changes were not noticed as many before them.
        """
        own = f"test_{Path(module).stem}.py::"

        def order(test: str) -> tuple[float, str]:
            worth = (1 + self.kills[test]) * (5 if own in test else 1)
            return (0.05 + self.known[test]["seconds"]) / worth, test

        new = set() if self.tried is None else tests - self.tried
        first, then = (within_budget(sorted(some, key=order), self.known, budget) for some in (new, tests - new))
        return [*first, *then]

    def by_new_process(self, module: str, source: str, changed: str) -> str:
        """For what is run while modules are imported: the tests that run anything of the module, or import it."""
        path = Path(module)
        if module not in self.cold:
            importing = tuple(f"{file}::" for file in self.plan[module])
            tests = {test for test, one in self.known.items() if module in one["lines"] or test.startswith(importing)}
            chosen = self.chosen(module, tests, IN_A_NEW_PROCESS)
            write_source(path, source)
            began = time.monotonic()
            status = self.new_process(chosen, ALLOWED + TIMES * BUDGET)
            if status != 0:
                say(f"{module}: its tests do not pass together in a new process ({status})")
                chosen = [test for test in chosen if self.new_process([test], ALLOWED + TIMES * BUDGET) == 0]
                began = time.monotonic()
                if self.new_process(chosen, ALLOWED + TIMES * BUDGET) != 0:
                    chosen = []
            self.cold[module] = chosen, time.monotonic() - began
            write_source(path, changed)
        chosen, seconds = self.cold[module]
        if not chosen:
            return "no test runs the module"
        status = self.new_process(chosen, ALLOWED + TIMES * seconds)
        if status == 0:
            return f"no test of {len(chosen)} fails in a new process"
        return "too late in a new process" if status is None else "noticed in a new process"

    def new_process(self, tests: Sequence[str], limit: float) -> int | None:
        """pytest's exit status; None where it was stopped at the limit in seconds."""
        names = WORK / f"tests{self.number}"
        names.write_text("\n".join(tests))
        folder = tempfile.mkdtemp(prefix="mutant", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
        with (WORK / f"output{self.number}").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"@{names}"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"PYTEST_DEBUG_TEMPROOT": folder},
            )  # fmt: skip
        try:
            return _waited_for(process, limit)
        finally:
            end_group(process.pid)
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _line_tracer(lines: set[int]) -> Callable[[FrameType, str, object], Any]:
    def local(frame: FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            lines.add(frame.f_lineno)
        return local

    return local


def needs_postgres(item: pytest.Item) -> bool:
    """Starting a server takes longer than a change may."""
    names = getattr(item, "fixturenames", ())
    return item.get_closest_marker("postgres") is not None or "postgres" in names


def _functions(files: set[str]) -> dict[Key, list[FunctionType]]:
    """Every function in memory whose code stands in one of these files."""
    found: dict[Key, list[FunctionType]] = defaultdict(list)
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename in files:
            found[_key(one.__code__)].append(one)
    return dict(found)


def _key(code: CodeType) -> Key:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType | None, CodeType | None]]:
    """The functions (and classes) of two versions of a module, side by side; None where one has no such function."""
    inner = [[one for one in code.co_consts if isinstance(one, CodeType)] for code in (old, new)]
    if len(inner[0]) != len(inner[1]):
        yield None, None
        return
    for before, after in zip(*inner, strict=True):
        yield before, after
        yield from _pairs(before, after)


def places_of(change: MutationSpec) -> set[int]:
    """The lines of the statement that is changed."""
    return statement_at(ast.parse((TREE / change.module_path).read_text(encoding="utf-8")), change.start_pos[0])


def statement_at(tree: ast.Module, line: int) -> set[int]:
    """The lines of the innermost statement at a line, without those of the statements in it."""
    places = range(line, line + 1)
    smallest = sys.maxsize
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            continue
        first, last = _header(node)
        if first <= line <= last and last - first < smallest:
            smallest, places = last - first, range(first, last + 1)
    return set(places)


def _header(node: ast.stmt | ast.ExceptHandler | ast.match_case) -> tuple[int, int]:
    if isinstance(node, ast.match_case):
        return node.pattern.lineno, node.body[0].lineno - 1
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    body = getattr(node, "body", None) or getattr(node, "cases", None)
    if body is None:
        return first, node.end_lineno or node.lineno
    start = body[0].pattern.lineno if isinstance(body[0], ast.match_case) else body[0].lineno
    return first, max(first, start - 1)


def _told(reading: int, clock: Clock, limits: Sequence[float]) -> Ran:
    """What the child writes, until it says that it is done, ends or has had more than its limit for a test."""
    data, n_ended, began = b"", 0, 0.0
    while not data.endswith(b'"end"\n'):
        ready, _, _ = select.select([reading], [], [], LOOK)
        is_late = clock.look() - began > limits[min(n_ended, len(limits) - 1)]
        more = os.read(reading, 1 << 16) if ready and not is_late else b""
        if is_late or (ready and not more):
            return Ran([json.loads(one) for one in data.splitlines() if one.endswith(b"}")], False, is_late)
        data += more
        if data.count(b"\n") > n_ended:
            n_ended, began = data.count(b"\n"), clock.seconds
    return Ran([json.loads(one) for one in data.splitlines()[:-1]], True, False)


def _asked_for(leader: int) -> tuple[float, bool]:
    """The processor's seconds that a process, its children and theirs have had, with those that ended and were waited
    for; and whether a thread of them runs, or would if the processor or the disk were free.
    """
    family = _family(leader)
    ticks = sum(int(value) for stat in family.values() for value in stat[11:15])
    threads = (_stat(file) for one in family for file in Path(f"/proc/{one}/task").glob("*/stat"))
    return ticks / os.sysconf("SC_CLK_TCK"), any(thread[0] in "RD" for thread in threads if thread)


def _family(leader: int) -> dict[int, list[str]]:
    """A process, its children and theirs, by number, and what the kernel says of each."""
    stats = {int(file.parent.name): stat for file in Path("/proc").glob("[0-9]*/stat") if (stat := _stat(file))}
    found = [leader]
    for one in found:
        found += [number for number, stat in stats.items() if int(stat[1]) == one]
    return {one: stats[one] for one in found if one in stats}


def _stat(file: Path) -> list[str]:
    """From the state on (proc(5)), what the kernel says of a process or a thread; nothing where it has ended."""
    try:
        return file.read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _waited_for(process: subprocess.Popen[bytes], limit: float) -> int | None:
    """Its exit status; None where it has had more than the limit in seconds."""
    clock = Clock(process.pid)
    while clock.look() <= limit:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK)
    return None


def end_group(leader: int) -> None:
    """A group of processes, and the children that have made groups of their own."""
    for one in _family(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def within_budget(tests: Sequence[str], known: dict[str, dict[str, Any]], budget: float) -> list[str]:
    chosen: list[str] = []
    seconds = 0.0
    for test in tests:
        seconds += known[test]["seconds"]
        if chosen and seconds > budget:
            break
        chosen.append(test)
    return chosen


def hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def stale(plan: dict[str, list[str]], tree: Path) -> list[str]:
    """The files of tests that are new or changed since their lines were noted."""
    found = []
    for file in sorted({file for files in plan.values() for file in files}):
        kept = measured_file(file)
        if not kept.is_file() or json.loads(kept.read_text())["source"] != hash_of(tree / file):
            found.append(file)
    return found


def measured_file(file: str) -> Path:
    return MEASURED / (file.replace("/", ".") + ".json")


def load_measured() -> tuple[dict[str, dict[str, Any]], Lines]:
    """Per test its seconds and lines, without those that take too long; and the lines that imports run."""
    known: dict[str, dict[str, Any]] = {}
    for file in sorted(MEASURED.glob("*.json")):
        known |= json.loads(file.read_text())["tests"]
    return {test: one for test, one in known.items() if one["seconds"] <= LONGEST}, json.loads(IMPORTED.read_text())


def in_order(item: WorkItem) -> tuple[str, str, int]:
    change = item.mutations[0]
    return str(change.module_path), change.operator_name, change.occurrence


def pending(session: WorkDB) -> list[WorkItem]:
    """What is to be tested, in an order that is the same each time and has no module at its end."""
    found = sorted(session.pending_work_items, key=in_order)
    random.Random(SEED).shuffle(found)
    return found


def write_source(path: Path, text: str) -> None:
    """Bytecode is found by size and time: two changes in one second must not have the same of both."""
    path.unlink()
    path.write_text(text, encoding="utf-8")
    moment = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
    os.utime(path, (moment, moment))


def changed_lines(source: str, changed: str) -> str:
    """The lines that differ, before and after, as they are printed."""
    before, after = source.splitlines(), changed.splitlines()
    if len(before) != len(after):
        rest = [line.strip() for line in before if line not in after]
        return f"without `{' '.join(rest)}`"
    pairs = [(a.strip(), b.strip()) for a, b in zip(before, after, strict=True) if a != b]
    return "; ".join(f"`{a}` → `{b}`" for a, b in pairs)


def say(*lines: str) -> None:
    with (WORK / "log").open("a") as log:
        log.write("".join(f"{time.strftime('%H:%M:%S')} {line}\n" for line in lines))


def end(_signal: int, _frame: FrameType | None) -> None:
    """What is begun is put back before a process that is told to end does so."""
    raise SystemExit(143)


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, end)
    what, number, workers, most = argv[0], *map(int, argv[1:])
    tree = WORK / f"tree{number}"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(TREE, tree, copy_function=os.link)  # the weights are large; a changed file is written anew
    os.chdir(tree)
    sys.path[:1] = [str(tree), str(tree / "tests")]  # in place of the folder of this file
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    worker = Worker(what, number, workers, most)
    for module in worker.plan:
        write_source(Path(module), (TREE / module).read_text(encoding="utf-8"))
    worker.take_share()
    if what == "measure":
        worker.trace()
    files = sorted({file for files in worker.plan.values() for file in files})
    if what == "measure" and IMPORTED.is_file():
        files = stale(worker.plan, tree)
    import made_test_data  # after the tree is on the path: its files are made once, not in every fork

    made_test_data.make_test_data = lambda folder: DATA
    return int(pytest.main(["-q", "-s", "-p", "no:cacheprovider", *files], plugins=[worker]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
