"""Collecting the tests is quick: what takes seconds to import is imported inside the test that needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.settings import REPOSITORY

if TYPE_CHECKING:
    from conftest import Collected

PLUGIN = """
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name in {heavy}:
            raise ImportError(f"{{name}} is imported while tests are collected")

sys.meta_path.insert(0, Refusal())
"""


def test_no_test_file_loads_tensorflow_or_streamlit_before_a_test_runs(collected: Collected, tmp_path: Path) -> None:
    """This process has collected most files, and noted what they loaded; the others, or all of them where something was
    loaded, are collected in a process in which the import fails and names its file.
    """
    files = set(REPOSITORY.glob("tests/**/test_*.py"))
    if not any(collected.loaded.values()):
        files -= collected.files
    if not files:
        return
    (tmp_path / "refusal.py").write_text(PLUGIN.format(heavy=tuple(collected.loaded)))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--tb=line", "-p", "refusal"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *map(str, sorted(files))], cwd=REPOSITORY, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    wrong = [line for line in done.stdout.splitlines() if line.startswith("ERROR") or "is imported while" in line]
    assert done.returncode == 0 and not wrong, wrong or done.stdout[-2000:]
