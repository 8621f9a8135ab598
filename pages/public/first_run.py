"""The first start: whoever can read the terminal creates the first administrator."""

from __future__ import annotations

import streamlit as st

from pages.parts.forms import PASSWORD_HINT, Field, post_form, refusal

_, middle, _ = st.columns([1, 1.3, 1])
with middle:
    st.title("Create the first administrator", anchor=False)
    st.caption(
        "The terminal in which SecondRead was started shows a setup code. It proves that you run this machine, "
        "works once, and is new at each start."
    )
    refusal()
    post_form(
        "/setup",
        [
            Field("code", "Setup code", autocomplete="one-time-code", placeholder="XXXXX-XXXXX-XXXXX-XXXXX"),
            Field("who", "Your name", autocomplete="username"),
            Field(
                "password",
                "Password",
                "password",
                "new-password",
                hint=PASSWORD_HINT,
            ),
            Field("repeated", "The same password again", "password", "new-password"),
        ],
        button="Create and sign in",
    )
    st.caption("You will hold all roles: radiologist, researcher and administrator. Add other people afterwards.")
