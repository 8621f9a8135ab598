"""What several sub-commands share: options, spelt and explained once, and the pages that they write."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from core.errors import AppError, InvalidInput
from core.files import write_whole
from core.settings import REPOSITORY
from train.datasets.manifest import add_rows

log = logging.getLogger(__name__)


def add_weights(parser: argparse.ArgumentParser, name: str = "--weights") -> None:
    """The folder of the published models."""
    parser.add_argument(
        name, type=Path, default=REPOSITORY / "weights", metavar="DIR", help="weights folder (default: weights)"
    )


def add_page(parser: argparse.ArgumentParser, page: str) -> None:
    """The page of `docs/` that is written."""
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / page, metavar="MARKDOWN")


def opened_page(out: Path, place: str) -> str:
    """The text of a page that has the place for what is measured: without it nothing has to be measured.

    Raises InvalidInput.
    """
    from train.publishing.descriptors import replaced

    if not out.is_file():
        raise InvalidInput(f"There is no page at {out}. Give one that has the place for {place} with --out.")
    page = out.read_text(encoding="utf-8")
    replaced(page, place, [])
    return page


def write_page(out: Path, page: str, place: str, lines: Sequence[str]) -> None:
    """Write the page with these lines in that place, and say so."""
    from train.publishing.descriptors import replaced

    write_whole(out, replaced(page, place, lines))
    sys.stdout.write(f"written: {out}\n")


def add_manifests(parser: argparse.ArgumentParser, columns: str) -> None:
    """One or several collections, and which of their rows. columns: what is needed of them, in words."""
    parser.add_argument("--data", required=True, action="append", type=Path, metavar="MANIFEST", help=columns)
    add_rows(parser)


def each(models: Iterable[str], act: Callable[[str], object]) -> int:
    """0 when it was done for every model, else 1: one that cannot does not keep the others from it."""
    failed = 0
    for model in models:
        try:
            act(model)
        except AppError as refused:
            failed = 1
            log.error("%s: %s", model, refused)
    return failed


def add_published(parser: argparse.ArgumentParser, default: str) -> None:
    """Models that are published and the data they came from. default: which they are without names, in words."""
    parser.add_argument("models", nargs="*", metavar="MODEL_ID", help=f"default: {default}")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="holds the manifests and their files")
    add_weights(parser)


def require_folder(data: Path) -> None:
    """Raises InvalidInput where `--data` names no folder."""
    if not data.is_dir():
        raise InvalidInput("--data names no folder. Give the one that holds the manifests and their files.")
