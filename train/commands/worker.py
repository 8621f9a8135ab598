"""`python -m train worker`: run training jobs from the queue, one after the other."""

from __future__ import annotations

import argparse

from core.settings import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--with-app", action="store_true", help="end, after the job in hand, when standard input closes"
    )


def run(args: argparse.Namespace) -> int:
    """Work until told to end."""
    from train.queue.worker import run_worker

    run_worker(Settings.from_environment(), with_app=args.with_app)
    return 0
