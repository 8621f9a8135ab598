"""`python -m train audit`: would numbers measured on this data set be believed?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from train.datasets.manifest import add_rows

if TYPE_CHECKING:
    from train.datasets.leakage import LeakageReport


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--data", required=True, type=Path, metavar="MANIFEST", help="CSV with file,label and more")
    add_rows(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(args: argparse.Namespace) -> int:
    """Audit and print; 3 when the split leaks, else 0."""
    from train.datasets.leakage import check_leakage
    from train.datasets.manifest import read_manifest

    # A file that is listed twice is a finding here, not a refusal.
    result = check_leakage(read_manifest(args.data, root=args.root, where=args.where, allow_repeats=True))
    sys.stdout.write((json.dumps(result.to_json()) if args.json else _table(result)) + "\n")
    return 3 if result.is_leaking else 0


def _table(result: LeakageReport) -> str:
    lines = [f"{result.n_cases} cases", result.counts.to_string(), ""]
    for finding in result.findings:
        where = "; ".join(", ".join(map(str, group)) for group in finding.lines[:5])
        lines.append(f"{finding.severity:8} {finding.sentence}" + (f" Lines {where}." if where else ""))
    return "\n".join([*lines, "", result.verdict])
