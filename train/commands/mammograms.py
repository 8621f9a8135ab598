"""`python -m train mammograms`: what measured density and asymmetry are worth, into docs/findings.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.files import write_whole
from train.commands import options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    options.add_manifests(
        parser, "CSV with file,label,patient,laterality,view and density or density_mias; several times for several"
    )
    options.add_page(parser, "findings.md")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="write the measured numbers of every woman there")


def run(args: argparse.Namespace) -> int:
    """Measure, and replace the measured part of the page."""
    from train.datasets.manifest import joined, read_manifest
    from train.publishing.mammograms import mammograms_page, measure_women

    page = options.opened_page(args.out, "mammograms")
    measured = measure_women(joined([read_manifest(path, root=args.root, where=args.where) for path in args.data]))
    if args.csv is not None:
        write_whole(args.csv, measured.density.to_csv(index=False))
    options.write_page(args.out, page, "mammograms", mammograms_page(measured))
    return 0
