"""`python -m core cluster`: the machines of the site's Ray cluster, as Ray sees them now."""

from __future__ import annotations

import argparse
import sys

from core.serving.cluster import nodes_of
from core.settings import Settings


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command."""
    parser = subparsers.add_parser("cluster", help="list the machines of SECONDREAD_RAY_ADDRESS")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """A line a machine; 0. Raises InvalidSettings without a cluster or for an open one, Conflict where it is away."""
    for node in nodes_of(Settings.from_environment()):
        state = "alive" if node.is_alive else "lost"
        sys.stdout.write(f"{node.name:<40} {state:<6} {node.cpus:g} CPU, {node.gpus:g} GPU, {node.memory_mib} MiB\n")
    return 0
