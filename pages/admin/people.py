"""People: who may sign in, and as what."""

from __future__ import annotations

from urllib.parse import urlsplit

import streamlit as st

from core.records.people import accounts, invitations, second_factor
from core.records.people.accounts import PersonRow
from core.records.people.permissions import ROLES
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require

actor = require("administrator")
db = database()


def state_of(row: PersonRow) -> str:
    """The word for the list."""
    if row.is_disabled:
        return "disabled"
    if row.is_invited:
        link = "has a link and has not used it" if row.has_link else "the link is too old: make a new one"
        return f"cannot sign in yet: no password, {link}"
    return "locked for some minutes" if row.is_locked else "can sign in"


def show_link(name: str, token: str) -> None:
    """The address that the person opens. It is shown now and never again: only its hash is kept."""
    page = urlsplit(st.context.url or "")
    address = f"{page.scheme}://{page.netloc}/invitation?link={token}"
    st.success(f"Give this link to {plain(name)} yourself. It works once, for {invitations.VALID_HOURS} hours.")
    st.code(address, language=None, wrap_lines=True)


@st.dialog("Change this person")
def change(row: PersonRow) -> None:
    """Roles, a new password, signing out or disabling; each is its own act with its own audit entry."""
    actor = require("manage_people")  # the dialog runs on its own for as long as it is open
    st.text(f"{row.name} ({state_of(row)})")
    if row.is_sso:
        st.caption(f"Comes by single sign-on, last as {', '.join(row.roles) or 'nobody with a role'}.")
        st.caption("Roles and password are kept by the identity provider; disabling and signing out work here.")
    else:
        roles = st.pills("Roles", ROLES, selection_mode="multi", default=row.roles, key=f"roles_{row.id}")
        if st.button("Save roles", key=f"save_roles_{row.id}"):
            with refusals_shown():
                accounts.set_roles(db, actor, row.id, roles, seen=row.roles)
                st.rerun()
        words = "Make the link again" if row.is_invited else "Reset the password with a link"
        why = "Let this person sign in again first." if row.is_disabled else None
        if st.button(words, key=f"reset_{row.id}", disabled=row.is_disabled, help=why):
            with refusals_shown():
                show_link(row.name, invitations.reset_by_link(db, actor, row.id))
        if row.has_second_factor and st.button("Remove the second factor", key=f"factor_{row.id}"):
            with refusals_shown():
                second_factor.remove_of(db, actor, row.id)
                st.rerun()
    if st.button("Sign out everywhere", key=f"sign_out_{row.id}"):
        with refusals_shown():
            accounts.sign_out_everywhere(db, actor, row.id)
            st.rerun()
    if row.is_disabled or row.is_locked:
        if st.button("Let this person sign in again", key=f"enable_{row.id}", type="primary"):
            with refusals_shown():
                accounts.enable_person(db, actor, row.id)
                st.rerun()
    elif st.button("Disable and sign out everywhere", key=f"disable_{row.id}"):
        with refusals_shown():
            accounts.disable_person(db, actor, row.id)
            st.rerun()


st.title("People", anchor=False)
with refusals_shown(stops=True):
    people = accounts.list_people(db, actor)

for row in people:
    who, button = st.columns([6, 1], vertical_alignment="center")
    who.text(row.name)
    way = " · single sign-on" if row.is_sso else ""
    who.caption(f"{', '.join(row.roles) or 'no role'} · {state_of(row)}{way}")
    if button.button("Change", key=f"change_{row.id}", width="stretch"):
        change(row)

if invited := st.session_state.pop("person_was_invited", None):
    show_link(*invited)

n_added = st.session_state.setdefault("n_people_added", 0)  # in the keys, so that the next form is an empty one
with st.form(f"new_person_{n_added}"):
    st.subheader("Add a person", anchor=False)
    name = st.text_input("Name", key=f"new_person_name_{n_added}")
    roles = st.pills("Roles", ROLES, selection_mode="multi", default=["radiologist"], key=f"new_person_roles_{n_added}")
    if st.form_submit_button("Add, and make a link", type="primary", key=f"new_person_add_{n_added}"):
        with refusals_shown():
            person, token = invitations.invite_person(db, actor, name=name, roles=roles)
            st.session_state.n_people_added = n_added + 1
            st.session_state.person_was_invited = (person.name, token)
            st.rerun()
