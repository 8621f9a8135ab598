"""Drift: what came in lately and what the models said of it, against what was before and against their test cases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pandas as pd
import streamlit as st

from core.evaluation.charts.drift import NamedShift, alarm_figure, score_figure
from core.evaluation.statistics.drift import LEAST
from core.models.cards import live_cards
from core.records.monitoring import drift
from core.records.monitoring.drift import compared, shift_rows, weekly_rows
from pages.parts.figures import draw_download
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings

actor = require("see_drift")
st.title("Drift", anchor=False)
weeks = st.segmented_control("The last weeks", [1, 2, 4, 8, 12], default=4, required=True, key="drift_weeks")
with refusals_shown(stops=True):
    found = compared(database(), actor, live_cards(settings()), weeks=weeks)


def draw_shifts(shifts: Sequence[NamedShift], key: str) -> None:
    """What is beyond its alarm line, the figure, and the numbers."""
    alarms = [one.name for one in shifts if one.shift.is_alarm]
    if alarms:
        st.error(f"Beyond the alarm line: {plain(', '.join(alarms))}.", icon=":material/warning:")
    elif any(one.shift.is_enough for one in shifts):
        st.success("Nothing is beyond its alarm line.", icon=":material/check:")
    else:
        st.info(f"Too little to compare yet: {LEAST} values on either side are the least.", icon=":material/info:")
    if any(one.shift.is_enough for one in shifts):
        st.plotly_chart(alarm_figure(shifts), key=f"drift_alarms_{key}", config={"displayModeBar": False})
    if shifts:
        wide = {"Against": st.column_config.TextColumn(width="medium")}
        st.dataframe(shift_rows(shifts), hide_index=True, column_config=wide, key=f"drift_table_{key}")


st.subheader("Against the test cases of the live models", anchor=False)
draw_shifts(found.with_tests, "tests")
for note in found.notes:
    st.caption(plain(note))
st.caption(
    "The share of cancers among test cases is not this site's, so a shift of scores may be a shift of the patients. A "
    "public collection may have other sizes and vendors than this site for ever: then look at what changes below."
)
for one in found.with_tests:
    if one.scores and one.shift.is_enough:
        st.markdown(f"**{plain(one.name)}**")
        st.plotly_chart(score_figure(*one.scores), key=f"drift_{one.name}", config={"displayModeBar": False})

st.subheader("Against this site's own year before", anchor=False)
draw_shifts(found.with_past, "past")
st.caption(
    "Empty cells: too few values. PSI: population stability index; its alarm line is 0.25, or higher where so few "
    "values reach that by chance. KS: Kolmogorov-Smirnov."
)
draw_download(
    lambda: pd.DataFrame(shift_rows([*found.with_tests, *found.with_past])),
    name="drift",
    label="CSV, both comparisons",
    action="see_drift",
)

st.subheader("Week by week", anchor=False)
with refusals_shown(stops=True):
    rows = weekly_rows(drift.seen(database(), actor, since=timedelta(weeks=12)), live_cards(settings()))
st.dataframe(rows, hide_index=True, key="drift_weekly")
st.caption(
    "Agreement: of the breasts with a first impression and an answer, those where both are positive or neither is "
    "(BI-RADS 4 and above; at or above the model's threshold). First impressions are given before the answer is seen, "
    "unless the study is read concurrently. Unlike: images that lay further from a model's training images than 95 % "
    "of such images do; its answers to them count for no agreement."
)
