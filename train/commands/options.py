"""Options that several sub-commands share, so that they are spelt and explained once."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.errors import InvalidInput
from core.settings import REPOSITORY


def add_weights(parser: argparse.ArgumentParser, name: str = "--weights") -> None:
    """The folder of the published models."""
    parser.add_argument(
        name, type=Path, default=REPOSITORY / "weights", metavar="DIR", help="weights folder (default: weights)"
    )


def add_page(parser: argparse.ArgumentParser, page: str) -> None:
    """The page of `docs/` that is written."""
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / page, metavar="MARKDOWN")


def add_published(parser: argparse.ArgumentParser, default: str) -> None:
    """Models that are published and the data they came from. default: which they are without names, in words."""
    parser.add_argument("models", nargs="*", metavar="MODEL_ID", help=f"default: {default}")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="holds the manifests and their files")
    add_weights(parser)


def require_folder(data: Path) -> None:
    """Raises InvalidInput where `--data` names no folder."""
    if not data.is_dir():
        raise InvalidInput("--data names no folder. Give the one that holds the manifests and their files.")
