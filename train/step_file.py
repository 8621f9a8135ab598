"""How far a run is within its epoch: a small file that who watches may read. Loads no TensorFlow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "step.json"
_EVERY_SECONDS = 1.0


class StepFile:
    """Written at most once a second, always whole. device: what computes, in words."""

    def __init__(self, folder: Path, device: str = "") -> None:
        self.path = folder / FILE
        self.device = device
        self._last = 0.0

    def tell(self, epoch: int, step: int, steps: int) -> None:
        """epoch and step from 1."""
        if time.monotonic() - self._last < _EVERY_SECONDS:
            return
        self._last = time.monotonic()
        partial = self.path.with_name(f".{FILE}.part")
        partial.write_text(json.dumps({"epoch": epoch, "step": step, "steps": steps, "device": self.device}))
        partial.replace(self.path)


def newest_step(work: Path) -> tuple[str, Mapping[str, Any]] | None:
    """Part ("" or the name of its folder) and {"epoch", "step", "steps", "device"}, told last in a working folder."""
    found = [path for path in (work / FILE, *work.glob(f"*/{FILE}")) if path.is_file()]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # a run has just removed its folder
        return ("" if path.parent == work else path.parent.name), told
    return None
