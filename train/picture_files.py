"""Which pictures lie under a folder, by name: looked for once, asked often."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.hospital_keys import stem_text, without_zeros

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class PictureFiles:
    """The pictures under `root`, as paths relative to it with "/" between folders.

    by_name: the name as it stands in keys -> files. by_number: the same for names that are numbers, leading zeros off.
    sizes: file -> bytes.
    """

    root: Path
    by_name: dict[str, list[str]]
    by_number: dict[str, list[str]]
    sizes: dict[str, int]

    @classmethod
    def under(cls, root: Path) -> PictureFiles:
        """Look through `root` and its folders once; links to folders are not followed."""
        by_name: dict[str, list[str]] = {}
        by_number: dict[str, list[str]] = {}
        sizes: dict[str, int] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    file = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(file)
                    elif entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file():
                        sizes[file] = entry.stat().st_size
        for file in sorted(sizes):
            stem = stem_text(file.rpartition("/")[2])
            by_name.setdefault(stem, []).append(file)
            if stem.isdigit():
                by_number.setdefault(without_zeros(stem), []).append(file)
        return cls(root, by_name, by_number, sizes)

    def named(self, name: str) -> list[str]:
        """The files of this name; a name that is a number may have lost its leading zeros."""
        return self.by_name.get(name) or self.by_number.get(without_zeros(name), [])

    def common_tail(self, file: str, folders: Sequence[str]) -> int:
        """How many folders the file's path and `folders` (capitals off) share, counted from their ends; at least the
        folder it lies in must be shared. A file directly under the root, which has no folder, counts as 1."""
        own = folders_of(file)[:-1]
        if not own:
            return 1
        shared = 0
        for here, there in zip(reversed(own), reversed(folders), strict=False):
            if here != there:
                break
            shared += 1
        return shared

    def one_of(self, files: Collection[str]) -> str | None:
        """The file, where there is one or all are copies of one; None where they are different pictures."""
        first, *others = sorted(files)
        if not others:
            return first
        if len({self.sizes[file] for file in files}) > 1 or self.sizes[first] == 0:
            return None
        if len({self._digest(file) for file in files}) > 1 or self._is_placeholder(first):
            return None
        return first

    def _is_placeholder(self, file: str) -> bool:
        """True where the same bytes lie under another name too: then they do not say which picture it is."""
        stem = stem_text(file.rpartition("/")[2])
        digest = self._digest(file)
        return any(
            size == self.sizes[file] and stem_text(other.rpartition("/")[2]) != stem and self._digest(other) == digest
            for other, size in self.sizes.items()
        )

    def _digest(self, file: str) -> bytes:
        return hashlib.sha256((self.root / file).read_bytes()).digest()


def folders_of(path: str) -> tuple[str, ...]:
    """The parts of a Windows or POSIX path without capitals and outer spaces."""
    parts = (part.strip().casefold() for part in path.strip().strip("\"'").replace("\\", "/").split("/"))
    return tuple(part for part in parts if part and part != ".")
