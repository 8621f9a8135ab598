"""`python -m train link`: a hospital's two workbooks and its pictures become one manifest."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    from train.datasets.hospital.columns import LinkSheets

    parser.add_argument(
        "--combined", required=True, type=Path, metavar="XLSX", help="datacombined: what is known of each image"
    )
    parser.add_argument("--validation", required=True, type=Path, metavar="XLSX", help="has the column AbsolutePath")
    usual = LinkSheets()
    parser.add_argument("--cancer-sheet", default=usual.cancer, metavar="NAME", help="its sheet of cancer rows")
    parser.add_argument("--non-cancer-sheet", default=usual.non_cancer, metavar="NAME", help="its sheet of the others")
    parser.add_argument(
        "--validation-sheet", default=usual.validation, metavar="NAME", help="by default the first with AbsolutePath"
    )
    parser.add_argument(
        "--by-path", action="store_true", help="it has AbsolutePath alone: patient and name are read from the path"
    )
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the four CSV files go")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON on standard output")


def run(args: argparse.Namespace) -> int:
    """Link, write the four files, say how many rows found their picture."""
    from train.datasets.hospital.columns import LinkColumns, LinkSheets
    from train.datasets.hospital.join import link, write_linked

    sheets = LinkSheets(args.cancer_sheet, args.non_cancer_sheet, args.validation_sheet)
    linked = link(args.combined, args.validation, args.images, LinkColumns(sheets=sheets, is_by_path=args.by_path))
    write_linked(linked, args.out)
    counts = linked.counts()
    if args.json:
        sys.stdout.write(json.dumps(counts) + "\n")
        return 0
    for name, part in counts.items():
        reasons = "".join(f"; {n} {reason}" for reason, n in sorted(part["unmatched"].items()))
        sys.stdout.write(
            f"{name.replace('_', '-')}: {part['matched']} of {part['rows']} rows found their file{reasons}\n"
        )
    return 0
