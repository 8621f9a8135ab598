"""The studies, where each one stands for whoever looks, and what is next. Nothing here comes from a model, not even the
order, unless the site turned that on; then it says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from core.reading import triage
from core.records.archives.identity import worklist_identity
from core.records.people.permissions import SignedIn
from core.records.reads.rows import STATES
from core.records.reads.worklist import Open, WorklistRow, assign, n_open, next_study, readers, worklist
from core.reports.content import breast_name, when
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, may, require, settings

PER_PAGE = 25
STATE_WORDS = {
    "new": ":material/radio_button_unchecked: New",
    "first read saved": ":material/hourglass_bottom: First read saved",
    "final": ":material/check_circle: Final",
}
LISTS = ("Open", "Mine", "Others'", "All")
Key = Callable[[WorklistRow], Any]
ORDERS: Mapping[str, Key] = {
    "Newest first": lambda row: -row.study.created_at.timestamp(),
    "Oldest first": lambda row: row.study.created_at.timestamp(),
    "Taken last": lambda row: -(row.study.taken_on or row.study.created_at.date()).toordinal(),
    "Name": lambda row: row.study.display_name.casefold(),
}
"""None of them asks a model."""
TRIAGE_ORDER = "Models' highest first"


def open_study(study_id: str) -> None:
    st.switch_page("pages/reader/read.py", query_params={"study": study_id})


def draw_row(person: SignedIn, row: WorklistRow, whose: str) -> None:
    """whose: what the site chose to show of the study's origin, or ""."""
    study = row.study
    name, state, kind, made, more = st.columns([3, 2.4, 2.2, 2.2, 0.5], vertical_alignment="center")
    words = plain(study.display_name)
    if name.button(words, key=f"open_{study.id}", type="tertiary", icon=":material/folder_open:"):
        open_study(study.id)
    if whose:
        name.caption(f":material/badge: {plain(whose)}")
    state.markdown(f"{STATE_WORDS[row.my_state]}{' · draft' if row.has_draft else ''}")
    if remarks := _remarks(row):
        state.caption("  \n".join(remarks))
    images = "1 image" if study.n_images == 1 else f"{study.n_images} images"
    synthetic = " · synthetic" if study.is_synthetic else ""
    kind.markdown(f"{', '.join(study.modalities) or 'kind not known'} · {images}{synthetic}")
    taken = f"taken {study.taken_on} · " if study.taken_on else ""
    made.caption(f"{taken}stored {when(study.created_at)} · {plain(study.created_by_name)}")
    if CAN_ASSIGN:
        with more.popover("", icon=":material/person_add:", help="Assign, or have two read it"):
            _plan(person, row)


def _remarks(row: WorklistRow) -> list[str]:
    """What else there is to know before opening the study."""
    state_words = {STATES[1]: "has begun", STATES[2]: "final"}
    remarks = [f"{plain(name)}: {state_words[state]}" for name, state in row.others.items()]
    for breast, categories in row.disagreement.items():
        remarks.insert(0, f":material/difference: **{breast_name(breast)}: {' against '.join(categories)}**")
    if row.needs_arbitration and row.is_open:
        remarks.insert(0, ":material/gavel: **The two readers disagree: a third decides**")
    elif row.is_double_read:
        remarks.append("Double reading")
    if row.assigned_to:
        remarks.append(f":material/person: assigned to {plain(row.assigned_to)}")
    if row.held_by:
        remarks.append(f":material/lock: {plain(row.held_by)} is reading it now")
    return remarks


def _plan(person: SignedIn, row: WorklistRow) -> None:
    study_id = row.study.id
    ids = [None, *READERS]
    start = next((place for place, one in enumerate(ids) if one and READERS[one] == row.assigned_to), 0)
    with st.form(f"plan_{study_id}", border=False):
        chosen = st.selectbox("Reader", ids, index=start, format_func=lambda one: READERS[one] if one else "Nobody")
        is_double = st.checkbox("Two readers, blinded to each other", value=row.is_double_read)
        if st.form_submit_button("Save"):
            with refusals_shown():
                assign(database(), person, study_id, reader=chosen, is_double_read=is_double)
                st.rerun()


