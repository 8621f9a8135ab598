"""`python -m core cluster`: the machines of the site's Ray cluster as Ray sees them now, and the replicas on them."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from core.serving.cluster import nodes_of
from core.serving.replica import remove, supervised_replicas
from core.settings import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "what", nargs="?", choices=("list", "serve", "remove"), default="list",
        help="list the machines; serve: have replicas of the inference service run there, and stay to put them back; "
        "remove: end them",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0. Raises InvalidSettings without a cluster or for an open one, Conflict where it is away."""
    settings = Settings.from_environment()
    if args.what == "serve":
        is_over = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: is_over.set())
        supervised_replicas(settings, lambda: not is_over.is_set(), _say)
        _say("The replicas stay. End them with: python -m core cluster remove")
    elif args.what == "remove":
        remove(settings)
    else:
        for node in nodes_of(settings):
            state = "alive" if node.is_alive else "lost"
            _say(f"{node.name:<40} {state:<6} {node.cpus:g} CPU, {node.gpus:g} GPU, {node.memory_mib} MiB")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
