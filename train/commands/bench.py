"""`python -m train bench`: an epoch of head training on kept features against running the frozen backbone again."""

from __future__ import annotations

import argparse
import sys


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command and its options."""
    parser = subparsers.add_parser("bench", help="compare an epoch on kept features with running the backbone again")
    parser.add_argument("--cases", type=int, default=160, help="made-up cases of 160 x 160 pixels (default: 160)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from train.fitting.bench import head_training_lines

    for line in head_training_lines(max(16, args.cases), max(1, args.rounds)):
        sys.stdout.write(line + "\n")
    return 0
