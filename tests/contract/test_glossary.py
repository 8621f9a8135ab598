"""Names say what docs/glossary.md says: functions, classes, constants and files; prose is free."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import REPOSITORY

SOURCES = sorted(
    path
    for path in [
        REPOSITORY / "app.py",
        *(p for room in ("core", "train", "pages") for p in (REPOSITORY / room).rglob("*.py")),
    ]
    if path.suffix == ".py" and not {"__pycache__", "migrations"} & set(path.parts)
)
FORBIDDEN = {
    "beside", "meanwhile", "keep", "kept", "collect", "collected", "choosing", "openings", "silent", "silently",
    "afterwards", "wish", "draws", "workbench", "house", "visit", "demand", "alike", "alikes", "told", "tell",
    "utils", "helpers", "helper", "common", "misc", "manager",
}  # fmt: skip
OVERLOADED = ("red_line", "look_alike", "in_line")
AS_FUNCTION = {"words"}
SETTINGS = {"keep_pixels_days", "KEEP"}
"""Names that sites and cards know: the setting SECONDREAD_KEEP_PIXELS_DAYS."""


def parts_of(name: str) -> list[str]:
    """ "ShadowRun" and "_shadow_run" are "shadow", "run"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")


def names_in(path: Path) -> Iterator[tuple[str, str]]:
    """Kind and name of everything that other code calls by name."""
    yield "file", path.stem if path.stem != "__init__" else path.parent.name
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield "function", node.name
        elif isinstance(node, ast.ClassDef):
            yield "class", node.name
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (("constant", target.id) for target in targets if isinstance(target, ast.Name))


def wrong_in(kind: str, name: str) -> set[str]:
    """The words of a name that the glossary does not know, or knows as something else."""
    if name in SETTINGS:
        return set()
    words = set(parts_of(name))
    found = words & FORBIDDEN | {word for word in OVERLOADED if word in name.lower()}
    return found | (words & AS_FUNCTION if kind == "function" else set())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("function", "keep_file"),
        ("class", "Workbench"),
        ("function", "gpu_words"),
        ("file", "look_alikes"),
        ("class", "RedLine"),
    ],
)
def test_a_forbidden_name_is_found(kind: str, name: str) -> None:
    assert wrong_in(kind, name) or wrong_in(kind, "_".join(parts_of(name)))


def test_names_are_those_of_the_glossary() -> None:
    wrong = {
        f"{path.relative_to(REPOSITORY)}: {kind} {name}": sorted(found)
        for path in SOURCES
        for kind, name in names_in(path)
        if (found := wrong_in(kind, name))
    }
    assert not wrong
