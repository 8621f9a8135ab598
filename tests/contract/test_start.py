"""What a server loads before it answers, and what it loads after that so that no click waits for it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.server import libraries
from core.settings import REPOSITORY, Settings

HEAVY = {
    "pandas", "scipy", "statsmodels", "sklearn", "pydicom", "reportlab", "jinja2", "alembic", "httpx", "requests",
    "tensorflow", "keras", "matplotlib", "openpyxl", "pynetdicom", "highdicom",
}  # fmt: skip
FIRST_PAGES = ("public/sign_in", "public/first_run", "reader/worklist", "admin/people")
READER_PAGES = ("reader/read", "reader/models", "research/compare")


def imports_of(page: str) -> str:
    """The import statements of a page, without what it draws."""
    tree = ast.parse((REPOSITORY / "pages" / f"{page}.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(node) for node in found if getattr(node, "module", "") != "__future__")


def loaded(tmp_path: Path, *statements: str) -> list[set[str]]:
    """The libraries among `HEAVY` in memory after each of the statements, in a process of their own."""
    check = f"""
import json, sys
found = []
for statement in {statements!r}:
    exec(statement, {{}})
    found.append(sorted({HEAVY!r} & set(sys.modules)))
print(json.dumps(found))
"""
    environment = {**os.environ, "SECONDREAD_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


def test_server_and_first_pages_load_no_statistics_no_print_no_dicom_and_the_rest_is_there_before_a_reader_clicks(
    tmp_path: Path,
) -> None:
    names = (*libraries.AT_ONCE, *libraries.LATER)
    later = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names)
    server, first, after, reading = loaded(
        tmp_path, "import app", "\n".join(map(imports_of, FIRST_PAGES)), later, "\n".join(map(imports_of, READER_PAGES))
    )
    assert server == set() and first == set()
    assert {"pandas", "scipy", "statsmodels", "pydicom", "reportlab"} <= after
    assert "tensorflow" not in after
    assert reading == after, "a page loads what is not in `LATER`"


def test_a_library_that_does_not_load_keeps_the_others_from_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def load(name: str) -> None:
        seen.append(name)
        if name == "broken":
            raise ImportError(name)

    monkeypatch.setattr(libraries, "AT_ONCE", ())
    monkeypatch.setattr(libraries, "LATER", ("one", "broken", "other"))
    monkeypatch.setattr(libraries, "FIRST_PAGE_SECONDS", 0.0)
    monkeypatch.setattr(libraries.importlib, "import_module", load)
    with libraries.loaded_in_background():
        for _ in range(200):
            if len(seen) == 3:
                break
            libraries.threading.Event().wait(0.01)
    assert seen == ["one", "broken", "other"]
    assert "broken was not loaded" in caplog.text


def test_a_page_waits_until_what_it_may_need_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads in one package would each find it half loaded."""
    goes_on, seen = libraries.threading.Event(), []

    def load(name: str) -> None:
        goes_on.wait(10)
        seen.append(name)

    monkeypatch.setattr(libraries, "AT_ONCE", ())
    monkeypatch.setattr(libraries, "LATER", ("one", "other"))
    monkeypatch.setattr(libraries, "FIRST_PAGE_SECONDS", 0.0)
    monkeypatch.setattr(libraries.importlib, "import_module", load)
    libraries.wait_until_loaded()  # of the test before
    with libraries.loaded_in_background():
        assert not libraries.are_loaded()
        libraries.threading.Timer(0.1, goes_on.set).start()
        libraries.wait_until_loaded()
        assert seen == ["one", "other"] and libraries.are_loaded()
    with libraries.loaded_in_background():
        pass  # ended before it began
    libraries.wait_until_loaded()
    assert libraries.are_loaded()


@pytest.mark.parametrize("beside", ["core.serving.client", "train.queue.supervision"])
def test_processes_beside_the_server_leave_the_processor_to_the_first_page(
    beside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(beside)
    started: list[object] = []
    popen = subprocess.Popen

    def start(*args: object, **_: object) -> subprocess.Popen[bytes]:
        started.append(args)
        return popen(["true"], stdin=subprocess.PIPE)

    monkeypatch.setattr(module, "FIRST_PAGE_SECONDS", 60.0)
    monkeypatch.setattr(module.subprocess, "Popen", start)
    with module.supervised(Settings(state_dir=tmp_path)):
        time.sleep(0.2)
        assert not started
    assert not started
