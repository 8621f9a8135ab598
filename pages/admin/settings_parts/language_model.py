"""The part of the page Settings on a language model: who it is, what goes there, whether it may, and a test."""

from __future__ import annotations

import streamlit as st

from core.language import asking
from core.records.language import endpoint
from core.records.language.endpoint import PROTOCOLS, Endpoint
from core.records.people.permissions import Actor
from core.reports.content import when
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database

WHAT_GOES = (
    "What goes there: of each ultrasound picture the part around an outlined lesion, encoded anew in 8 bits of grey, "
    "without name, number, date or tag; and the question, which is the same for all. It goes once a read of its study "
    "is saved, of studies that are read from the permission on. Nothing goes of a picture of which nothing says where "
    "text may be burnt in, unless its reader looked at that part."
)


def draw_language_model(actor: Actor) -> None:
    """All of it, under a heading of its own."""
    st.subheader("Language model", anchor=False)
    st.caption(
        "It describes outlined lesions of ultrasound pictures by the BI-RADS lexicon and can say nothing else. Its "
        "words are marked as unverified and count for no score. What opens it is named outside the database, by "
        "SECONDREAD_LANGUAGE_MODEL_KEY or a file."
    )
    with refusals_shown():
        named = endpoint.endpoint_to_manage(database(), actor)
        _address(actor, named)
        if named is not None:
            _permission(actor, named)
            _test_and_remove(actor, named)


def _address(actor: Actor, named: Endpoint | None) -> None:
    with st.form("language_model", border=True):
        kind, url, model = st.columns([2, 3, 2])
        protocols = list(PROTOCOLS)
        protocol = kind.selectbox(
            "Protocol", protocols, protocols.index(named.protocol) if named else 0, format_func=PROTOCOLS.__getitem__,
            key="language_protocol",
        )  # fmt: skip
        address = url.text_input(
            "Address", named.url if named else "", key="language_url", max_chars=400,
            placeholder="https://models.example/v1",
            help="Up to before /chat/completions, or for Gemini before /models/. Over TLS, but on this machine.",
        )  # fmt: skip
        name = model.text_input("Model", named.model if named else "", key="language_name", max_chars=120)
        if st.form_submit_button("Save", key="save_language_endpoint"):
            with refusals_shown():
                endpoint.name_endpoint(database(), actor, protocol=protocol, url=address, model=name)
                st.rerun()
        st.caption("Another address or model begins without permission.")


def _permission(actor: Actor, named: Endpoint) -> None:
    """The act by which pictures leave, and its end."""
    where = f"{plain(named.model)} at {plain(named.host)}"
    place = "on this machine" if named.is_here else "on another machine"
    with st.container(border=True):
        st.caption(WHAT_GOES)
        if named.is_permitted:
            st.warning(
                f"Pictures go to {where}, {place}. Permitted by {plain(named.permitted_by or 'somebody')}, "
                f"{when(named.permitted_at) if named.permitted_at else ''}: {plain(named.reason)}",
                icon=":material/outgoing_mail:",
            )
            if st.button("End the permission", key="end_language_permission", icon=":material/block:"):
                with refusals_shown():
                    endpoint.end_permission(database(), actor, named.id)
                    st.rerun()
            return
        st.info(f"No picture goes to {where}, {place}.", icon=":material/block:")
        reason = st.text_input("Why pictures may go there", key=f"language_reason_{named.id}")
        if st.button("Permit that pictures go there", key="permit_language_model", icon=":material/outgoing_mail:"):
            with refusals_shown():
                endpoint.permit(database(), actor, named.id, reason=reason)
                st.rerun()


def _test_and_remove(actor: Actor, named: Endpoint) -> None:
    has_key = bool(endpoint.key_of(database().settings))
    st.caption("It is asked with the key that the environment names." if has_key else "It is asked without a key.")
    test, remove, _ = st.columns([1, 1, 3])
    if test.button(
        "Test", key="test_language_model", icon=":material/network_check:", width="stretch",
        help="Sends a picture that was made in code and shows nobody.",
    ):  # fmt: skip
        with refusals_shown(), st.spinner("The language model is asked"):
            reply = asking.probe(database(), actor, named.id)
            said = ", ".join(f"{name} {word}" for name, word in reply.words.items()) or "nothing it could tell"
            served = f" as {plain(reply.served_model)}" if reply.served_model else ""
            st.markdown(f":material/check_circle: It answered{served}, within the lexicon: {plain(said)}.")
    if remove.button("Remove", key="remove_language_model", icon=":material/delete:", width="stretch"):
        with refusals_shown():
            endpoint.remove_endpoint(database(), actor, named.id)
            st.rerun()
