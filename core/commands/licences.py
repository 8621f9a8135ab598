"""`python -m core licences`: the table of dependencies in docs/licences.md, made anew from what is installed."""

from __future__ import annotations

import argparse
import sys

from core.reports.licences import dependencies, page_with, table
from core.settings import REPOSITORY

PAGE = REPOSITORY / "docs" / "licences.md"


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command and its options."""
    parser = subparsers.add_parser("licences", help="write the dependencies and their licences into docs/licences.md")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rewrite the page between its markers."""
    entries = dependencies(REPOSITORY / "requirements.txt")
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), table(entries)), encoding="utf-8")
    sys.stdout.write(f"{len(entries)} packages, {sum(entry.is_copyleft for entry in entries)} under the GPL or AGPL\n")
    return 0
