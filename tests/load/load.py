"""Fifty readers at one server, as browsers speak: figures, what of them is as it should be, and docs/benchmarks.md.

`make load` runs it: `python tests/load/load.py --write`. It makes a site of its own in a temporary folder, starts the
server over it as `make run` does, and needs nothing else. Each aim is a ratio of two figures of the same run. The
status is 1 where a client met an error; an aim that was missed is printed as missed: a busy machine misses it, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

import numpy as np  # noqa: E402
from load_site import PAGES, Figures, LoadSite, Reader, at_once, look_around  # noqa: E402
from page_socket import PageSocket  # noqa: E402
from running_app import RunningApp, running_app  # noqa: E402

from core.commands.bench_report import load_by_core, write_section  # noqa: E402

BARE = 'import streamlit as st\n\nst.title("Hello")\nst.text_input("Name")\n'
THINK_SECONDS = 8.0
"""Between two pages of one reader, on average: fifty of them ask for six pages a second."""


def main() -> int:
    """Run the parts, print their figures, and write them where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="of readers who only look around")
    parser.add_argument("--reads", type=int, default=200, help="second reads in all, over which memory is followed")
    parser.add_argument("--ahead-seconds", type=float, default=30.0, help="how long a study is open before it is read")
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="in place of all")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    args = parser.parse_args()
    wrong: list[str] = []
    for name in args.part or PARTS:
        title, part = PARTS[name]
        load_before = load_by_core()
        with tempfile.TemporaryDirectory() as folder:
            figures = Figures()
            lines = part(Path(folder), args, figures)
        lines += [f"  wrong: {sentence}" for sentence in figures.wrong]
        sys.stdout.write("\n".join([title, *lines, ""]) + "\n")
        sys.stdout.flush()
        wrong += figures.wrong
        if args.write:
            write_section(title, lines, load_before=load_before)
    return int(bool(wrong))


def start(folder: Path, args: argparse.Namespace, figures: Figures) -> list[str]:
    """From `streamlit run` to the first page that is drawn, beside a bare Streamlit app; then the first answers."""
    bare = folder / "bare.py"
    bare.write_text(BARE, encoding="utf-8")
    site = LoadSite(folder, n_people=1)
    quick, patient = site.studies("ultrasound", 2)
    site.db.close()
    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(3):
        for name, script in (("bare", str(bare)), ("ours", "app.py")):
            began = time.perf_counter()
            with running_app(folder / "state", script=script, serving="process", worker=1, models_at_start=1) as app:
                with PageSocket(app.url, {}) as page:
                    page.open("")
                seconds[name].append(time.perf_counter() - began)
    with running_app(folder / "state", serving="process", worker=1, models_at_start=1) as app:
        began = time.monotonic()
        time.sleep(30)
        with Reader(app.url, site.tokens[0]) as reader:
            reader.first_impression(quick, "ultrasound")
            first = reader.second_read()
        up_seconds = time.monotonic() - began
        with Reader(app.url, site.tokens[0]) as reader:
            reader.open("read", f"study={patient}")
            time.sleep(args.ahead_seconds)
            reader.first_impression(patient, "ultrasound")
            ahead = reader.second_read()
    base, ours = (float(np.median(seconds[name])) for name in ("bare", "ours"))
    return [
        f"from the command to the first page, a bare Streamlit app   {base:6.2f} s   x  1.00",
        f"the same, SecondRead                                       {ours:6.2f} s   x {ours / base:5.2f}   "
        f"{_aim(ours / base, 2.5, 'x')}",
        f"first second read of an ultrasound image, {up_seconds:3.0f} s after that {first:6.2f} s             "
        f"{_aim(first, 3.0, ' s')}",
        f"second read of a study that was open for {args.ahead_seconds:2.0f} s            {ahead:6.2f} s             "
        f"{_aim(ahead, 1.0, ' s')}",
    ]


def pages(folder: Path, args: argparse.Namespace, figures: Figures) -> list[str]:
    """Pages that ask no model: alone, and with fifty readers who click every few seconds."""
    site = LoadSite(folder, n_people=args.clients)
    site.studies("ultrasound", 12)
    with running_app(folder / "state", serving="process", compute_ahead=0, models_at_start=1) as app:
        time.sleep(15)  # libraries and models are loaded
        _visit(app, site.tokens[0], figures, "warm")
        for _ in range(8):
            _visit(app, site.tokens[0], figures, "alone")
        looking = [
            partial(
                look_around, app.url, token, figures, "together",
                seconds=args.seconds, think_seconds=THINK_SECONDS, seed=number,
            )
            for number, token in enumerate(site.tokens)
        ]  # fmt: skip
        at_once(looking, figures)
    site.db.close()
    lines = [f"{'':<12}{'alone':>10}{'together':>12}{'p95 together':>14}{'p95 by alone':>14}{'pages':>8}"]
    for page in PAGES:
        alone, together = (float(np.median(figures.seconds[f"{what} {page}"])) for what in ("alone", "together"))
        p95, n = figures.percentile(f"together {page}", 95), len(figures.seconds[f"together {page}"])
        ratio = p95 / alone
        lines.append(
            f"{page:<12}{1000 * alone:7.0f} ms{1000 * together:9.0f} ms{1000 * p95:11.0f} ms{ratio:12.2f} x{n:8}   "
            f"{_aim(ratio, 3.0, 'x')}"
        )
    return lines


