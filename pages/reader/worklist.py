"""The studies and where each one stands. Nothing on this page comes from a model, not even the order."""

from __future__ import annotations

import streamlit as st

from core.records.reads.rows import StudyRow
from core.records.reads.studies import list_studies
from core.reports.content import when
from pages.parts.markdown import plain
from pages.parts.session import database, require

PER_PAGE = 25
STATE_WORDS = {
    "new": ":material/radio_button_unchecked: New",
    "first read saved": ":material/hourglass_bottom: First read saved",
    "final": ":material/check_circle: Final",
}


def open_study(study_id: str) -> None:
    st.switch_page("pages/reader/read.py", query_params={"study": study_id})


def draw_row(row: StudyRow) -> None:
    name, state, kind, made = st.columns([3.2, 1.6, 2, 2.6], vertical_alignment="center")
    if name.button(plain(row.display_name), key=f"open_{row.id}", type="tertiary", icon=":material/folder_open:"):
        open_study(row.id)
    state.markdown(STATE_WORDS[row.state])
    images = "1 image" if row.n_images == 1 else f"{row.n_images} images"
    synthetic = " · synthetic" if row.is_synthetic else ""
    kind.markdown(f"{', '.join(row.modalities) or 'kind not known'} · {images}{synthetic}")
    made.caption(f"{when(row.created_at)} · {plain(row.created_by_name)}")


person = require("radiologist")

title, new = st.columns([4, 1], vertical_alignment="bottom")
title.title("Worklist")
if new.button("New study", type="primary", icon=":material/add:", width="stretch"):
    st.switch_page("pages/reader/read.py", query_params={})

find, filter_by = st.columns([3, 2], vertical_alignment="bottom")
search = find.text_input("Search", placeholder="Name of the study", key="worklist_search", icon=":material/search:")
wanted = filter_by.segmented_control("State", list(STATE_WORDS), selection_mode="multi", key="worklist_state")

rows = list_studies(database(), person, search=search.strip())
rows = [row for row in rows if not wanted or row.state in wanted]
if not rows:
    nothing = "No study fits this search." if search or wanted else "There is no study yet. Start with New study."
    st.info(nothing, icon=":material/inbox:")
    st.stop()

pages = -(-len(rows) // PER_PAGE)
page = st.pagination(pages, key="worklist_page") if pages > 1 and hasattr(st, "pagination") else 1
for row in rows[(page - 1) * PER_PAGE : page * PER_PAGE]:
    with st.container(border=True):
        draw_row(row)
st.caption(f"{len(rows)} {'study' if len(rows) == 1 else 'studies'}, newest first.")
