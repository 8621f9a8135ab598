"""`python -m train amend`: published cards say what this version would have them say, without training anew."""

from __future__ import annotations

import argparse
import logging

from train.commands import options

log = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_weights(parser)


def run(args: argparse.Namespace) -> int:
    """Amend every card of the folder and log what changed."""
    from train.publishing.backfill import amend

    logging.getLogger("alembic").setLevel(logging.WARNING)
    for path in sorted(args.weights.glob("*/card.json")):
        for change in amend(path.parent):
            log.info("%s: %s", path.parent.name, change)
    return 0
