"""`python -m core backup FILE`: everything of this site in one file, while it works."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from core.records.audit import trail
from core.records.backup.site_backup import back_up
from core.records.database.db import existing_database
from core.settings import MIB, Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its one argument."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a new file; keep it as secret as the state folder")


def run(args: argparse.Namespace) -> int:
    """Write the backup and say what is in it; that it was made is in the audit trail."""
    settings = Settings.from_environment()
    with existing_database(settings) as db:
        summary = back_up(db, args.file, partial(print, file=sys.stderr))
        with db.begin() as connection:
            trail.record(connection, None, "backup", "site", files=summary.n_files, bytes=summary.n_bytes)
    sys.stdout.write(
        f"{summary.n_files} files, {summary.n_bytes / MIB:.1f} MiB, {summary.n_audit} rows of the audit trail.\n"
        "Whoever has this file has the pictures and the site's key: keep it as carefully as the state folder.\n"
    )
    return 0
