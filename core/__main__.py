"""`python -m core COMMAND`: the second read, the metrics and the benchmarks without a browser.

Every refusal is one sentence on standard error; a traceback of a bug goes to the log there, too.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module

from core.errors import AppError
from core.files import end_cleanly_on_sigterm, own_temporary_folder
from core.settings import Settings
from core.version import software

COMMANDS = (
    "read", "metrics", "reader-study", "models", "bench", "licences", "audit", "backup", "restore", "people",
    "peak-levels", "dicom-listen", "conformance", "deidentify", "back-read", "store", "cluster", "capacity",
)  # fmt: skip
"""Each lies in the file of `core.commands` that is called so, and is loaded when it is asked for, or its help is."""
WITH_TENSORFLOW = frozenset({"read", "bench", "peak-levels", "back-read", "capacity"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command: its exit status; 1 on a usage error, a refusal of the whole or an internal failure."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = argparse.ArgumentParser(prog="python -m core", description=__doc__)
    parser.exit_on_error = False
    parser.add_argument("--version", action="version", version=software())
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    argv = sys.argv[1:] if argv is None else argv
    for command in argv[:1] if set(argv[:1]) & set(COMMANDS) else COMMANDS:
        import_module(f"core.commands.{command.replace('-', '_')}").add_parser(subparsers)
    try:
        args = parser.parse_args(argv)
    except SystemExit as ended:
        return 1 if ended.code else 0  # argparse ends with 2, which here means "all images refused"
    except argparse.ArgumentError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    end_cleanly_on_sigterm()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    try:
        with ExitStack() as stack:
            if argv[0] in WITH_TENSORFLOW:
                stack.enter_context(own_temporary_folder(Settings.from_environment().state_dir))
            status = int(args.run(args))
        sys.stdout.flush()
        return status
    except AppError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); the rest must not be tried again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        # The outermost loop of this program: the log has the traceback, the status says that it was not the input.
        logging.getLogger(__name__).exception("internal failure")
        print("Something went wrong inside; standard error has the details.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
