"""The real server attacked by everybody at every door; figures stand last, and the status is 1 for one wrong answer.

`make attack` runs it: `python tests/attack/attack.py`. It makes a site of its own in a temporary folder, starts the
server over it, and needs nothing else; where PostgreSQL's programs are, it attacks a second site in that. What is right
is the table of `core.records.people.permissions` and what docs/security.md promises.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

import http_attacks  # noqa: E402
import httpx  # noqa: E402
import page_attacks  # noqa: E402
from attack_site import Figures, Site  # noqa: E402
from http_attacks import Http  # noqa: E402
from page_attacks import Pages  # noqa: E402
from record_site import PostgresServer, find_postgres  # noqa: E402
from warm_server import WarmServer, free_port  # noqa: E402
from websockets.exceptions import WebSocketException  # noqa: E402

from core.records.audit import heads  # noqa: E402

SHORT_METHODS, SHORT_ROLES = ("GET", "POST", "DELETE"), ("nobody", "reader", "session ended")


def attack(
    folder: Path,
    figures: Figures,
    *,
    database_url: str = "",
    is_long: bool,
    only: Collection[str],
    say: Callable[[str], object],
) -> None:
    """Every attack on a new site in `folder`."""
    site = Site(folder, database_url=database_url)
    terminal = folder / "terminal.log"
    limits: dict[str, object] = {"weights_dir": site.weights}
    limits |= {"database_url": database_url} if database_url else {}
    server = WarmServer(site.settings.state_dir, free_port(), terminal, **limits)
    try:
        server.wait_until_ready()
        http, pages = Http(server.url, site, figures), Pages(server.url, site, figures)
        before = site.state()
        for name, act in _plan(http, pages, is_long=is_long):
            if only and name not in only:
                continue
            began, n_wrong = time.monotonic(), len(figures.wrong)
            try:
                act()
            except (KeyError, AssertionError, OSError, TimeoutError, httpx.HTTPError, WebSocketException) as error:
                figures.wrong.append(f"{name} could not go on: {type(error).__name__} {str(error)[-600:]}")
            say(f"{name:<28}{time.monotonic() - began:>6.1f} s")
            for sentence in figures.wrong[n_wrong:]:
                say(f"  wrong: {sentence}")
            if name not in ("pressed too late", "guessing", "every door"):
                figures.held("the site is as it was", site.state() == before, f"after {name}")
            before = site.state()
        figures.held("the audit trail verifies", not heads.verify(site.db).problems)
        words = terminal.read_text(errors="replace") + _log(site)
        figures.held("no traceback in terminal or log", "Traceback" not in words, _traceback(words))
        leaks = [word for word in ("Case Bittern", "Kestrel", site.link, site.tokens["administrator"]) if word in words]
        figures.held("no name and no secret in terminal or log", not leaks, str(leaks))
    finally:
        server.process.kill()
        server.process.join()
        site.db.close()


def _plan(http: Http, pages: Pages, *, is_long: bool) -> list[tuple[str, Callable[[], None]]]:
    if not is_long:
        return [
            ("every door", lambda: http_attacks.every_door(http, methods=SHORT_METHODS, roles=SHORT_ROLES)),
            ("paths", lambda: http_attacks.paths(http)),
            ("cookies", lambda: http_attacks.cookies(http)),
            ("forms", lambda: http_attacks.forms(http)),
            ("every page", lambda: page_attacks.every_page(pages, ("researcher",))),
            ("pressed too late", lambda: page_attacks.pressed_too_late(pages)),
            ("nonsense", lambda: page_attacks.nonsense(pages)),
            ("crowds", lambda: http_attacks.crowds(http, is_long=False)),
        ]
    return [
        ("every door", lambda: http_attacks.every_door(http)),
        *((one.__name__.replace("_", " "), partial(one, http)) for one in http_attacks.ATTACKS),
        ("every page", lambda: page_attacks.every_page(pages)),
        ("others' ids", lambda: page_attacks.others_ids(pages)),
        ("strange queries", lambda: page_attacks.strange_queries(pages)),
        ("others' buttons", lambda: page_attacks.others_buttons(pages)),
        ("pressed too late", lambda: page_attacks.pressed_too_late(pages)),
        ("nonsense", lambda: page_attacks.nonsense(pages)),
        ("crowds", lambda: http_attacks.crowds(http, is_long=True)),
    ]


def _traceback(words: str) -> str:
    """The end of the first one, which says what it was."""
    return words[max(0, words.find("Traceback")) :].partition("\n20")[0][-1000:]


def _log(site: Site) -> str:
    with suppress(FileNotFoundError):
        return "".join(path.read_text(errors="replace") for path in (site.settings.state_dir / "logs").iterdir())
    return ""


def main() -> int:
    """Status 0 where no answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="less than a minute's worth, as the tests run it")
    parser.add_argument("--only", action="append", help="attacks of this name, in place of all")
    args = parser.parse_args()
    figures, began, only = Figures(), time.monotonic(), args.only or ()

    def say(sentence: str) -> None:
        sys.stdout.write(f"{sentence}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="secondread-attack-") as folder:
        attack(Path(folder) / "sqlite", figures, is_long=not args.short, only=only, say=say)
        server = "not asked for" if args.short else find_postgres()
        if isinstance(server, PostgresServer):
            try:
                say("PostgreSQL")
                url = server.empty_database()
                attack(Path(folder) / "postgresql", figures, database_url=url, is_long=True, only=only, say=say)
            finally:
                server.stop()
        else:
            say(f"No second site in PostgreSQL: {server}")
    say(f"{figures.text()}\nseconds          {time.monotonic() - began:>7.0f}")
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
