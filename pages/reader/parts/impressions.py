"""The form of a first impression or a final assessment: BI-RADS and suspicion for each breast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core.records.reads.reads import BIRADS, Impression, Read
from core.reports.content import BIRADS_MEANING, breast_name, when
from pages.parts.markdown import plain
from pages.parts.session import require

SUGGESTED_SUSPICION: Mapping[str, int] = {
    "0": 10, "1": 0, "2": 1, "3": 2, "4A": 6, "4B": 30, "4C": 70, "5": 97, "6": 100,
}  # fmt: skip
"""Where the slider goes when a category is chosen: inside the range of likelihood that ACR BI-RADS (5th edition) gives
it; 0 has none and stays low."""


def impressions_form(
    breasts: Sequence[str], *, key: str, start: Mapping[str, Impression] | None = None
) -> dict[str, Impression] | None:
    """BI-RADS and suspicion for each breast; None until every breast has a category.

    start: what the widgets show first. The slider follows the category until the reader moves it.
    """
    given: dict[str, Impression] = {}
    for breast in breasts:
        birads, suspicion = _breast(breast, f"{key}_{breast}", (start or {}).get(breast))
        if birads is not None:
            given[breast] = Impression(birads=birads, suspicion=suspicion)
    return given if len(given) == len(breasts) else None


def _breast(breast: str, key: str, start: Impression | None) -> tuple[str | None, int]:
    birads_key, suspicion_key = f"{key}_birads", f"{key}_suspicion"
    if start is not None:
        st.session_state.setdefault(birads_key, start.birads)
        st.session_state.setdefault(suspicion_key, start.suspicion)
    name = breast_name(breast)
    birads = st.segmented_control(
        f"{name}: BI-RADS", BIRADS, key=birads_key, on_change=_follow, args=(birads_key, suspicion_key)
    )
    st.session_state.setdefault(suspicion_key, 0)
    suspicion = st.slider(f"{name}: suspicion, 0 to 100", 0, 100, key=suspicion_key, disabled=birads is None)
    st.caption(BIRADS_MEANING[birads].capitalize() if birads else "Choose a category; the suspicion follows it.")
    return birads, suspicion


def _follow(birads_key: str, suspicion_key: str) -> None:
    require("record_first_read")
    birads = st.session_state[birads_key]
    if birads is not None:
        st.session_state[suspicion_key] = SUGGESTED_SUSPICION[birads]


def show_read(read: Read, *, whose: str = "") -> None:
    """What was saved, as it will stand in the report. whose: the reader's name, where it is not the one who looks."""
    if whose:
        kind = "first impression" if read.kind == "first" else "final assessment"
        st.markdown(f"**{plain(whose)}**, {kind}")
    for breast, given in read.impressions.items():
        st.markdown(
            f"{breast_name(breast)}: **BI-RADS {given.birads}** ({BIRADS_MEANING[given.birads]}), "
            f"suspicion **{given.suspicion}** of 100"
        )
    if read.comment:
        st.text(read.comment)
    st.caption(f"Saved {when(read.created_at)}")
