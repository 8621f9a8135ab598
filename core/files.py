"""Written whole or not at all: how every file of the product comes to its name, and what a failure takes back.

A file is written under a temporary name in its own folder, brought to the disk (fsync of the file, then of the folder)
and renamed, which replaces the old one in one step; a folder in the same way. So whoever looks sees the old content or
the new, also after a power cut: https://www.man7.org/linux/man-pages/man2/fsync.2.html.

What a process that was killed leaves has one pattern, `.<32 hex digits>.half`, or lies in `tmp` of the state folder.
While its process lives it holds a lock on it (`flock`, which the kernel lets go with the process, however that ends),
so `sweep` removes what nobody holds at once and leaves alone what another living process works on.

At the top of `core` because also `core.models` writes, which knows nothing of `core.records`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from uuid import uuid4

from core.errors import DiskFull

try:
    import fcntl
except ImportError:  # Windows: what is left behind there goes a day later
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

TEMPORARY = "tmp"
"""The folder in the state folder where temporary folders lie."""
DISK_FULL = "There is no space left on the disk, so nothing was saved. Make room, or ask an administrator to."
ABANDONED_SECONDS = 24 * 3600
"""Without locks, and for the names of earlier versions: how long ago something was touched last."""
_AGAIN_SECONDS = 5.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HALF = re.compile(r"\.[0-9a-f]{32}\.half")
_EARLIER = re.compile(r".+\.half|\..+\.(part|partial)")
_EARLIER_AT_THE_TOP = re.compile(
    r"backup-[a-z0-9_]{8}|\.restore-[a-z0-9_]{8}|release-[0-9a-f]{32}|site\.key\.[0-9a-f]{32}"
)
"""What versions before 0.2 left behind: files of any folder, and what lay in the state folder itself."""


@contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Calls `undo` when the block ends by any exception, also one that stops the program, and passes it on."""
    with ExitStack() as stack:
        stack.callback(undo)
        yield
        stack.pop_all()


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, the quota or the size that a file may have (`ulimit -f`) is used up."""
    return error.errno in _FULL


@contextmanager
def disk_full_refused(sentence: str = DISK_FULL) -> Iterator[None]:
    """A full disk in the block becomes DiskFull with this sentence; every other failure passes as it is."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(sentence) from error
        raise


@contextmanager
def whole_file(
    path: Path, *, full: str = DISK_FULL, mode: int = 0o666, durable: bool = True, replaces: bool = True
) -> Iterator[Path]:
    """The temporary name that the block fills; at its end that file is `path`, after a failure nothing has changed.

    full: the sentence for a full disk. mode: of a new file, under the umask. durable: False for what nothing depends
    on after a power cut, such as a progress that is written every second. replaces: False leaves a file that is there
    as it is and raises FileExistsError. Raises DiskFull, OSError.
    """
    half = path.with_name(temporary_name())
    with disk_full_refused(full):
        descriptor = held_file(half, mode)
        try:
            yield half
            if durable:
                os.fsync(descriptor)
            if replaces:
                half.replace(path)
            else:
                os.link(half, path)  # unlike a rename, a link never replaces what is there
        finally:
            half.unlink(missing_ok=True)
            os.close(descriptor)
        if durable:
            sync_folder(path.parent)


