"""`make mutants`: change the code at a drawn place, run the tests that run that line, and see whether one notices.

Cosmic Ray makes the changes and keeps the session, so that a run that was stopped goes on where it was; this program
says what is changed, draws the sample and writes the figures to `docs/mutants.md`. The tests are run by two processes
of `tests/mutant_worker.py`, each in its own copy of the committed tree.
"""

from __future__ import annotations

import argparse
import ast
import json
import logging
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path

from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, WorkItem, WorkResult
from mutant_worker import (
    ALLOWED,
    DATA,
    MEASURED,
    PLAN,
    REPOSITORY,
    SEED,
    SESSION,
    TIMES,
    TREE,
    TRIED,
    WORK,
    end,
    in_order,
    load_measured,
    stale,
)

log = logging.getLogger(__name__)

REPORT = REPOSITORY / "docs" / "mutants.md"
SAMPLE = 1000
MUTATED = (
    "core/evaluation/**/*.py",
    "core/models/*.py",
    "core/records/people/*.py",
    "core/records/audit/*.py",
    "core/records/releases/*.py",
    "train/queue/*.py",
    "train/datasets/split.py",
    "train/datasets/leakage.py",
)
GRAPHS = ("core/models/inference.py", "core/models/explain.py")
SLOW = (
    "browser",
    "pages",
    "fitting",
    "deploy",
    "upgrade",
    "attack",
    "fuzz",
    "test_architectures.py",
    "test_shipped_models.py",
)
"""Tests that start the application or TensorFlow, or draw their input at random: not run for a change."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=SAMPLE, help="how many changes are drawn")
    parser.add_argument("--most", type=int, help="stop after so many; the next run goes on")
    parser.add_argument("--workers", type=int, default=2, help="how many processes test at the same time")
    parser.add_argument("--fresh", action="store_true", help="draw anew from the tree as it is committed now")
    parser.add_argument("--again", action="store_true", help="with the tests as they are committed now, run those "
                        "changes again that were not noticed and have no reason to stay")  # fmt: skip
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.pop("SECONDREAD_TEST_DATA", None)
    signal.signal(signal.SIGTERM, end)
    began = time.monotonic()
    if args.fresh or not SESSION.is_file():
        prepare(args.sample)
    elif args.again:
        take_the_tests_of_now()
    try:
        if stale(json.loads(PLAN.read_text()), TREE):
            work("measure", args.workers, sys.maxsize)
        work("test", args.workers, sys.maxsize if args.most is None else args.most)
    finally:
        session = WorkDB(str(SESSION), WorkDB.Mode.open)
        REPORT.write_text(report(session, (time.monotonic() - began) / 60), encoding="utf-8")
        session.close()
    return 0


def prepare(sample: int) -> None:
    """The copy of the tree, the drawn sample and which tests are looked at for a module."""
    shutil.rmtree(WORK, ignore_errors=True)
    MEASURED.mkdir(parents=True)
    take_tree(TREE)
    program = f"from made_test_data import make_test_data as make; from pathlib import Path; make(Path({str(DATA)!r}))"
    path = os.pathsep.join([str(TREE), str(TREE / "tests")])
    subprocess.run([sys.executable, "-c", program], cwd=TREE, env=os.environ | {"PYTHONPATH": path}, check=True)
    os.chdir(TREE)
    PLAN.write_text(json.dumps({str(module): tests_of(module) for module in sorted(modules())}))
    draw(sample)


def draw(sample: int) -> None:
    """The session's changes: those of all files in an order by chance, the first that are of interest."""
    items = [one for one in _all_work_items(sorted(modules()), {}) if is_of_interest(one.mutations[0])]
    (WORK / "population").write_text(str(len(items)))
    items.sort(key=in_order)
    random.Random(SEED).shuffle(items)
    session = WorkDB(str(SESSION), WorkDB.Mode.create)
    session.add_work_items(list(islice((one for one in items if is_python(one.mutations[0])), sample)))
    session.close()


