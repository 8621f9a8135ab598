"""Who is looking, and what the process shares: the settings and the database."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import streamlit as st

from core.errors import NotAllowed, SignedOut
from core.records import site_settings
from core.records.database.db import Database, open_database
from core.records.people import sessions
from core.records.people.permissions import (
    ACTIONS,
    ROLES,
    Actor,
    Person,
    SessionActor,
    SignedIn,
    allowed,
    person_now,
    require_permission_now,
    require_role_for,
)
from core.server.guards import SESSION_COOKIE
from core.settings import Settings

_PERSON = "signed_in_person_id"

DRAWN_FOR: ContextVar[str] = ContextVar("drawn_for", default="")
"""What the running page or fragment demands; files that it draws are given to who may still do that."""
ASKED_PAGE: ContextVar[str] = ContextVar("asked_page", default="")
"""The page in the address, whatever is drawn instead of it."""
MADE_FOR: ContextVar[tuple[SessionActor, str] | None] = ContextVar("made_for", default=None)
"""The session that a download is being made for, outside of any page, and what it demands."""


@st.cache_resource(show_spinner=False)
def environment() -> Settings:
    """The settings of this process, read from the environment once."""
    return Settings.from_environment()


def settings() -> Settings:
    """The settings as they count now: what the site has chosen, in place of the environment's."""
    return site_settings.current(database())


@st.cache_resource(show_spinner=False)
def database() -> Database:
    """The database of this process, opened (and migrated) once."""
    return open_database(environment())


def session_token() -> str:
    """The session token in the browser's cookie, or an empty string."""
    return st.context.cookies.get(SESSION_COOKIE, "")


def signed_in(*, is_activity: bool = True) -> Person | None:
    """Who is signed in at this browser, asked of the database every time: a sign-out elsewhere counts at once."""
    return sessions.person_of(database(), settings(), session_token(), is_activity=is_activity)


def forget_others(person: Person | None) -> None:
    """Empties the page state that another person (or nobody) left in this tab. Called by `app.py` before any page."""
    DRAWN_FOR.set("")  # the thread may have drawn another page before
    whose = person.id if person else None
    if st.session_state.get(_PERSON) != whose:
        for key in list(st.session_state):
            del st.session_state[key]
    st.session_state[_PERSON] = whose


def require(role_or_action: str | None, *, is_activity: bool = True) -> SignedIn:
    """Who is signed in, if they hold this role or may do this action now; else a sentence, and what runs ends there.

    None asks for no role: what is one's own.

    Every page begins with it, and so does whatever runs later on its own: a dialog, a fragment, a callback. What it
    gives is what acts, too; the functions of the records ask again. is_activity: False keeps nobody signed in.
    """
    token = session_token()
    person = signed_in(is_activity=is_activity)
    if person is None:
        st.error(str(SignedOut()))
        st.stop()
    try:
        if role_or_action is None:
            pass
        elif role_or_action in ROLES:
            if role_or_action not in person.roles:
                raise NotAllowed(f"This page is for the role {role_or_action}. Ask an administrator if you need it.")
        else:
            require_role_for(person, role_or_action)
    except NotAllowed as refused:
        st.error(str(refused))
        st.stop()
    if role_or_action is not None and role_or_action in ACTIONS:
        DRAWN_FOR.set(role_or_action)
    return SignedIn(sessions.digest(token), person.id, person.name)


def may(actor: Actor, action: str) -> bool:
    """Whether to draw what leads to this action; the action asks itself."""
    with database().read() as connection:
        return allowed(person_now(connection, actor), action)


def deferred(action: str, build: Callable[[Person], bytes]) -> Callable[[], bytes]:
    """A file for `st.download_button`, made when it is asked for, which may be long after the page was drawn.

    Whoever the page was drawn for is asked for anew then: `build` gets who they are at that moment. The function
    raises SignedOut or NotAllowed, whose sentence the browser shows beside the button (`pages.parts.media`).
    """
    actor, db = sessions.actor_of(session_token()), database()

    def made() -> bytes:
        person = require_permission_now(db, actor, action)
        MADE_FOR.set((actor, action))
        return build(person)

    return made
