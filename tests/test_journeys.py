"""What is done most often passes few files; `make journeys` prints which."""

from __future__ import annotations

from pathlib import Path

import journeys
import pytest


@pytest.mark.parametrize("name", journeys.JOURNEYS)
def test_a_journey_passes_few_files(name: str, tmp_path: Path) -> None:
    found = journeys.JOURNEYS[name](tmp_path)
    assert len(found) <= journeys.most(name), sorted(found)


def test_what_runs_in_a_child_is_counted_and_what_is_only_imported_is_not() -> None:
    import subprocess
    import sys

    code = "import core.evaluation.statistics.agreement; from core.models.live import Live; import core.demo.site"
    code += "; from core.imaging.hanging import hang; hang([])"
    with journeys.noted() as found:
        subprocess.run([sys.executable, "-c", code], cwd=journeys.ROOT, check=True)
    assert found == {"core/imaging/hanging.py"}
