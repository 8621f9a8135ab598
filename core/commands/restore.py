"""`python -m core restore FILE`: a site out of its backup, into an empty state folder."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from core.errors import NotFound
from core.records.backup.site_backup import restore
from core.settings import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its one argument."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what `python -m core backup` wrote")


def run(args: argparse.Namespace) -> int:
    """Restore and say what there is again; that it was done is in the restored audit trail."""
    if not args.file.is_file():
        raise NotFound("There is no such backup file.")
    settings = Settings.from_environment()
    summary = restore(settings, args.file, partial(print, file=sys.stderr))
    sys.stdout.write(
        f"Restored {summary.n_files} files; the audit trail with its {summary.n_audit} rows verifies. "
        "Everybody signs in anew with the password they had.\n"
    )
    if settings.store_url:
        sys.stdout.write(
            "Its pictures lie in the state folder. Before it starts with a bucket, name an empty prefix in "
            "SECONDREAD_STORE_URL and run `python -m core store take-in`.\n"
        )
    return 0
