"""What every importer gives, and how they look for pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class Imported:
    """cases: rows of a manifest. root: what `file` is relative to. notes: sentences on what was left out or decided."""

    cases: pd.DataFrame
    root: Path
    notes: tuple[str, ...] = ()


def pictures_under(folder: Path, suffixes: Iterable[str] = PICTURES) -> list[str]:
    """Files relative to `folder`, "/" between folders, in the order a person counts (2 before 10); no hidden ones."""
    wanted = tuple(suffixes)
    found = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in wanted and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(found, key=in_counting_order)


def in_counting_order(text: str) -> list[tuple[int, str]]:
    """A sort key that puts "benign (2)" before "benign (10)"."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text)]
