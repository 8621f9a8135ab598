"""`make mutants`: change the code at a drawn place, run the tests of that module, and see whether one notices.

Cosmic Ray makes the changes and keeps the session, so that a run that was stopped goes on where it was; this program
says what is changed, draws the sample and runs only the tests that belong to a module. All of it happens in a copy of
the committed tree. The figures go to `docs/mutants.md`.
"""

from __future__ import annotations

import argparse
import ast
import logging
import os
import platform
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkItem, WorkResult

log = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parent.parent
WORK = REPOSITORY / ".state" / "mutants"
TREE = WORK / "tree"
REPORT = REPOSITORY / "docs" / "mutants.md"
SEED = 11
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
SLOW = ("browser", "pages", "fitting", "deploy", "upgrade")
"""Folders of tests that start the application or TensorFlow: not run for a mutant."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=SAMPLE, help="how many changes are drawn")
    parser.add_argument("--most", type=int, help="stop after so many; the next run goes on")
    parser.add_argument("--fresh", action="store_true", help="draw anew from the tree as it is committed now")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)
    os.environ.pop("SECONDREAD_TEST_DATA", None)
    began = time.monotonic()
    prepare(args.sample, fresh=args.fresh)
    os.chdir(TREE)
    session = WorkDB(str(WORK / "session.sqlite"), WorkDB.Mode.open)
    try:
        run(session, args.most)
        REPORT.write_text(report(session, (time.monotonic() - began) / 60), encoding="utf-8")
    finally:
        session.close()
    return 0


def prepare(sample: int, *, fresh: bool) -> None:
    """The copy of the tree and the drawn sample; those of the session before, unless they are to be made anew."""
    if (WORK / "session.sqlite").is_file() and not fresh:
        return
    shutil.rmtree(WORK, ignore_errors=True)
    TREE.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=REPOSITORY, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(TREE)], input=archive.stdout, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    (WORK / "commit").write_text(commit.stdout.strip())
    os.chdir(TREE)
    items = [one for one in _all_work_items(sorted(modules()), {}) if is_of_interest(one.mutations[0])]
    items.sort(key=_order)
    (WORK / "population").write_text(str(len(items)))
    session = WorkDB(str(WORK / "session.sqlite"), WorkDB.Mode.create)
    session.add_work_items(random.Random(SEED).sample(items, min(sample, len(items))))
    session.close()


def _order(item: WorkItem) -> tuple[str, str, int]:
    change = item.mutations[0]
    return str(change.module_path), change.operator_name, change.occurrence


def modules() -> set[Path]:
    """The files that are changed, relative to the tree."""
    found = {path for pattern in MUTATED for path in Path().glob(pattern)}
    return {path for path in found if path.as_posix() not in GRAPHS and path.read_text(encoding="utf-8").strip()}


def is_of_interest(change: MutationSpec) -> bool:
    """Not in an annotation, which nothing runs, nor in what `@dataclass` is told about memory."""
    return not any(first <= change.start_pos < last for first, last in _ignored(change.module_path))


@cache
def _ignored(path: Path) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    return tuple(_place(node) for node in _ignored_nodes(ast.parse(path.read_text(encoding="utf-8"))))


def _ignored_nodes(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (one.annotation for one in ast.walk(node.args) if isinstance(one, ast.arg) and one.annotation)
            yield from [node.returns] if node.returns else []
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation
        elif isinstance(node, ast.ClassDef):
            yield from node.decorator_list


def _place(node: ast.expr) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)


def tests_of(module: Path) -> list[str]:
    """The test files that import a module, its namesake and then the smallest first; where none does, its folder's."""
    dotted = ".".join(module.with_suffix("").parts)
    found = [path for path in sorted(Path("tests").rglob("test_*.py")) if not set(SLOW) & set(path.parts)]
    own = [path for path in found if dotted in imports_of(path)]
    folder = Path("tests") / module.parent
    while not own and folder != Path("tests"):
        own = [path for path in found if folder in path.parents]
        folder = folder.parent
    own.sort(key=lambda path: (path.stem != f"test_{module.stem}", path.stat().st_size))
    return [str(path) for path in own]


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, by its dotted name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def run(session: WorkDB, most: int | None) -> None:
    """Test what is pending, `most` of it at the most. Ends where the tests of a module fail without a change."""
    seconds: dict[Path, float] = {}
    pending = sorted(session.pending_work_items, key=_order)
    random.Random(SEED).shuffle(pending)
    for done, item in enumerate(pending[:most]):
        module = item.mutations[0].module_path
        tests = tests_of(module)
        command = shlex.join([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k",
                              "not postgresql", *tests])  # fmt: skip
        if module not in seconds:
            began = time.monotonic()
            outcome, output = run_tests(command, 1800)
            if outcome is not TestOutcome.SURVIVED:
                raise SystemExit(f"The tests of {module} fail without a change: {' '.join(tests)}\n{output[-2000:]}")
            seconds[module] = time.monotonic() - began
        session.set_result(item.job_id, mutate_and_test(item.mutations, command, 30 + 3 * seconds[module]))
        log.info("%d of %d: %s", done + 1, len(pending), module)


def report(session: WorkDB, minutes: float) -> str:
    """`docs/mutants.md`: what was changed, how much of it was noticed, and what was not."""
    tested: dict[str, list[tuple[WorkItem, WorkResult]]] = defaultdict(list)
    for one, result in session.completed_work_items:
        tested[one.mutations[0].module_path.parent.as_posix()].append((one, result))
    everything = [pair for pairs in tested.values() for pair in pairs]
    lines = [
        "# Mutants",
        "",
        "Written by `make mutants` (`tests/mutants.py`). Do not edit it.",
        "",
        f"{datetime.now(UTC).date()}, commit {(WORK / 'commit').read_text()}, {platform.machine()} with "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; the last run took {minutes:.0f} minutes.",
        f"{len(everything)} of {session.num_work_items} changes were tested, which were drawn with seed {SEED} from "
        f"{(WORK / 'population').read_text()}.",
        "",
        "| folder | changes | noticed | share |",
        "|---|---|---|---|",
        *(_row(folder, pairs) for folder, pairs in sorted(tested.items())),
        _row("all", everything),
        "",
        "## Not noticed",
        "",
        *(_survivor(one) for one, result in everything if not result.is_killed),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, pairs: Sequence[tuple[WorkItem, WorkResult]]) -> str:
    killed = sum(result.is_killed for _, result in pairs)
    return f"| {name} | {len(pairs)} | {killed} | {100 * killed / max(1, len(pairs)):.0f} % |"


def _survivor(item: WorkItem) -> str:
    change = item.mutations[0]
    line = change.module_path.read_text(encoding="utf-8").splitlines()[change.start_pos[0] - 1].strip()
    return f"- `{change.module_path}` {change.start_pos[0]} {change.operator_name.removeprefix('core/')}: `{line}`"


if __name__ == "__main__":
    sys.exit(main())
