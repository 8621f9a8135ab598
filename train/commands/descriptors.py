"""`python -m train descriptors`: what measured descriptors of ultrasound lesions are worth, into docs/findings.md."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import write_whole
from train.commands import options
from train.datasets.manifest import add_rows

if TYPE_CHECKING:
    import pandas as pd

    from core.models.cards import Card
    from train.datasets.manifest import Manifest

IMAGE_MODEL = "ultrasound-efficientnet_lite0-two-collections"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--data", required=True, type=Path, metavar="MANIFEST", help="CSV with file,label,mask and more"
    )
    parser.add_argument(
        "--also", action="append", default=[], type=Path, metavar="MANIFEST", help="a further collection"
    )
    add_rows(parser)
    options.add_weights(parser)
    parser.add_argument("--model", default=IMAGE_MODEL, metavar="MODEL_ID", help="the image model to compare with")
    options.add_page(parser, "findings.md")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="write the measured numbers of every lesion there")
    parser.add_argument(
        "--scores", action="store_true", help="write the descriptors' scores beside the image model's, for Compare"
    )
    parser.add_argument(
        "--proposed",
        action="store_true",
        help="measure within what the outline network proposes, on test cases of its own",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="with --proposed: on every lesion, by K networks fitted without it"
    )
    parser.add_argument("--epochs", type=int, help="of each of these networks (default: the recipe's)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep their working files there, to go on from")


def run(args: argparse.Namespace) -> int:
    """Measure, and replace the measured part of the page."""
    from core.evaluation.tables.cohort import FINDING_SCORERS, PROPOSED_SCORERS, finding_scores_file
    from core.models.cards import read_card
    from train.datasets.manifest import joined, read_manifest
    from train.publishing.descriptors import finding_scores, findings_page, measure_cases, with_known_scores

    card = read_card(args.weights / Path(args.model).name)
    place = "proposed descriptors" if args.proposed else "descriptors"
    options.opened_page(args.out, place)
    manifest = joined([read_manifest(path, root=args.root, where=args.where) for path in (args.data, *args.also)])
    if args.proposed:
        measured, lines = _proposed(args, manifest, card)
    else:
        measured = measure_cases(manifest)
        lines = findings_page(measured, card)
    if args.csv is not None:
        write_whole(args.csv, measured.to_csv(index=False))
    if args.scores:
        path = finding_scores_file(card)
        scores = finding_scores(measured, card, PROPOSED_SCORERS if args.proposed else FINDING_SCORERS)
        write_whole(path, with_known_scores(path, scores).to_csv(index=False))
    options.write_page(args.out, options.opened_page(args.out, place), place, lines)
    return 0


def _proposed(args: argparse.Namespace, manifest: Manifest, card: Card) -> tuple[pd.DataFrame, list[str]]:
    from core.models.outline_card import FOLDER, read_outline_card
    from train.publishing.descriptors import measure_cases
    from train.publishing.outline import by_shipped, out_of_fold
    from train.publishing.proposed_descriptors import measure_proposals, proposed_page
    from train.recipe.outline import request_like

    network = read_outline_card(args.weights / FOLDER)
    request = request_like(
        network, args.data, also=tuple(args.also), root=args.root, where=tuple(args.where), epochs=args.epochs
    )
    own, unseen = measure_proposals(manifest, by_shipped(network, request)), None
    if args.folds is not None:
        with tempfile.TemporaryDirectory() if args.work is None else nullcontext(args.work) as folder:
            unseen = measure_proposals(manifest, out_of_fold(request, args.folds, Path(folder)))
    lines = proposed_page(own, measure_cases(manifest), card, unseen)
    return (own if unseen is None else unseen).measured, lines
