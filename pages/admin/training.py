"""Training: start one, watch it, cancel it. Closing the page changes nothing: everything here is read from rows."""

from __future__ import annotations

import streamlit as st

from core.records import data_sets
from pages.admin.training_parts.live import live, show
from pages.admin.training_parts.start import begin_training
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require
from pages.parts.training_tables import job_title
from train.queue import trainings

actor = require("manage_training")
db = database()

st.title("Training", anchor=False)
with refusals_shown(stops=True):
    rows = trainings.list_jobs(db, actor)
    versions = data_sets.list_versions(db, actor)

for row in rows:
    if row.is_open:
        with st.container(border=True, key=f"job_{row.id}"):
            live(row.id)

if versions:
    with st.expander("Start a training", expanded=not rows, key="start_training"):
        if begin_training(actor, versions):
            st.rerun()
else:
    st.info("A training needs a data set. Add one on the page Data sets.")

over = [row for row in rows if not row.is_open]
if over:
    st.subheader("Earlier trainings", anchor=False)
for number, row in enumerate(over):
    with st.expander(job_title(row), expanded=number == 0, key=f"job_{row.id}"):
        show(actor, row)
