"""Which room may look into which: the arrows of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from core.settings import REPOSITORY

ROOT = REPOSITORY
SOURCES = sorted(
    path
    for path in [ROOT / "app.py", *(p for room in ("core", "train", "pages") for p in (ROOT / room).rglob("*.py"))]
    if "__pycache__" not in path.parts
)
WITH_TENSORFLOW = (
    "core/models/architectures/",
    "core/models/inference.py",
    "core/models/openvino_engine.py",
    "train/fitting/",
    "core/commands/bench.py",
)
"""Where TensorFlow or Keras (about four seconds) may be imported: networks, their training, and the benchmarks."""
TRAIN_FOR_PAGES = ("train.recipe", "train.datasets", "train.publishing", "train.queue")


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


def test_no_page_runs_a_model_or_starts_a_thread_or_a_process() -> None:
    """A page asks `core.reading` for a read, and the queue for a training."""
    own = ("threading", "concurrent", "multiprocessing", "subprocess", "core.models.inference", "core.models.loaded")
    assert not [pair for pair in imported_by("pages/") if within(pair[1], *own)]


def test_pages_see_only_the_light_part_of_training() -> None:
    wrong = [
        (file, module)
        for file, module in imported_by("pages/", "app.py")
        if within(module, "train") and module != "train" and not within(module, *TRAIN_FOR_PAGES)
    ]
    assert not wrong


def test_tensorflow_is_imported_only_where_networks_are() -> None:
    wrong = {
        file
        for file, module in imported_by("core/", "train/")
        if within(module, "tensorflow", "keras", "tf_keras_vis") and not file.startswith(WITH_TENSORFLOW)
    }
    assert not wrong


def test_inside_core_the_arrows_go_one_way() -> None:
    order = {
        "core/imaging/": (
            "core.models",
            "core.records",
            "core.reading",
            "core.reports",
            "core.evaluation",
            "core.server",
            "core.archive",
        ),
        "core/evaluation/": ("core.records", "core.reading", "core.reports", "core.server", "core.archive"),
        "core/models/": (
            "core.evaluation",
            "core.records",
            "core.reading",
            "core.reports",
            "core.server",
            "core.archive",
        ),
        "core/records/": ("core.reading", "core.reports", "core.server", "core.archive"),
        "core/reading/": ("core.server", "core.archive"),
    }
    for room, forbidden in order.items():
        assert not [pair for pair in imported_by(room) if within(pair[1], *forbidden)], room
    nouns = [pair for pair in imported_by("core/types.py", "core/errors.py") if within(pair[1], "core")]
    assert {module.split(".")[1] for _, module in nouns} <= {"errors"}


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    return {name_of(path)[:-3].replace("/", ".").removesuffix(".__init__"): path for path in SOURCES}


def imported_modules(path: Path) -> set[str]:
    """Our own modules that a file imports, also inside functions, except for type checking."""
    return {module for module in imports(path) if module in modules()} - {
        package for module in imports(path) for package in [module.rpartition(".")[0]] if module in modules()
    }


def test_there_is_no_import_circle() -> None:
    """Also none that an import inside a function hides."""
    arrows = {name: imported_modules(path) - {name} for name, path in modules().items()}
    while free := {name for name, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {name: targets for name, targets in arrows.items() if name not in free}
    in_circles = {name: sorted(targets & arrows.keys()) for name, targets in arrows.items()}
    assert not in_circles


def test_nothing_imports_a_main_program() -> None:
    wrong = [pair for pair in imported_by("app.py", "core/", "train/", "pages/") if "__main__" in pair[1].split(".")]
    assert not wrong


def test_only_the_settings_read_the_environment() -> None:
    allowed = {"core/settings.py", "core/__main__.py", "core/imaging/decode_process.py"}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if name_of(path) not in allowed:
            assert "os.environ" not in text and "getenv" not in text, name_of(path)


def test_no_page_lies_where_streamlit_would_serve_it_without_sign_in() -> None:
    assert [path.name for path in (ROOT / "pages").glob("*.py")] == ["__init__.py"]


LIGHT = (
    "from core.settings import Settings; from core.models.cards import all_cards;"
    "from core.evaluation.tables.of_cards import headline;"
    "[headline(card) for card in all_cards(Settings())]",
    "import core.imaging.intake, core.records.database.db, core.records.reads.reads, core.reports.pdf",
    "import core.models.registry, core.serving.client, core.serving.service",
    "import core.evaluation.statistics.metrics, importlib, core.__main__ as of_core, train.__main__ as of_train;"
    "from core.commands import file_of;"
    "[importlib.import_module('core.commands.' + file_of(name)) for name in of_core.COMMANDS];"
    "[importlib.import_module('train.commands.' + file_of(name)) for name in of_train.COMMANDS]",
    "import train.datasets.manifest, train.publishing.publish",
    "import core.evaluation.published, train.publishing.results, train.recipe.programme, train.commands.all",
    "import train.publishing.ensembles, train.publishing.evaluate",
    "import app, pkgutil, importlib, pages;"
    "found = [one.name for one in pkgutil.walk_packages(pages.__path__, 'pages.')];"
    "[importlib.import_module(name) for name in found if 'parts.' in name]",
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


def test_a_command_loads_the_file_of_no_other() -> None:
    check = "import sys\nfrom core.__main__ import main\nmain(['people', '--help'])\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "core.commands.people" in loaded and "core.commands.read" not in loaded and "pandas" not in loaded


def test_a_child_that_decodes_does_not_wait_for_settings() -> None:
    check = "import sys, core.imaging.deidentify_process\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "core.imaging.decode_process" in loaded and not {"pydantic", "core.settings"} & set(loaded)
