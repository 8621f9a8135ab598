"""Reading in a reader study: this reader's next case, without a list, a name, or what became of it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core.reading import second_read
from core.reading.second_read import Answer
from core.records.people.permissions import SignedIn
from core.records.reader_studies import readings
from core.records.reader_studies.protocol import UNAIDED, Task
from core.records.reader_studies.readings import Turn
from core.records.reads import reads, studies
from core.records.reads.studies import StoredStudy
from pages.parts import attention
from pages.parts.attention import AttentionChoice
from pages.parts.markdown import plain, without_controls
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings
from pages.reader.parts import impressions, pictures, scores

_BEGUN = "reader_study_begun"
"""The task that this tab has open: drawn again it is no new start, opened elsewhere it is."""


def choose(turns: list[Turn]) -> Turn:
    """The reader study that is read now: the only one, or the one that is asked for."""
    if len(turns) == 1:
        return turns[0]
    by_id = {turn.id: turn for turn in turns}
    chosen = st.selectbox(
        "Reader study",
        list(by_id),
        format_func=lambda one: without_controls(by_id[one].title),
        key="reader_study_read_now",
    )
    return by_id[chosen]


def begin(person: SignedIn, turn: Turn, task: Task) -> None:
    """Writes down that the case is before the reader, once a tab."""
    token = (turn.id, task.number)
    if st.session_state.get(_BEGUN) != token:
        readings.begin_task(database(), person, turn.id, task)
        st.session_state[_BEGUN] = token


def form_key(turn: Turn, task: Task) -> str:
    return f"reader_study_{turn.id}_{task.number}"


def what_is_shown(turn: Turn, task: Task) -> str:
    """Whose answer the reader has before them."""
    if task.modality == UNAIDED:
        return "Without the AI's answer."
    return "With the AI's answer before you." if turn.aid is None else "With the answer of one model alone before you."


def answers_for(
    person: SignedIn, study: StoredStudy, labels: dict[str, str], aid: str | None, *, is_saving: bool
) -> list[Answer]:
    """What the models say, of an aided read: asked first where they were never asked, but not by a click that saves.

    aid: the one model that may be seen; None is every model.
    """
    reads.reveal(database(), person, study.row.id)
    answers = second_read.answers_of(database(), person, study)
    work = scores.unasked(study, answers)
    if work and not is_saving:
        pictures.show_study(study)
        scores.ask(study, work)
        st.rerun()
    scores.show_refusals(study)
    answers = [answer for answer in answers if aid in (None, answer[1].model_id)]
    if answers:
        scores.show_scores(study, answers, labels)
    else:
        st.info("No model answers about these images.")
    return answers


def form(person: SignedIn, turn: Turn, task: Task, hung: Sequence[str]) -> None:
    """BI-RADS and suspicion of each breast; saved once, for good. hung: the breasts as their pictures hang."""
    key = form_key(turn, task)
    given = impressions.breast_form(key, sorted(task.case.truth, key=hung.index))
    ready = len(given) == len(task.case.truth)
    waits = None if ready else impressions.NOT_WHOLE
    if st.button(
        "Save and go on", type="primary", disabled=not ready, width="stretch", key=impressions.save_key(key), help=waits
    ):
        with refusals_shown():
            readings.save_read(database(), person, turn.id, task, given)
            st.rerun()
    st.caption("What you save cannot be changed." if ready else impressions.NOT_WHOLE)


person = require("read_in_reader_study")
pictures.draw_style()
with refusals_shown(stops=True):
    turns = readings.turns(database(), person)
if not turns:
    st.title("Study reading", anchor=False)
    st.info("You are not a reader of a reader study that is being read now.")
    st.stop()
turn = choose(turns)
st.progress(turn.n_done / turn.n_tasks, text=f"{plain(turn.title)}: {turn.n_done} of {turn.n_tasks} reads")
if turn.task is None:
    if turn.not_before:
        st.info(f"Your first session is complete. The second begins on {turn.not_before:%Y-%m-%d, %H:%M} UTC or later.")
    else:
        st.success("You have read every case. Thank you.")
    st.stop()
task = turn.task
with refusals_shown(stops=True):
    begin(person, turn, task)
    study = studies.load_study(database(), person, task.case.study_id)
labels = pictures.labels_of(study)
shown, panel = st.columns([1.75, 1], gap="medium")
choice: AttentionChoice | None = None
answers: list[Answer] = []
with panel, st.container(key="sr-panel"):
    kind = "Training case" if task.is_training else f"Read {turn.n_done + 1}"
    st.subheader(f"{kind}, {task.modality}", anchor=False)
    st.caption(what_is_shown(turn, task))
    with refusals_shown():
        if task.modality != UNAIDED:
            is_saving = bool(st.session_state.get(impressions.save_key(form_key(turn, task))))
            answers = answers_for(person, study, labels, turn.aid, is_saving=is_saving)
            titles = second_read.titles_among(settings(), study, answers)
            choice = attention.attention_controls(answers, titles, key=f"attention_{turn.id}_{task.number}")
        form(person, turn, task, study.breasts)
with shown, st.container(key="sr-pictures"):
    pictures.show_study(study, choice=choice, explanations=second_read.explanations_by_image(study, answers))
