"""`python -m train import`: a manifest from a data set as it is published."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from train.datasets.importers import IMPORTERS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    kinds = "\n".join(f"  {entry.id:12} {entry.title}" for entry in IMPORTERS)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"kinds:\n{kinds}"
    parser.add_argument("kind", choices=[entry.id for entry in IMPORTERS])
    parser.add_argument("source", type=Path, help="the data set's folder (.npz file for breastmnist)")
    parser.add_argument("--out", required=True, type=Path, metavar="MANIFEST", help="the CSV to write")


def run(args: argparse.Namespace) -> int:
    """Import, write, and say which --root goes with the manifest."""
    from train.datasets.importers import import_data
    from train.datasets.manifest import write_manifest

    imported = import_data(args.kind, args.source, args.out.parent / f"{args.out.stem}_pictures")
    write_manifest(imported.cases, args.out)
    for note in imported.notes:
        sys.stdout.write(f"{note}\n")
    counts = ", ".join(f"{n} {label or 'without label'}" for label, n in imported.cases["label"].value_counts().items())
    sys.stdout.write(f"{len(imported.cases)} images: {counts}. Use it with --data {args.out} --root {imported.root}\n")
    return 0
