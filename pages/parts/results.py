"""A result on its way to an archive: where it stands, and the button that sends it again."""

from __future__ import annotations

import streamlit as st

from core.records.archives import outbox
from core.records.archives.outbox import RESULT_KINDS, OutboxRow
from core.records.people.permissions import SignedIn
from core.reports.content import when
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database

_WORDS = {
    "queued": ":material/schedule: Waits", "running": ":material/upload: Is being sent",
    "done": ":material/check_circle: Delivered", "failed": ":material/error: Not delivered",
    "dead": ":material/error: Not delivered", "cancelled": ":material/block: Cancelled",
}  # fmt: skip


_TO_OPEN = "study_to_open"


def open_study(study_id: str) -> None:
    """From a part of a page that is drawn again by itself to a study, in a run of the whole page: who leaves
    from within such a part meets its next run on the page where they arrive, and finds that one empty."""
    st.session_state[_TO_OPEN] = study_id
    st.rerun()


def go_to_opened_study() -> None:
    """For the page around such a part, before it draws anything."""
    study_id = st.session_state.pop(_TO_OPEN, "")
    if study_id:
        st.switch_page("pages/reader/read.py", query_params={"study": study_id})


def draw_result(person: SignedIn, row: OutboxRow, *, with_study: bool) -> None:
    """One result. with_study: with a way to the study it is of."""
    with st.container(border=True):
        of_image = f" · image {row.image}" if row.image else ""
        early = " · preliminary" if row.read_kind == "first" else ""
        st.markdown(f"{_WORDS[row.state]} · {RESULT_KINDS.get(row.kind, row.kind)}{of_image}{early}")
        due = f" Tried {row.tries} times, again {when(row.due_at)}." if row.due_at and row.state == "queued" else ""
        st.caption(f"{plain(row.archive_name)} · {when(row.ended_at or row.created_at)} · {plain(row.message)}{due}")
        with st.container(horizontal=True):
            if row.state != "running" and st.button("Send again", key=f"again_{row.id}", icon=":material/replay:"):
                with refusals_shown():
                    outbox.send_again(database(), person, row.id)
                    st.rerun()
            if with_study and st.button("Open", key=f"study_{row.id}", icon=":material/folder_open:"):
                open_study(row.study_id)
