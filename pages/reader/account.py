"""One's own account: another password."""

from __future__ import annotations

import streamlit as st

from core.records.people import accounts
from pages.parts.forms import PASSWORD_HINT, Field, post_form, refusal
from pages.parts.session import database, require

person = require("see_models")

_, middle, _ = st.columns([1, 1.3, 1])
with middle:
    if not accounts.has_password(database(), person):
        st.title("Your account", anchor=False)
        st.info("You come by single sign-on. Your password and your roles are kept by the identity provider.")
        st.stop()
    st.title("Change your password", anchor=False)
    st.caption("Every other browser in which you are signed in is signed out by it.")
    refusal()
    if st.query_params.get("said") == "changed":
        st.success("The new password is kept.", icon=":material/check:")
    post_form(
        "/password",
        [
            Field("old", "Current password", "password", "current-password"),
            Field("password", "New password", "password", "new-password", hint=PASSWORD_HINT),
            Field("repeated", "The new password again", "password", "new-password"),
        ],
        button="Change the password",
    )
