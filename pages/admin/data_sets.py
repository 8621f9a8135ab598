"""Data sets: see what is in them, settle near-duplicates, split anew, remove; add one."""

from __future__ import annotations

import streamlit as st

from core.records import data_sets
from core.records.data_sets import VersionRow
from core.records.people.permissions import Actor
from pages.admin.data_set_parts.add import add_pictures
from pages.admin.data_set_parts.imports import draw_imports
from pages.admin.data_set_parts.link import add_workbooks
from pages.admin.data_set_parts.reads import add_reads
from pages.admin.data_set_parts.version import show
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require

WAYS = {
    "A zip or a folder": add_pictures,
    "A hospital's two workbooks": add_workbooks,
    "This site's own reads": add_reads,
}


def choose(versions: list[VersionRow]) -> VersionRow:
    """One version of one data set; the newest of the first, or whatever was just made."""
    names = {row.data_set_id: row.name for row in versions}
    wanted, wanted_version = st.session_state.pop("data_set_wanted", (None, None))
    if wanted in names:
        st.session_state.data_set_chosen = wanted
    left, right = st.columns([3, 2])
    data_set = left.selectbox("Data set", list(names), format_func=names.__getitem__, key="data_set_chosen")
    rows = {row.id: row for row in versions if row.data_set_id == data_set}
    key = f"version_chosen_{data_set}"
    if wanted_version in rows:
        st.session_state[key] = wanted_version
    words = {row.id: f"version {row.number}, {row.created_at:%Y-%m-%d}" for row in rows.values()}
    version = right.selectbox("Version", list(rows), format_func=words.__getitem__, key=key)
    return rows[version]


def offer_removal(actor: Actor, row: VersionRow) -> None:
    """The way out of the store, with a second thought."""
    with st.popover("Remove this data set", icon=":material/delete:", key=f"remove_{row.data_set_id}"):
        st.markdown(
            "All its versions and every picture that no other data set has are removed, and models that were trained "
            "on it can no longer be released. This cannot be undone. A data set that a release came from stays."
        )
        if st.button("Remove it", type="primary", key=f"remove_sure_{row.data_set_id}"):
            with refusals_shown():
                data_sets.remove_data_set(database(), actor, row.data_set_id)
                st.rerun()


actor = require("manage_data")
st.title("Data sets", anchor=False)
with refusals_shown(stops=True):
    # One place for all of them: a message that is closed would else move what lies below, and with it lose a click that
    # was on its way there.
    with st.container():
        draw_imports(actor)
    versions = data_sets.list_versions(database(), actor)
if versions:
    chosen = choose(versions)
    st.subheader(f"{plain(chosen.name)}, version {chosen.number}", anchor=False)
    show(actor, chosen)
    offer_removal(actor, chosen)
else:
    st.info("There is no data set yet. Add one below; then start a training on the page Training.")

st.subheader("Add a data set", anchor=False, divider="grey")
way = st.segmented_control("From", list(WAYS), default=next(iter(WAYS)), required=True, key="data_set_way", wrap=True)
WAYS[way](actor)
