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
    st.text(f"{row.name} ({state_of(row)})")
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
    who, button = st.columns([6, 1], vertical_alignment="center")
    who.text(row.name)
    who.caption(f"{', '.join(row.roles)} · {state_of(row)}")
    if button.button("Change", key=f"change_{row.id}", width="stretch"):
        change(actor, row)

if st.session_state.pop("person_was_added", False):
    st.success("Added. Give them the password yourself, and ask them to change it on their Account page.")

n_added = st.session_state.setdefault("n_people_added", 0)  # in the keys, so that the next form is an empty one
with st.form(f"new_person_{n_added}"):
    st.subheader("Add a person", anchor=False)
    name = st.text_input("Name", key=f"new_person_name_{n_added}")
    hint = f"At least {passwords.LENGTH} characters."
    password = st.text_input("First password", type="password", help=hint, key=f"new_person_password_{n_added}")
    roles = st.pills("Roles", ROLES, selection_mode="multi", default=["radiologist"], key=f"new_person_roles_{n_added}")
    if st.form_submit_button("Add", type="primary", key=f"new_person_add_{n_added}"):
        with told_plainly():
            accounts.create_person(db, actor, name=name, password=password, roles=roles)
            st.session_state.n_people_added = n_added + 1
            st.session_state.person_was_added = True
            st.rerun()