def take_tree(folder: Path) -> None:
    """What is committed, into a new folder."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=REPOSITORY, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    (WORK / "commit").write_text(commit.stdout.strip())


def take_the_tests_of_now() -> None:
    """The committed tree in place of the one before, where the changed modules are the same; the changes that were not
    noticed are tested again, the new tests first, where no reason says that they may stay.
    """
    newer = WORK / "newer"
    shutil.rmtree(newer, ignore_errors=True)
    take_tree(newer)
    for module in json.loads(PLAN.read_text()):
        if (newer / module).read_bytes() != (TREE / module).read_bytes():
            raise SystemExit(f"{module} is no longer what it was when the sample was drawn: start anew with --fresh.")
    TRIED.write_text(json.dumps(sorted(load_measured()[0])))
    shutil.rmtree(TREE)
    newer.rename(TREE)
    os.chdir(TREE)
    PLAN.write_text(json.dumps({str(module): tests_of(module) for module in sorted(modules())}))
    session = WorkDB(str(SESSION), WorkDB.Mode.open)
    reasons = reasons_given(REPORT.read_text(encoding="utf-8"))
    kept = [
        (item, result)
        for item, result in session.completed_work_items
        if result.is_killed or _change(item, result) in reasons
    ]
    items = session.work_items
    session.clear()
    session.add_work_items(items)
    for item, result in kept:
        session.set_result(item.job_id, result)
    session.close()


def work(what: str, count: int, most: int) -> None:
    """Start the workers and wait; the log of what they do is `.state/mutants/log`."""
    program = Path(__file__).with_name("mutant_worker.py")
    workers = []
    for number in range(count):
        with (WORK / f"worker{number}").open("w") as output:
            command = [sys.executable, str(program), what, str(number), str(count), str(most)]
            workers.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
    try:
        failed = [number for number, worker in enumerate(workers) if worker.wait() != 0]
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    if failed:
        raise SystemExit((WORK / f"worker{failed[0]}").read_text()[-3000:])


def modules() -> set[Path]:
    """The files that are changed, relative to the tree."""
    found = {path for pattern in MUTATED for path in Path().glob(pattern)}
    return {path for path in found if path.as_posix() not in GRAPHS and path.read_text(encoding="utf-8").strip()}


def is_of_interest(change: MutationSpec) -> bool:
    """Not in an annotation, which nothing runs, nor in what `@dataclass` or `@lru_cache` is told about memory, nor the
    star after which arguments have names, which Cosmic Ray takes for a multiplication.
    """
    row, column = change.end_pos
    if "BinaryOperator" in change.operator_name and _rows(change.module_path)[row - 1][column : column + 1] == ",":
        return False
    return not any(first <= change.start_pos < last for first, last in _ignored(change.module_path))


def is_python(change: MutationSpec) -> bool:
    """Whether what comes of it can be compiled: a star before an argument, too, is taken for a multiplication."""
    changed = mutate_code(
        change.module_path.read_text(encoding="utf-8"), get_operator(change.operator_name)(), change.occurrence
    )
    try:
        compile(changed or "", str(change.module_path), "exec")
    except SyntaxError:
        return False
    return changed is not None


@cache
def _rows(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@cache
def _ignored(path: Path) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    return tuple(_place(node) for node in _ignored_nodes(ast.parse(path.read_text(encoding="utf-8"))))


def _ignored_nodes(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (one.annotation for one in ast.walk(node.args) if isinstance(one, ast.arg) and one.annotation)
            yield from [node.returns] if node.returns else []
            yield from (one for one in node.decorator_list if "lru_cache" in ast.unparse(one))
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation
        elif isinstance(node, ast.ClassDef):
            yield from node.decorator_list


def _place(node: ast.expr) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)


def tests_of(module: Path) -> list[str]:
    """The test files that import a module, its namesake and then the smallest first; where none does, its folder's."""
    dotted = ".".join(module.with_suffix("").parts)
    found = [path for path in sorted(Path("tests").rglob("test_*.py")) if not is_slow(path)]
    own = [path for path in found if dotted in imports_of(path)]
    folder = Path("tests") / module.parent
    while not own and folder != Path("tests"):
        own = [path for path in found if folder in path.parents]
        folder = folder.parent
    own.sort(key=lambda path: (path.stem != f"test_{module.stem}", path.stat().st_size))
    return [str(path) for path in own]


def is_slow(path: Path) -> bool:
    """Starts a cluster, or is one of SLOW."""
    return bool(set(SLOW) & set(path.parts)) or "ray_cluster" in imports_of(path)


