"""Who is looking, and what the process shares: the settings and the database."""

from __future__ import annotations

import streamlit as st

from core.errors import NotAllowed
from core.records import site_settings
from core.records.database.db import Database, open_database
from core.records.people import sessions
from core.records.people.permissions import ROLES, Person, require_permission
from core.server.guards import SESSION_COOKIE
from core.settings import Settings

_PERSON = "signed_in_person_id"


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
    whose = person.id if person else None
    if st.session_state.get(_PERSON) != whose:
        for key in list(st.session_state):
            del st.session_state[key]
    st.session_state[_PERSON] = whose


def require(role_or_action: str) -> Person:
    """The person who is signed in, if they hold this role or may do this action; else a sentence, and the page ends."""
    person = signed_in()
    if person is None:
        st.error("You are not signed in any more. Reload the page and sign in.")
        st.stop()
    try:
        if role_or_action in ROLES:
            if role_or_action not in person.roles:
                raise NotAllowed(f"This page is for the role {role_or_action}. Ask an administrator if you need it.")
        else:
            require_permission(person, role_or_action)
    except NotAllowed as refused:
        st.error(str(refused))
        st.stop()
    return person
