"""`python -m core dicom-listen`: takes what the site's archives send by DICOM messages, until it is stopped."""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import threading

from core.archive import listener
from core.errors import InvalidInput
from core.files import own_temporary_folder
from core.records.database.db import existing_database, require_site
from core.server import allocator
from core.settings import MIB, Settings

MEMORY_MIB = 4096
"""Of the process, however much is sent at once: an object goes to the disk as it comes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=11112, help="(default: %(default)s; 0: any that is free)")


def run(args: argparse.Namespace) -> int:
    """Listen until SIGTERM or SIGINT; 0. Raises NotFound, InvalidInput for an address that cannot be had."""
    settings = Settings.from_environment()
    require_site(settings)
    allocator.give_memory_back()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB * MIB, MEMORY_MIB * MIB))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with existing_database(settings) as db:
        try:
            with own_temporary_folder(settings.state_dir), listener.listening(db, args.host, args.port) as port:
                sys.stdout.write(f"{settings.ae_title} listens at port {port}.\n")
                sys.stdout.flush()
                ended.wait()
        except OSError:
            raise InvalidInput(f"Nothing can listen at port {args.port} of this address. Choose another one.") from None
    return 0
