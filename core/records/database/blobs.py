"""Where content lies that is named by its SHA-256: a folder, or a bucket that several machines share.

The folder is the default and needs nothing; it may be a network share. A bucket speaks S3 and is reached through
`s3fs`, which a site installs from requirements-cluster.txt; this module imports it only when a bucket is named. Its
credentials are those that every S3 client reads: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role.

What is read is held against its name, wherever it comes from. A machine keeps copies of what it read from a bucket,
up to a number of bytes and for a number of days, in a folder that can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from core.errors import Conflict, InvalidSettings, NotFound
from core.files import write_whole
from core.settings import MIB, Settings

log = logging.getLogger(__name__)

KEY = re.compile(r"[0-9a-f]{64}\.(png|npz|bin)")
"""SHA-256 of the content and its kind: pixels, heat maps, a file of a model."""
CACHE_DAYS = 7
"""So long a copy that nobody asks for stays on a machine, also after its original was removed by another one."""
_CONNECT_SECONDS, _READ_SECONDS, _TRIES = 5, 30, 2
_FULL = "There is no space left for images in the state folder. Nothing was saved; ask an administrator."
_MISSING = "A stored picture is missing from the image store. Restore the state folder from a backup."
_DAMAGED = "A stored picture is damaged. Restore the image store from a backup."
_AWAY = "The bucket with the pictures cannot be reached or refuses. Nothing was saved; try again in a moment."
_NO_BUCKET = "The bucket that SECONDREAD_STORE_URL names does not exist. Nothing was saved; ask an administrator."
_NO_LIBRARY = (
    "SECONDREAD_STORE_URL names a bucket, and the package s3fs is not installed. Install requirements-cluster.txt."
)


class BlobStore(Protocol):
    """Content by key (`KEY`). Safe for threads and processes."""

    def put(self, key: str, content: bytes) -> None:
        """Whole or not at all; nothing happens where it is there. Raises Conflict: full, or away."""

    def get(self, key: str) -> bytes:
        """The content, whose SHA-256 is that of the key. Raises NotFound where it is gone or damaged, Conflict."""

    def has(self, key: str) -> bool:
        """Raises Conflict where that cannot be told."""

    def keys(self, *, older_than_seconds: float = 0) -> list[str]:
        """Every key whose content was written at least so long ago, in order."""

    def remove(self, key: str) -> None:
        """Nothing happens where it is not there."""

    def forget_old(self) -> int:
        """Remove copies on this machine that nobody read for `CACHE_DAYS`; how many. Originals stay."""

    def problem(self) -> str:
        """Why it cannot be used now, as a sentence; "" where it can."""


class FolderBlobs:
    """A file for each key, `ab/ab12….png`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, key: str, content: bytes) -> None:
        path = path_in(self.folder, key)
        if path.exists():
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, content, full=_FULL)

    def get(self, key: str) -> bytes:
        try:
            content = path_in(self.folder, key).read_bytes()
        except FileNotFoundError:
            raise NotFound(_MISSING) from None
        return checked(key, content)

    def has(self, key: str) -> bool:
        return path_in(self.folder, key).exists()

    def keys(self, *, older_than_seconds: float = 0) -> list[str]:
        before = time.time() - older_than_seconds
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                if KEY.fullmatch(path.name) and path.stat().st_mtime <= before:
                    found.append(path.name)
        return sorted(found)

    def remove(self, key: str) -> None:
        path_in(self.folder, key).unlink(missing_ok=True)

    def forget_old(self) -> int:
        return 0

    def problem(self) -> str:
        if not self.folder.is_dir():
            return "The state folder is not where it was."
        return "" if os.access(self.folder, os.R_OK | os.W_OK | os.X_OK) else "The image store cannot be written."


class Cache:
    """Copies of what lies elsewhere, at most `bytes_most`: the least recently read ones go first.

    Several processes may share the folder. A copy is checked as the original is; one that is damaged is none.
    """

    def __init__(self, folder: Path, bytes_most: int) -> None:
        self.folder, self._most = folder, bytes_most
        self._lock = threading.Lock()
        self._written = bytes_most  # look once before the first copy: others may have filled it
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, key: str) -> bytes | None:
        path = path_in(self.folder, key)
        try:
            content = checked(key, path.read_bytes())
            os.utime(path)
        except (OSError, NotFound):
            return None
        return content

    def put(self, key: str, content: bytes) -> None:
        """Where there is no space, nothing is copied: the original is elsewhere."""
        if len(content) > self._most:
            return
        path = path_in(self.folder, key)
        with contextlib.suppress(Conflict, OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, content, durable=False)
        with self._lock:
            self._written += len(content)
            if self._written > self._most // 8:
                self._trim()
                self._written = 0

    def remove(self, key: str) -> None:
        path_in(self.folder, key).unlink(missing_ok=True)

    def forget_old(self, seconds: float = CACHE_DAYS * 24 * 3600) -> int:
        """Remove the copies that nobody read for so long; how many those were."""
        before = time.time() - seconds
        old = [path for at, _, path in self._files() if at < before]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return sorted(found)

    def _trim(self) -> None:
        files = self._files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._most - self._most // 8:
                break
            path.unlink(missing_ok=True)
            total -= size


