"""SecondRead. `streamlit run app.py` runs this file twice over: once as the server, and once for every page shown.

Without a browser's script run it defines `app`, the ASGI server with our routes and guards around Streamlit. Within
one it draws: settings -> database -> who is signed in -> which pages -> run the page.
"""

from __future__ import annotations

import logging
import secrets
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from streamlit.navigation.page import StreamlitPage
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.starlette import App

from core.archive import sending
from core.demo import site
from core.errors import AppError
from core.files import own_temporary_folder
from core.language import background
from core.records.audit import heads, trail
from core.records.backup import copies
from core.records.people import accounts, passwords, sessions
from core.records.people.permissions import Person, allowed
from core.records.reads import answers_seen, retention
from core.records.releases import decisions
from core.server import allocator, inbox, interpreter, libraries
from core.server.callback import SingleSignOn
from core.server.connections import Connections, limited, most_connections
from core.server.guards import build_middleware
from core.server.logs import PAGE_ERRORS, configure_logging
from core.server.routes import build_routes
from core.serving.client import serving
from core.version import software
from pages.parts import identity, media, session, stale_widgets
from pages.parts.frame import draw_frame
from pages.parts.messages import refusals_shown
from train.queue import supervision

log = logging.getLogger("secondread")
HERE = Path(__file__).parent
ICON = (HERE / "pages" / "parts" / "icon.svg").read_text(encoding="utf-8")


ACCOUNT = "pages/reader/account.py"
"""Everybody's who is signed in: an administrator's role may count only once the second factor is set up there."""

ROOMS: tuple[tuple[str, str, str, str], ...] = (
    ("pages/reader/worklist.py", "Worklist", ":material/view_list:", "record_first_read"),
    ("pages/reader/read.py", "Read", ":material/radiology:", "record_first_read"),
    ("pages/reader/archive.py", "Archive", ":material/dns:", "query_archive"),
    ("pages/reader/truth.py", "Truth", ":material/task_alt:", "record_truth"),
    ("pages/reader/models.py", "Models", ":material/model_training:", "see_models"),
    ("pages/reader/study_reading.py", "Study reading", ":material/menu_book:", "read_in_reader_study"),
    ("pages/research/compare.py", "Compare", ":material/query_stats:", "compare_models"),
    ("pages/research/cases.py", "Cases", ":material/image_search:", "see_cases"),
    ("pages/research/leak_check.py", "Leak check", ":material/policy:", "check_leaks"),
    ("pages/research/reader_studies.py", "Reader studies", ":material/groups:", "design_reader_study"),
    ("pages/research/published.py", "Published figures", ":material/menu_book:", "compare_models"),
    ("pages/admin/data_sets.py", "Data sets", ":material/dataset:", "manage_data"),
    ("pages/admin/training.py", "Training", ":material/fitness_center:", "manage_training"),
    ("pages/admin/releases.py", "Releases", ":material/published_with_changes:", "manage_releases"),
    ("pages/admin/back_reads.py", "Back-reads", ":material/playlist_play:", "manage_releases"),
    ("pages/admin/drift.py", "Drift", ":material/trending_up:", "see_drift"),
    ("pages/admin/people.py", "People", ":material/group:", "manage_people"),
    ("pages/admin/site_settings.py", "Settings", ":material/tune:", "manage_settings"),
    ("pages/admin/backups.py", "Backups", ":material/backup:", "manage_backups"),
    ("pages/admin/audit.py", "Audit", ":material/history:", "see_audit"),
    (ACCOUNT, "Account", ":material/person:", "see_models"),
    ("pages/public/about.py", "About", ":material/info:", ""),
)
"""Page file, title, icon, and the action whose roles see it in the menu (none: everybody). A page asks again itself."""


ARRIVAL = "arrival"
"""The name that Streamlit reserves for the first page, and gives no address: that one is at the bare address."""

MENUS = {"research": "Research", "admin": "Administration"}
"""Rooms whose pages lie in a menu of their own: all in one row, the last would fall off it."""


def pages_for(person: Person | None) -> dict[str, list[StreamlitPage]]:
    """The pages this person can open, by the menu they lie in ("": the bar itself); the first is where they arrive."""
    if person is None:
        is_first = accounts.needs_first_administrator(session.database())
        door = ("first_run", "First start") if is_first else ("sign_in", "Sign in")
        entry = (f"pages/public/{door[0]}.py", door[1], ":material/key:", "")
        rooms = [entry, *(room for room in ROOMS if not room[3])]
    else:
        rooms = [room for room in ROOMS if not room[3] or room[0] == ACCOUNT or allowed(person, room[3])]
    path, title, icon, _ = rooms[0]
    found = {"": [st.Page(path, title=title, icon=icon, url_path=ARRIVAL)]}
    # Under its own name too, where a link leads that somebody sent who arrives elsewhere.
    found[""].append(st.Page(path, title=title, icon=icon, url_path=Path(path).stem, visibility="hidden"))
    for path, title, icon, _ in rooms[1:]:
        page = st.Page(path, title=title, icon=icon, url_path=Path(path).stem)
        found.setdefault(MENUS.get(Path(path).parent.name, ""), []).append(page)
    for path, title, icon, _ in ROOMS:
        if (path, title) not in {room[:2] for room in rooms}:
            # A link leads where it points: to the sign-in form, and from there on, or to the sentence of a page of
            # another role. Each page asks again itself who may see it.
            file = entry[0] if person is None else path
            page = st.Page(file, title=title, icon=icon, url_path=Path(path).stem, visibility="hidden")
            found[""].append(page)
    # Whoever has a one-time link finds its page; the menu does not show it.
    link = st.Page("pages/public/invitation.py", title="Password", url_path="invitation", visibility="hidden")
    found[""].append(link)
    if person is None:
        code = "pages/public/second_factor.py"
        found[""].append(st.Page(code, title="Second factor", url_path="second_factor", visibility="hidden"))
    return found


