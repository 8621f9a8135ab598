"""`python -m train COMMAND`: training. Every refusal is one sentence on standard error."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from core.errors import AppError
from core.files import end_cleanly_on_sigterm, own_temporary_folder
from core.settings import Settings
from core.version import software
from train.commands import all as all_models
from train.commands import (
    amend,
    audit,
    bench,
    cases,
    descriptors,
    distance,
    distil,
    ensemble,
    evaluate,
    fit,
    import_,
    link,
    look,
    outlines,
    results,
    search,
    split,
    worker,
)

WITHOUT_TENSORFLOW = frozenset(
    one.__name__ for one in (import_, link, look, split, audit, results, cases, descriptors, outlines, worker)
)
"""The commands that need no temporary folder: the others make one in the state folder before they load TensorFlow."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command: its exit status; 1 refused, 2 a usage error, 3 from `audit` a leak."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("--version", action="version", version=software())
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (
        import_,
        link,
        look,
        split,
        audit,
        fit,
        search,
        ensemble,
        evaluate,
        all_models,
        results,
        cases,
        descriptors,
        outlines,
        distance,
        amend,
        distil,
        worker,
        bench,
    ):
        command.add_parser(subparsers)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    end_cleanly_on_sigterm()
    try:
        with ExitStack() as stack:
            if args.run.__module__ not in WITHOUT_TENSORFLOW:
                stack.enter_context(own_temporary_folder(Settings.from_environment().state_dir))
            return int(args.run(args))
    except AppError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
