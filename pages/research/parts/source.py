"""Which cases and scorers a researcher looks at: the widgets, what stands in the address, and the empty states."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import streamlit as st

from core.evaluation.cache import ComparisonCache
from core.evaluation.tables.cohort import (
    UPLOADED,
    CardGroup,
    Cohort,
    cohort_of_cards,
    cohort_of_upload,
    group_cards,
)
from core.evaluation.tables.of_cards import state_of
from core.evaluation.tables.scores import Scale, label_names, left_out_columns, read_scores
from core.models.cards import all_cards, candidate_cards
from core.records.reads.reader_scores import MALIGNANT, reader_scores
from pages.parts import address
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings

UPLOAD, READERS = "Upload", "Readers of this site"
_BYTES, _FIRST_SHOWN = "research_upload_bytes", 4
_FORMAT = """
A CSV file (UTF-8, commas), one row a case:

```text
case,patient,label,model A,model B,density
0001-L,0001,0,0.02,0.11,C
0001-R,0001,1,0.71,0.64,C
```

`case` is unique. `patient` groups the cases of one person, whom the intervals draw together. `label` is 0 or 1, or a
class name. Every column of numbers from 0 to 1 is a scorer; a model with three classes has columns `model:class`. Other
columns become subgroups; of those that hold numbers you can say that they are scores in per cent or log odds. The file
stays in this server's memory and is not stored.
"""


def card_groups() -> dict[str, CardGroup]:
    """Data sets with the models that were measured on them: released ones, and trainings of this site."""
    return {group.key: group for group in group_cards((*all_cards(settings()), *candidate_cards(settings())))}


def choose_cohort() -> Cohort:
    """Widgets for the data set; ends the page with a sentence where there is nothing to compare yet."""
    return cohort_of(choose_data())


def choose_data(*others: str) -> str:
    """The widget for the data set: what was chosen, one of `others` among them."""
    # The address holds an option as it is shown, so options are made to be read and to stay as they are.
    return address.select(
        "Data set",
        [*card_groups(), READERS, *others, UPLOAD],
        key="data",
        help="The test cases of each data set's models; or upload scores: a reader study, another system's output.",
    )


def cohort_of(chosen: str) -> Cohort:
    """The cases of a data set, with widgets of its own; ends the page with a sentence where it has none yet."""
    groups = card_groups()
    if chosen == UPLOAD:
        return _uploaded_cohort()
    if chosen == READERS:
        return _readers_cohort()
    group = groups[chosen]
    with refusals_shown(stops=True):
        cohort = _cohort_of_cards(tuple(map(state_of, group.cards)), group)
    if cohort is None:
        st.info(
            "The models of this data set come without the scores of their test cases, so there is nothing to compare. "
            "Training a model writes them beside its card; or choose uploaded scores above.",
            icon=":material/info:",
        )
        st.stop()
    return cohort


def draw_leaks(cohort: Cohort, names: Sequence[str]) -> None:
    """In red, before any number: which of these scorers were measured on a split that leaks, and why."""
    for name in names:
        for leak in cohort.leaks.get(name, ()):
            st.error(
                f"Leaking split, {plain(name)}: {plain(leak)} Its numbers here are too good.", icon=":material/warning:"
            )


def choose_scorers(cohort: Cohort) -> tuple[str, ...]:
    """At least one scorer, in the order of the table; colours follow this order.

    One whose cases are all of one class is named and left out: no curve can be drawn of it. Another data set keeps
    those chosen scorers that it has too. An uploaded table is of other scorers, so that only a choice that is wholly
    its own counts.
    """
    names = cohort.names
    chosen = address.several(
        f"Scorers ({len(names)} there are)",
        names,
        key="scorers",
        default=names[:_FIRST_SHOWN],
        is_whole=cohort.split == UPLOADED,
        select_all=True,
        placeholder="Choose the scorers to compare",
    )
    table = cohort.table
    assert table.is_positive is not None  # a cohort has a positive class
    unmeasured = [name for name in chosen if len(set(table.is_positive[~np.isnan(table.scorers[name])])) < 2]
    if unmeasured:
        st.warning(
            f"Left out: {plain(', '.join(unmeasured))}. The cases scored there are all of one class, and measures need "
            "positive and negative cases.",
            icon=":material/warning:",
        )
        chosen = tuple(name for name in chosen if name not in unmeasured)
    if not chosen:
        st.info("Choose one scorer to see its curves, and two or more to compare them.", icon=":material/info:")
        st.stop()
    return chosen


@st.cache_resource(max_entries=6, ttl="2h", show_spinner=False)
def bench_of(key: str, _cohort: Cohort) -> ComparisonCache:
    """The numbers of a cohort, shared by everybody who looks at the same content."""
    return ComparisonCache(_cohort)


def _uploaded_cohort() -> Cohort:
    """The uploaded table, kept for this tab's other pages; ends the page while there is none that can be used."""
    file = st.file_uploader("Scores, one row a case", type=["csv"], key="scores_file")
    if file is not None:
        st.session_state[_BYTES] = file.getvalue()
    data = st.session_state.get(_BYTES)
    if data is None:
        st.markdown(_FORMAT)
        st.stop()
    if file is None:
        st.caption("The table you uploaded before is still open. Upload another one to replace it.")
    with refusals_shown(stops=True):
        classes = label_names(data)
        positive = None
        if classes:
            guess = next((name for name in classes if name.casefold() == MALIGNANT), classes[0])
            positive = address.select("Positive class", classes, key="positive", default=guess)
        cohort = _cohort_of_upload(hashlib.sha256(data).hexdigest(), positive, _choose_scales(data), data)
    return cohort


