"""`python -m core store take-in`: bring what lies in the state folder into the bucket that the site has now."""

from __future__ import annotations

import argparse
import sys

from core.errors import InvalidSettings
from core.records.database.blobs import BucketBlobs, blobs_of
from core.records.database.db import require_site
from core.settings import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its action."""
    parser.add_argument("action", choices=("take-in",), help="copy everything, each content checked; may be repeated")


def run(args: argparse.Namespace) -> int:
    """Copy, check and say how many; 0. Raises InvalidSettings without a bucket, Conflict, NotFound for damage."""
    settings = Settings.from_environment()
    require_site(settings)
    blobs = blobs_of(settings)
    if not isinstance(blobs, BucketBlobs):
        raise InvalidSettings("SECONDREAD_STORE_URL names no bucket.")
    sys.stdout.write(f"{blobs.take_in()} files of the state folder are in the bucket, each as it was.\n")
    return 0
