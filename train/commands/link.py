"""`python -m train link`: a hospital's two workbooks and its pictures become one manifest."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command and its options."""
    parser = subparsers.add_parser("link", help="link a hospital's two Excel workbooks with its folders of pictures")
    parser.add_argument("--combined", required=True, type=Path, metavar="XLSX", help="sheets Cancer and Non-Cancer")
    parser.add_argument("--validation", required=True, type=Path, metavar="XLSX", help="has the column AbsolutePath")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the four CSV files go")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Link, write the four files, say how many rows found their picture."""
    from train.hospital import link, write_linked

    linked = link(args.combined, args.validation, args.images)
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
