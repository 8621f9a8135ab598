"""What stands around the pictures of a study: its name, corrections, deletion, warnings."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from core.archive.deidentified_export import BURNT_IN_LIMIT, can_export, export_study
from core.records.archives import identity, outbox
from core.records.people.permissions import SignedIn
from core.records.reads import studies
from core.records.reads.studies import StoredImage, StoredStudy
from core.records.reads.worklist import next_study, worklist
from core.reports.content import not_here_text, warnings_of, when
from core.types import LATERALITIES, VIEWS, Modality
from pages.parts.markdown import SIDE_CHOICES, plain
from pages.parts.messages import refusals_shown
from pages.parts.results import draw_result
from pages.parts.session import database, deferred, may
from pages.parts.viewer import chosen_frame
from pages.reader.parts.marking import workplace_key

ORIGIN = {
    "Name": "PatientName", "Patient ID": "PatientID", "Born": "PatientBirthDate", "Accession number": "AccessionNumber",
    "Study": "StudyInstanceUID",
}  # fmt: skip
"""What a reader is shown of a study's origin."""


_into_view = st.components.v2.component(
    "secondread_into_view",
    js="""export default ({ parentElement }) => {
  const details = parentElement.getRootNode().host.closest("details")
  const grown = new ResizeObserver(() => details.scrollIntoView({ block: "start" })) // it opens little by little
  const follow = () => {
    if (!details.open) return
    grown.observe(details)
    setTimeout(() => grown.disconnect(), 1000)
  }
  details.addEventListener("toggle", follow)
  return () => details.removeEventListener("toggle", follow)
}""",
)
"""What opens at the foot of the panel opens below its edge, where nobody sees it: it is scrolled to."""


def scrolled_to_when_opened(key: str) -> None:
    """The expander that this is called in."""
    _into_view(key=key)


def take_frame(person: SignedIn, study_id: str) -> None:
    """The frame of a clip that the reader chose in the viewer since the last run; a refusal is shown once."""
    key = workplace_key(study_id)
    chosen = chosen_frame(key)
    if chosen is None or chosen == st.session_state.get(f"{key}_frame"):
        return
    st.session_state[f"{key}_frame"] = chosen
    with refusals_shown():
        studies.choose_frame(database(), person, chosen[0], chosen[1])


def header(person: SignedIn, study: StoredStudy, labels: Mapping[str, str]) -> None:
    """The study's name and what can be done with the study as a whole. labels: image id -> as hung."""
    row = study.row
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(row.display_name), anchor=False, width="stretch")
        if row.is_synthetic:
            st.badge("Synthetic", color="green")
        if study.n_earlier:
            earlier = "1 earlier study" if study.n_earlier == 1 else f"{study.n_earlier} earlier studies"
            with st.popover(earlier, icon=":material/history:"):
                _earlier(person, study)
        if may(person, "see_identity") and identity.has_identity(database(), person, row.id):
            with st.popover("Origin", icon=":material/badge:"):
                _origin(person, row.id)
        if may(person, "export_deidentified") and can_export(database(), person, row.id):
            with st.popover("Export", icon=":material/no_accounts:"):
                _export(person, row.id)
        if row.state == "new" and may(person, "correct_image"):
            with st.popover("Correct images", icon=":material/edit:"):
                _corrections(person, study, labels)
        if studies.may_delete(database(), person, row.id):
            with st.popover("Delete", icon=":material/delete:"):
                _deletion(person, study)


def warnings(study: StoredStudy, labels: Mapping[str, str]) -> list[str]:
    """What the reader should know before trusting a picture, as Markdown; the same sentence only once."""
    told: dict[str, list[str]] = {}
    for stored in study.images:
        for sentence in warnings_of(stored.image):
            told.setdefault(sentence, []).append(labels[stored.id])
    lines = [f":material/warning: {not_here_text(study.n_not_here)}"] if study.n_not_here else []
    for sentence, where in told.items():
        which = "" if len(where) == len(study.images) else f"**{plain(', '.join(where))}**: "
        lines.append(f":material/warning: {which}{plain(sentence)}")
    return lines


