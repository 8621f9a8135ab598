"""`python -m train bench`: an epoch of head training on kept features against running the frozen backbone again."""

from __future__ import annotations

import argparse
import sys

from core.commands.bench_report import load_by_core, write_section


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--cases", type=int, default=160, help="made-up cases of 160 x 160 pixels (default: 160)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")


def run(args: argparse.Namespace) -> int:
    """Print the table, and write it where that is asked."""
    from train.fitting.bench import head_training_lines

    load_before = load_by_core()
    lines = head_training_lines(max(16, args.cases), max(1, args.rounds))
    sys.stdout.write("\n".join([*lines, ""]))
    if args.write:
        write_section("Head training", lines, load_before=load_before)
    return 0
