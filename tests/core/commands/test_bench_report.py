"""docs/benchmarks.md is written by the commands that measure: a section each, the others as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.commands import bench_report
from core.commands.bench_report import BUSY, write_section


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("core.models.inference.processor_text", lambda: "A processor, 2 cores")
    return tmp_path / "benchmarks.md"


def test_a_run_replaces_its_own_section_and_no_other(path: Path) -> None:
    write_section("First", ["one x 1.00"], load_before=0.1, path=path)
    write_section("Second (24 scorers)", ["two x 2.00"], load_before=None, path=path)
    before = path.read_text()
    assert before.startswith(bench_report.HEAD) and before.index("## First") < before.index("## Second (24 scorers)")
    assert before.count("A processor, 2 cores.") == 2 and "doubtful" not in before

    write_section("First", ["one x 3.00"], load_before=BUSY, path=path)
    after = path.read_text()
    assert "one x 1.00" not in after and after.count("## First") == 1 and "doubtful" not in after
    assert after[after.index("## Second") :] == before[before.index("## Second") :]

    write_section("Second (24 scorers)", ["two x 4.00"], load_before=BUSY + 0.1, path=path)
    again = path.read_text()
    assert again[: again.index("## Second")] == after[: after.index("## Second")]
    assert again.endswith("two x 4.00\n```\n") and "doubtful" in again


def test_the_machines_load_is_by_core() -> None:
    found = bench_report.load_by_core()
    assert found is None or found >= 0
