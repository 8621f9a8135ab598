"""`python -m train distance`: how far images lie from what published models learnt from."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from core.errors import AppError
from train.commands import options

log = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_published(parser, "every network that has its weights")


def run(args: argparse.Namespace) -> int:
    """0 when every model has its distance, else 1: one that cannot does not keep the others from it."""
    from core.models.cards import shipped_cards
    from train.publishing.distances import measure_distance

    logging.getLogger("alembic").setLevel(logging.WARNING)
    options.require_folder(args.data)
    usual = [card.model_id for card in shipped_cards(args.weights) if card.has_weights and not card.members]
    failed = 0
    for name in args.models or usual:
        try:
            measure_distance(args.weights / Path(name).name, args.data)
        except AppError as refused:
            failed += 1
            log.error("%s: %s", name, refused)
    return 1 if failed else 0
