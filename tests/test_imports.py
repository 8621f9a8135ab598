"""Which room may look into which: the arrows of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for path in [ROOT / "app.py", *(p for room in ("core", "train", "pages") for p in (ROOT / room).rglob("*.py"))]
    if "__pycache__" not in path.parts
)
WITH_TENSORFLOW = {
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "core/models/architectures").glob("*.py")),
    "core/models/inference.py",
    "core/models/explain.py",
    "core/commands/bench.py",
    "train/beside.py",
    "train/bench.py",
    "train/fit.py",
    "train/epoch_loop.py",
    "train/training_step.py",
    "train/batches.py",
    "train/head.py",
    "train/network.py",
    "train/augment.py",
    "train/squares.py",
    "train/measure.py",
    "train/distil.py",
    "train/pretrained.py",
}
"""The only modules that may import TensorFlow or Keras (about four seconds)."""
TRAIN_FOR_PAGES = {"beside", "jobs", "config", "worker", "speed", "data", "split", "audit", "hospital", "publish"}
TRAIN_FOR_PAGES |= {"import_queue", "staging", "versions", "near_duplicates", "overview"}
TRAIN_FOR_PAGES |= {"linked", "hospital_columns", "own_reads", "leak_check", "results", "programme"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module a file imports, also inside functions, except for type checking."""
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8"))))


def _imports(tree: ast.Module) -> Iterator[str]:
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_by(*prefixes: str) -> Iterator[tuple[str, str]]:
    for path in SOURCES:
        if name_of(path).startswith(prefixes):
            yield from ((name_of(path), module) for module in imports(path))


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_core_knows_neither_the_screen_nor_training() -> None:
    wrong = [(file, module) for file, module in imported_by("core/") if within(module, "streamlit", "pages", "train")]
    assert not wrong


def test_training_knows_no_page() -> None:
    assert not [pair for pair in imported_by("train/") if within(pair[1], "streamlit", "pages")]


def test_pages_and_app_import_neither_tensorflow_nor_the_database_library() -> None:
    wrong = [
        pair
        for pair in imported_by("pages/", "app.py")
        if within(pair[1], "tensorflow", "keras", "sqlalchemy", "sqlite3")
    ]
    assert not wrong


def test_pages_see_only_the_light_part_of_training() -> None:
    wrong = [
        (file, module)
        for file, module in imported_by("pages/", "app.py")
        if within(module, "train") and module.split(".")[1:2] and module.split(".")[1] not in TRAIN_FOR_PAGES
    ]
    assert not wrong


def test_tensorflow_is_imported_only_where_networks_are() -> None:
    wrong = {
        file
        for file, module in imported_by("core/", "train/")
        if within(module, "tensorflow", "keras", "tf_keras_vis") and file not in WITH_TENSORFLOW
    }
    assert not wrong


def test_inside_core_the_arrows_go_one_way() -> None:
    order = {
        "core/imaging/": ("core.models", "core.records", "core.reports", "core.evaluation", "core.server"),
        "core/evaluation/": ("core.records", "core.reports", "core.server"),
        "core/models/": ("core.records", "core.reports", "core.server"),
        "core/records/": ("core.reports", "core.server"),
    }
    for room, forbidden in order.items():
        assert not [pair for pair in imported_by(room) if within(pair[1], *forbidden)], room
    nouns = [pair for pair in imported_by("core/types.py", "core/errors.py") if within(pair[1], "core")]
    assert {module.split(".")[1] for _, module in nouns} <= {"errors"}


def test_only_the_settings_read_the_environment() -> None:
    allowed = {"core/settings.py", "core/__main__.py", "core/imaging/decode_process.py"}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if name_of(path) not in allowed:
            assert "os.environ" not in text and "getenv" not in text, name_of(path)


def test_no_page_lies_where_streamlit_would_serve_it_without_sign_in() -> None:
    assert [path.name for path in (ROOT / "pages").glob("*.py")] == ["__init__.py"]


LIGHT = (
    "from core.settings import Settings; from core.models.cards import all_cards, headline;"
    "[headline(card) for card in all_cards(Settings())]",
    "import core.imaging.intake, core.records.db, core.records.reads, core.reports.document, core.models.registry",
    "import core.evaluation.metrics, core.__main__, train.__main__, train.data, train.publish",
    "import core.evaluation.published, train.results, train.programme, train.runs, train.ensembles, train.evaluate",
    "import app, pkgutil, importlib, pages.parts;"
    "[importlib.import_module(f'pages.parts.{part.name}') for part in pkgutil.iter_modules(pages.parts.__path__)]",
)
"""One after the other in one process: the first that loads TensorFlow is named."""


def test_listing_models_and_starting_up_load_no_tensorflow(tmp_path: Path) -> None:
    check = f"""
import sys
for statement in {LIGHT!r}:
    exec(statement)
    if 'tensorflow' in sys.modules or 'keras' in sys.modules:
        sys.exit(statement)
"""
    environment = {**os.environ, "SECONDREAD_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "state").exists(), "importing a module creates nothing"
