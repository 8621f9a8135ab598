"""The image, the Compose file and the systemd units: what they say is valid, and what they start runs.

No container and no systemd runs here: the image is the tree that the Dockerfile copies, and commands are run as they
stand, with the interpreter of the tests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import running_app
import yaml
from proxies import DEPLOY, filled, needed_program

from core.settings import REPOSITORY, Settings

ROOT = REPOSITORY
UNITS = {
    name: DEPLOY / "systemd" / f"{name}.service" for name in ("secondread", "secondread-worker", "secondread-dicom")
}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")


def directives(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)


def variables(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(text, comments=True))


def image_environment() -> dict[str, str]:
    (line,) = re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)
    return dict(word.split("=", 1) for word in shlex.split(line))


def services(**environment: str) -> dict[str, Any]:
    """The services, with `${NAME…}` filled in."""

    def value(found: re.Match[str]) -> str:
        if found[1] in environment:
            return environment[found[1]]
        assert found[2] == ":-", f"{found[1]} has no default"
        return found[3]

    text = re.sub(r"\$\{(\w+)(:[-?])?([^}]*)\}", value, COMPOSE)
    return dict(yaml.safe_load(text)["services"])


FILLED = {"POSTGRES_PASSWORD": "secret", "PROXY_HOST": "secondread.example"}


def image_tree(folder: Path) -> Path:
    """What the Dockerfile copies into its last stage, as the checkout has it and .dockerignore lets it through."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    sources = [
        word for line in re.findall(r"^COPY (?!--from)(.*)$", last_stage(), re.MULTILINE) for word in line.split()[:-1]
    ]
    assert sources and set(sources) <= set(allowed)
    for name in listed:
        top = name.split("/")[0]
        is_copied = top in sources and top != "weights" and not any(name.startswith(f"{line}/") for line in ignore)
        if is_copied and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if "weights" in sources:
        (folder / "weights").symlink_to(ROOT / "weights")  # a quarter of a gigabyte
    return folder


def last_stage() -> str:
    return DOCKERFILE.rpartition("\nFROM ")[2]


def files_of(tree: Path) -> dict[str, int]:
    return {str(path.relative_to(tree)): path.stat().st_mtime_ns for path in tree.rglob("*") if path.is_file()}


# The image


def test_the_image_runs_as_nobody_special_and_installs_the_lock_with_hashes() -> None:
    users = re.findall(r"^USER (.*)$", last_stage(), re.MULTILINE)
    assert users == ["10001:10001"] and last_stage().index("USER") < last_stage().index("\nCMD")
    assert "--require-hashes --only-binary :all: -r /tmp/requirements.lock" in DOCKERFILE


def test_what_the_image_holds_serves_pages_runs_the_worker_and_writes_into_the_state_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = image_tree(tmp_path / "image")
    before = files_of(tree)
    state = tmp_path / "state"
    environment = {
        name: value.replace("/var/lib/secondread", str(state))
        for name, value in image_environment().items()
        if name != "PATH"
    }
    assert environment.pop("STREAMLIT_SERVER_ADDRESS") == "0.0.0.0"  # here it stays on this machine
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(running_app, "REPOSITORY", tree)
    (command,) = re.findall(r"^CMD (.*)$", last_stage(), re.MULTILINE)
    assert json.loads(command) == ["python", "-m", "streamlit", "run", "app.py"]  # which is what `running_app` starts
    with running_app.running_app(state) as app:
        with urllib.request.urlopen(app.url, timeout=30) as answer:
            assert b'<div id="root">' in answer.read()
        assert app.setup_code
        # 143: told to end before it began to look for work
        assert run_worker(services(**FILLED)["worker"]["command"][1:], tree, {}) in (0, 143)
    assert files_of(tree) == before
    assert (state / "secondread.sqlite3").is_file()


