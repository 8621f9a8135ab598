"""Pixels and heat maps, each named by the SHA-256 of its content and written once, in whole (`blobs`: where they lie).

Grey pixels are 16-bit PNG, colour is 8-bit RGB PNG, heat maps are NumPy archives in half precision. A file is removed
only by `delete_unused` and `sweep`, which ask the database, under a lock, whether a row still refers to it; whoever
adds a row calls `lock` first. So a file that a row refers to is always there.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

import numpy as np
from PIL.PngImagePlugin import PngImageFile
from sqlalchemy import Connection, select

from core.imaging.picture import COLOUR_MOST, GREY_MOST, png_of
from core.records.database.blobs import BlobStore
from core.records.database.locks import AdvisoryLock, hold
from core.records.database.tables import image, image_frame, prediction

PIXELS, MAPS = "png", "npz"
_ORPHAN_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Blob:
    """Content ready to be kept. key: SHA-256 of `content` and what kind it is."""

    key: str
    content: bytes


def pixels_blob(pixels: np.ndarray) -> Blob:
    """float32 [0, 1], (H, W) or (H, W, 3) -> PNG. Grey comes back within 1/65535, 8-bit colour exactly."""
    return png_blob(png_of(pixels))


def png_blob(content: bytes) -> Blob:
    """A picture that `core.imaging.picture.png_of` made."""
    return _blob(content, PIXELS)


def maps_blob(maps: Mapping[str, np.ndarray]) -> Blob:
    """branch -> float32 (classes, h, w) >= 0 -> archive. Each is scaled by its maximum: float16 ends at 65504.

    Values come back within 0.05 % of the map's maximum.
    """
    arrays: dict[str, np.ndarray] = {}
    for branch in sorted(maps):
        values = np.asarray(maps[branch], np.float32)
        scale = values.max(axis=(1, 2), keepdims=True)
        arrays[f"{branch}.map"] = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0).astype(
            np.float16
        )
        arrays[f"{branch}.scale"] = scale
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return _blob(content.getvalue(), MAPS)


class ImageStore:
    """Pixels and heat maps in a store. Safe for threads and processes; decoded pixels are remembered up to
    `memory_mib`."""

    def __init__(self, blobs: BlobStore, *, memory_mib: int = 512) -> None:
        self.blobs = blobs
        self._memory = memory_mib * 1024 * 1024
        self._decoded: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, blob: Blob) -> None:
        """Write the content, whole or not at all, unless it is there. Raises Conflict when the disk is full."""
        self.blobs.put(blob.key, blob.content)

    def has(self, key: str) -> bool:
        return self.blobs.has(key)

    def pixels(self, key: str) -> np.ndarray:
        """float32 [0, 1], read-only, (H, W) or (H, W, 3). Raises NotFound if the file is gone or damaged."""
        with self._lock:
            if key in self._decoded:
                self._decoded.move_to_end(key)
                return self._decoded[key]
        content = self.blobs.get(key)
        # Not `PIL.Image.open`, which refuses large pictures: this content is our own and its hash was checked.
        with PngImageFile(io.BytesIO(content)) as picture:
            whole = np.asarray(picture)
        most = COLOUR_MOST if whole.ndim == 3 else GREY_MOST
        pixels = whole.astype(np.float32) / np.float32(most)
        pixels.flags.writeable = False
        self._remember(key, pixels)
        return pixels

    def maps(self, key: str) -> dict[str, np.ndarray]:
        """branch -> float32 (classes, h, w). Raises NotFound if the file is gone or damaged."""
        with np.load(io.BytesIO(self.blobs.get(key)), allow_pickle=False) as archive:
            branches = [name.removesuffix(".map") for name in archive.files if name.endswith(".map")]
            return {
                branch: archive[f"{branch}.map"].astype(np.float32) * archive[f"{branch}.scale"] for branch in branches
            }

    def remove(self, key: str) -> None:
        """For `delete_unused` and `sweep` only."""
        with self._lock:
            self._decoded.pop(key, None)
        self.blobs.remove(key)

    def _remember(self, key: str, pixels: np.ndarray) -> None:
        with self._lock:
            self._decoded[key] = pixels
            while self._decoded and sum(retained.nbytes for retained in self._decoded.values()) > self._memory:
                self._decoded.popitem(last=False)


def lock(connection: Connection) -> None:
    """From here to the end of the transaction nobody else adds rows that refer to files, or removes files."""
    hold(connection, AdvisoryLock.STORE)


def delete_unused(connection: Connection, store: ImageStore, keys: Iterable[str]) -> None:
    """Remove the files among `keys` that no row refers to. Call it in a transaction after the one that let them go."""
    lock(connection)
    for key in set(keys) - _referred(connection, keys):
        store.remove(key)


def old_keys(store: ImageStore) -> set[str]:
    """What was written a day ago or earlier, for `sweep`. Of a large store that takes a while: not to be called in a
    transaction, which others would wait for."""
    return set(store.blobs.keys(older_than_seconds=_ORPHAN_SECONDS))


def sweep(connection: Connection, store: ImageStore, old: Set[str]) -> int:
    """Remove those of the `old_keys` that a process which was killed left behind; how many files that was."""
    lock(connection)
    orphans = old - all_referred(connection)
    for key in orphans:
        store.remove(key)
    return len(orphans)


def all_referred(connection: Connection) -> set[str]:
    """The keys of all files that a row names. A picture that was removed by the site's policy names none ("")."""
    referred = set(connection.execute(select(image.c.stored)).scalars())
    referred |= set(connection.execute(select(image_frame.c.stored)).scalars())
    return (referred | set(connection.execute(select(prediction.c.maps)).scalars())) - {None, ""}


def _referred(connection: Connection, keys: Iterable[str]) -> set[str]:
    wanted = list(set(keys))
    found = set(connection.execute(select(image.c.stored).where(image.c.stored.in_(wanted))).scalars())
    found |= set(connection.execute(select(image_frame.c.stored).where(image_frame.c.stored.in_(wanted))).scalars())
    return found | set(connection.execute(select(prediction.c.maps).where(prediction.c.maps.in_(wanted))).scalars())


def _blob(content: bytes, kind: str) -> Blob:
    return Blob(f"{hashlib.sha256(content).hexdigest()}.{kind}", content)
