"""`python -m core people …`: help for who cannot get in, from the server's own terminal.

Whoever may run it reads the site's key and the database anyway; each act is in the audit trail as the terminal's.
"""

from __future__ import annotations

import argparse
import sys

from core.records.database.db import existing_database
from core.records.people import accounts, invitations, second_factor
from core.settings import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its verbs."""
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    for verb, what in (
        ("unlock", "end the lock after failed attempts, and let a disabled person sign in again"),
        ("make-administrator", "give the administrator's role to somebody, beside the roles they have"),
        ("remove-second-factor", "let somebody sign in who lost their authenticator and the recovery codes"),
        ("link", "reset a lost password: print a one-time link that sets a new one"),
    ):
        one = verbs.add_parser(verb, help=what)
        one.add_argument("name", help="the person's name, as the page People shows it")
        one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it and say so; 0. Raises NotFound, Conflict."""
    settings = Settings.from_environment()
    with existing_database(settings) as db:
        if args.verb == "unlock":
            accounts.unlock_at_terminal(db, args.name)
            sentence = "This person can sign in again."
        elif args.verb == "make-administrator":
            accounts.make_administrator_at_terminal(db, args.name)
            sentence = "This person is an administrator, from their next click on."
        elif args.verb == "remove-second-factor":
            second_factor.remove_at_terminal(db, args.name)
            sentence = "No code is asked for any more when this person signs in."
        else:
            token = invitations.link_at_terminal(db, args.name)
            address = f"{settings.public_url.rstrip('/') or 'http://localhost:8501'}/invitation?link={token}"
            sentence = f"Works once, for {invitations.VALID_HOURS} hours: {address}"
    sys.stdout.write(sentence + "\n")
    return 0
