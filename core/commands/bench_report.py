"""Ways measured in turn, and docs/benchmarks.md: a section for each measurement, with the machine and the date."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from core.files import write_whole
from core.settings import REPOSITORY

BENCHMARKS = REPOSITORY / "docs" / "benchmarks.md"
BUSY = 0.75
"""Load average by core, from others before a run, above which its figures are marked as doubtful."""
HEAD = """# Benchmarks

Written by `make bench` and `make load`; a run replaces its own sections, so do not edit them. What is compared was
measured in turn within one run on one machine: read the ratios, not the milliseconds.
"""


def write_section(title: str, lines: Sequence[str], *, load_before: float | None, path: Path = BENCHMARKS) -> None:
    """Put the lines of a measurement under this heading, in place of what stood there.

    load_before: the machine's load average by core as it was before the run, None where the system does not say. A
    machine that others used is named as such.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else HEAD
    section = "\n".join([f"## {title}", "", *_circumstances(load_before), "", "```", *lines, "```", ""])
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    before, after = (text[: found.start()], text[found.end() :]) if found else (f"{text.rstrip()}\n\n", "")
    text = f"{before}{section}\n{after}"
    write_whole(path, (text.rstrip() + "\n").encode("utf-8"))


def load_by_core() -> float | None:
    """How many processes want the processor now (the minute's average), by core; None where the system does not say."""
    return os.getloadavg()[0] / _n_cores() if hasattr(os, "getloadavg") else None


def _circumstances(load_before: float | None) -> list[str]:
    from core.models.inference import processor_text

    lines = [f"{datetime.now(UTC):%Y-%m-%d}, {processor_text()}."]
    if load_before is not None and load_before > BUSY:
        lines.append(
            f"Others used this machine meanwhile ({load_before:.1f} processes a core before the run): these figures "
            "are doubtful, repeat the run."
        )
    return lines


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
