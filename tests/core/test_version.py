"""One version, everywhere the same, without loading what it names."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from core import version
from core.settings import REPOSITORY


def test_the_version_is_that_of_the_project_file() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version.versions() == {
        "secondread": project["version"],
        "tensorflow": metadata.version("tensorflow"),
        "keras": metadata.version("keras"),
    }


def test_a_library_that_is_missing_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", missing)
    assert version.versions.__wrapped__()["keras"] == "none"


@pytest.mark.parametrize("package", ["core", "train"])
def test_both_commands_say_it_and_load_no_tensorflow(package: str) -> None:
    code = (
        f"import sys, {package}.__main__ as m\n"
        "try: m.main(['--version'])\n"
        "except SystemExit: pass\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == version.software()
