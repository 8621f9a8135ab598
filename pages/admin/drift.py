"""Drift: what came in lately and what the models said of it, against what was before and against their test cases."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import streamlit as st

from core.evaluation.charts_drift import alarm_figure, score_figure
from core.evaluation.drift import LEAST
from core.models.cards import live_cards
from core.records import drift_records
from core.records.drift_comparison import compared, shift_rows, weekly_rows
from pages.parts.messages import told_plainly
from pages.parts.research_figures import draw_download
from pages.parts.session import database, require, settings
from pages.parts.words import plain

actor = require("see_drift")
st.title("Drift", anchor=False)
weeks = st.segmented_control("The last weeks", [1, 2, 4, 8, 12], default=4, key="drift_weeks") or 4
with told_plainly(stops=True):
    found = compared(database(), actor, live_cards(settings()), weeks=weeks)

alarms = [shift.name for shift in found if shift.shift.is_alarm]
if alarms:
    st.error(f"Beyond the alarm line: {plain(', '.join(alarms))}.", icon=":material/warning:")
elif any(shift.shift.is_enough for shift in found):
    st.success("Nothing is beyond its alarm line.", icon=":material/check:")
else:
    st.info(f"Too little to compare yet: {LEAST} values on either side are the least.", icon=":material/info:")
if any(shift.shift.is_enough for shift in found):
    st.plotly_chart(alarm_figure(found), key="drift_alarms", config={"displayModeBar": False})
table = shift_rows(found)
st.dataframe(table, hide_index=True, key="drift_table")
draw_download(lambda: pd.DataFrame(table), name="drift")
st.caption(
    "Scores are compared with the test cases of the live model. Their share of cancers is not this site's, so a shift "
    "of scores may be a shift of the patients. Pictures are compared with this site's own in the year before: a card "
    "keeps the scores of its test cases, not their pictures. Empty cells: too few values. PSI: population stability "
    "index; its alarm line is 0.25, or higher where so few values reach that by chance. KS: Kolmogorov-Smirnov."
)
for shift in found:
    if shift.scores and shift.shift.is_enough:
        st.subheader(plain(shift.name), anchor=False)
        st.plotly_chart(score_figure(*shift.scores), key=f"drift_{shift.name}", config={"displayModeBar": False})

st.subheader("Week by week", anchor=False)
with told_plainly(stops=True):
    rows = weekly_rows(drift_records.seen(database(), actor, since=timedelta(weeks=12)), live_cards(settings()))
st.dataframe(rows, hide_index=True, key="drift_weekly")
st.caption(
    "Agreement: of the breasts with a first impression and an answer, those where both are positive or neither is "
    "(BI-RADS 4 and above; at or above the model's threshold). First impressions are given before the answer is seen, "
    "unless the study is read concurrently."
)
