"""One study: from files to images, first impression, second read, final assessment and report.

Without a study in the address this is where a new one begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypedDict

import streamlit as st

from core.findings.proposals import Proposal
from core.reading import second_read
from core.reading.second_read import Answer, Readiness, Stage, Task
from core.records.people.permissions import SignedIn
from core.records.reads import reading_leases, reads, studies
from core.records.reads.studies import StoredStudy
from core.records.reads.worklist import worklist_row
from core.reports.content import breast_name, removed_text, when
from pages.parts import attention
from pages.parts.attention import AttentionChoice as Choice
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings
from pages.parts.viewer import Drawn, Marking
from pages.reader.parts import (
    impressions,
    marking,
    measured_findings,
    new_study,
    pictures,
    scores,
    study_report,
    study_tools,
)

READINESS_SECONDS = 2.0


def show_readiness(study: StoredStudy) -> None:
    """How far the second read is: one line, nothing of what any model says, and nothing where no model reads the study.

    Looked at again every few seconds by a fragment of its own, only until it stays as it is.
    """
    tasks = second_read.tasks_of(settings(), study)
    if not tasks:
        return
    found = second_read.readiness(study.row.id, tasks)
    # Streamlit holds what a fragment is called with until the next run: the tasks, never the pixels of the study.
    look = st.fragment(_look_how_far, run_every=None if found.is_settled else READINESS_SECONDS)
    look(study.row.id, tasks, found)


def _look_how_far(study_id: str, tasks: Sequence[Task], before: Readiness) -> None:
    """before: as it was when the page was drawn. Once it is settled, one run of the page ends the looking."""
    require("record_first_read", is_activity=False)
    now = second_read.readiness(study_id, tasks)
    stage = f"place {now.place} in the queue" if now.stage is Stage.QUEUED else now.stage.value
    st.html(f'<p class="sr-soft sr-ready" role="status">Second read: {stage}</p>')
    if now.is_settled and not before.is_settled:
        st.rerun()


_OWN_READS = "own_reads_"
_SHOWN = "answers_shown_"


def first_impression(person: SignedIn, study: StoredStudy) -> None:
    second_read.compute_ahead(database(), study)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Your first impression", anchor=False)
        show_readiness(study)
    if study.row.state == "final":
        st.caption("This study has a final read already. You can read it too, or only look at what was found.")
        if st.button("Look without reading", icon=":material/visibility:"):
            with refusals_shown():
                reads.reveal(database(), person, study.row.id)
                st.rerun()
    filled = impressions.read_form(person, impressions.form_of(study, "first"))
    given = filled.impressions
    if st.button("Save first impression", type="primary", disabled=given is None, width="stretch", help=filled.waits):
        with refusals_shown():
            reads.record_first_read(
                database(), person, study.row.id, given or {}, filled.comment, annotations=filled.annotations
            )
            forget_own_reads(study.row.id)
            st.rerun()
    if filled.waits:
        st.caption(filled.waits)


def second_opinion(person: SignedIn, study: StoredStudy, labels: dict[str, str], *, is_saving: bool) -> list[Answer]:
    """The models' answers where the reader may see them and has asked; else the button.

    is_saving: no model is asked now. The run that asks ends before the form, and the click on its button with it; and
    what is saved rests on the answers that were seen.
    """
    if not reads.ai_visible(database(), person, study.row.id):
        if st.button("Show second read", type="primary", width="stretch", icon=":material/visibility:"):
            with refusals_shown():
                reads.reveal(database(), person, study.row.id)
                st.rerun()
        second_read.compute_ahead(database(), study)
        show_readiness(study)
        return []
    for sentence in second_read.no_opinions(settings(), [stored.image for stored in study.images]).values():
        st.info(plain(sentence), icon=":material/info:")
    scores.show_not_scored(study, labels)
    answers = second_read.answers_of(database(), person, study)
    if is_saving:
        shown_before = st.session_state.get(f"{_SHOWN}{study.row.id}", frozenset())
        answers = [one for one in answers if _key_of(one) in shown_before]
    else:
        st.session_state[f"{_SHOWN}{study.row.id}"] = frozenset(map(_key_of, answers))
    work = scores.unasked(study, answers)
    if work and not is_saving:
        # The pictures first: what is drawn late is dimmed while the models compute.
        draw_pictures(study, labels, [], None)
        scores.ask(study, work)
        st.rerun()
    scores.show_refusals(study)
    if answers:
        scores.show_scores(study, answers, labels)
    return answers


def _key_of(answer: Answer) -> reads.AnswerKey:
    image_id, prediction, _ = answer
    return image_id, prediction.weights_sha256


def assessment(
    person: SignedIn,
    study: StoredStudy,
    start: reads.Read | None,
    *,
    button: str,
    proposals: Mapping[str, Proposal] = MappingProxyType({}),
) -> None:
    """The form of a final read; it begins with what the reader said before, a correction with its texts too.

    proposals: of the models that the reader sees, by the ids of their marks; none again in a correction.
    """
    form = impressions.form_of(study, "final", start, proposals)
    filled = impressions.read_form(person, form, start=start)
    given = filled.impressions
    if st.button(
        button, type="primary", disabled=given is None, width="stretch", key=impressions.save_key(form.key),
        help=filled.waits,
    ):  # fmt: skip
        with refusals_shown():
            reads.record_final_read(
                database(), person, study.row.id, given or {}, filled.comment,
                sentence=filled.sentence, density=filled.density, annotations=filled.annotations,
                seen=st.session_state.get(f"{_SHOWN}{study.row.id}"),
            )  # fmt: skip
            forget_own_reads(study.row.id)
            st.rerun()


def conclude(
    person: SignedIn,
    study: StoredStudy,
    known: Sequence[reads.Read],
    answers: Sequence[Answer],
    *,
    is_arbiter: bool = False,
    outlines: Mapping[str, Proposal] = MappingProxyType({}),
) -> None:
    """The final assessment, or what was saved of it with a way to add to it; others' reads; the report."""
    mine = [read for read in known if read.person_id == person.id]
    own_final = [read for read in mine if read.kind == "final"]
    if own_final:
        impressions.show_read(own_final[-1])
        study_tools.offer_next(person, study.row.id)
    elif mine or is_arbiter or study.row.reading_mode == "concurrent":
        st.subheader("Final assessment", anchor=False)
        proposals = {**second_read.proposals_of(settings(), study, answers), **outlines}
        assessment(person, study, mine[0] if mine else None, button="Save final assessment", proposals=proposals)
    others = [read for read in known if read.person_id != person.id]
    with st.container(horizontal=True, vertical_alignment="center", key="sr-others"):
        lines = [
            f":material/difference: **{breast_name(breast)}: readers disagree, {' against '.join(categories)}**"
            for breast, categories in row.disagreement.items()
        ]
        if lines:
            st.markdown("  \n".join(lines), width="stretch")
        impressions.offer_earlier(others)
    impressions.show_others(others)
    is_undecided = is_arbiter and not own_final  # of two who disagree no report is made while a third is deciding
    if any(read.kind == "final" for read in known) and not is_undecided:
        study_report.offer(person, study)
        study_tools.archive_results(person, study.row.id)
    if own_final:
        with st.expander("Correct my final assessment", icon=":material/edit:"):
            study_tools.scrolled_to_when_opened(f"correct_{study.row.id}")
            st.caption("The earlier assessment stays on record; the report shows both.")
            assessment(person, study, own_final[-1], button="Save the correction")


