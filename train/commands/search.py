"""`python -m train search`: short fits with other settings, the best of them fitted again with several seeds."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from core.errors import InvalidInput
from train.commands.fit import add_options, check_options, working_folder

log = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command and its options."""
    parser = subparsers.add_parser("search", help="try settings on the validation cases and fit the best ones again")
    add_options(parser)
    parser.add_argument("--trials", type=int, default=12, metavar="N", help="settings to try (default: 12)")
    parser.add_argument("--refits", type=int, default=3, metavar="K", help="seeds for the best ones (default: 3)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Search, refit, measure, publish. TensorFlow is loaded here, after the arguments were read."""
    check_options(args)
    if args.folds:
        raise InvalidInput("A search chooses on one validation split; leave out --folds.")
    for option, most in (("trials", 200), ("refits", 10)):
        if not 1 <= getattr(args, option) <= most:
            raise InvalidInput(f"--{option} can be 1 to {most}.")
    from train.publishing.search import search_model

    with working_folder(args.work) as folder:
        card = search_model(args, Path(folder))
    log.info("written: %s", card)
    return 0
