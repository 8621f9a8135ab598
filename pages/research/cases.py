"""The cases behind a number: missed, disputed, uncertain, most wrong."""

from __future__ import annotations

import streamlit as st

from core.evaluation.statistics.operating_points import Threshold
from core.evaluation.tables.case_lists import DISPUTED, LISTS, list_cases
from core.evaluation.tables.cohort import Cohort
from core.records.reads.answers_seen import record_case_scores_shown
from pages.parts import address
from pages.parts.figures import draw_download, draw_style
from pages.parts.markdown import plain
from pages.parts.session import database, require
from pages.research.parts.pictures import draw_pictures
from pages.research.parts.source import choose_cohort, draw_leaks

NOBODY, EVERYBODY = "none", "every case"
MOST_ROWS = 500


def choose_thresholds(cohort: Cohort, names: list[str]) -> dict[str, Threshold]:
    """Each model's own threshold where it is known; one slider for the others."""
    unknown = [name for name in names if name not in cohort.thresholds]
    at = 0.5
    if unknown:
        at = address.slider(
            "Threshold: called positive at or above this score", 0.0, 1.0, step=0.005, key="at", default=0.5,
            format="%.3f",
        )  # fmt: skip
    else:
        st.caption("Each model at its own threshold, fixed on its validation cases.")
    return {name: cohort.thresholds.get(name, at) for name in names}


def choose_subgroup(cohort: Cohort) -> tuple[str, str] | None:
    columns = [str(name) for name in cohort.table.subgroups.columns]
    left, right = st.columns(2)
    column = address.select("Subgroup", [EVERYBODY, *columns], key="by", at=left)
    if column == EVERYBODY:
        return None
    values = sorted(set(cohort.table.subgroups[column].astype(str)))
    return column, address.select("Value", values, key="is", at=right)


who = require("see_cases")
draw_style()
st.title("Cases", anchor=False)
st.caption("The single test cases behind a comparison. The address of this page keeps your choices.")
left, middle, right = st.columns([2, 2, 2])
with left:
    cohort = choose_cohort()
a = address.select("Scorer A", cohort.names, key="a", at=middle)
other = address.select("Scorer B", [NOBODY, *(name for name in cohort.names if name != a)], key="b", at=right)
kind = address.segments("Show", LISTS, key="list", wrap=True)
b = None if other == NOBODY else other
draw_leaks(cohort, [a] if b is None else [a, b])
thresholds = choose_thresholds(cohort, [a] if b is None else [a, b])
subgroup = choose_subgroup(cohort)
found = list_cases(cohort.table, a, b, thresholds, kind, subgroup=subgroup)
of = cohort.provenance([a] if b is None else [a, b])
st.caption(plain(of.text))
if kind == DISPUTED and b is None:
    st.info("Choose a scorer B to see where the two disagree.", icon=":material/info:")
    st.stop()
if found.empty:
    st.success("No case is in this list at this threshold.", icon=":material/check:")
    st.stop()
# Whoever reads a study with one of these pictures later knows what the model said of it.
record_case_scores_shown(database(), who, of.weights)
st.markdown(f"**{len(found)}** of {cohort.table.n} cases" + (f", the first {MOST_ROWS}" * (len(found) > MOST_ROWS)))
shown = found.head(MOST_ROWS)
names = shown["case"].str.rpartition("/")[2]  # the folders are the same for all and would push the names out of view
chosen = st.dataframe(
    shown.assign(case=names) if names.is_unique else shown,
    hide_index=True,
    on_select="rerun",
    selection_mode="single-row",
    key="case_rows",
    # Names of files, which may be hashes, must not push the scores out of view.
    column_config={name: st.column_config.TextColumn(width="small") for name in ("case", "patient")},
)
draw_download(lambda: found, of=of, name="cases", label="CSV, all of the list")
rows = chosen.selection.rows
draw_pictures(cohort, found, rows[0] if rows else None, [a] if b is None else [a, b])