def say_what_was_saved_elsewhere(study_id: str, n_own: int) -> None:
    """n_own: reads of the person's own. One more than when this tab drew its form, and not of its making: the form is
    another one now, and what was filled in is not what was saved."""
    key = f"{_OWN_READS}{study_id}"
    before = st.session_state.get(key, n_own)
    st.session_state[key] = n_own
    if n_own > before:
        st.warning(
            "Your read of this study was saved in another tab or browser. It stands here as it was saved there; what "
            "you filled in here meanwhile was not saved.",
            icon=":material/tab:",
        )


def forget_own_reads(study_id: str) -> None:
    """The next read is of this tab's making."""
    st.session_state.pop(f"{_OWN_READS}{study_id}", None)


def hung_prior(study: StoredStudy) -> StoredStudy | None:
    """The earlier study that was asked for beside this one; None where there is none to be seen."""
    prior_id = study_tools.hung_prior(study)
    if not prior_id:
        return None
    with refusals_shown():
        prior = studies.load_study(database(), person, prior_id)
        studies.record_opening(database(), person, prior_id)
        taken = prior.row.taken_on or prior.row.created_at.date()
        st.markdown(f"**Earlier** · {taken} · {plain(prior.row.display_name)}")
        if not prior.pixels_removed_at:
            return prior
        st.info(removed_text(prior.pixels_removed_at), icon=":material/hide_image:")
    return None