def reads(folder: Path, args: argparse.Namespace, figures: Figures) -> list[str]:
    """Everybody asks for a second read at one moment; then again and again, while memory is followed."""
    site = LoadSite(folder, n_people=args.clients)
    with running_app(folder / "state", serving="process", compute_ahead=0, models_at_start=1) as app:
        time.sleep(15)
        _read_all(app, site, figures, "alone", 1)
        _read_all(app, site, figures, "ultrasound", args.clients)
        beside = _quick_beside_slow(app, site, figures)
        n_read, memory = 1 + args.clients, [_memory_mib(app.pid)]
        while n_read < args.reads:
            _read_all(app, site, figures, "more", n := min(args.clients, args.reads - n_read))
            n_read += n
            memory.append(_memory_mib(app.pid))
    site.db.close()
    ratio = figures.longest_by_mean("ultrasound")
    alone, mean = figures.seconds["alone"][-1], float(np.mean(figures.seconds["ultrasound"]))
    lines = [
        f"second read of one ultrasound image, alone                 {alone:6.2f} s",
        f"the same, {args.clients} readers at one moment, mean                 {mean:6.2f} s   x {mean / alone:5.2f}",
        f"the longest wait by the mean                               {ratio:6.2f} x   {_aim(ratio, 2.0, 'x')}",
        *beside,
    ]
    if len(memory) > 1:
        grown = memory[-1] / memory[0]
        lines.append(
            f"memory of server and models after {1 + args.clients} reads {memory[0]:5.0f} MiB, "
            f"after {n_read} {memory[-1]:5.0f} MiB   x {grown:5.2f}   {_aim(grown, 1.1, 'x')}"
        )
    return lines


def _quick_beside_slow(app: RunningApp, site: LoadSite, figures: Figures) -> list[str]:
    """An ultrasound image asked about while exams of four large mammograms are being read, against alone."""
    _read_all(app, site, figures, "exam alone", 1, kind="exam")
    _read_all(app, site, figures, "quick alone", 2)
    exams, quick = site.studies("exam", 3), site.studies("ultrasound", 2)
    with Reader(app.url, site.tokens[4]) as reader, Reader(app.url, site.tokens[5]) as other:
        slow = [Reader(app.url, token) for token in site.tokens[1:4]]
        for one, study in zip(slow, exams, strict=True):
            one.first_impression(study, "exam")
        for one, study in zip((reader, other), quick, strict=True):
            one.first_impression(study, "ultrasound")

        def read(one: Reader, what: str, wait: float) -> None:
            time.sleep(wait)
            figures.seconds[what].append(one.second_read())

        at_once(
            [partial(read, one, "exam", 0.0) for one in slow]
            + [partial(read, one, "quick beside", 0.3) for one in (reader, other)],
            figures,
        )
        for one in slow:
            one.page.socket.close()
    exam, alone = figures.seconds["exam alone"][-1], figures.seconds["quick alone"][-1]
    longest_exam, longest = max(figures.seconds["exam"]), max(figures.seconds["quick beside"])
    return [
        f"second read of an exam of four 16-bit mammograms, alone    {exam:6.2f} s",
        f"an ultrasound image, alone                                 {alone:6.2f} s",
        f"three such exams and two ultrasound images: longest exam   {longest_exam:6.2f} s",
        f"  the longer of the ultrasound images                      {longest:6.2f} s   x {longest / alone:5.2f}   "
        f"{_aim(longest / longest_exam, 1.0, 'x the exam')}",
    ]


def _visit(app: RunningApp, token: str, figures: Figures, what: str) -> None:
    with Reader(app.url, token) as reader:
        for page in PAGES:
            figures.seconds[f"{what} {page}"].append(reader.open(page))


def _read_all(
    app: RunningApp, site: LoadSite, figures: Figures, what: str, n: int, *, kind: str = "ultrasound"
) -> None:
    """So many people read a study each; their clicks for the second read come at one moment."""
    readers = [Reader(app.url, token) for token in site.tokens[:n]]
    try:
        work = zip(readers, site.studies(kind, n), strict=True)
        at_once([partial(one.first_impression, study, kind) for one, study in work], figures)
        at_once([partial(_second_read, one, figures, what) for one in readers], figures)
    finally:
        for one in readers:
            one.page.socket.close()


def _second_read(one: Reader, figures: Figures, what: str) -> None:
    figures.seconds[what].append(one.second_read())


def _memory_mib(pid: int) -> float:
    """Resident memory of a process and of all that it started, MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    children = [child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return own / 1024 + sum(_memory_mib(int(child)) for child in children)


def _aim(value: float, most: float, unit: str) -> str:
    return f"aim {most:g}{unit}: {'met' if value <= most else 'missed'}"


Part = Callable[[Path, argparse.Namespace, Figures], list[str]]
PARTS: dict[str, tuple[str, Part]] = {
    "start": ("Start and first answer", start),
    "pages": ("Pages without a model, with many readers", pages),
    "reads": ("Second reads, with many readers", reads),
}

if __name__ == "__main__":
    sys.exit(main())
