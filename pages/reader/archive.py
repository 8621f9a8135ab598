"""Studies from the site's archives: searched, fetched, and what of results went back."""

from __future__ import annotations

from datetime import date, timedelta

import streamlit as st

from core.archive import arrivals, watching
from core.archive.archives import Archive, archives
from core.archive.arrivals import ArrivalRow
from core.archive.dicomweb import FOUND_MOST, Criteria, FoundStudy
from core.records.archives import outbox
from core.records.people.permissions import SignedIn
from core.reports.content import when
from core.wording import how_many
from pages.parts.markdown import plain, without_controls
from pages.parts.messages import refusals_shown
from pages.parts.results import draw_result, go_to_opened_study, open_study
from pages.parts.session import database, require

FOUND = "archive_found"
"""What the last search listed, in this session alone: (archive id, studies)."""
MODALITIES = {"MG": "Mammography", "US": "Ultrasound", "SM": "Slides", "": "All"}
STATE_ICONS = {
    "queued": ":material/schedule:", "running": ":material/downloading:", "done": ":material/check_circle:",
    "failed": ":material/error:", "dead": ":material/error:", "cancelled": ":material/block:",
}  # fmt: skip
ASKED_BY = {"archive": "asked", "watch": "asked by a rule", "push": "sent"}
LOOK_SECONDS = 3


def search_form(person: SignedIn, known: list[Archive]) -> None:
    """What is searched for; the answer goes into the session."""
    with st.form("archive_search", border=True):
        first, second = st.columns(2), st.columns(4)
        archive = first[0].selectbox("Archive", known, format_func=lambda one: without_controls(one.name))
        kind = first[1].segmented_control("Kind", list(MODALITIES), default="MG", required=True,
                                          format_func=MODALITIES.__getitem__)  # fmt: skip
        days = second[0].date_input("Taken between", (date.today() - timedelta(days=1), date.today()), key="days")
        patient_id = second[1].text_input("Patient ID", key="patient_id")
        name = second[2].text_input("Name", key="patient_name", placeholder="Family, given")
        accession = second[3].text_input("Accession number", key="accession")
        has_patient = any(text.strip() for text in (patient_id, name, accession))
        st.caption("With a patient or an accession number, the days do not count. Nothing that is listed is stored.")
        if not st.form_submit_button("Search", type="primary", icon=":material/search:"):
            return
    span = () if has_patient or not isinstance(days, tuple) else days
    criteria = Criteria(span[0] if span else None, span[-1] if span else None, kind or "", patient_id, name, accession)
    st.session_state.pop(FOUND, None)
    with refusals_shown(), st.spinner("The archive is asked"):
        st.session_state[FOUND] = (archive.id, arrivals.search(database(), person, archive.id, criteria))


def draw_found(person: SignedIn) -> None:
    if FOUND not in st.session_state:
        return
    archive_id, found = st.session_state[FOUND]
    if not found:
        st.info("The archive lists no such study.", icon=":material/search_off:")
    for number, study in enumerate(found):
        with st.container(border=True):
            draw_study(person, archive_id, number, study)
    if len(found) == FOUND_MOST:
        st.caption(f"Only {FOUND_MOST} are shown. Search for fewer days.")


def day_of(text: str) -> str:
    """A DICOM date ("20260102") as it is written elsewhere here; anything else as it is."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 else text


def draw_study(person: SignedIn, archive_id: int, number: int, study: FoundStudy) -> None:
    """One study of the list. number: its place, because what it is called must not be in a key."""
    who, what, act = st.columns([3, 4, 1.2], vertical_alignment="center")
    born = f" · born {plain(day_of(study.birth_date))}" if study.birth_date else ""
    who.markdown(f"**{plain(study.patient_name.replace('^', ' ').strip()) or 'no name'}**")
    who.caption(f"{plain(study.patient_id) or 'no number'}{born}")
    images = f" · {how_many(study.n_instances, 'object')}" if study.n_instances is not None else ""
    what.markdown(f"{plain(day_of(study.day))} · {plain(', '.join(study.modalities))}{images}")
    what.caption(f"{plain(study.description)} {plain(study.accession_number)}")
    if act.button("Fetch", key=f"fetch_{number}", icon=":material/download:", width="stretch"):
        with refusals_shown():
            arrivals.fetch(database(), person, archive_id, study.uid)
            st.toast("It is being fetched.")


@st.fragment(run_every=LOOK_SECONDS)
def draw_movements() -> None:
    """What comes and what goes, looked at again every few seconds."""
    person = require("query_archive", is_activity=False)
    coming, going = st.columns(2, gap="medium")
    with coming, refusals_shown():
        st.subheader("Coming", anchor=False)
        for watch in watching.watches(database(), person):
            looked = f"looked at {when(watch.looked_at)}. {plain(watch.sentence)}" if watch.looked_at else "begins."
            st.caption(f":material/visibility: {plain(watch.archive_name)} is watched: {looked}")
        rows = arrivals.recent_arrivals(database(), person)
        for row in rows:
            draw_arrival(person, row)
        if not rows:
            st.caption("Nothing was fetched yet.")
    with going, refusals_shown():
        st.subheader("Going back", anchor=False)
        results = outbox.recent_results(database(), person, limit=20)
        for result in results:
            draw_result(person, result, with_study=True)
        if not results:
            st.caption("No result is on its way. An administrator chooses on the page Settings what is sent.")


def draw_arrival(person: SignedIn, row: ArrivalRow) -> None:
    with st.container(border=True):
        st.markdown(f"{STATE_ICONS[row.state]} {plain(row.message)}")
        due = f" · again {when(row.due_at)}" if row.due_at and row.state == "queued" else ""
        st.caption(f"{plain(row.archive_name)} · {ASKED_BY[row.asked_by]} {when(row.created_at)}{due}")
        if row.can_be_fetched_again and st.button("Fetch again", key=f"refetch_{row.id}", icon=":material/replay:"):
            with refusals_shown():
                arrivals.fetch_again(database(), person, row.id)
                st.rerun(scope="fragment")
        if row.study_id and st.button("Open", key=f"open_{row.id}", icon=":material/folder_open:", type="tertiary"):
            open_study(row.study_id)


person = require("query_archive")
go_to_opened_study()
st.title("Archive", anchor=False)
with refusals_shown(stops=True):
    known = archives(database(), person)
if known:
    search_form(person, known)
    draw_found(person)
else:
    st.info("No archive is named yet. An administrator names one on the page Settings.", icon=":material/dns:")
draw_movements()