def run_worker(words: list[str], folder: Path, environment: dict[str, str]) -> int:
    """Starts the worker with these words behind the interpreter, ends it as a service is ended; gives its status."""
    process = subprocess.Popen([sys.executable, *words], cwd=folder, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 60
        database = Path({**os.environ, **environment}["SECONDREAD_STATE_DIR"]) / "secondread.sqlite3"
        while not (database.is_file() and has_handler(process.pid, signal.SIGTERM)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        return process.wait(30)
    finally:
        process.kill()
        process.wait()


def has_handler(pid: int, number: int) -> bool:
    """Whether the process catches this signal (Linux)."""
    (mask,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


# Compose


def test_the_compose_file_is_valid_by_the_specifications_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_starts_what_the_application_understands() -> None:
    found = services(**FILLED)
    for name in ("app", "worker"):
        given = found[name]["environment"]  # Compose fills in after it has parsed: what is empty is "", not null
        settings = Settings.from_environment({key: "" if value is None else value for key, value in given.items()})
        assert settings.cookie_secure and not settings.worker
        assert settings.resolved_database_url == "postgresql+pg8000://secondread:secret@database/secondread"
        assert settings.public_url == "https://secondread.example"
        assert found[name]["read_only"] and found[name]["cap_drop"] == ["ALL"]
        assert found[name]["volumes"] == ["state:/var/lib/secondread", "backups:/backups"]
        assert settings.backup_dir == ""
    assert "/healthz" in found["app"]["healthcheck"]["test"][-1]


def test_a_site_can_name_another_disk_for_its_backups_that_the_service_may_write() -> None:
    example = (DEPLOY / "env.example").read_text(encoding="utf-8").replace("#SECONDREAD", "SECONDREAD")
    chosen = variables(example.replace("#BACKUPS", "BACKUPS"))
    app = services(**{**chosen, **FILLED})["app"]
    folder = str(app["environment"]["SECONDREAD_BACKUP_DIR"])
    assert f"{chosen['BACKUPS']}:{folder}" in app["volumes"] and chosen["BACKUPS"].startswith("/")
    (made,) = re.findall(r"install --directory .*", last_stage())
    assert folder in made.split(), "a new volume belongs to whom the folder of the image belongs to"
    example = (DEPLOY / "systemd" / "environment.example").read_text(encoding="utf-8")
    named = variables(example.replace("#SECONDREAD", "SECONDREAD"))["SECONDREAD_BACKUP_DIR"]
    assert directives(UNITS["secondread"], "#ReadWritePaths") == [named]


def test_compose_asks_for_what_has_no_default() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    assert needed == set(FILLED)
    assert needed <= set(variables((DEPLOY / "env.example").read_text(encoding="utf-8")))


def test_only_the_proxy_is_reached_from_outside_and_its_files_are_there() -> None:
    found = services(**FILLED)
    assert [name for name, service in found.items() if "ports" in service] == ["proxy"]
    assert [name for name, service in found.items() if "outside" in service["networks"]] == ["proxy"]
    caddyfile = (DEPLOY / "caddy" / "Caddyfile").read_text(encoding="utf-8")
    for variable in found["proxy"]["environment"]:
        assert f"{{${variable}:" in caddyfile
    mounted = dict(text.split(":")[:2] for text in found["proxy"]["volumes"] if text.startswith("./"))
    assert (DEPLOY / "caddy" / "Caddyfile").samefile(DEPLOY / next(iter(mounted)))
    assert {"/etc/caddy/secondread.crt", "/etc/caddy/secondread.key"} <= set(mounted.values())
    assert (DEPLOY / found["app"]["build"] / "Dockerfile").is_file()


# systemd


@pytest.mark.parametrize("name", sorted(UNITS))
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    program = needed_program("systemd-analyze", "systemd")
    for each, unit in UNITS.items():  # the program that it starts must exist, or systemd says so and nothing else
        text = filled(unit.read_text(encoding="utf-8"), {"/opt/secondread/.venv/bin/python": sys.executable})
        (tmp_path / f"{each}.service").write_text(text)
    path = str(tmp_path / f"{name}.service")
    done = subprocess.run([program, "verify", "--man=no", path], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "secondread" in line]
    assert done.returncode == 0 and said == [], done.stderr
    done = subprocess.run(
        [program, "security", "--offline=yes", "--threshold=40", "--no-pager", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:]


def test_the_units_set_what_the_application_understands() -> None:
    example = variables((DEPLOY / "systemd" / "environment.example").read_text(encoding="utf-8"))
    for name, unit in UNITS.items():
        stated = dict(text.split("=", 1) for text in directives(unit, "Environment"))
        settings = Settings.from_environment({**stated, **example})
        assert settings.cookie_secure and settings.database_url.startswith("postgresql://")
        assert settings.state_dir == Path("/var/lib/secondread")
        assert directives(unit, "StateDirectory") == ["secondread"] and directives(unit, "User") == ["secondread"]
        assert settings.worker == (name == "secondread-worker")  # the application starts none of its own


def test_the_units_start_the_application_and_a_worker(tmp_path: Path) -> None:
    words = {name: directives(unit, "ExecStart")[0].split() for name, unit in UNITS.items()}
    assert {command[0] for command in words.values()} == {"/opt/secondread/.venv/bin/python"}
    assert words["secondread"][1:] == ["-m", "streamlit", "run", "app.py"]  # which is what `running_app` starts
    stated = dict(text.split("=", 1) for text in directives(UNITS["secondread-worker"], "Environment"))
    here = {name: value.replace("/var/lib/secondread", str(tmp_path / "state")) for name, value in stated.items()}
    assert run_worker(words["secondread-worker"][1:], ROOT, here) == 0
    assert words["secondread-dicom"][1:] == ["-m", "core", "dicom-listen"]  # which is what test_listener starts