def _counts(found: Open) -> str:
    parts = [f"{found.n_new} new", f"{found.n_begun} begun"]
    if found.n_to_arbitrate:
        parts.append(f"{found.n_to_arbitrate} to arbitrate")
    return f"Open for you: **{' · '.join(parts)}**"


def chosen_rows(rows: list[WorklistRow], which: str, states: list[str]) -> list[WorklistRow]:
    """Those of the list and the states that were asked for. which: one of `LISTS`."""
    is_in: Mapping[str, Key] = {
        "Open": lambda row: row.is_open,
        "Mine": lambda row: row.is_mine,
        "Others'": lambda row: not row.is_mine,
        "All": lambda row: True,
    }
    return [row for row in rows if is_in[which](row) and (not states or row.my_state in states)]


def by_models(person: SignedIn, rows: list[WorklistRow]) -> str:
    """Sort by what the models say, those that none has answered last and oldest first; the sentence that says so."""
    found: Mapping[str, tuple[bool, float]] = {}
    with refusals_shown():
        found = triage.urgencies(database(), person, [row.study.id for row in rows])
        unread = [row.study.id for row in rows if row.study.state == STATES[0]]
        triage.answer_waiting(database(), person, unread)
    rows.sort(key=lambda row: row.study.created_at)
    rows.sort(key=lambda row: found.get(row.study.id, (False, -1.0)), reverse=True)
    n_missing = sum(row.study.id not in found for row in rows)
    waiting = f" {n_missing} have no answer yet and stand last." if n_missing else ""
    st.warning(
        "This order comes from the models, also for studies that nobody has read: this site turned that on. What they "
        f"say stays hidden until you ask for it.{waiting}",
        icon=":material/sort:",
    )
    return "The models ordered this list."


person = require("radiologist")
CAN_ASSIGN = may(person, "assign_study")
READERS = readers(database(), person) if CAN_ASSIGN else {}

title, following, new = st.columns([3, 1, 1], vertical_alignment="bottom")
title.title("Worklist")
everything = worklist(database(), person)
upcoming = next_study(everything)
if (
    following.button(
        "Next study",
        icon=":material/skip_next:",
        width="stretch",
        disabled=upcoming is None,
        shortcut="n",
        help="No study waits for you." if upcoming is None else None,
    )
    and upcoming
):
    open_study(upcoming.study.id)
if new.button("New study", type="primary", icon=":material/add:", width="stretch"):
    st.switch_page("pages/reader/read.py", query_params={})
st.markdown(_counts(n_open(everything)))

find, which_list, filter_by, order_by = st.columns([2.2, 2, 2.6, 1.4])
search = find.text_input("Search", placeholder="Name of the study", key="worklist_search", icon=":material/search:")
which = which_list.segmented_control("List", LISTS, default="All", required=True, key="worklist_list")
wanted = filter_by.segmented_control(
    "State", list(STATE_WORDS), selection_mode="multi", key="worklist_state", format_func=str.capitalize
)
has_triage = triage.is_on(settings())
order = order_by.selectbox("Order", [*ORDERS, *([TRIAGE_ORDER] if has_triage else [])], key="worklist_order")

is_found = {row.study.id for row in worklist(database(), person, search=search)} if search.strip() else None
rows = chosen_rows([row for row in everything if is_found is None or row.study.id in is_found], which or "All", wanted)
said = "No model has a part in the order."
if order == TRIAGE_ORDER:
    said = by_models(person, rows)
else:
    rows.sort(key=ORDERS[order])
if not rows:
    nothing = "No study fits this search." if everything else "There is no study yet. Start with New study."
    st.info(nothing, icon=":material/inbox:")
    st.stop()

pages = -(-len(rows) // PER_PAGE)
page = st.pagination(pages, key="worklist_page") if pages > 1 and hasattr(st, "pagination") else 1
drawn = rows[(page - 1) * PER_PAGE : page * PER_PAGE]
whose: Mapping[str, str] = {}
if may(person, "see_identity"):
    with refusals_shown():
        whose = worklist_identity(database(), person, [row.study.id for row in drawn])
for row in drawn:
    with st.container(border=True):
        draw_row(person, row, whose.get(row.study.id, ""))
recorded = " That you see whose studies these are is recorded." if whose else ""
st.caption(f"{len(rows)} {'study' if len(rows) == 1 else 'studies'}. {said}{recorded}")
