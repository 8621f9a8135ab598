"""`python -m train look`: measure pictures for the look at the pixels, fit its networks, print how they do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.imaging.suitability import NETWORKS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="breast images: folders with a manifest.csv below it")
    parser.add_argument("--others", type=Path, metavar="DIR", help="other pictures: one folder a collection")
    parser.add_argument("--measures", type=Path, required=True, metavar="CSV", help="the table; made from --data if so")
    parser.add_argument("--most", type=int, default=450, help="pictures of one collection (default: 450)")
    parser.add_argument("--fit", action="store_true", help=f"write {NETWORKS.name} anew from the table")


def run(args: argparse.Namespace) -> int:
    """Measure where `--data` is given, fit where `--fit` is, and print the tables."""
    import pandas as pd

    from train.datasets import look

    if args.data is not None:
        look.measured(args.data, args.others, most=args.most).to_csv(args.measures, index=False)
    table = pd.read_csv(args.measures, dtype={"collection": str, "kind": str, "group": str})
    if args.fit:
        look.write(look.fit(table))
    for line in look.lines(table):
        sys.stdout.write(line + "\n")
    return 0
