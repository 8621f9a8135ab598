"""What frozen layers made of augmented squares, kept on disk: computed once for given weights and data.

A key names everything that the features depend on, so that a stale entry cannot be found. Entries are float16 arrays.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.files import lock_of, whole_folder

log = logging.getLogger(__name__)

DEFAULT_LIMIT_BYTES = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """A folder with one sub-folder an entry. The oldest entries go when all of them are larger than `limit_bytes`."""

    folder: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES

    def get(self, key: str, make: Callable[[], list[np.ndarray]]) -> list[np.ndarray]:
        """The arrays of that key, made and kept if they are not there yet; memory-mapped, read-only."""
        entry = self.folder / key
        if not (entry / "complete").is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            # Another process, or another node that shares the folder, may be at the same: it is waited for.
            with lock_of(self.folder / f"{key[:2]}.lock", waits=True):
                if not (entry / "complete").is_file():
                    self._write(entry, make())
                    self._prune(keep=entry)
        (entry / "complete").touch()  # when it was last of use
        return [np.load(path, mmap_mode="r") for path in sorted(entry.glob("*.npy"))]

    def _write(self, entry: Path, arrays: list[np.ndarray]) -> None:
        with whole_folder(entry) as half:
            for number, array in enumerate(arrays):
                np.save(half / f"{number:02d}.npy", array)
            (half / "complete").touch()

    def _prune(self, keep: Path) -> None:
        entries = sorted(self.folder.glob("*/complete"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for complete in entries:
            total += sum(path.stat().st_size for path in complete.parent.iterdir())
            if total > self.limit_bytes and complete.parent != keep:
                log.info("removed features that were not used for longest: %s", complete.parent.name[:8])
                shutil.rmtree(complete.parent)


def key_of(arrays: Iterable[np.ndarray], *words: object) -> str:
    """sha256 over the bytes, shapes and types of `arrays` and over `words`: the name of what depends on just these."""
    digest = hashlib.sha256(repr(words).encode())
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