@cache
def imports_of(path: Path) -> set[str]:
    """Every module a file imports, by its dotted name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def report(session: WorkDB, minutes: float) -> str:
    """`docs/mutants.md`: what was changed, how much of it was noticed, and what not, with the reasons given there.
    Those of changes that are not tested yet are kept for them.
    """
    tested: dict[str, list[tuple[WorkItem, WorkResult]]] = defaultdict(list)
    for one, result in sorted(session.completed_work_items, key=lambda pair: in_order(pair[0])):
        tested[one.mutations[0].module_path.parent.as_posix()].append((one, result))
    everything = [pair for pairs in tested.values() for pair in pairs]
    reasons = reasons_given(REPORT.read_text(encoding="utf-8")) if REPORT.is_file() else {}
    lines = [
        "# Mutants",
        "",
        "Written by `make mutants` (`tests/mutants.py`). Only the last column of the lists of changes is written by",
        "hand and kept: why a change that no test noticed may stay.",
        "",
        f"{datetime.now(UTC).date()}, commit {(WORK / 'commit').read_text()}, {platform.machine()} with "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; the last run took {minutes:.0f} minutes.",
        f"{len(everything)} of {session.num_work_items} changes were tested, which were drawn with seed {SEED} from "
        f"{(WORK / 'population').read_text()}.",
        "A change counts as noticed where a test fails that passes without it in the same order of tests, or where a",
        f"test takes {TIMES:.0f} times as long as without it and {ALLOWED:.0f} seconds more (too late). The time in",
        "which it only waits for a busy processor or disk does not count.",
        "`make mutants` goes on with those that are left; `.venv/bin/python tests/mutants.py --again` takes the tests",
        "that are committed by then, and tests those again that were not noticed and have no reason to stay.",
        "",
        "| folder | changes | noticed | of these too late | share |",
        "|---|---|---|---|---|",
        *(_row(folder, pairs) for folder, pairs in sorted(tested.items())),
        _row("all", everything),
        "",
        "## Not noticed",
        "",
        "| where | change | tests | why it may stay |",
        "|---|---|---|---|",
        *(_survivor(one, result, reasons) for one, result in everything if not result.is_killed),
        *_kept(reasons, {_change(one, result) for one, result in everything}),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, pairs: Sequence[tuple[WorkItem, WorkResult]]) -> str:
    killed = sum(result.is_killed for _, result in pairs)
    late = sum((result.output or "").startswith("too late") for _, result in pairs)
    return f"| {name} | {len(pairs)} | {killed} | {late} | {100 * killed / max(1, len(pairs)):.1f} % |"


def _survivor(item: WorkItem, result: WorkResult, reasons: dict[tuple[str, str], str]) -> str:
    module, what = _change(item, result)
    reason = reasons.get((module, what), "")
    return f"| `{module}` {item.mutations[0].start_pos[0]} | {what} | {result.output} | {reason} |"


def _change(item: WorkItem, result: WorkResult) -> tuple[str, str]:
    """What a reason is found by: the file, and the change as it is printed."""
    return str(item.mutations[0].module_path), (result.diff or "").replace("|", "\\|")


def _kept(reasons: dict[tuple[str, str], str], tested: set[tuple[str, str]]) -> list[str]:
    """The reasons of changes that have not been tested, as long as the line that they change stands in its file."""
    rows = [
        f"| `{module}` | {what} | not tested | {reason} |"
        for (module, what), reason in reasons.items()
        if (module, what) not in tested and _stands(module, what)
    ]
    if not rows:
        return []
    head = ["## Reasons kept", "", "Of changes that are not tested yet, or are not of this sample.", ""]
    return ["", *head, "| where | change | tests | why it may stay |", "|---|---|---|---|", *rows]


def _stands(module: str, what: str) -> bool:
    file = REPOSITORY / module
    if not file.is_file():
        return False
    lines = {line.strip() for line in file.read_text(encoding="utf-8").splitlines()}
    before = what.removeprefix("`").partition("` → `")[0].replace("\\|", "|")
    return what.startswith("without ") or before in lines


def reasons_given(text: str) -> dict[tuple[str, str], str]:
    """By file and change, what stands in the last column."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) == 6 and (where := re.fullmatch(r"`(.+?)`(?: \d+)?", cells[1])):
            found[where.group(1), cells[2]] = cells[4]
    return {key: reason for key, reason in found.items() if reason}


if __name__ == "__main__":
    sys.exit(main())
