"""`python -m core back-read …`: have models read the studies of a site, here or on the nodes of its cluster."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from core.errors import InvalidInput
from core.files import write_whole
from core.models.cards import live_cards
from core.reading.back_read import work_until_done
from core.records.database.db import Database, existing_database
from core.records.people.accounts import person_named
from core.records.people.permissions import LocalTerminal
from core.records.reads import back_reads
from core.serving.loops import on_every_node
from core.settings import Settings
from core.wording import how_many


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its verbs and their options."""
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    start = verbs.add_parser("start", help="put studies into the queue, and print the number of the back-read")
    start.add_argument("--from", dest="since", type=_day, metavar="YYYY-MM-DD", help="taken on this day or later")
    start.add_argument("--to", dest="until", type=_day, metavar="YYYY-MM-DD", help="taken on this day or earlier")
    start.add_argument("--model", action="append", default=[], metavar="ID", help="default: every live model")
    start.add_argument(
        "--study", action="append", default=[], metavar="ID", help="only this one; default: all of the days"
    )
    work = verbs.add_parser("work", help="read until nothing waits; begin it again whenever it was ended")
    work.add_argument("--cluster", action="store_true", help="on every node of SECONDREAD_RAY_ADDRESS")
    work.add_argument(
        "--with-worker", action="store_true", help="end when standard input closes, and let others go first"
    )
    verbs.add_parser("show", help="how far it is, and what could not be read")
    verbs.add_parser("stop", help="read nothing more of it")
    verbs.add_parser("go-on", help="read also what was stopped or failed")
    scores = verbs.add_parser("scores", help="write what the models said as CSV")
    scores.add_argument("--out", type=Path, required=True, metavar="FILE")
    for name, verb in verbs.choices.items():
        if name != "start":
            verb.add_argument("number", type=int, help="of the back-read, as start printed it")
        if name != "work":
            verb.add_argument("--by", required=True, metavar="NAME", help="the administrator under whose name it is")


def run(args: argparse.Namespace) -> int:
    """Do it and say so; 0. Raises NotAllowed, NotFound, InvalidInput, Conflict, InvalidSettings."""
    settings = Settings.from_environment()
    with existing_database(settings) as db:
        sys.stdout.write(_worked(db, args) if args.verb == "work" else _asked(db, args))
    return 0


def _worked(db: Database, args: argparse.Namespace) -> str:
    if args.cluster:
        back_reads.is_open(db, args.number)  # a number that is none is said here, not on every node
        arguments = ["-m", "core", "back-read", "work", str(args.number)]
        on_every_node(db.settings, arguments, lambda: back_reads.is_open(db, args.number))
        return f"Nothing of back-read {args.number} waits any more.\n"
    with _end_asked(args.with_worker) as is_ending:
        n = work_until_done(db, args.number, is_ending=is_ending)
    if back_reads.is_open(db, args.number):
        return f"Ended early; this process took {how_many(n, 'study', 'studies')}.\n"
    return f"Nothing of back-read {args.number} waits any more; this process took {how_many(n, 'study', 'studies')}.\n"


@contextmanager
def _end_asked(with_worker: bool) -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM came, or the worker that started this is gone: what is in hand then goes back into the queue."""
    ending = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ending.set())

    def wait() -> None:
        while os.read(0, 1024):  # not sys.stdin, whose lock Python wants to have when it ends
            pass
        ending.set()

    if with_worker:
        threading.Thread(target=wait, daemon=True).start()
        if hasattr(os, "nice"):
            os.nice(10)  # who reads goes first
    try:
        yield ending.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _asked(db: Database, args: argparse.Namespace) -> str:
    with db.read() as connection:
        actor = LocalTerminal(person_named(connection, args.by))
    if args.verb == "start":
        cards = live_cards(db.settings)
        unknown = set(args.model) - {card.model_id for card in cards}
        if unknown:
            raise InvalidInput(f"No live model is called {sorted(unknown)[0]}. See: python -m core models")
        chosen = [card for card in cards if not args.model or card.model_id in args.model]
        return f"{back_reads.start(db, actor, chosen, since=args.since, until=args.until, only=args.study)}\n"
    if args.verb == "stop":
        return f"{back_reads.stop(db, actor, args.number)} studies are not read.\n"
    if args.verb == "go-on":
        return f"{back_reads.go_on(db, actor, args.number)} studies wait again.\n"
    if args.verb == "scores":
        write_whole(args.out, back_reads.scores_csv(db, actor, args.number))
        return ""
    found = back_reads.load(db, actor, args.number)
    counted = ", ".join(f"{n} {state}" for state, n in sorted(found.counts.items()))
    failed = "".join(f"{study}: {why}\n" for study, why in back_reads.failures(db, actor, args.number))
    return f"Back-read {found.id} by {', '.join(found.models)}: {counted}.\n{failed}"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write it as 2026-01-31") from None