def draw() -> None:
    """One run of the page that the browser asks for."""
    st.set_page_config(page_title="SecondRead", page_icon=ICON, layout="wide")
    with refusals_shown(stops=True):  # the state folder was moved away, the database is restarted
        settings = session.settings()
        person = session.signed_in()
    session.forget_others(person)
    page = st.navigation(pages_for(person), position="top")
    session.ASKED_PAGE.set(page.url_path)
    draw_frame(person, settings)
    if person is not None and not libraries.are_loaded():
        with st.spinner("The server has just started and gets ready"):
            libraries.wait_until_loaded()
    page.run()


@asynccontextmanager
async def lifespan(_: App) -> AsyncIterator[None]:
    """What must be right before the first visitor: log, database, live models, inbox, setup code."""
    settings = session.environment()
    configure_logging(settings)
    log.info("%s starts", software())
    db = session.database()
    trail.record_start(db)
    decisions.project(db)
    inbox.remove_unfinished(settings)
    # Made now, or the first unknown name would take twice as long to refuse; beside the first page, not before it.
    threading.Thread(target=passwords.nobodys_hash, name="hash", daemon=True).start()
    if settings.demo:
        for demo in site.prepare(db):
            sys.stdout.write(f"  {demo.name:<20} password {demo.password}   ({', '.join(demo.roles)})\n")
        sys.stdout.flush()
    code = accounts.setup_code(db)
    if code is not None:
        # To the terminal only: the log is kept in a file, and the code lets in whoever knows it.
        sys.stdout.write(f"\n  Setup code: {code}\n  Open the address above and create the first administrator.\n\n")
        sys.stdout.flush()

    def say_what_goes_on() -> None:
        if words := supervision.still_doing(db):
            sys.stdout.write(f"  {words}\n")
            sys.stdout.flush()

    supervised = supervision.supervised(settings, say_what_goes_on) if settings.worker else nullcontext()
    connections = Connections(most=most_connections(), trusted=settings.proxy_networks)
    temporary = own_temporary_folder(settings.state_dir)
    models = serving(settings)
    with (
        temporary, libraries.loaded_in_background(), interpreter.shared_fairly(),
        inbox.emptied(settings), heads.written_daily(db), retention.applied(db), answers_seen.hashing(db),
        sending.working(db), copies.scheduled(db), background.answered(db), supervised, models,
    ):  # fmt: skip
        async with limited(connections):
            log.info("SecondRead is ready")
            yield


def show_failure(error: Exception) -> bool:
    """What a page shows that failed: a refusal's own sentence; for a bug, a number that finds its traceback."""
    if isinstance(error, AppError):
        st.error(str(error), icon=":material/block:")
        return True
    number = secrets.token_hex(4)
    logging.getLogger(PAGE_ERRORS).error("A page failed (%s)", number, exc_info=error)
    st.error(
        "This page failed, and that is our fault. Reload it and look whether your last step was saved. If it fails "
        f"again, give an administrator the number {number}: it finds the cause in the log.",
        icon=":material/error:",
    )
    return True


if get_script_run_ctx(suppress_warning=True) is not None:
    draw()
else:
    try:
        environment = session.environment()
        allocator.give_memory_back()
        media.install()
        stale_widgets.install()
        # Streamlit takes the folder's name for its older way of making pages until `st.navigation` has run once: the
        # first visitor after a start who followed a link would find "Page not found" over the page.
        PagesManager.uses_pages_directory = False
        middleware = build_middleware(
            index_html=(Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8"),
            is_signed_in=lambda token, *, is_activity=True: (
                sessions.person_of(session.database(), session.settings(), token, is_activity=is_activity) is not None
            ),
            may_fetch=media.may_fetch,
            settings=environment,
        )
        if environment.has_sso:
            middleware.append(
                Middleware(SingleSignOn, database=session.database, settings=environment, claims=identity.claims_of)
            )
        app = App(
            __file__,
            secrets=identity.login_secrets(environment),
            routes=build_routes(session.database, environment),
            middleware=middleware,
            lifespan=lifespan,
            on_script_error=show_failure,
        )
    except AppError as refused:
        sys.exit(f"SecondRead cannot start. {refused}")
