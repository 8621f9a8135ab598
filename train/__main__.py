"""`python -m train COMMAND`: training. Every refusal is one sentence on standard error."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from core.errors import AppError
from core.version import software
from train.commands import all as all_models
from train.commands import (
    amend,
    audit,
    bench,
    cases,
    distil,
    ensemble,
    evaluate,
    fit,
    import_,
    link,
    results,
    search,
    split,
    worker,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command: its exit status; 1 refused, 2 a usage error, 3 from `audit` a leak."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("--version", action="version", version=software())
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (
        import_,
        link,
        split,
        audit,
        fit,
        search,
        ensemble,
        evaluate,
        all_models,
        results,
        cases,
        amend,
        distil,
        worker,
        bench,
    ):
        command.add_parser(subparsers)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        return int(args.run(args))
    except AppError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
