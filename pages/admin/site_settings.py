"""Settings: what this site chooses, each with its default and who changed it when."""

from __future__ import annotations

import streamlit as st

from core.records import site_settings
from core.records.permissions import Person
from core.records.site_settings import Chosen
from pages.parts.messages import told_plainly
from pages.parts.session import database, require

actor = require("manage_settings")
db = database()


def value_input(row: Chosen) -> str | int:
    """The widget for one choice; its key holds the value, so that a change elsewhere shows."""
    key = f"setting_{row.choice.key}_{row.value}"
    if row.choice.options:
        options = list(row.choice.options)
        return st.selectbox(row.choice.title, options, index=options.index(str(row.value)), key=key)
    most = int(row.default)
    return int(st.number_input(row.choice.title, 1, most, int(row.value), 1, key=key))


def draw(actor: Person, row: Chosen) -> None:
    """One choice: its widget, its story, and the two buttons."""
    with st.container(border=True):
        value = value_input(row)
        st.caption(row.choice.sentence)
        limit = " (also the most that can be chosen here)" if row.choice.is_cap else ""
        st.caption(f"Default: {row.default}{limit}")
        if row.at is not None:
            st.text(f"Changed by {row.by_name or 'somebody'}, {row.at:%Y-%m-%d %H:%M} UTC")
        save, back, _ = st.columns([1, 1, 3])
        if save.button("Save", key=f"save_{row.choice.key}", disabled=value == row.value, width="stretch"):
            with told_plainly():
                site_settings.choose(db, actor, row.choice.key, value)
                st.rerun()
        if back.button("Back to default", key=f"default_{row.choice.key}", disabled=row.at is None, width="stretch"):
            with told_plainly():
                site_settings.back_to_default(db, actor, row.choice.key)
                st.rerun()


st.title("Settings", anchor=False)
st.caption("A change counts from the next upload, study or click on, for everybody, without a restart.")
with told_plainly(stops=True):
    choices = site_settings.chosen(db, actor)
for choice in choices:
    draw(actor, choice)
