"""`python -m train descriptors`: what measured descriptors of ultrasound lesions are worth, into docs/findings.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.errors import InvalidInput
from core.files import write_whole
from core.settings import REPOSITORY

IMAGE_MODEL = "ultrasound-efficientnet_lite0-two-collections"


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command and its options."""
    parser = subparsers.add_parser(
        "descriptors", help="measure the descriptors of outlined ultrasound lesions and write docs/findings.md"
    )
    parser.add_argument(
        "--data", required=True, type=Path, metavar="MANIFEST", help="CSV with file,label,mask and more"
    )
    parser.add_argument(
        "--also", action="append", default=[], type=Path, metavar="MANIFEST", help="a further collection"
    )
    parser.add_argument("--root", type=Path, help="what the manifests' files are relative to (default: the folder)")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE[|VALUE]", help="only such rows")
    parser.add_argument("--weights", type=Path, default=REPOSITORY / "weights", metavar="DIR", help="weights folder")
    parser.add_argument("--model", default=IMAGE_MODEL, metavar="MODEL_ID", help="the image model to compare with")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "findings.md", metavar="MARKDOWN")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="write the measured numbers of every lesion there")
    parser.add_argument(
        "--scores", action="store_true", help="write the descriptors' scores beside the image model's, for Compare"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, and replace the measured part of the page."""
    from core.evaluation.tables.cohort import finding_scores_file
    from core.models.cards import read_card
    from train.datasets.manifest import joined, read_manifest
    from train.publishing.descriptors import finding_scores, findings_page, measure_cases, replaced

    card = read_card(args.weights / Path(args.model).name)
    if not args.out.is_file():
        raise InvalidInput(
            f"There is no page at {args.out}. Give one that has the place for the descriptors with --out."
        )
    page = args.out.read_text(encoding="utf-8")
    replaced(page, "descriptors", [])  # refuses a page without the place before anything is measured
    manifest = joined([read_manifest(path, root=args.root, where=args.where) for path in (args.data, *args.also)])
    measured = measure_cases(manifest)
    if args.csv is not None:
        write_whole(args.csv, measured.to_csv(index=False))
    if args.scores:
        write_whole(finding_scores_file(card), finding_scores(measured, card).to_csv(index=False))
    write_whole(args.out, replaced(page, "descriptors", findings_page(measured, card)))
    sys.stdout.write(f"written: {args.out}\n")
    return 0
