"""`python -m train outlines`: the measured table of the outline network, into docs/findings.md."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from core.errors import InvalidInput
from train.commands import options
from train.datasets.manifest import add_rows


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_weights(parser)
    options.add_page(parser, "findings.md")
    parser.add_argument(
        "--alone", metavar="COLLECTION", help="first fit a network on this collection alone and add what it finds"
    )
    parser.add_argument("--epochs", type=int, help="of that fit (default: the recipe's)")
    parser.add_argument("--budget-minutes", type=float, metavar="M", help="no epoch begins after so many minutes")
    parser.add_argument("--data", type=Path, metavar="MANIFEST", help="the pictures of the network's card")
    parser.add_argument("--also", action="append", default=[], type=Path, metavar="MANIFEST")
    add_rows(parser)
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep working files there, to go on from")


def run(args: argparse.Namespace) -> int:
    """Replace the measured part of the page."""
    import pandas as pd

    from core.models.outline_card import FOLDER, read_outline_card
    from train.publishing.outline_table import outline_page

    card = read_outline_card(args.weights / FOLDER)
    if args.alone:
        from train.publishing.outline import add_collection
        from train.recipe.outline import request_like

        if args.data is None:
            raise InvalidInput("--alone needs the pictures that the network was made from: name them with --data.")
        request = request_like(
            card, args.data, also=tuple(args.also), root=args.root, where=tuple(args.where), epochs=args.epochs
        )
        request = replace(request, budget_minutes=args.budget_minutes)
        with tempfile.TemporaryDirectory() if args.work is None else nullcontext(args.work) as folder:
            add_collection(card, request, args.alone, Path(folder))
    cases = pd.read_csv(card.folder / Path(card.cases).name, dtype={"patient": str})
    options.write_page(args.out, options.opened_page(args.out, "outlines"), "outlines", outline_page(cases))
    return 0
