"""Imports that run or have just ended, as every administrator sees them; closing the page changes nothing of them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.records import data_sets, queue
from core.records.people.permissions import Actor
from core.wording import how_many
from pages.admin.data_set_parts.add import BEGUN, JUST_BEGUN
from pages.parts.figures import draw_download
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings
from train.queue import imports
from train.queue.imports import ImportRow


def draw_imports(actor: Actor) -> None:
    """What runs, each looking again every second; then what ended and was not closed yet.

    A data set whose import was begun in this session is the one that the page shows next.
    """
    if st.session_state.pop(JUST_BEGUN, False):
        above = "The import has begun. How far it is stands at the top of this page."
        st.toast(above, icon=":material/vertical_align_top:")
    rows = imports.list_imports(database(), actor)
    for row in rows:
        if row.version_id is not None and row.id in st.session_state.get(BEGUN, ()):
            made = data_sets.load_version(database(), actor, row.version_id)
            st.session_state.data_set_wanted = (made.data_set_id, made.id)
            st.session_state[BEGUN] -= {row.id}
    for row in rows:
        if row.is_open:
            with st.container(border=True, key=f"import_{row.id}"):
                _live(row.id)
    for row in rows:
        if not row.is_open:
            _draw_end(actor, row)


@st.fragment(run_every=1)
def _live(import_id: int) -> None:
    actor = require("manage_data", is_activity=False)  # looking on keeps nobody signed in
    with refusals_shown(stops=True):
        row = imports.load_import(database(), actor, import_id)
    if not row.is_open:
        st.rerun()
    words = "waits to be imported" if row.state == queue.QUEUED else "is being imported"
    st.markdown(f"**{plain(row.request.name)}** {words} ({plain(row.request.way)})")
    st.progress(row.done, "Stopping" if row.is_stopping else plain(row.message))
    st.caption(f"Started by {plain(row.created_by_name)}. It goes on when this page is closed.")
    if row.state == queue.QUEUED and not settings().worker:
        st.caption("No worker is started with the application here: `python -m train worker` takes it.")
    waits = "It was asked to stop and does so after the picture that it is at." if row.is_stopping else None
    if st.button(
        "Cancel this import",
        key=f"cancel_import_{row.id}",
        disabled=row.is_stopping,
        icon=":material/stop:",
        help=waits,
    ):
        with refusals_shown():
            imports.cancel(database(), actor, row.id)
            st.rerun()


def _draw_end(actor: Actor, row: ImportRow) -> None:
    """What became of an import, until somebody closes it."""
    say = st.success if row.state == queue.DONE else st.info if row.state == queue.CANCELLED else st.error
    say(f"**{plain(row.request.name)}**: {plain(row.message)}" + "".join(f"\n\n{plain(note)}" for note in row.notes))
    refused = imports.left_out(database(), actor, row)
    if refused:
        table = pd.DataFrame(refused, columns=["file", "why it was left out"])
        with st.expander(f"Left out: {how_many(len(table), 'file')}", key=f"left_out_{row.id}"):
            st.dataframe(table, hide_index=True)
            draw_download(lambda: table, name=f"left-out-{row.id}", action="manage_data")
            st.caption("Their names are kept until this message is closed, a day at most.")
    if st.button("Close this message", key=f"close_import_{row.id}"):
        with refusals_shown():
            imports.close(database(), actor, row.id)
            st.rerun()
