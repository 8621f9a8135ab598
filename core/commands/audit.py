"""`python -m core audit verify`: whether the audit trail is as it was written."""

from __future__ import annotations

import argparse
import sys

from core.records.audit import heads
from core.records.database.db import existing_database
from core.settings import Settings

BROKEN = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its verbs."""
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    verify = verbs.add_parser("verify", help="recompute the whole chain; status 3 if it is not as it was written")
    verify.set_defaults(run=run)
    begin_anew = verbs.add_parser(
        "repair-heads", help="begin audit_heads.jsonl anew from its whole lines; what was lost is recorded"
    )
    begin_anew.set_defaults(run=run_repair)


def run_repair(args: argparse.Namespace) -> int:
    """Say how many lines were lost; that they were is in the audit trail from now on."""
    with existing_database(Settings.from_environment()) as db:
        lost = heads.repair(db)
        heads.write_head(db)
    sys.stdout.write(
        f"{lost} lines were lost; this is recorded in the audit trail.\n" if lost else "Nothing was lost.\n"
    )
    return 0


def run(args: argparse.Namespace) -> int:
    """Print the verdict: 0 for an intact chain, `BROKEN` for any other."""
    with existing_database(Settings.from_environment()) as db:  # an empty trail, too, would verify
        verdict = heads.verify(db)
    for problem in verdict.problems:
        sys.stdout.write(problem + "\n")
    if verdict.is_intact:
        sys.stdout.write(f"Chain verified: {verdict.n} rows, none changed, removed or moved.\n")
        return 0
    sys.stdout.write(f"The audit trail is NOT as it was written ({verdict.n} rows read).\n")
    return BROKEN
