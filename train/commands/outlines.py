"""`python -m train outlines`: the measured table of the outline network, into docs/findings.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.files import write_whole
from core.settings import REPOSITORY


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command and its options."""
    parser = subparsers.add_parser("outlines", help="write how well the outline network outlines into docs/findings.md")
    parser.add_argument("--weights", type=Path, default=REPOSITORY / "weights", metavar="DIR", help="weights folder")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "findings.md", metavar="MARKDOWN")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replace the measured part of the page."""
    import pandas as pd

    from core.models.outline_card import FOLDER, read_outline_card
    from train.publishing.descriptors import replaced
    from train.publishing.outline_table import outline_page

    card = read_outline_card(args.weights / FOLDER)
    cases = pd.read_csv(card.folder / Path(card.cases).name, dtype={"patient": str})
    write_whole(args.out, replaced(args.out.read_text(encoding="utf-8"), "outlines", outline_page(cases)))
    sys.stdout.write(f"written: {args.out}\n")
    return 0
