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

from core.commands import parsed
from core.errors import AppError
from core.files import end_cleanly_on_sigterm, own_temporary_folder
from core.settings import Settings

COMMANDS = {
    "read": "read files, folders or zips as one study and print JSON",
    "metrics": "measure every scorer of a CSV file, with intervals",
    "reader-study": "analyse a multi-reader multi-case study",
    "models": "print the models with their measured quality as a table",
    "bench": "compare the ways to predict, explain and evaluate, as ratios",
    "licences": "write the dependencies and their licences into docs/licences.md",
    "audit": "verify the chain of the audit trail",
    "backup": "write database, pictures, key and weights into one file",
    "restore": "restore a backup into an empty state folder",
    "people": "let somebody in again who cannot sign in",
    "peak-levels": "measure which peaks of a heat map are proposed as findings",
    "dicom-listen": "take studies that archives send by DICOM messages (C-STORE)",
    "conformance": "write the DICOM conformance statement in docs/",
    "deidentify": "write DICOM files without whom they show into a zip (PS3.15 Annex E)",
    "back-read": "have models read all studies, or those of a range of days",
    "store": "bring stored pictures into the bucket of SECONDREAD_STORE_URL",
    "cluster": "list the machines of SECONDREAD_RAY_ADDRESS; have models answer on them",
    "capacity": "what a study costs on this machine, and what many a year need",
}
WITH_TENSORFLOW = frozenset({"read", "bench", "peak-levels", "back-read", "capacity"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command: its exit status; 1 on a usage error, a refusal of the whole or an internal failure."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = argparse.ArgumentParser(prog="python -m core", description=__doc__)
    parser.exit_on_error = False
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = parsed(parser, "core.commands", COMMANDS, argv)
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