def _choose_scales(data: bytes) -> tuple[tuple[str, Scale], ...]:
    """Which columns of numbers outside 0 to 1 are scores all the same; a widget where there are such columns."""
    options = {f"{one.name} ({one.scale})": (one.name, one.scale) for one in left_out_columns(data) if one.scale}
    if not options:
        return ()
    chosen = address.several(
        "Also scores, on another scale",
        list(options),
        key="scales",
        default=[],
        placeholder="Columns that were not taken as scores",
        help="Per cent are divided by 100; log odds (logits) become probabilities by the logistic function.",
    )
    return tuple(options[text] for text in chosen)


def _readers_cohort() -> Cohort:
    """First impressions saved here whose truth was entered; ends the page while they are too few to measure."""
    data = reader_scores(database(), require("see_reader_scores"))
    n = max(0, data.count(b"\n") - 1)
    labels = {line.split(b",")[2] for line in data.splitlines()[1:]}
    if len(labels) < 2:
        st.info(
            f"{n} breast{'' if n == 1 else 's'} of this site can be counted so far, and both malignant and other ones "
            "are needed. A breast counts when a first impression, a final read and its truth (page Truth) are saved. "
            "Readers and models then stand side by side here, and the tab Hybrid shows what both are worth together.",
            icon=":material/info:",
        )
        st.stop()
    with refusals_shown(stops=True):
        cohort = _cohort_of_upload(hashlib.sha256(data).hexdigest(), None, (), data)
    return replace(cohort, dataset="readers of this site", split="all breasts with first impression and truth")


@st.cache_resource(max_entries=6, ttl="2h", show_spinner="Reading the table")
def _cohort_of_upload(sha256: str, positive: str | None, scales: tuple[tuple[str, Scale], ...], _data: bytes) -> Cohort:
    return cohort_of_upload(read_scores(_data, positive=positive, scales=dict(scales)))


@st.cache_resource(max_entries=6, ttl="2h", show_spinner="Reading the test scores")
def _cohort_of_cards(states: tuple[str, ...], _group: CardGroup) -> Cohort | None:
    return cohort_of_cards(_group)
