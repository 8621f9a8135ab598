"""Where a site's inference services are: sockets and their key, in a folder of the state folder that is its user's."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import InvalidSettings
from core.files import write_whole
from core.settings import Settings

SUFFIX = ".socket"
KEY_BYTES = 32
PATH_BYTES_MOST = 100
"""A socket's address is 108 bytes on Linux, 104 on macOS, with its end (unix(7))."""


def serving_dir(settings: Settings) -> Path:
    """The folder of sockets and key, which `serving_key` makes."""
    return settings.state_dir / "serving"


def serving_key(settings: Settings) -> bytes:
    """32 random bytes that whoever speaks to a service of this site has to know; made at the first call.

    Raises InvalidSettings for a file that holds anything else: an empty one would be a key that everybody knows.
    """
    path = serving_dir(settings) / "key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.is_file():
        with suppress(FileExistsError):  # another process was first: its key counts
            write_whole(path, secrets.token_bytes(KEY_BYTES), mode=0o600, replaces=False)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise InvalidSettings(
            "The file serving/key in the state folder is damaged. Remove it, and start SecondRead and its replicas "
            "anew: another is made."
        )
    return key


def new_socket() -> str:
    """A name for the socket of a service on this machine."""
    return f"{_machine()}-{secrets.token_hex(4)}{SUFFIX}"


def sockets(settings: Settings) -> tuple[str, ...]:
    """The names of the sockets that services on this machine listen, or listened, at.

    Other machines may share the state folder; nobody here can speak to their sockets, nor tell whether they live.
    """
    names = (path.name for path in serving_dir(settings).glob(f"*{SUFFIX}"))
    return tuple(sorted(name for name in names if "-" not in name or name.startswith(f"{_machine()}-")))


def _machine() -> str:
    """8 hex digits of this machine's name; sockets of version 0.1.0 have none."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@contextmanager
def reachable(settings: Settings, name: str) -> Iterator[str]:
    """An address for the socket of this name that the system takes, however deep the state folder lies."""
    path = serving_dir(settings) / name
    if len(os.fsencode(path)) <= PATH_BYTES_MOST or not sys.platform.startswith("linux"):
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
