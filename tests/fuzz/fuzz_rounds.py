"""Every target fuzzed, guided by coverage: `make fuzz` runs `python tests/fuzz/fuzz_rounds.py --folder DIR`.

Whoever runs it again with the same folder goes on where it stopped: the corpus of inputs that reached something new,
and the figures, lie there. Each target is a process of its own, with limits on memory and time, so that a fault ends no
other target. Figures stand last. The status is 1 where a fault was found; the input that shows it lies in
`faults/`, and is tried again by `--again FILE`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import re
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]

FAULTS_MOST = 5
"""Of one target: it is not run on after so many, which are mended first."""
MEMORY_MIB = 3072
INPUT_SECONDS = 60
"""Wall time of one input after which libFuzzer ends the process; `targets.MOST_SECONDS` is of the processor."""
UNGUIDED = ("child",)
"""What works in other processes, where no coverage can be seen; its inputs are drawn at random from the seeds."""
INSTRUMENTED = ["core", "train"]
LIBRARIES = (
    "pandas",
    "scipy.special",
    "scipy.ndimage",
    "pydicom",
    "PIL.Image",
    "sqlalchemy",
    "pydantic",
    "sklearn.metrics",
)
"""Imported before: whose coverage would say nothing of our parsers and take minutes to begin."""


@dataclass
class Figures:
    """Of one target. found: inputs that reached something new. coverage: places in the code that were reached."""

    runs: int = 0
    found: int = 0
    coverage: int = 0
    seconds: float = 0.0
    starts: int = 0
    faults: list[str] = field(default_factory=list)


def run(folder: Path, *, names: list[str], share: float, seed: int, jobs: int = 1) -> dict[str, Figures]:
    """All targets (or those named) until each has had its share of runs, so many targets at the same time."""
    from targets import all_targets

    targets = all_targets()
    path = folder / "figures.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    figures = {name: Figures(**known.get(name, {})) for name in targets}
    (folder / "faults").mkdir(exist_ok=True)
    lock = threading.Lock()

    def one_target(name: str) -> None:
        wanted, own = max(1, round(share * targets[name].runs)), figures[name]
        _plant(folder / "corpus" / name, targets[name].seeds)
        _take_over(folder / f"{name}.count", own)  # of a run that was killed
        while own.runs < wanted and len(own.faults) < FAULTS_MOST:
            _one_process(folder, name, own, wanted - own.runs, seed + own.starts)
            with lock:
                path.write_text(json.dumps({one: asdict(values) for one, values in figures.items()}))
                sys.stdout.write(f"{name}: {own.runs} of {wanted} runs, {len(own.faults)} faults\n")
                sys.stdout.flush()

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one_target, names or list(targets)))
    return figures


def _plant(corpus: Path, seeds: Callable[[], Sequence[bytes]]) -> None:
    if corpus.is_dir():
        return
    corpus.mkdir(parents=True)
    for number, content in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(content)


def _one_process(folder: Path, name: str, own: Figures, runs: int, seed: int) -> None:
    told = folder / f"{name}.told"
    told.unlink(missing_ok=True)
    began, own.starts = time.monotonic(), own.starts + 1
    with (folder / f"{name}-{own.starts}.log").open("wb") as log:
        options = ["--folder", str(folder), "--seed", str(seed), "--alone", name, "--runs", str(runs)]
        status = subprocess.run(
            [sys.executable, __file__, *options], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    _take_over(folder / f"{name}.count", own)
    own.seconds += time.monotonic() - began
    own.found = sum(not path.name.startswith("seed-") for path in (folder / "corpus" / name).iterdir())
    if reached := re.findall(r" cov: (\d+)", (folder / f"{name}-{own.starts}.log").read_text(errors="replace")):
        own.coverage = max(own.coverage, int(reached[-1]))
    own.faults += [line for line in (told.read_text().splitlines() if told.is_file() else []) if line not in own.faults]
    if status != 0:
        own.faults.append(f"{name}: its process ended with status {status} ({name}-{own.starts}.log)")


def _take_over(count: Path, own: Figures) -> None:
    """Adds the runs that a process has counted, once."""
    if count.is_file():
        own.runs += int(count.read_text() or 0)
        count.unlink()


class Tried:
    """Tries inputs in this process, counts them, and writes each kind of fault down once."""

    def __init__(self, folder: Path, name: str, runs: int) -> None:
        from targets import all_targets

        self.target = all_targets()[name]
        self.folder, self.runs, self.n = folder, runs, 0
        self.seen: set[str] = set()

    def try_one(self, data: bytes) -> None:
        from targets import judged

        try:
            judged(self.target, data)
        except Exception as error:
            self._tell(error, data)
        self.n += 1
        if self.n % 100 == 0 or self.n >= self.runs:
            (self.folder / f"{self.target.name}.count").write_text(str(min(self.n, self.runs)))

    def _tell(self, error: Exception, data: bytes) -> None:
        kind = f"{self.target.name}: {type(error).__name__} {_place_of(error)}"
        if kind in self.seen:
            return
        self.seen.add(kind)
        number = f"{zlib.crc32(data):08x}"
        (self.folder / "faults" / f"{self.target.name}-{number}").write_bytes(data)
        (self.folder / "faults" / f"{self.target.name}-{number}.txt").write_text(
            "".join(traceback.format_exception(error)), errors="replace"
        )
        with (self.folder / f"{self.target.name}.told").open("a") as told:
            told.write(f"{kind} ({self.target.name}-{number})\n")


def _place_of(error: Exception) -> str:
    """The innermost line of ours: faults of one place are one fault."""
    found = "?"
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and "site-packages" not in path.parts and HERE not in path.parents:
            found = f"{path.relative_to(ROOT)}:{frame.lineno}"
    return f"{found} {str(error)[:60]!r}" if found == "?" else found


def _limited() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2 * MEMORY_MIB << 20, 2 * MEMORY_MIB << 20))


def _try_at_random(one: Tried, seed: int) -> None:
    from made_hostile_files import mutated

    draw = random.Random(seed)
    seeds = list(one.target.seeds())
    for _ in range(one.runs):
        one.try_one(mutated(draw.choice(seeds), draw))


def _try_guided(folder: Path, name: str, runs: int, seed: int) -> None:
    import atheris

    for library in LIBRARIES:
        importlib.import_module(library)
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        one = Tried(folder, name, runs)
    _limited()
    options = [
        f"-runs={runs}", f"-seed={seed or 1}", f"-max_len={one.target.most_bytes}", f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}", f"-artifact_prefix={folder}/faults/{name}-", "-print_final_stats=1",
        str(folder / "corpus" / name),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], one.try_one, internal_libfuzzer=True)
    atheris.Fuzz()


def table(figures: dict[str, Figures]) -> Iterator[str]:
    """Lines, the total last."""
    yield f"{'target':<14}{'runs':>10}{'new inputs':>12}{'coverage':>10}{'seconds':>9}{'faults':>8}"
    for name, one in figures.items():
        reached = str(one.coverage) if name not in UNGUIDED else "-"
        yield f"{name:<14}{one.runs:>10}{one.found:>12}{reached:>10}{one.seconds:>9.0f}{len(one.faults):>8}"
    total: dict[str, Any] = {key: sum(getattr(one, key) for one in figures.values()) for key in ("runs", "seconds")}
    faults = sum(len(one.faults) for one in figures.values())
    found = sum(one.found for one in figures.values())
    yield f"{'all':<14}{total['runs']:>10}{found:>12}{'':>10}{total['seconds']:>9.0f}{faults:>8}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="corpus and figures; the same one goes on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the runs of each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets that run at the same time")
    parser.add_argument("--target", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--again", type=Path, help="one file of faults/, named after its target")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if args.again:
        from targets import all_targets, judged

        is_taken = judged(all_targets()[args.again.name.rpartition("-")[0]], args.again.read_bytes())
        sys.stdout.write(f"{'taken' if is_taken else 'refused'}\n")
        return 0
    if args.alone in UNGUIDED:
        _try_at_random(Tried(folder, args.alone, args.runs), args.seed)
        return 0
    if args.alone:
        _try_guided(folder, args.alone, args.runs, args.seed)
        return 0
    figures = run(folder, names=args.target, share=args.share, seed=args.seed, jobs=args.jobs)
    faults = [fault for one in figures.values() for fault in one.faults]
    sys.stdout.write("\n".join([*faults, *table(figures)]) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
