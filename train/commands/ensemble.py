"""`python -m train ensemble`: several published models as one."""

from __future__ import annotations

import argparse
import logging

from core.errors import InvalidInput
from train.commands import options
from train.recipe.request import MODEL_ID

log = logging.getLogger(__name__)

METHODS = ("soft", "weighted", "stacking")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("members", nargs="+", metavar="MODEL_ID", help="of one modality and one split")
    parser.add_argument("--method", choices=METHODS, default="weighted")
    parser.add_argument("--name", required=True, metavar="MODEL_ID", help="of the ensemble")
    options.add_weights(parser, "--out")
    parser.add_argument("--why", default="", metavar="SENTENCE", help="why these members, for the card")


def run(args: argparse.Namespace) -> int:
    """Combine and publish."""
    from train.publishing.ensembles import make_ensemble

    for name in (args.name, *args.members):
        if not MODEL_ID.fullmatch(name):
            raise InvalidInput(f"{name!r} is not the name of a model: letters, digits, '-', '_' and '.'.")
    card = make_ensemble(args.members, args.method, args.out, name=args.name, why=args.why)
    log.info("written: %s", card)
    return 0
