"""`python -m core deidentify`: DICOM files as a zip without whom they show, under the pseudonyms of this site."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.archive.deidentified_export import BURNT_IN_LIMIT, originals, record_export_at_terminal, write_export
from core.errors import InvalidInput
from core.files import own_temporary_folder, temporary_folder, temporary_parent
from core.records.database.db import existing_database, require_site
from core.records.people.accounts import TERMINAL
from core.settings import Settings
from core.wording import how_many


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("sources", nargs="*", type=Path, metavar="SOURCE", help="DICOM files, or folders of them")
    parser.add_argument(
        "--study", action="append", default=[], metavar="ID", help="a study here that came from an archive"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="ZIP", help="the file to write; never over another")


def run(args: argparse.Namespace) -> int:
    """Write the zip and say what is in it; 0. Raises NotFound, InvalidInput, Conflict and what archives refuse."""
    settings = Settings.from_environment()
    require_site(settings)
    if not args.sources and not args.study:
        raise InvalidInput("Name files or folders, or a study with --study.")
    if args.out.exists() or not args.out.parent.is_dir():
        raise InvalidInput("The zip is there already, or its folder is not. Choose another name.")
    with existing_database(settings) as db:
        with own_temporary_folder(settings.state_dir), temporary_folder(temporary_parent(settings.state_dir)) as folder:
            files = list(_files(args.sources))
            for number, study_id in enumerate(args.study):
                (folder / str(number)).mkdir()
                files += originals(db, study_id, folder / str(number))
            export = write_export(db, files, args.out)
        record_export_at_terminal(db, export, by=TERMINAL)
    sys.stdout.write(
        f"{how_many(len(export.rows), 'file')} of {how_many(export.n_studies, 'study', 'studies')}, "
        f"{how_many(export.n_patients, 'patient')}.\n"
    )
    for sentence, n in export.left_out.items():
        sys.stdout.write(f"{n} left out: {sentence}\n")
    sys.stdout.write(f"{BURNT_IN_LIMIT}\n")
    return 0


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            yield from sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
        elif source.is_file():
            yield source
        else:
            raise InvalidInput("One of the sources is not there. Check its name.")
