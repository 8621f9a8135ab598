"""`python -m train candidates`: what the places are worth where mammography models look, into docs/findings.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.errors import InvalidInput
from core.files import write_whole
from train.commands import options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_manifests(
        parser, "CSV with file,label,source and mask, or MIAS's circles; several times for several collections"
    )
    options.add_weights(parser)
    parser.add_argument("--model", action="append", default=[], metavar="MODEL_ID", help="only these models")
    options.add_page(parser, "findings.md")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="write every candidate and what it hit there")


def run(args: argparse.Namespace) -> int:
    """Measure, and replace the measured part of the page."""
    from core.models.cards import shipped_cards
    from core.types import Modality
    from train.datasets.manifest import joined, read_manifest
    from train.publishing.candidates import candidates_page, measure_marks

    cards = [
        card
        for card in shipped_cards(args.weights)
        if card.modality is Modality.MAMMOGRAPHY
        and card.has_weights
        and (not args.model or card.model_id in args.model)
    ]
    if not cards:
        raise InvalidInput("None of these models reads mammograms and has its weights here.")
    page = options.opened_page(args.out, "candidates")
    manifest = joined([read_manifest(path, root=args.root, where=args.where) for path in args.data])
    measured = measure_marks(manifest, cards)
    if args.csv is not None:
        write_whole(
            args.csv, measured.marks.merge(measured.images, left_on="image", right_index=True).to_csv(index=False)
        )
    options.write_page(args.out, page, "candidates", candidates_page(measured))
    return 0
