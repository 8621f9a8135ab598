"""`python -m train mammograms`: what measured density and asymmetry are worth, into docs/findings.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core.errors import InvalidInput
from core.files import write_whole
from train.commands import options
from train.datasets.manifest import add_rows


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--data", required=True, action="append", type=Path, metavar="MANIFEST",
        help="CSV with file,label,patient,laterality,view and density or density_mias; several times for several",
    )  # fmt: skip
    add_rows(parser)
    options.add_page(parser, "findings.md")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="write the measured numbers of every woman there")


def run(args: argparse.Namespace) -> int:
    """Measure, and replace the measured part of the page."""
    from train.datasets.manifest import joined, read_manifest
    from train.publishing.descriptors import replaced
    from train.publishing.mammograms import mammograms_page, measure_women

    if not args.out.is_file():
        raise InvalidInput(f"There is no page at {args.out}. Give one that has the place for mammograms with --out.")
    page = args.out.read_text(encoding="utf-8")
    replaced(page, "mammograms", [])  # refuses a page without the place before anything is measured
    measured = measure_women(joined([read_manifest(path, root=args.root, where=args.where) for path in args.data]))
    if args.csv is not None:
        write_whole(args.csv, measured.density.to_csv(index=False))
    write_whole(args.out, replaced(page, "mammograms", mammograms_page(measured)))
    sys.stdout.write(f"written: {args.out}\n")
    return 0