class BucketBlobs:
    """An object for each key, `<prefix>/ab/ab12….png`, in an S3-compatible bucket that exists.

    before: the folder where a site's content lay before it had a bucket; what is not in the bucket is read from there.
    """

    def __init__(self, url: str, endpoint: str, cache: Cache, before: FolderBlobs) -> None:
        self._root = url.removeprefix("s3://").strip("/")
        self._cache, self._before = cache, before
        self._files, self._errors = _file_system(endpoint)

    def put(self, key: str, content: bytes) -> None:
        address = self._address(key)
        try:
            with self._failures_as_conflict():
                if not self._files.exists(address):
                    self._files.pipe_file(address, content)
        except FileNotFoundError as error:
            raise Conflict(_NO_BUCKET) from error
        self._cache.put(key, content)

    def get(self, key: str) -> bytes:
        content = self._cache.get(key)
        if content is not None:
            return content
        address = self._address(key)
        with self._failures_as_conflict():
            try:
                content = self._files.cat_file(address)
            except FileNotFoundError:
                return self._before.get(key)
        content = checked(key, content)
        self._cache.put(key, content)
        return content

    def has(self, key: str) -> bool:
        with self._failures_as_conflict():
            return bool(self._files.exists(self._address(key))) or self._before.has(key)

    def keys(self, *, older_than_seconds: float = 0) -> list[str]:
        before, found = time.time() - older_than_seconds, set(self._before.keys(older_than_seconds=older_than_seconds))
        bucket, _, prefix = self._root.partition("/")
        asked: dict[str, str] | None = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}
        while asked is not None:  # page by page: a large bucket has millions of objects
            with self._failures_as_conflict():
                page = self._files.call_s3("list_objects_v2", **asked)
            token = page.get("NextContinuationToken")
            asked = {**asked, "ContinuationToken": token} if token else None
            for entry in page.get("Contents", ()):
                key = entry["Key"].rpartition("/")[2]
                if KEY.fullmatch(key) and entry["LastModified"].timestamp() <= before:
                    found.add(key)
        return sorted(found)

    def remove(self, key: str) -> None:
        with self._failures_as_conflict(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._address(key))
        self._cache.remove(key)
        self._before.remove(key)

    def problem(self) -> str:
        try:
            with self._failures_as_conflict():
                self._files.call_s3("head_bucket", Bucket=self._root.partition("/")[0])
        except (Conflict, FileNotFoundError):
            return "The bucket with the pictures cannot be reached or refuses."
        return ""

    def is_empty(self) -> bool:
        """Whether nothing at all lies below the prefix. Raises Conflict where that cannot be told."""
        bucket, _, prefix = self._root.partition("/")
        asked = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", "MaxKeys": 1}
        try:
            with self._failures_as_conflict():
                return not self._files.call_s3("list_objects_v2", **asked).get("Contents")
        except FileNotFoundError as error:
            raise Conflict(_NO_BUCKET) from error

    def take_in(self) -> int:
        """Bring what lies in the folder from before into the bucket, each once and checked; how many those were.

        The folder stays as it is until somebody removes it: every content is then in the bucket. Raises Conflict,
        NotFound for content that is damaged there.
        """
        keys = self._before.keys()
        for key in keys:
            self.put(key, self._before.get(key))
            with self._failures_as_conflict():
                checked(key, self._files.cat_file(self._address(key)))
        return len(keys)

    def forget_old(self) -> int:
        return self._cache.forget_old()

    def _address(self, key: str) -> str:
        return f"{self._root}/{_checked_key(key)[:2]}/{key}"

    @contextmanager
    def _failures_as_conflict(self) -> Iterator[None]:
        """What the network or the bucket refuses; a missing object stays FileNotFoundError."""
        try:
            yield
        except FileNotFoundError:
            raise
        except self._errors as error:
            log.warning("The bucket does not do what it was asked: %s", type(error).__name__)
            raise Conflict(_AWAY) from error


def blobs_of(settings: Settings) -> BlobStore:
    """What the settings name. Raises InvalidSettings for a bucket without its library."""
    folder = FolderBlobs(settings.state_dir / "store")
    if not settings.store_url:
        return folder
    cache = Cache(settings.state_dir / "cache", settings.store_cache_mib * MIB)
    return BucketBlobs(settings.store_url, settings.store_endpoint, cache, folder)


def checked(key: str, content: bytes) -> bytes:
    """The content, if it is what its key says. Raises NotFound."""
    if hashlib.sha256(content).hexdigest() != key.partition(".")[0]:
        raise NotFound(_DAMAGED)
    return content


def path_in(folder: Path, key: str) -> Path:
    """Where the content of a key lies in a folder."""
    return folder / _checked_key(key)[:2] / key


def _checked_key(key: str) -> str:
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a key of the store")
    return key


def _file_system(endpoint: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """The client, and what it raises where bucket or network refuse."""
    try:
        import botocore.exceptions
        import s3fs
        from fsspec.exceptions import FSTimeoutError
    except ImportError:
        raise InvalidSettings(_NO_LIBRARY) from None
    files = s3fs.S3FileSystem(
        endpoint_url=endpoint or None,
        use_listings_cache=False,  # other machines write too
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS, "retries": {"max_attempts": 1},
        },
    )  # fmt: skip
    files.retries = _TRIES  # each with the times above, while somebody waits
    return files, (OSError, FSTimeoutError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
