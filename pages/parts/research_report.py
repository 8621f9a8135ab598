"""The comparison as one file to keep or send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.evaluation.comparison import McNemarTest
from core.evaluation.operating import OperatingRow
from core.evaluation.workbench import Workbench


def draw_report_buttons(
    bench: Workbench,
    names: Sequence[str],
    rows: Sequence[OperatingRow],
    calls: Mapping[str, Sequence[McNemarTest]],
) -> None:
    """Two downloads, made when they are asked for."""
