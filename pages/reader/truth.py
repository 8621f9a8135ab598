"""What became of a study: per breast, pathology, date and source. Added, never changed; only after the final read."""

from __future__ import annotations

from datetime import date

import streamlit as st

from core.records.people.permissions import SignedIn
from core.records.reads import truths
from core.records.reads.rows import StudyRow
from core.records.reads.studies import list_studies, load_study
from core.reports.content import breast_name, when
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require


def choose_study(person: SignedIn) -> StudyRow:
    """One of the studies that have a final read; the others are not offered."""
    finished = {row.id: row for row in list_studies(database(), person) if row.state == "final"}
    if not finished:
        st.info("No study has a final read yet. What became of a study is entered after it.", icon=":material/inbox:")
        st.stop()
    wanted = st.query_params.get("study", "")
    chosen = st.selectbox(
        "Study", list(finished), index=list(finished).index(wanted) if wanted in finished else None, key="truth_study",
        format_func=lambda study_id: f"{finished[study_id].display_name} ({when(finished[study_id].created_at)})",
        placeholder="Choose a study with a final read",
    )  # fmt: skip
    if chosen is None:
        st.stop()
    return finished[chosen]


def show_known(person: SignedIn, row: StudyRow) -> None:
    """Everything entered so far, newest last; a later entry supersedes an earlier one and does not erase it."""
    known = truths.truths_of(database(), person, row.id)
    if not known:
        st.caption("Nothing has been entered yet.")
        return
    st.table(
        [
            {
                "Breast": breast_name(truth.breast),
                "Pathology": truth.pathology,
                "Date": truth.happened_on.isoformat(),
                "Source": plain(truth.source),
                "Entered": f"{when(truth.created_at)}, {plain(truth.person_name)}",
            }
            for truth in known
        ]
    )


def enter(person: SignedIn, row: StudyRow, breasts: tuple[str, ...]) -> None:
    """The form of this study alone: emptied by what was saved, and not by a field that is missing."""
    counter = f"truth_saved_{row.id}"
    n_saved = st.session_state.get(counter, 0)
    key = f"{row.id}_{n_saved}"
    with st.form(f"truth_{key}"):
        breast = st.segmented_control(
            "Breast", breasts, default=breasts[0] if len(breasts) == 1 else None, format_func=breast_name,
            required=True, key=f"truth_breast_{key}",
        )  # fmt: skip
        pathology = st.segmented_control("Pathology", truths.PATHOLOGIES, required=True, key=f"truth_pathology_{key}")
        happened_on = st.date_input(
            "Date of the result", value=None, max_value=date.today(), format="YYYY-MM-DD", key=f"truth_date_{key}"
        )
        source = st.text_input(
            "Source", max_chars=200, placeholder="For example: core biopsy, or two years of follow-up",
            key=f"truth_source_{key}",
        )  # fmt: skip
        st.caption("An entry cannot be changed or removed. Enter a new one to correct it: the latest counts.")
        sent = st.form_submit_button("Save", type="primary", icon=":material/save:")
    if not sent:
        return
    with refusals_shown():
        if not (breast and pathology and happened_on and source.strip()):
            st.error("Give the breast, the pathology, the date and the source.", icon=":material/edit:")
            return
        truths.record_truth(
            database(),
            person,
            row.id,
            breast=breast,
            pathology=pathology,
            happened_on=happened_on,
            source=source.strip(),
        )
        st.session_state[counter] = n_saved + 1
        st.rerun()


person = require("record_truth")
st.title("What became of a study")
row = choose_study(person)
with refusals_shown(stops=True):
    show_known(person, row)
    enter(person, row, load_study(database(), person, row.id).breasts)
