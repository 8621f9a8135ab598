"""Is the number honest? What the audit finds in the chosen data set, beside the numbers measured on it."""

from __future__ import annotations

import streamlit as st

from core.evaluation.tables.cohort import data_sha256
from core.models.cards import all_cards
from core.records.data_sets import list_checked
from pages.parts import address
from pages.parts.figures import draw_style
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings
from pages.research.parts.leak_tables import draw_cost, draw_findings, draw_models, draw_own, draw_version
from pages.research.parts.source import card_groups

OWN = "Cases of my own"

actor = require("check_leaks")
draw_style()
st.title("Leak check", anchor=False)
st.caption(
    "A number is too good where test cases were known from training: the same patient, the same file or nearly the "
    "same picture on both sides of the split. Here the split of every model is judged, beside its numbers."
)
groups = card_groups()
with refusals_shown(stops=True):
    versions = {f"{row.name}, version {row.number}": row for row in list_checked(database(), actor)}
options = [*groups, *versions, OWN]
chosen = address.select("Data set", options, key="data")
if chosen == OWN:
    draw_own(all_cards(settings()))
elif chosen in versions:
    draw_version(versions[chosen])
elif chosen in groups:
    cards = groups[chosen].cards
    draw_models(cards)
    draw_findings(cards)
    data = data_sha256(cards[0])
    draw_cost([card for group in groups.values() for card in group.cards if data_sha256(card) == data])
