"""requirements.lock holds the whole tree that `make run` installs, with hashes; the Makefile takes it where it fits."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from core.commands.licences import dependencies
from core.settings import REPOSITORY

ROOT = REPOSITORY
MACHINES = {"Linux-x86_64": ("linux", "x86_64", "posix"), "Darwin-arm64": ("darwin", "arm64", "posix")}
ENVIRONMENTS = [
    pytest.param(machine, python, id=f"{machine}-{python}")
    for machine in MACHINES
    for python in ("3.11.0", "3.12.0", "3.13.0")
]


@dataclass(frozen=True)
class Locked:
    """One entry of the lock."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    def counts_in(self, environment: Mapping[str, str]) -> bool:
        return not self.marker or Marker(self.marker).evaluate(dict(environment))


@cache
def lock() -> tuple[Locked, ...]:
    """Every line of the lock is a comment, a pin or a hash; anything else (an index, an option, a path) fails here."""
    entries: list[tuple[str, str, str, list[str]]] = []
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            continue
        pin = re.fullmatch(r"([a-z0-9-]+)==([\w.]+)(?: ; (.+?))? \\", line)
        digest = re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?", line)
        assert pin or digest, line
        if pin:
            entries.append((pin[1], pin[2], pin[3] or "", []))
        else:
            assert digest
            entries[-1][3].append(digest[1])
    return tuple(Locked(name, version, marker, tuple(hashes)) for name, version, marker, hashes in entries)


def pins(file: str) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def environment(machine: str, python: str) -> dict[str, str]:
    sys_platform, platform_machine, os_name = MACHINES[machine]
    return {
        "sys_platform": sys_platform,
        "platform_system": machine.split("-")[0],
        "platform_machine": platform_machine,
        "os_name": os_name,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
    }


def recipe(*arguments: str) -> str:
    """The commands that make would run for these arguments."""
    command = ["make", "--no-print-directory", "-n", "-B", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(("machine", "python"), ENVIRONMENTS)
def test_every_direct_pin_is_in_the_lock_once_with_its_version(machine: str, python: str) -> None:
    here = environment(machine, python)
    for pin in pins("requirements.txt"):
        found = [entry for entry in lock() if entry.name == key(pin.name) and entry.counts_in(here)]
        assert [str(pin.specifier)] == [f"=={entry.version}" for entry in found], pin


@pytest.mark.parametrize(("machine", "python"), ENVIRONMENTS)
def test_no_package_is_there_twice_for_one_machine(machine: str, python: str) -> None:
    here = environment(machine, python)
    names = [entry.name for entry in lock() if entry.counts_in(here)]
    assert len(names) == len(set(names)) and len(names) > 80


def test_every_entry_has_hashes() -> None:
    assert [entry.name for entry in lock() if not entry.hashes] == []


def test_what_the_direct_pins_bring_is_in_the_lock() -> None:
    names = {entry.name for entry in lock()}
    assert [entry.name for entry in dependencies(ROOT / "requirements.txt") if key(entry.name) not in names] == []


def test_no_tool_of_the_tests_asks_for_another_version_than_the_lock() -> None:
    locked = {entry.name: entry.version for entry in lock()}
    for file in ("requirements-dev.txt", "requirements-mlflow.txt", "requirements-openvino.txt"):
        for pin in pins(file):
            assert pin.specifier.contains(locked.get(key(pin.name), str(pin.specifier)[2:])), pin


@pytest.mark.parametrize(
    ("platform", "file"),
    [
        ("Linux-x86_64", "requirements.lock"),
        ("Darwin-arm64", "requirements.lock"),
        ("Linux-aarch64", "requirements.txt"),
        ("Darwin-x86_64", "requirements.txt"),  # also an Intel Python that an Apple processor translates
        ("Windows-AMD64", "requirements.txt"),
        ("", "requirements.txt"),
    ],
)
def test_make_installs_the_lock_only_where_it_was_made_for(platform: str, file: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {platform}\n")
    python.chmod(0o755)
    commands = recipe(".venv/.installed-run", f"PY={python}")
    (install,) = [line for line in commands.splitlines() if " -r requirements" in line]
    assert install.endswith(f" -r {file}")
    assert ("--require-hashes --only-binary :all:" in install) == (file == "requirements.lock")


def test_tools_of_the_tests_are_installed_under_the_lock() -> None:
    (install,) = [line for line in recipe(".venv/.installed-dev").splitlines() if "requirements-dev.txt" in line]
    constraints = re.search(r"-c <\((.+)\)$", install)
    assert constraints
    done = subprocess.run(
        ["bash", "-c", constraints[1]], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert done == [f"{entry.name}=={entry.version} ; {entry.marker}" for entry in lock()]
