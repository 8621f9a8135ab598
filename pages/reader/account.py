"""One's own account: another password, and a second factor."""

from __future__ import annotations

import streamlit as st

from core.records.people import accounts, second_factor
from core.records.people.permissions import SignedIn
from pages.parts.forms import PASSWORD_HINT, Field, post_form, refusal
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings

person = require(None)


def qr_code(text: str, *, side: float = 240) -> str:
    """Black on white with its quiet zone, so that a telephone reads it off a dark page; SVG. side: in points."""
    from reportlab.graphics import renderSVG  # seldom needed, and slow to load
    from reportlab.graphics.barcode.qr import QrCodeWidget
    from reportlab.graphics.shapes import Drawing, Rect
    from reportlab.lib.colors import white

    widget = QrCodeWidget(text, barLevel="M", barWidth=side, barHeight=side)
    ground = Rect(0, 0, side, side, fillColor=white, strokeColor=None)
    text = str(renderSVG.drawToString(Drawing(side, side, ground, widget)))
    return text[text.index("<svg") :]  # without the prologue, by which Streamlit would not know it


def draw_second_factor(actor: SignedIn) -> None:
    """Setting it up with a QR code and a first code; the recovery codes, once; removing it with a code."""
    db = database()
    st.subheader("Second factor", anchor=False)
    if codes := st.session_state.pop("recovery_codes", None):
        st.success("From now on a code is asked for when you sign in.", icon=":material/check:")
        st.caption("Each code signs you in once without your authenticator. Print them; nobody sees them again.")
        st.code("\n".join(codes), language=None)
    with refusals_shown():
        if second_factor.is_set_up(db, actor):
            st.caption("A code of your authenticator is asked for when you sign in.")
            code = st.text_input("A code of it, or a recovery code", key="factor_remove_code")
            if st.button("Remove the second factor", key="factor_remove"):
                second_factor.remove(db, actor, code)
                st.rerun()
            return
        if settings().second_factor == "administrators":
            st.info("This site asks administrators for a second factor: the role counts once it is set up here.")
        if st.button("Set up an authenticator", key="factor_begin"):
            st.session_state["enrolment"] = second_factor.begin(db, actor)
        enrolment = st.session_state.get("enrolment")
        if enrolment is None:
            return
        st.image(qr_code(enrolment.address), width=240)
        st.caption("Scan it with an authenticator, or type this key into it:")
        st.code(enrolment.secret, language=None)
        code = st.text_input("The six digits that it shows", key="factor_code")
        if st.button("Switch it on", key="factor_confirm", type="primary"):
            st.session_state["recovery_codes"] = second_factor.confirm(db, actor, code)
            del st.session_state["enrolment"]
            st.rerun()


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
    draw_second_factor(person)
