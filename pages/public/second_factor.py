"""The second step of signing in: a code of the authenticator, or a recovery code."""

from __future__ import annotations

import streamlit as st

from pages.parts.forms import Field, going_on, post_form, refusal

_, middle, _ = st.columns([1, 1.3, 1])
with middle:
    st.title("Your second factor", anchor=False)
    st.caption("Type the six digits that your authenticator shows now, or one of your recovery codes.")
    refusal()
    code = Field("code", "Code", autocomplete="one-time-code")
    post_form("/second-factor", [code], button="Sign in", hidden=going_on())
    st.caption("Lost both? An administrator, or the server's own terminal, can remove the second factor.")
