"""Reader studies: designed, locked, watched, and what came of them once they are closed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.errors import InvalidInput
from core.evaluation.statistics.reader_study_summary import UNTESTED, simulated_power
from core.models.cards import live_cards
from core.records.people.permissions import SignedIn
from core.records.reader_studies import data_set_cases, designs, readings
from core.records.reader_studies.data_set_cases import MOST_PICTURES, CasesOf
from core.records.reader_studies.designs import CLOSED, DESIGNED, READING, ReaderStudyRow
from core.records.reader_studies.protocol import DESIGNS, OF_TWO_MODELS, ONE_SESSION, StudyCase
from core.reports.content import when
from core.types import Modality
from core.wording import how_many
from pages.parts import address
from pages.parts.figures import draw_style
from pages.parts.markdown import plain, without_controls
from pages.parts.messages import refusals_shown
from pages.parts.session import database, deferred, require, settings
from pages.research.parts.reader_study_results import design_facts, draw_results, draw_table

NEW, TABLE = "New reader study", "Analyse a table"
GONE = "Not here"
"""What is chosen where the address names a reader study that is not here."""
POWER_RUNS = 200
OWN_STUDIES = "this site's own studies"
PICTURE, EXAM = "A case a picture", "A case an exam"
AIDED_OR_NOT, TWO_MODELS = "unaided and aided", "two models"
UNITS = {
    PICTURE: "Each picture is read on its own.",
    EXAM: "All held-back pictures of a patient are read together (by the column exam where there is one), and a breast "
    f"is malignant where one of its pictures is; exams of more than {MOST_PICTURES} pictures are left out.",
}


def name_of(row: ReaderStudyRow) -> str:
    """In the address and in the box to choose from, and so without the state: that changes."""
    return f"{row.protocol.title} ({row.id[:6]})"


# ---- designing ---------------------------------------------------------------------------------------------------


def design(actor: SignedIn) -> str | None:
    """The form of a new one; the id of the one that was made."""
    title = st.text_input("Title", key="rs_title")
    question = st.text_area("Question", height=68, key="rs_question")
    left, right = st.columns([1, 3])
    modality = Modality(left.selectbox("Kind of image", [one.value for one in Modality], key="rs_modality"))
    with right:
        cases, of_data_set, source = choose_cases(actor, modality)
    kinds = [any(case.truth.values()) for case in cases]
    n_malignant, n_other = sum(kinds), len(kinds) - sum(kinds)
    if min(n_malignant, n_other) < 1:
        st.info(
            "A reader study needs studies with and without cancer whose final read and truth are saved, or a data set "
            "with both among the pictures that are held back."
        )
        return None
    left, middle, right, last = st.columns(4)
    positive = int(left.number_input(f"With a malignant breast (of {n_malignant})", 1, n_malignant, n_malignant))
    negative = int(middle.number_input(f"Without (of {n_other})", 1, n_other, n_other))
    n_training = int(right.number_input("Training cases", 0, 20, 0, help="Read first, and counted for nothing"))
    seed = int(last.number_input("Seed", 0, 2**31 - 1, 0, key="rs_seed", help="Of cases, groups and orders"))
    st.caption(
        f"{100 * positive / (positive + negative):.0f} % of the cases have cancer; in screening it is about 0.6 %. "
        "The protocol states this enrichment."
    )
    people = designs.possible_readers(database(), actor)
    readers = st.multiselect(
        "Readers", list(people), format_func=lambda one: without_controls(people[one]), key="rs_readers"
    )
    plan = st.segmented_control("Design", list(DESIGNS), default=ONE_SESSION, required=True, key="rs_design")
    aids = choose_models(modality) if plan != ONE_SESSION else ()
    st.caption(OF_TWO_MODELS if aids else DESIGNS[plan])
    columns = st.columns(5)
    pause = 0
    if plan != ONE_SESSION:
        pause = int(columns[0].number_input("Days between sessions", 0, 365, 28))
    groups, shared = choose_groups(columns[1], columns[2], positive + negative)
    cut = int(columns[3].number_input("Called from a suspicion of", 1, 100, 3))
    margin = float(columns[4].number_input("Margin of non-inferiority", 0.0, 0.5, 0.0, step=0.01, help="In area"))
    draw_power(len(readers), positive, negative, groups, shared)
    if not st.button("Make the design", type="primary", key="rs_make"):
        return None
    chosen, left_over = designs.draw_cases(cases, positive=positive, negative=negative, seed=seed)
    if n_training > len(left_over):
        raise InvalidInput(f"{len(left_over)} studies are left for training; {n_training} were asked for.")
    with st.spinner("Making the design"):
        return designs.create_reader_study(
            database(),
            actor,
            {
                "title": title, "question": question, "modality": modality, "cases": chosen,
                "training": left_over[:n_training], "readers": tuple(readers), "design": plan, "pause_days": pause,
                "groups": groups, "shared": shared, "aids": aids, "seed": seed, "cut": cut,
                "margin": margin, "source": source,
            },
            of_data_set=of_data_set,
        )  # fmt: skip


def choose_groups(left: DeltaGenerator, right: DeltaGenerator, n_cases: int) -> tuple[int, int]:
    """Groups of readers and cases, and how many cases all groups read."""
    groups = int(left.number_input("Groups", 1, 10, 1, help="1: everybody reads everything (fully crossed)"))
    if groups == 1:
        return 1, 0
    words = "Hybrid: these cases are crossed, others split-plot"
    return groups, int(right.number_input("Read by all groups", 0, n_cases, 0, help=words))


def choose_cases(actor: SignedIn, modality: Modality) -> tuple[Sequence[StudyCase], CasesOf | None, str]:
    """The cases; of a data set also what of it they are; and what the source is called."""
    sets = {one.source: one for one in data_set_cases.data_sets_at_hand(database(), actor, modality)}
    left, right = st.columns([2, 1])
    source = left.selectbox("Cases from", [OWN_STUDIES, *sets], key=f"rs_source_{modality}")
    if source == OWN_STUDIES:
        at_hand = designs.cases_at_hand(database(), actor, modality)
        st.caption(f"{len(at_hand.cases)} with their final read and a truth for every breast.")
        for words, n in at_hand.left_out.items():
            st.caption(f"{n} more left out: {words}")
        return at_hand.cases, None, ""
    labels = list(sets[source].labels)
    likely = next((one for one in data_set_cases.MALIGNANT_LABELS if one in labels), labels[0])
    label = right.selectbox("Label that is malignant", labels, index=labels.index(likely), key=f"rs_label_{source}")
    unit = st.segmented_control(
        "A case is", list(UNITS), default=PICTURE, required=True, key=f"rs_unit_{source}", label_visibility="collapsed"
    )
    st.caption(f"{UNITS[unit]} Models that have learnt from a case are named before the protocol is locked.")
    asked = CasesOf(sets[source].version_id, label, is_by_exam=unit == EXAM)
    with refusals_shown(stops=True):
        found = data_set_cases.cases_of_version(database(), actor, asked)
    return found, asked, f"{source}, {unit.lower()}, malignant: {label}"[:200]


def choose_models(modality: Modality) -> tuple[str, ...]:
    """Two models to compare with one another; none where aided reading is compared with unaided."""
    titles = {card.model_id: card.title for card in live_cards(settings()) if card.modality == modality}
    compared = st.segmented_control(
        "What is compared", [AIDED_OR_NOT, TWO_MODELS], default=AIDED_OR_NOT, required=True, key="rs_compared",
        disabled=len(titles) < 2, help="Two models need two live models of this kind of image",
    )  # fmt: skip
    if compared != TWO_MODELS or len(titles) < 2:
        return ()
    left, right = st.columns(2)
    first = left.selectbox(
        "Model A", list(titles), format_func=lambda one: without_controls(titles[one]), key="rs_first"
    )
    others = [one for one in titles if one != first]
    return first, right.selectbox(
        "Model B", others, format_func=lambda one: without_controls(titles[one]), key="rs_second"
    )


def draw_power(n_readers: int, positive: int, negative: int, groups: int, shared: int) -> None:
    """Power by simulation, when it is asked for."""
    with st.expander("Power", icon=":material/calculate:"):
        effect = st.slider("Difference in separation (0 shows how often nothing is called something)", 0.0, 1.5, 0.5)
        st.caption(
            f"{POWER_RUNS} studies simulated by the model of Roe & Metz (1997) with these readers and cases; an area "
            "of .86 without the difference."
        )
        if st.button("Simulate", key="rs_power"):
            with st.spinner("Simulating"):
                found = simulated_power(
                    readers=n_readers, positives=positive, negatives=negative, effect=effect, runs=POWER_RUNS,
                    groups=groups, shared=shared,
                )  # fmt: skip
            low, high = found["ci"]
            st.markdown(
                f"Mean difference in area {found['difference']:+.3f}: found in **{100 * found['power']:.0f} %** of the "
                f"studies ({100 * low:.0f} to {100 * high:.0f} %)."
            )
            if found["untested"]:
                st.caption(f"{how_many(found['untested'], 'study', 'studies')}: {UNTESTED}.")


# ---- one reader study --------------------------------------------------------------------------------------------


def draw(actor: SignedIn, row: ReaderStudyRow) -> None:
    protocol = row.protocol
    st.badge(row.state.capitalize(), color="gray")
    if protocol.question:
        st.markdown(plain(protocol.question))
    st.caption(plain(" · ".join(f"{name}: {value}" for name, value in design_facts(protocol))))
    if row.locked_at:
        st.caption(f"Locked {when(row.locked_at)}, protocol sha256 `{row.sha256}`")
    st.download_button(
        "Protocol",
        deferred("design_reader_study", lambda _: json.dumps(public_protocol(row), indent=1).encode()),
        "secondread-reader-study-protocol.json",
        "application/json",
        icon=":material/download:",
        on_click="ignore",
    )
    if row.state == DESIGNED:
        offer_locking(actor, row)
    else:
        draw_progress(row)
    if row.state == READING:
        offer_closing(actor, row)
    if row.state == CLOSED:
        draw_results(actor, readings.results_of(database(), actor, row.id))


def public_protocol(row: ReaderStudyRow) -> dict[str, Any]:
    """The protocol as a document: cases and readers are numbered, and nothing says who or which they are."""
    told = row.protocol.model_dump(mode="json", exclude={"cases", "training", "readers"})
    cases = [{"case": n, "malignant": sum(case.truth.values())} for n, case in enumerate(row.protocol.cases, start=1)]
    return {**told, "readers": len(row.protocol.readers), "cases": cases, "sha256": row.sha256}


def offer_locking(actor: SignedIn, row: ReaderStudyRow) -> None:
    st.info(
        "Nothing is read before the protocol is locked, and nothing of it can be changed afterwards. The audit trail "
        "keeps its sha256.",
        icon=":material/lock_open:",
    )
    with refusals_shown():
        for remark in designs.remarks_on_models(database(), actor, row.id):
            st.warning(plain(remark), icon=":material/policy:")
    left, right = st.columns([1, 3])
    if left.button("Lock the protocol", type="primary", icon=":material/lock:", key=f"rs_lock_{row.id}"):
        with refusals_shown():
            designs.lock_reader_study(database(), actor, row.id)
            st.rerun()
    if right.button("Discard", icon=":material/delete:", key=f"rs_discard_{row.id}"):
        with refusals_shown():
            designs.discard_reader_study(database(), actor, row.id)
            # The address goes on naming it: no other study stands where this one was discarded.
            st.query_params["of"] = name_of(row)
            st.rerun()


def draw_progress(row: ReaderStudyRow) -> None:
    done, every = sum(one.n_done for one in row.progress), sum(one.n_tasks for one in row.progress)
    st.progress(done / every, text=f"{done} of {every} reads")
    if row.state == READING:
        for one in row.progress:
            st.caption(f"{plain(one.name)}: {one.n_done} of {one.n_tasks}")


def offer_closing(actor: SignedIn, row: ReaderStudyRow) -> None:
    st.caption("Results are shown once the study is closed: who knows how it stands may end it where it suits.")
    why = "Why it is closed although reads are missing"
    reason = "" if row.is_complete else st.text_input(why, key=f"rs_reason_{row.id}")
    if st.button("Close the reading", type="primary" if row.is_complete else "secondary", key=f"rs_close_{row.id}"):
        with refusals_shown():
            designs.close_reader_study(database(), actor, row.id, reason=reason)
            st.rerun()


actor = require("design_reader_study")
draw_style()
st.title("Reader studies", anchor=False)
st.caption(
    "Several readers read the same cases unaided and with the AI's answer, or with the answers of two models. Nothing "
    "changes once the protocol is locked, and no result is shown before the reading is closed."
)
with refusals_shown(stops=True):
    rows = designs.list_reader_studies(database(), actor)
by_name = {name_of(row): row for row in rows}
options = [*by_name, NEW, TABLE]
if address.names_another(options, key="of"):
    options.insert(0, GONE)
chosen = address.select("Reader study", options, key="of")
with refusals_shown():
    if chosen == GONE:
        st.warning(
            "The address names a reader study that is not here (it was discarded), or an earlier name. Choose one."
        )
    elif chosen == NEW:
        made = design(actor)
        if made:
            st.query_params["of"] = name_of(designs.load_reader_study(database(), actor, made))
            st.rerun()
    elif chosen == TABLE:
        draw_table(actor)
    else:
        draw(actor, by_name[chosen])
