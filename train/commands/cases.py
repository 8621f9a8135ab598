"""`python -m train cases`: list the cases of models that were made before their folders said them."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from core.errors import AppError
from train.commands import options

log = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_published(parser, "every model of the weights folder")


def run(args: argparse.Namespace) -> int:
    """0 when every model lists its cases, else 1: one that cannot does not keep the others from it."""
    from core.models.cards import read_card
    from train.publishing.backfill import Lister

    logging.getLogger("alembic").setLevel(logging.WARNING)
    options.require_folder(args.data)
    names = args.models or sorted(path.parent.name for path in args.weights.glob("*/card.json"))
    folders = [args.weights / Path(name).name for name in names]
    # Ensembles last: their table is made of their members'.
    folders.sort(key=lambda folder: bool(read_card(folder).members))
    lister, failed = Lister(args.data, _log_progress), 0
    for folder in folders:
        try:
            is_listed, is_grouped = lister.list_cases(folder), lister.group_cases(folder)
            log.info("%s: %s", folder.name, "listed" if is_listed or is_grouped else "there already")
        except AppError as refused:
            failed += 1
            log.error("%s: %s", folder.name, refused)
    return 1 if failed else 0


def _log_progress(done: int, of: int) -> None:
    if done % 100 == 0:
        log.info("%d of %d pictures", done, of)
