"""The form of a first impression or a final assessment: BI-RADS and suspicion for each breast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from core.records.people.permissions import SignedIn
from core.records.reads.drafts import ReadDraft, draft_of, store_draft
from core.records.reads.reads import COMMENT_LENGTH_MOST, Impression, Read
from core.records.reads.rows import BIRADS
from core.reports.content import BIRADS_MEANING, SEEN_ANSWER, breast_name, when
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require

SUGGESTED_SUSPICION: Mapping[str, int] = {
    "0": 10, "1": 0, "2": 1, "3": 2, "4A": 6, "4B": 30, "4C": 70, "5": 97, "6": 100,
}  # fmt: skip
"""Where the slider goes when a category is chosen: inside the range of likelihood that ACR BI-RADS (5th edition) gives
it; 0 has none and stays low."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a read. key: of its widgets. kind: "first" or "final"."""

    key: str
    study_id: str
    kind: str
    breasts: tuple[str, ...]


def read_form(
    person: SignedIn, form: Form, *, start: Mapping[str, Impression] | None = None, comment: str = ""
) -> tuple[dict[str, Impression] | None, str]:
    """BI-RADS and suspicion for each breast, None until every breast has a category, and the comment.

    What was filled in and not saved comes back from the reader's draft. start, comment: what a form without a draft
    begins with. The slider follows the category until the reader moves it.
    """
    if f"{form.key}_comment" not in st.session_state:  # Streamlit forgets a form while another page is drawn
        _restore(person, form, start or {}, comment)
    given: dict[str, Impression] = {}
    for breast in form.breasts:
        birads, suspicion = _breast(form, breast)
        if birads is not None:
            given[breast] = Impression(birads=birads, suspicion=suspicion)
    words = st.text_area(
        "Comment",
        key=f"{form.key}_comment",
        max_chars=COMMENT_LENGTH_MOST,
        height=80,
        on_change=_store_draft,
        args=(form,),
    )
    return (given if len(given) == len(form.breasts) else None), words


def _restore(person: SignedIn, form: Form, start: Mapping[str, Impression], comment: str) -> None:
    draft = draft_of(database(), person, form.study_id, form.kind)
    for breast in form.breasts:
        given = start.get(breast)
        birads, suspicion = (given.birads, given.suspicion) if given else (None, 0)
        if draft and breast in draft.breasts:
            birads, suspicion = draft.breasts[breast]
        st.session_state[f"{form.key}_{breast}_birads"] = birads
        st.session_state[f"{form.key}_{breast}_suspicion"] = suspicion
    st.session_state[f"{form.key}_comment"] = draft.comment if draft else comment


def _breast(form: Form, breast: str) -> tuple[str | None, int]:
    birads_key, suspicion_key = f"{form.key}_{breast}_birads", f"{form.key}_{breast}_suspicion"
    name = breast_name(breast)
    birads = st.segmented_control(
        f"{name}: BI-RADS", BIRADS, key=birads_key, on_change=_follow, args=(form, birads_key, suspicion_key)
    )
    st.session_state.setdefault(suspicion_key, 0)
    suspicion = st.slider(
        f"{name}: suspicion, 0 to 100", 0, 100,
        key=suspicion_key, disabled=birads is None, on_change=_store_draft, args=(form,),
    )  # fmt: skip
    st.caption(BIRADS_MEANING[birads].capitalize() if birads else "Choose a category; the suspicion follows it.")
    return birads, suspicion


def _follow(form: Form, birads_key: str, suspicion_key: str) -> None:
    require("record_first_read")
    birads = st.session_state[birads_key]
    if birads is not None:
        st.session_state[suspicion_key] = SUGGESTED_SUSPICION[birads]
    _store_draft(form)


def _store_draft(form: Form) -> None:
    """As soon as anything changes, so that neither another page nor an idle sign-out loses it."""
    person = require("record_first_read")
    state = st.session_state
    breasts = {
        breast: (state.get(f"{form.key}_{breast}_birads"), int(state.get(f"{form.key}_{breast}_suspicion") or 0))
        for breast in form.breasts
    }
    with refusals_shown():
        draft = ReadDraft(breasts, str(state.get(f"{form.key}_comment") or ""))
        store_draft(database(), person, form.study_id, form.kind, draft)


def show_read(read: Read, *, whose: str = "") -> None:
    """What was saved, as it will stand in the report. whose: the reader's name, where it is not the one who looks."""
    if whose:
        final = "correction of the final assessment" if read.is_amendment else "final assessment"
        kind = "first impression" if read.kind == "first" else final
        st.markdown(f"**{plain(whose)}**, {kind}")
    for breast, given in read.impressions.items():
        st.markdown(
            f"{breast_name(breast)}: **BI-RADS {given.birads}** ({BIRADS_MEANING[given.birads]}), "
            f"suspicion **{given.suspicion}** of 100"
        )
    if read.comment:
        st.text(read.comment)
    st.caption(f"Saved {when(read.created_at)}")
    for way in read.answers_seen:
        st.caption(f":material/visibility: {SEEN_ANSWER[way]}.")
