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
    from core.models.cards import read_card
    from train.publishing.backfill import amend, measure_branches, measure_maps, name_the_better

    if args.data is not None:
        options.require_folder(args.data)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    folders = [path.parent for path in sorted(args.weights.glob("*/card.json"))]
    of_pictures = (measure_branches, measure_maps) if args.data is not None else ()
    for folder in sorted(folders, key=lambda one: bool(read_card(one).members)):  # an ensemble after its members
        changes = amend(folder)
        for measure in of_pictures:
            changes += measure(folder, args.data)
        for change in changes:
            log.info("%s: %s", folder.name, change)
    cards = [read_card(folder) for folder in folders]
    for card in cards:
        if card.architecture == "fusion":
            for change in name_the_better(card, [other for other in cards if other is not card]):
                log.info("%s: %s", card.model_id, change)
    return 0
