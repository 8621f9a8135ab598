"""`python -m train cases`: list the cases of models that were made before their folders said them."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from train.commands import options

log = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_published(parser, "every model of the weights folder")


def run(args: argparse.Namespace) -> int:
    """0 when every model lists its cases, else 1."""
    from core.models.cards import read_card
    from train.publishing.backfill import Lister

    logging.getLogger("alembic").setLevel(logging.WARNING)
    options.require_folder(args.data)
    names = args.models or sorted(path.parent.name for path in args.weights.glob("*/card.json"))
    lister = Lister(args.data, _log_progress)

    def list_cases(name: str) -> None:
        is_listed, is_grouped = lister.list_cases(args.weights / name), lister.group_cases(args.weights / name)
        log.info("%s: %s", name, "listed" if is_listed or is_grouped else "there already")

    # Ensembles last: their table is made of their members'.
    ordered = sorted((Path(name).name for name in names), key=lambda name: bool(read_card(args.weights / name).members))
    return options.each(ordered, list_cases)


def _log_progress(done: int, of: int) -> None:
    if done % 100 == 0:
        log.info("%d of %d pictures", done, of)
