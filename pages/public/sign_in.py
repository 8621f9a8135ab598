"""Sign in: a plain form, because only an answer of the server can set the session cookie."""

from __future__ import annotations

import streamlit as st

from pages.parts.forms import Field, going_on, post_form, refusal
from pages.parts.markdown import plain
from pages.parts.session import settings

_, middle, _ = st.columns([1, 1.3, 1])
with middle:
    st.title("Sign in", anchor=False)
    st.caption("SecondRead gives a second opinion on breast images, after yours.")
    refusal()
    if settings().has_sso:
        name = settings().sso_name
        if st.button(f"Sign in with {plain(name)}", type="primary", width="stretch", key="single_sign_on"):
            st.login()
        st.caption("Or, if an administrator gave you a password of this site:")
    post_form(
        "/login",
        [Field("who", "Name", autocomplete="username"), Field("password", "Password", "password", "current-password")],
        button="Sign in",
        hidden=going_on(),
    )
    st.caption("No account, or locked out? An administrator of your site can help.")