def is_held_by_another(person: SignedIn, study: StoredStudy) -> bool:
    """Whether somebody else reads the study now; while it is the person's own, the open page renews that."""
    if study.is_final_for_me or not has_something_to_do(person, study):
        return False
    with refusals_shown():
        other = reading_leases.hold_study(database(), person, study.row.id)
        if other is None:
            renew_reading(study.row.id)
            return False
        st.warning(f"{plain(other.name)} is reading this study since {when(other.since)}.", icon=":material/lock:")
        if st.button("Take over", width="stretch", key="take_over"):
            reading_leases.hold_study(database(), person, study.row.id, is_take_over=True)
            st.rerun()
        st.caption("Whoever reads it is told at their next click. What either of you filled in is kept.")
    return True


def has_something_to_do(person: SignedIn, study: StoredStudy) -> bool:
    """A study that somebody else has finished is only held by whoever has begun it themselves."""
    known = reads.reads_of(database(), person, study.row.id)
    return study.row.state != "final" or any(read.person_id == person.id for read in known)


@st.fragment(run_every=reading_leases.READING_SECONDS / 3)
def renew_reading(study_id: str) -> None:
    person = require("record_first_read", is_activity=False)
    if reading_leases.hold_study(database(), person, study_id) is not None:
        st.rerun()


def offer_arbitration(person: SignedIn, study_id: str) -> None:
    """To a third reader, of a double reading whose readers disagree."""
    st.subheader("The two readers disagree", anchor=False)
    st.caption("You see both reads, which is recorded, and decide between them with a final assessment of your own.")
    if st.button("See both reads and decide", icon=":material/gavel:", type="primary", width="stretch"):
        with refusals_shown():
            reads.arbitrate(database(), person, study_id)
            st.rerun()


def draw_pictures(study: StoredStudy, labels: dict[str, str], answers: Sequence[Answer], choice: Choice | None) -> None:
    if study.pixels_removed_at:
        with shown:
            st.info(removed_text(study.pixels_removed_at), icon=":material/hide_image:")
        return
    with shown, st.container(key="sr-pictures"):
        prior = hung_prior(study)
        explanations = second_read.explanations_by_image(study, answers)
        told = study_tools.warnings(study, labels)
        marks = marks_on(study)
        if prior is not None:
            on_prior = tuple(replace(one, is_on_prior=True) for one in saved_marks(prior))
            marks["fixed"] = (*marks["fixed"], *on_prior)
        pictures.show_study(
            study,
            choice=choice,
            explanations=explanations,
            warnings=told,
            remembers=str(person.id),
            prior=prior,
            **marks,
        )


class MarksOn(TypedDict):
    marking: Marking | None
    fixed: tuple[Drawn, ...]


def marks_on(study: StoredStudy) -> MarksOn:
    """What the viewer shows of the reader's findings: to be changed while a form is open, else as they were saved."""
    form = st.session_state.get(impressions.open_form_key(study.row.id))
    if not form:
        return {"marking": None, "fixed": saved_marks(study)}
    proposed = st.session_state.get(f"{impressions.open_form_key(study.row.id)}_proposed", ())
    return {"marking": marking.marking_for(form), "fixed": proposed}


