"""`python -m train worker`: run training jobs from the queue, one after the other."""

from __future__ import annotations

import argparse

from core.settings import Settings


def add_parser(subparsers: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    """Register the sub-command and its options."""
    parser = subparsers.add_parser("worker", help="run training jobs that were started in the browser")
    parser.add_argument(
        "--with-app", action="store_true", help="end, after the job in hand, when standard input closes"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Work until told to end."""
    from train.queue.worker import run_worker

    run_worker(Settings.from_environment(), with_app=args.with_app)
    return 0
