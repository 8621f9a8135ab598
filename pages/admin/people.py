"""People: who may sign in, and as what."""

from __future__ import annotations

import streamlit as st

from core.records import accounts, passwords
from core.records.accounts import PersonRow
from core.records.permissions import ROLES, Person
from pages.parts.messages import told_plainly
from pages.parts.session import database, require

actor = require("administrator")
db = database()


def state_of(row: PersonRow) -> str:
    """The word for the list."""
    return "disabled" if row.is_disabled else "locked for some minutes" if row.is_locked else "can sign in"


@st.dialog("Change this person")
def change(actor: Person, row: PersonRow) -> None:
    """Roles, a new password, or disabling; each is its own act with its own audit entry."""
    st.write(f"**{row.name}** ({state_of(row)})")
    roles = st.pills("Roles", ROLES, selection_mode="multi", default=row.roles, key=f"roles_{row.id}")
    if st.button("Save roles", key=f"save_roles_{row.id}"):
        with told_plainly():
            accounts.set_roles(db, actor, row.id, roles)
            st.rerun()
    password = st.text_input(
        "New password", type="password", key=f"password_{row.id}", help="Give it to the person yourself; not by mail."
    )
    if st.button("Set this password", key=f"save_password_{row.id}", disabled=not password):
        with told_plainly():
            accounts.reset_password(db, actor, row.id, password)
            st.rerun()
    if row.is_disabled or row.is_locked:
        if st.button("Let this person sign in again", key=f"enable_{row.id}", type="primary"):
            with told_plainly():
                accounts.enable_person(db, actor, row.id)
                st.rerun()
    elif st.button("Disable and sign out everywhere", key=f"disable_{row.id}"):
        with told_plainly():
            accounts.disable_person(db, actor, row.id)
            st.rerun()


st.title("People", anchor=False)
with told_plainly(stops=True):
    people = accounts.list_people(db, actor)

for row in people:
    name, roles, state, button = st.columns([3, 4, 2, 1], vertical_alignment="center")
    name.text(row.name)
    roles.text(", ".join(row.roles))
    state.text(state_of(row))
    if button.button("Change", key=f"change_{row.id}", width="stretch"):
        change(actor, row)

with st.form("new_person", clear_on_submit=False):
    st.subheader("Add a person", anchor=False)
    new_name = st.text_input("Name", key="new_person_name")
    new_password = st.text_input(
        "First password", type="password", key="new_person_password", help=f"At least {passwords.LENGTH} characters."
    )
    new_roles = st.pills("Roles", ROLES, selection_mode="multi", default=["radiologist"], key="new_person_roles")
    if st.form_submit_button("Add", type="primary", key="new_person_add"):
        with told_plainly():
            added = accounts.create_person(db, actor, name=new_name, password=new_password, roles=new_roles)
            st.session_state.people_added = added.name
            st.rerun()

if added_name := st.session_state.pop("people_added", ""):
    st.success("Added. Give them the password yourself, and ask them to change it.")