def saved_marks(study: StoredStudy) -> tuple[Drawn, ...]:
    """Findings and measurements of the reader's own last read, while no form is open that could change them."""
    own = [read for read in reads.reads_of(database(), person, study.row.id) if read.person_id == person.id]
    if not own:
        return ()
    saved = own[-1].annotations
    findings = (
        Drawn(f"saved-{number}-{place}", mark, f"{number} {finding.type}")
        for number, finding in enumerate(saved.findings, start=1)
        for place, mark in enumerate(finding.marks)
    )
    measured = (Drawn(f"saved-measured-{number}", one.mark) for number, one in enumerate(saved.measurements))
    return (*findings, *measured)


def read_panel(
    person: SignedIn, study: StoredStudy, labels: dict[str, str], *, is_saving: bool
) -> tuple[list[Answer], Choice | None]:
    """Everything beside the pictures, in the order of work. Nothing of the AI before `ai_visible`.

    is_saving: the button of a form was clicked.
    """
    if is_held_by_another(person, study):
        return [], None
    known = reads.reads_of(database(), person, study.row.id)
    say_what_was_saved_elsewhere(study.row.id, sum(read.person_id == person.id for read in known))
    own_first = [read for read in known if read.person_id == person.id and read.kind == "first"]
    is_arbiter = row.is_double_read and not own_first and bool(known)  # who sees reads of a double reading without one
    is_visible = reads.ai_visible(database(), person, study.row.id)
    if own_first:
        impressions.show_read(own_first[0])
    elif row.needs_arbitration and row.is_open and not known:
        offer_arbitration(person, study.row.id)
        return [], None
    elif not is_visible and not is_arbiter:
        first_impression(person, study)
        return [], None
    answers = second_opinion(person, study, labels, is_saving=is_saving)
    if not is_visible and not is_arbiter:
        return [], None
    choice = None
    if answers and not study.pixels_removed_at:
        leads = second_read.leads_of(settings(), study, answers).values()
        by_lead = sorted(answers, key=lambda answer: answer[1].model_id not in leads)
        titles = second_read.titles_among(settings(), study, answers)
        choice = attention.attention_controls(by_lead, titles, key=f"attention_{study.row.id}")
    outlines: Mapping[str, Proposal] = {}
    if is_visible:
        form = measured_findings.final_form(person, study, known, is_arbiter=is_arbiter)
        outlines = measured_findings.offer(person, study, labels, form)
        if settings().language_model:
            from pages.reader.parts import language_words  # loaded only where the site wants one

            language_words.draw_own(person, study, labels, form)
    conclude(person, study, known, answers, is_arbiter=is_arbiter, outlines=outlines)
    return answers, choice


person = require("record_first_read")
study_id = st.query_params.get("study", "")
if not study_id:
    st.title("New study", anchor=False)
    saved = new_study.begin_studies(person)
    if len(saved) == 1:
        st.switch_page("pages/reader/read.py", query_params={"study": saved[0]})
    if saved:
        st.switch_page("pages/reader/worklist.py")
    st.stop()
study_tools.take_frame(person, study_id)
with refusals_shown(stops=True):
    study = studies.load_study(database(), person, study_id)
    row = worklist_row(database(), person, study_id)
    studies.record_opening(database(), person, study_id)
impressions.forget_other_forms(study_id)

pictures.draw_style()
labels = pictures.labels_of(study)
study_tools.header(person, study, labels)
open_form = st.session_state.pop(impressions.open_form_key(study.row.id), "")
is_saving = bool(st.session_state.get(impressions.save_key(open_form)))
shown, panel = st.columns([1.75, 1], gap="medium")
with panel, st.container(key="sr-panel"):
    answers, choice = read_panel(person, study, labels, is_saving=is_saving)
draw_pictures(study, labels, answers, choice)
