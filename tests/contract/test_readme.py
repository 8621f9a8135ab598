"""What the README says exists and runs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from core.commands.models import BEGIN, END, readme_table
from core.models.cards import live_cards, shipped_cards
from core.settings import REPOSITORY, Settings

ROOT = REPOSITORY
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACES = re.findall(r"`((?:app|core|pages|train)[\w/]*\.py):(\w+)`", README)
COMMANDS = sorted(set(re.findall(r"python -m (core|train) (\w[\w-]*)", README)))


def test_follow_one_image_has_its_seven_steps() -> None:
    section = README.partition("## Follow one image")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d\. ", section, re.MULTILINE)) == 7


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_every_place_the_readme_names_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert name in defined


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\w+)", README, re.MULTILINE))))
def test_every_make_command_is_a_target(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", sorted({package for package, _ in COMMANDS}))
def test_every_package_runs_as_a_program(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", package, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


@pytest.mark.parametrize(("package", "command"), COMMANDS)
def test_every_python_command_helps(package: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = importlib.import_module(f"{package}.__main__").main([command, "--help"])
    except SystemExit as ended:
        status = ended.code
    assert status == 0 and f"{package} {command}" in capsys.readouterr().out


def test_the_table_of_models_is_made_from_their_cards() -> None:
    written = README.partition(BEGIN)[2].partition(END)[0].strip()
    assert written == readme_table(Settings(weights_dir=ROOT / "weights"))
    assert 0 < len(table_rows()) < len(shipped_cards(ROOT / "weights")), "only those that have weights here"


def table_rows() -> dict[str, str]:
    """Model -> what the table says about whether it answers."""
    table = README.partition(BEGIN)[2].partition(END)[0]
    return dict(re.findall(r"^\| `([\w-]+)`[^|]* \| ([^|]+) \|", table, re.MULTILINE))


def test_the_models_that_the_table_says_answer_are_those_of_a_new_site(tmp_path: Path) -> None:
    live = live_cards(Settings(weights_dir=ROOT / "weights", state_dir=tmp_path))
    assert {name for name, answers in table_rows().items() if answers == "yes"} == {card.model_id for card in live}
    assert set(table_rows().values()) <= {"yes", "measured only"}
    (of_mammograms,) = [card.model_id for card in live if card.modality == "mammography"]
    assert of_mammograms == "mammography-ensemble-rsna", "the first sentence says that nothing else answers"


def test_files_the_readme_links_to_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_setting_is_in_the_table_of_the_readme_and_no_other() -> None:
    table = README.partition("## Configuration")[2].partition("\n## ")[0]
    named = set(re.findall(r"`SECONDREAD_(\w+)`", "\n".join(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE))))
    known = {knob.name.upper() for knob in fields(Settings)}
    assert named == known
