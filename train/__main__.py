"""`python -m train COMMAND`: training. Every refusal is one sentence on standard error."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module

from core.errors import AppError
from core.files import end_cleanly_on_sigterm, own_temporary_folder
from core.settings import Settings
from core.version import software

COMMANDS = {
    "import": "import_", "link": "link", "look": "look", "split": "split", "audit": "audit", "fit": "fit",
    "search": "search", "ensemble": "ensemble", "evaluate": "evaluate", "all": "all", "results": "results",
    "cases": "cases", "descriptors": "descriptors", "outlines": "outlines", "candidates": "candidates",
    "mammograms": "mammograms", "distance": "distance", "amend": "amend", "distil": "distil",
    "worker": "worker", "bench": "bench",
}  # fmt: skip
"""Command -> its file in `train.commands`, loaded when it is asked for, or its help is."""
WITHOUT_TENSORFLOW = frozenset({"import", "link", "look", "split", "audit", "results", "cases", "mammograms", "worker"})
"""The commands that need no temporary folder: the others make one in the state folder before they load TensorFlow."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command: its exit status; 1 refused, 2 a usage error, 3 from `audit` a leak."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("--version", action="version", version=software())
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    argv = sys.argv[1:] if argv is None else argv
    for command in argv[:1] if set(argv[:1]) & set(COMMANDS) else COMMANDS:
        import_module(f"train.commands.{COMMANDS[command]}").add_parser(subparsers)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    end_cleanly_on_sigterm()
    try:
        with ExitStack() as stack:
            if argv[0] not in WITHOUT_TENSORFLOW:
                stack.enter_context(own_temporary_folder(Settings.from_environment().state_dir))
            return int(args.run(args))
    except AppError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
