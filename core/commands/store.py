"""`python -m core store take-in`: bring what lies in the state folder into the bucket that the site has now."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from core.errors import InvalidSettings
from core.records.database.blobs import BucketBlobs, blobs_of
from core.records.database.db import RESTORED, Database, existing_database, put_site_value, require_site, site_value
from core.settings import Settings

_NOT_EMPTY = (
    "There is something below SECONDREAD_STORE_URL already, and this site was restored from a backup: that may be "
    "another site's. Nothing was copied. Name an empty prefix, such as s3://bucket/restored."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its action."""
    parser.add_argument("action", choices=("take-in",), help="copy everything, each content checked; may be repeated")


def run(args: argparse.Namespace) -> int:
    """Copy, check and say how many; 0. Raises InvalidSettings without a bucket, or where a restored site would share
    one with another; Conflict, NotFound for damage."""
    settings = Settings.from_environment()
    require_site(settings)
    blobs = blobs_of(settings)
    if not isinstance(blobs, BucketBlobs):
        raise InvalidSettings("SECONDREAD_STORE_URL names no bucket.")
    with existing_database(replace(settings, store_url="", store_endpoint="")) as db:
        _require_own(db, blobs, f"{settings.store_endpoint} {settings.store_url}")
        n_files = blobs.take_in()
        with db.begin() as connection:
            put_site_value(connection, RESTORED, None)
    sys.stdout.write(f"{n_files} files of the state folder are in the bucket, each as it was.\n")
    return 0


def _require_own(db: Database, blobs: BucketBlobs, bucket: str) -> None:
    """A restored site takes a bucket that was empty when it began to fill it, and no other. Raises InvalidSettings."""
    with db.read() as connection:
        begun = site_value(connection, RESTORED)
    if begun is None or begun == bucket:
        return
    if not blobs.is_empty():
        raise InvalidSettings(_NOT_EMPTY)
    with db.begin() as connection:
        put_site_value(connection, RESTORED, bucket)
