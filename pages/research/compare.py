"""Which model is better on the same cases, at which operating point, and is the difference real?"""

from __future__ import annotations

import streamlit as st

from core.evaluation.statistics.summary import table_warnings
from pages.parts import address
from pages.parts.comparison import SECTIONS
from pages.parts.figures import draw_style
from pages.parts.markdown import plain
from pages.parts.operating_points import draw_operating_point
from pages.parts.session import require, settings
from pages.research.parts.source import bench_of, choose_data, choose_scorers, cohort_of, draw_leaks

DESCRIBED = "Descriptors in words, of this site"
person = require("compare_models")
draw_style()
st.title("Compare", anchor=False)
st.caption("Scorers on the same cases, with intervals and paired tests. The address of this page keeps your choices.")
left, right = st.columns([2, 3])
with left:
    chosen = choose_data(*([DESCRIBED] if settings().language_model else []))
if chosen == DESCRIBED:
    from pages.research.parts.descriptors import draw_descriptors  # loaded only where the site wants a language model

    draw_descriptors(person)
    st.stop()
with left:
    cohort = cohort_of(chosen)
with right:
    names = choose_scorers(cohort)
draw_leaks(cohort, names)
numbers = bench_of(cohort.key, cohort)
st.caption(plain(cohort.provenance(names).text))
warned = st.container()
draw_operating_point(numbers, names)  # the curves, which are soon there, then the measures, which are not
with warned:
    for warning in table_warnings(cohort.table, list(numbers.results(names).values())):
        st.warning(plain(warning), icon=":material/warning:")
tabs = address.tabs(list(SECTIONS), key="show")
for tab, draw_section in zip(tabs, SECTIONS.values(), strict=True):
    if tab.open:
        with tab:
            draw_section(numbers, names)
