"""Set a password with a one-time link: `/invitation?link=…`."""

from __future__ import annotations

import streamlit as st

from core.records.people import invitations
from core.records.people.accounts import REASONS
from pages.parts.forms import PASSWORD_HINT, Field, post_form, refusal
from pages.parts.session import database

link = st.query_params.get("link", "")

_, middle, _ = st.columns([1, 1.3, 1])
with middle:
    st.title("Choose your password", anchor=False)
    if not invitations.is_open(database(), link):
        st.error(REASONS["link"], icon=":material/block:")
        st.stop()
    st.caption("The link works once. Nobody else will know this password, an administrator neither.")
    refusal()
    post_form(
        "/set-password",
        [
            Field("password", "Password", "password", "new-password", hint=PASSWORD_HINT),
            Field("repeated", "The same password again", "password", "new-password"),
        ],
        button="Set the password and sign in",
        hidden={"link": link},
    )
