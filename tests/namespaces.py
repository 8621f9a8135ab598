"""Machines of their own for the network: Linux network namespaces on one bridge, whose cables can be pulled.

They share processes' file systems, so a folder here is a share that every machine reaches whatever is cut. Needs root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from real_data import NO_NAMESPACES

_NET = f"10.{90 + os.getpid() % 100}.{os.getpid() // 100 % 250}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


class Network:
    """here: the address of the test's own process, which is never cut off, and of what it starts without a machine."""

    def __init__(self) -> None:
        self._bridge = f"sr{os.getpid()}"
        self._machines: dict[str, str] = {}
        self.here = f"{_NET}.1"

    def open(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.here}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def add(self) -> str:
        """A machine more; its address, by which it is called."""
        number = len(self._machines) + 2
        address, name = f"{_NET}.{number}", f"{self._bridge}-{number}"
        self._machines[address] = name
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", self._bridge, "up")
        for words in (("link", "set", "lo", "up"), ("addr", "add", f"{address}/24", "dev", "eth0")):
            _ip("-n", name, *words)
        _ip("-n", name, "link", "set", "eth0", "up")
        return address

    def on(self, address: str) -> list[str]:
        """What goes before a command that runs on this machine."""
        return ["ip", "netns", "exec", self._machines[address]] if address in self._machines else []

    def cut(self, address: str) -> None:
        """Nothing reaches it and nothing comes from it; nobody is told, as with a pulled cable behind a switch."""
        _ip("link", "set", self._machines[address], "nomaster")

    def heal(self, address: str) -> None:
        _ip("link", "set", self._machines[address], "master", self._bridge)

    def cut_between(self, one: str, other: str) -> None:
        """What these two send to each other is lost; everybody else reaches both."""
        _ip("-n", self._machines[one], "route", "add", "blackhole", f"{other}/32")
        _ip("-n", self._machines[other], "route", "add", "blackhole", f"{one}/32")

    def heal_between(self, one: str, other: str) -> None:
        _ip("-n", self._machines[one], "route", "del", "blackhole", f"{other}/32")
        _ip("-n", self._machines[other], "route", "del", "blackhole", f"{one}/32")

    def close(self) -> None:
        for name in self._machines.values():
            for words in (("link", "del", name), ("netns", "del", name)):
                with suppress(subprocess.CalledProcessError):
                    _ip(*words)
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._bridge)


@contextmanager
def network() -> Iterator[Network]:
    """Until the block ends. Skips the test where the kernel or the user may not make namespaces."""
    made = Network()
    try:
        try:
            made.open()
            probe = made.add()
            subprocess.run([*made.on(probe), "true"], check=True, capture_output=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", b"") or str(error).encode()
            pytest.skip(f"{NO_NAMESPACES}{said.decode(errors='replace').strip()}")
        yield made
    finally:
        made.close()


def started(network: Network, address: str, command: Sequence[str], **more: object) -> subprocess.Popen[bytes]:
    """This command on this machine, in a session of its own."""
    return subprocess.Popen([*network.on(address), *command], start_new_session=True, **more)  # type: ignore[call-overload,no-any-return]
