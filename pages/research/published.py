"""Each published system, its claim, ours with its interval, and why they differ."""

from __future__ import annotations

import streamlit as st

from core.models.cards import shipped_cards
from pages.parts.figures import draw_style
from pages.parts.session import require, settings
from pages.research.parts.published_tables import believable_table, draw_published

require("compare_models")
draw_style()
st.title("Published figures", anchor=False)
st.caption(
    "What others report of the networks that are here, beside what these reach on cases they were not trained on. "
    "Ours: 95 % intervals in brackets, computed from each model's test scores. A claim without an interval came "
    "without one; where nobody wrote down who claimed it, its source says so."
)
draw_published(shipped_cards(settings().weights_dir))
st.subheader("What figures to believe", anchor=False)
st.html(believable_table())
st.caption(
    "Above the believable range, test cases were usually known from training: several pictures of one patient, or "
    "near-duplicates, on both sides of the split. The page Leak check looks for them."
)