def _earlier(person: SignedIn, study: StoredStudy) -> None:
    st.caption("Found by a keyed hash of the patient's number; the number itself is not kept.")
    for row in studies.earlier_studies(database(), person, study.row.id):
        taken = f"taken {row.taken_on}" if row.taken_on else f"stored {when(row.created_at)}"
        name, beside = st.columns([2, 1], vertical_alignment="center")
        if name.button(f"{plain(row.display_name)}, {taken}", key=f"earlier_{row.id}", type="tertiary"):
            st.switch_page("pages/reader/read.py", query_params={"study": row.id})
        is_hung = hung_prior(study) == row.id
        if beside.button("Take away" if is_hung else "Hang beside", key=f"hang_{row.id}"):
            st.session_state[f"prior_{study.row.id}"] = "" if is_hung else row.id
            st.rerun()


def hung_prior(study: StoredStudy) -> str:
    """The earlier study that was asked for beside this one, or ""."""
    return str(st.session_state.get(f"prior_{study.row.id}", "")) if study.n_earlier else ""


def offer_next(person: SignedIn, study_id: str) -> None:
    """On to what is to be read next, by the key "n" too."""
    following = next_study(worklist(database(), person), study_id)
    if following is None:
        st.caption("Nothing else is open for you.")
    elif st.button("Next study", key="next_study", icon=":material/skip_next:", shortcut="n", width="stretch"):
        st.switch_page("pages/reader/read.py", query_params={"study": following.study.id})


def _origin(person: SignedIn, study_id: str) -> None:
    """What the study is called where it came from, for one look."""
    st.caption("What this study is called where it came from. That you look is recorded.")
    if not st.button("Show", key="show_identity", icon=":material/visibility:"):
        return
    with refusals_shown():
        found = identity.show_identity(database(), person, study_id)
        if not found.names_patient:
            st.caption("Nothing is kept that names the patient: the files were uploaded here.")
        for title, keyword in ORIGIN.items():
            value = (
                identity.person_name(found.study.get(keyword, ""))
                if keyword == "PatientName"
                else found.study.get(keyword, "").strip()
            )
            if value or found.names_patient:
                st.text(f"{title}: {value or 'not stated'}")


def _export(person: SignedIn, study_id: str) -> None:
    """The study's files without whom they show, fetched anew when the button is clicked."""
    st.caption(
        "The files of this study from its archive, under pseudonyms and with shifted dates (PS3.15 Annex E). What "
        "cannot be cleaned is left out. That you export is recorded."
    )
    st.warning(BURNT_IN_LIMIT, icon=":material/visibility:")
    db = database()
    st.download_button(
        "De-identified files", deferred("export_deidentified", lambda _: export_study(db, person, study_id)),
        f"secondread-{study_id[:8]}-deidentified.zip", "application/zip", on_click="ignore",
        icon=":material/folder_zip:", key="export_deidentified",
    )  # fmt: skip


def archive_results(person: SignedIn, study_id: str) -> None:
    """What of the study went or goes to its archive."""
    for row in outbox.results_of(database(), person, study_id):
        draw_result(person, row, with_study=False)


def _corrections(person: SignedIn, study: StoredStudy, labels: Mapping[str, str]) -> None:
    st.caption("Until the first impression is saved. The models read what you state here.")
    for position, stored in enumerate(study.images):
        with st.form(f"correct_{stored.id}", border=True):
            _correction(person, stored, f"**Image {position + 1}** · {plain(labels[stored.id])}")


def _correction(person: SignedIn, stored: StoredImage, name: str) -> None:
    image = stored.image
    kinds = list(Modality)
    st.markdown(name)
    kind = st.selectbox("Kind", kinds, index=kinds.index(image.modality) if image.modality else None)
    side = st.segmented_control(
        "Side", list(SIDE_CHOICES), default=image.laterality, format_func=lambda side: SIDE_CHOICES[side]
    )
    view = st.selectbox("View", VIEWS, index=VIEWS.index(image.view) if image.view else None, placeholder="not stated")
    if st.form_submit_button("Save correction"):
        with refusals_shown():
            stated = side if side in LATERALITIES else None
            studies.correct_image(database(), person, stored.id, laterality=stated, view=view, modality=kind)
            st.rerun()


def _deletion(person: SignedIn, study: StoredStudy) -> None:
    st.markdown("Deletes the pictures for good. Who did it, when and why is kept.")
    reason = st.text_input("Reason", key=f"delete_reason_{study.row.id}", placeholder="Why?")
    st.caption("The reason stays in the audit trail: name no patient in it.")
    why = None if reason.strip() else "Say why first."
    if st.button("Delete this study", key=f"delete_study_{study.row.id}", disabled=bool(why), help=why):
        with refusals_shown():
            studies.delete_study(database(), person, study.row.id, reason=reason)
            st.switch_page("pages/reader/worklist.py")
