"""`python -m train amend`: published cards say what this version would have them say, without training anew."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from train.commands import options

log = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_weights(parser)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the manifests and their files: also what takes pictures to be said"
    )


def run(args: argparse.Namespace) -> int:
    """Amend every card of the folder and log what changed."""
    from train.publishing.backfill import amend, measure_branches

    if args.data is not None:
        options.require_folder(args.data)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for path in sorted(args.weights.glob("*/card.json")):
        of_pictures = measure_branches(path.parent, args.data) if args.data is not None else []
        for change in [*amend(path.parent), *of_pictures]:
            log.info("%s: %s", path.parent.name, change)
    return 0
