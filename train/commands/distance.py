"""`python -m train distance`: how far images lie from what published models learnt from."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from train.commands import options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_published(parser, "every network that has its weights")


def run(args: argparse.Namespace) -> int:
    """0 when every model has its distance, else 1."""
    from core.models.cards import shipped_cards
    from train.publishing.distances import measure_distance

    logging.getLogger("alembic").setLevel(logging.WARNING)
    options.require_folder(args.data)
    usual = [card.model_id for card in shipped_cards(args.weights) if card.has_weights and not card.members]
    return options.each(args.models or usual, lambda name: measure_distance(args.weights / Path(name).name, args.data))