def write_whole(
    path: Path,
    content: bytes | str,
    *,
    full: str = DISK_FULL,
    mode: int = 0o666,
    durable: bool = True,
    replaces: bool = True,
) -> None:
    """This content (text as UTF-8) as the file `path`: see `whole_file`. Its folder must be there."""
    with whole_file(path, full=full, mode=mode, durable=durable, replaces=replaces) as half, half.open("wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def whole_folder(target: Path, *, within: Path | None = None, full: str = DISK_FULL) -> Iterator[Path]:
    """An empty folder that the block fills; at its end it is `target`, after a failure it is gone.

    within: where it lies until then, on the same file system (default: beside the target). Whatever has the target's
    name is removed only when the new folder is whole. Raises DiskFull, OSError.
    """
    with disk_full_refused(full), temporary_folder(within or target.parent) as half:
        yield half
        for path in half.rglob("*"):
            _sync(path)
        sync_folder(half)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        half.rename(target)
        sync_folder(target.parent)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """An empty folder that is gone at the end of the block; if the process dies first, the next `sweep` removes it.

    parent: made if it is missing, for `temporary_parent` of a state folder or any folder that is swept.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder, descriptor = _held_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def temporary_parent(state_dir: Path) -> Path:
    """Where temporary folders of a state folder lie."""
    return state_dir / TEMPORARY


@contextmanager
def own_temporary_folder(state_dir: Path) -> Iterator[Path]:
    """In the block, libraries that ask Python for a temporary file get one in the state folder.

    TensorFlow writes the source that autograph makes of a function into such files, and whoever kills the process would
    leave them where nothing of ours removes them. To be entered before TensorFlow is used.
    """
    with temporary_folder(temporary_parent(state_dir)) as folder:
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before


def end_cleanly_on_sigterm() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does: what was begun is taken back on the way out, status 143.

    For programs that have no loop of their own to end; in the main thread only. Python drops an exception that comes
    while it runs a destructor or a callback of a library, so the signal is given again until the process is gone.
    """

    def again() -> None:
        while True:
            time.sleep(_AGAIN_SECONDS)
            os.kill(os.getpid(), signal.SIGTERM)

    def end(_number: int, _frame: FrameType | None) -> None:
        if not is_told:
            is_told.append(True)
            threading.Thread(target=again, daemon=True).start()
        raise SystemExit(128 + signal.SIGTERM)

    is_told: list[bool] = []
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


def sweep(state_dir: Path) -> int:
    """Remove what killed processes left below the state folder, and nothing a living one holds; gives their number."""
    n_removed = 0
    for path in _left_behind(state_dir):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # just finished by its process; another user's
            n_removed += _removed_unless_held(path, has_lock=_has_lock(path, state_dir))
    if n_removed:
        log.info("Removed %d temporary files and folders that stopped processes had left", n_removed)
    return n_removed


def sweep_folder(folder: Path) -> None:
    """Remove what killed processes left directly in a folder outside the state folder, where a backup is written."""
    for path in list(folder.glob(".*.half")):
        with contextlib.suppress(OSError):  # finished meanwhile, or another user's
            if _HALF.fullmatch(path.name):
                _removed_unless_held(path, has_lock=True)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is not finished: to be left out where a folder is copied."""
    return _HALF.fullmatch(name) is not None or _EARLIER.fullmatch(name) is not None


def _left_behind(state_dir: Path) -> Iterator[Path]:
    parent = temporary_parent(state_dir)
    yield from parent.iterdir() if parent.is_dir() else ()
    for folder, folders, files in os.walk(state_dir):
        here = Path(folder)
        if here == state_dir and TEMPORARY in folders:
            folders.remove(TEMPORARY)
        at_the_top = [*folders, *files] if here == state_dir else []
        found = {name for name in at_the_top if _EARLIER_AT_THE_TOP.fullmatch(name)}
        found |= {name for name in (*folders, *files) if _HALF.fullmatch(name) or _EARLIER.fullmatch(name)}
        folders[:] = [name for name in folders if name not in found]
        yield from (here / name for name in sorted(found))


def _has_lock(path: Path, state_dir: Path) -> bool:
    return path.parent == temporary_parent(state_dir) or _HALF.fullmatch(path.name) is not None


def _removed_unless_held(path: Path, *, has_lock: bool) -> bool:
    if fcntl is None or not has_lock:
        if time.time() - path.lstat().st_mtime <= ABANDONED_SECONDS:
            return False
        _remove(path)
        return True
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)  # with the lock held: whoever has just made it sees that it is gone, and makes another
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        return _removed_unless_held(path, has_lock=False)
    finally:
        os.close(descriptor)
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def temporary_name() -> str:
    """The name of a file that is not finished yet: whatever has it and is held by nobody is swept."""
    return f".{uuid4().hex}.half"


def held_file(path: Path, mode: int) -> int:
    """The descriptor of a new file with our lock on it, which ends when it is closed.

    A sweeper that came between making and locking has removed the first one.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        _lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _held_folder(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = parent / temporary_name()
        folder.mkdir(mode=0o700)
        if fcntl is None:
            return folder, None
        with contextlib.suppress(FileNotFoundError):  # a sweeper came between
            descriptor = os.open(folder, os.O_RDONLY)
            _lock(descriptor)
            if folder.is_dir():
                return folder, descriptor
            os.close(descriptor)


@contextmanager
def lock_of(path: Path, *, waits: bool = False, shared: bool = False) -> Iterator[bool]:
    """Whether this process has the lock on the file `path` in the block; it ends with the process, however that ends.

    path: made if it is missing, and stays. waits: until it has it. shared: with others that ask for it shared. Where
    there are no locks (Windows, some network shares) everybody has it: `has_locks`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _is_locked(descriptor, waits=waits, shared=shared)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int, *, waits: bool, shared: bool) -> bool:
    if fcntl is None:
        return True
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind if waits else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
    return True


def has_locks(folder: Path) -> bool:
    """Whether a lock on a file of this folder means anything."""
    with lock_of(folder / ".locks") as first, lock_of(folder / ".locks") as second:
        return first and not second


def _lock(descriptor: int) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks: swept a day later, see `_removed_unless_held`
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_folder(path)
    elif not path.is_symlink():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. Windows opens no folder, and some file systems sync none."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
        finally:
            os.close(descriptor)
