"""What every page shows whatever happens in it: the name, "research use only", who is signed in, the way out."""

from __future__ import annotations

from html import escape
from pathlib import Path

import streamlit as st

from core.records.people.permissions import ROLES, Person
from core.records.people.sessions import seconds_until_idle_end
from core.settings import Settings
from pages.parts.session import database, require, session_token, settings, signed_in

_STYLE = (Path(__file__).parent / "frame.css").read_text(encoding="utf-8")
_WATCH_SECONDS = 30
_WARNED_SECONDS = 150
"""Two minutes and one look: a short idle time is not warned of all the time, but for its last two minutes."""


def draw_frame(person: Person | None, settings: Settings) -> None:
    """Drawn by `app.py` before the page runs, so that a page that stops early shows it too."""
    site = f" · {escape(settings.site_name)}" if settings.site_name else ""
    demo = '<span class="sr-demo">Demonstration: every study is synthetic</span>' if settings.demo else ""
    who = ""
    if person is not None:
        roles = ", ".join(role for role in ROLES if role in person.roles)
        who = (
            f'<span class="sr-who"><b>{escape(person.name)}</b> <span class="sr-roles">{escape(roles)}</span></span>'
            '<form method="post" action="/logout"><button type="submit">Sign out</button></form>'
        )
    st.html(
        f"<style>{_STYLE}</style>"
        f'<div class="sr-frame" role="banner"><span class="sr-name">SecondRead{site}</span>'
        f'<span class="sr-research">Research use only. Not a diagnostic display.</span>{demo}'
        f'<span class="sr-space"></span>{who}</div>'
    )
    if person is not None:
        _watch_session()


@st.fragment(run_every=_WATCH_SECONDS)
def _watch_session() -> None:
    """A screen that was left alone goes back to the sign-in page when its session has ended, wherever it ended."""
    if signed_in(is_activity=False) is None:
        st.rerun()
    left = seconds_until_idle_end(database(), settings(), session_token())
    if left is not None and left <= _WARNED_SECONDS:
        with st.container(key="sr-idle"):
            st.warning(
                f"You will be signed out in about {max(1, round(left / 60))} min, because nothing was done here. "
                "Drafts of reads are kept.",
                icon=":material/timer:",
            )
            st.button("Stay signed in", key="stay_signed_in", on_click=_stay)


def _stay() -> None:
    """Being asked for is what keeps a session awake."""
    require(None)
