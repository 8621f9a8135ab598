"""What contributors and sites are told exists and runs: documents, checks before a commit, hosted checks."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from core.settings import REPOSITORY

ROOT = REPOSITORY
DOCUMENTS = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/upgrading.md", "deploy/README.md")
TEXT = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
COMMANDS = sorted({found for text in TEXT.values() for found in re.findall(r"python -m (core|train) (\w[\w-]*)", text)})
TARGETS = sorted({found for text in TEXT.values() for found in re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)})
WORKFLOW = ROOT / ".github" / "workflows" / "checks.yml"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_a_document_links_to_exist(name: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT[name]):
        assert ((ROOT / name).parent / target).exists(), target


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_what_a_document_names(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("package", "command"), COMMANDS)
def test_commands_that_a_document_names_are_there(
    package: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = importlib.import_module(f"{package}.__main__").main([command, "--help"])
    except SystemExit as ended:
        status = ended.code
    assert status == 0 and f"{package} {command}" in capsys.readouterr().out


def test_every_target_of_make_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(phony.split()) - {"help"} == set(re.findall(r"^make ([\w-]+) ", said, re.MULTILINE))


def test_what_the_search_for_dead_code_leaves_out_is_there() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["vulture"]
    sources = [
        path
        for name in rules["paths"]
        for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert [name for name in rules["ignore_names"] if not re.search(rf"\b{name}\b", text)] == []


def test_the_version_has_its_changes() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", TEXT["CHANGELOG.md"], re.MULTILINE)
    assert headings[0] == "Unreleased" and version in headings


def upgrade_step(heading: str) -> str:
    return TEXT["docs/upgrading.md"].partition(f"## {heading}")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("heading", "verb"), [("2. Stop", "stop"), ("3. The new version", "start")])
def test_an_upgrade_stops_and_starts_every_unit(heading: str, verb: str) -> None:
    named = {
        word for words in re.findall(rf"systemctl {verb} ([^`#\n]*)", upgrade_step(heading)) for word in words.split()
    }
    assert {path.stem for path in (ROOT / "deploy" / "systemd").glob("*.service")} <= named


def test_an_upgrade_stops_every_container_that_runs_our_code_and_names_none_that_is_not_there() -> None:
    services: dict[str, object] = {}
    for name in ("compose.yaml", "cluster.compose.yaml"):
        services |= yaml.safe_load((ROOT / "deploy" / name).read_text(encoding="utf-8"))["services"]
    stops = re.findall(r"docker compose (?:-f \S+ )*stop ([^`#\n]*)", upgrade_step("2. Stop"))
    assert {word for words in stops for word in words.split()} == set(services) - {"database", "proxy"}


def test_the_way_back_with_compose_restores_the_backup_that_was_made_into_volumes_of_its_own() -> None:
    made, back = upgrade_step("1. Back up"), upgrade_step("When it fails")
    (copied,) = re.findall(r"docker compose cp app:(\S+) (\S+)/$", made, re.MULTILINE)
    assert f"docker compose exec app rm {copied[0]}" in made, "the copy is as secret as the state folder, and as large"
    (file,) = re.findall(r"--volume (\S+):ro app python -m core restore (\S+)$", back, re.MULTILINE)
    assert file == (f"{copied[1]}/{Path(copied[0]).name}:{file[1]}", file[1])
    project = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["name"]
    (other,) = re.findall(r"COMPOSE_PROJECT_NAME=(\S+)", back)
    assert other != project, "whose volumes stay as they are"


# Hosted checks


def test_the_hosted_checks_are_valid_by_their_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hosted_checks_run_what_the_own_check_runs_on_every_supported_python() -> None:
    job = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["checks"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (lowest, highest) = re.findall(r"not \(3, (\d+)\) <= sys.version_info\[:2\] <= \(3, (\d+)\)", makefile)[0]
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(lowest), int(highest) + 1)]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (packages,) = re.findall(r"^packages=\((.*)\)$", script, re.MULTILINE)
    run = "\n".join(step.get("run", "") for step in job["steps"])
    assert set(packages.split()) <= set(run.split())
    for command in ("make check", "make test", "make proof-short"):
        assert re.search(rf"^{command}$", script, re.MULTILINE) and command in run


def test_every_test_is_of_the_tests_or_of_the_short_proofs() -> None:
    """What one leaves out, the other runs; a name that is there no more would leave out nothing."""
    done = {
        name: subprocess.run(
            ["make", "--no-print-directory", "--dry-run", "--assume-old=.venv/.installed-dev", name],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
        for name in ("test", "proof-short")
    }  # fmt: skip
    left_out = re.findall(r"--ignore=(\S+)", done["test"])
    runs = done["proof-short"].strip().splitlines()
    assert len(runs) == 2 and left_out == [path for run in runs for path in run.partition("reorder ")[2].split()]
    assert all((ROOT / path).exists() for path in left_out)


# Before a commit


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """An empty repository with our hooks and the environment of these tests."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / ".gitignore").write_text(".venv\n")
    (tmp_path / ".pre-commit-config.yaml").write_text((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    return tmp_path


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


def hooks_say(clone: Path, *, skip: str = "types,dead-code") -> tuple[int, str]:
    """Status and words of the hooks on what is staged; without those that look at the whole product."""
    environment = {**os.environ, "SKIP": skip, "PRE_COMMIT_HOME": str(clone.parent / "pre-commit")}
    environment |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}  # nothing is fetched
    command = [sys.executable, "-m", "pre_commit", "run", "--color=never"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_clean_commit_passes(clone: Path) -> None:
    (clone / "clean.py").write_text("LIMIT = 1\n")
    git(clone, "add", "clean.py")
    status, words = hooks_say(clone)
    assert status == 0, words
    assert words.count("Passed") >= 5


@pytest.mark.parametrize(
    ("name", "content", "hook"),
    [
        ("picture.bin", b"\0" * (1000 * 1024 + 1), "no large files"),
        ("weights/model/a.safetensors", b"\0" * (65536 * 1024 + 1), "no file of weights"),
        ("unused.py", b"import os\n", "ruff check"),
        ("spaces.py", b"x  =  1\n", "ruff format"),
        ("key.txt", b"-----BEGIN " + b"PRIVATE KEY-----\n", "no private key"),
    ],
)
def test_what_does_not_belong_into_a_commit_is_refused(clone: Path, name: str, content: bytes, hook: str) -> None:
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    (clone / name).write_bytes(content)
    git(clone, "add", name)
    status, words = hooks_say(clone)
    failed = [line for line in words.splitlines() if line.endswith("Failed")]
    assert status == 1 and len(failed) == 1 and failed[0].startswith(hook), words


def test_weights_may_be_larger_than_other_files(clone: Path) -> None:
    path = clone / "weights" / "model" / "a.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0" * (1000 * 1024 + 1))
    git(clone, "add", "weights")
    assert hooks_say(clone)[0] == 0


def test_the_checks_before_a_commit_are_those_of_make_check() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    checks = re.findall(r"^\t@\$\(PY\) -m (\w+)", makefile.partition("\ncheck:")[2].partition("\n\n")[0], re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    run = [hook["entry"].split()[2] for hook in hooks if " -m " in hook["entry"]]
    assert checks == run == ["ruff", "ruff", "mypy", "vulture"]
