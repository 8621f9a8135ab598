"""`python -m train results`: docs/results.md from the cards and scores."""

from __future__ import annotations

import argparse
import sys

from core.files import write_whole
from train.commands import options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_weights(parser)
    options.add_page(parser, "results.md")


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    from train.publishing.results import results_page

    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, results_page(args.weights))
    sys.stdout.write(f"written: {args.out}\n")
    return 0
