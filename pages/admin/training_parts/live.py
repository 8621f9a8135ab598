"""One training as it goes: where it stands, its curves, its history and the end of its log."""

from __future__ import annotations

import plotly.colors
import plotly.graph_objects as go
import streamlit as st

from core.errors import NotFound
from core.models.cards import Card
from core.models.outline_card import OutlineCard
from core.models.registry import OUTLINE
from core.records import queue
from core.records.people.permissions import Actor
from core.records.releases.decisions import candidate_card, find_outline_candidate
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings
from pages.parts.training_tables import (
    device_text,
    duration_text,
    job_title,
    outcome_text,
    progress_text,
    trials_table,
    when,
)
from train.queue import trainings
from train.queue.trainings import Epoch, JobRow

_CURVES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("Loss", ("loss", "validation_loss"), ("training", "validation")),
    ("Validation", ("validation_auc", "validation_accuracy"), ("AUC", "accuracy")),
)
_OF_OUTLINES = (("Loss", ("loss",), ("training",)), ("Validation", ("validation_dice",), ("Dice",)))
"""Of an outline network, which gives no probability."""
_OF_PARTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "Loss": ("Validation loss", ("validation_loss",), ("",)),
    "Validation": ("Validation AUC", ("validation_auc",), ("",)),
}
"""What is drawn of each fold or trial."""
_DASHES = ("solid", "dot")
_COLOURS = plotly.colors.qualitative.Safe
"""One for each fold or trial."""


@st.fragment(run_every=2)
def live(job_id: int) -> None:
    """A training that is not over; looks again every two seconds and reloads the page when it is."""
    actor = require("manage_training", is_activity=False)  # looking on keeps nobody signed in
    with refusals_shown(stops=True):
        job = trainings.load_job(database(), actor, job_id)
    show(actor, job)
    if not job.is_open:
        st.rerun()


def show(actor: Actor, job: JobRow) -> None:
    """Everything there is to see of one training."""
    epochs = trainings.epochs_of(database(), actor, job.id)
    st.markdown(f"**{job_title(job)}**")
    say = st.error if job.state in (queue.FAILED, queue.DEAD) else st.success if job.state == queue.DONE else st.info
    say(plain("Stopping." if job.is_stopping else job.message))
    if job.state == queue.DONE and job.result:
        st.caption(outcome_text(job, epochs, _card_of(job)))
        st.page_link(
            "pages/admin/releases.py", label="Look at its candidate", icon=":material/published_with_changes:",
            query_params={} if job.request.architecture == OUTLINE else {"candidate": str(job.id)},
        )  # fmt: skip
    if job.is_open:
        _draw_progress(job, epochs)
        words = "Skip the comparison, keep the candidate" if job.is_comparing else "Cancel this training"
        waits = "It was asked to stop and does so after the step that it is in." if job.is_stopping else None
        if st.button(words, key=f"cancel_{job.id}", disabled=job.is_stopping, icon=":material/stop:", help=waits):
            with refusals_shown():
                trainings.cancel(database(), actor, job.id)
                st.rerun()
    _draw_trials(job)
    _draw_curves(job, epochs)
    with st.expander("History", key=f"history_{job.id}"):
        st.caption(f"Started by {plain(job.created_by_name)}, {when(job.created_at)}")
        if job.device and not job.is_open:
            st.caption(f"Trained {device_text(job)}")
        for event in trainings.events_of(database(), actor, job.id):
            st.markdown(f"{when(event.at)} · {plain(event.sentence)}")
    tail = trainings.log_tail(database(), actor, job.id)
    if tail:
        with st.expander("Log", key=f"log_{job.id}"):
            st.code(tail, language=None)


def _card_of(job: JobRow) -> Card | OutlineCard | None:
    """The card of its candidate; None where that is gone or damaged, which the page Releases says."""
    try:
        if job.request.architecture == OUTLINE:
            return find_outline_candidate(settings(), job.result["weights_sha256"])  # type: ignore[index]
        return candidate_card(settings(), job.id, job.result["model_id"], job.result["weights_sha256"])  # type: ignore[index]
    except NotFound:
        return None


def _draw_progress(job: JobRow, epochs: list[Epoch]) -> None:
    total = job.request.n_epochs * job.request.runs
    left = trainings.seconds_left(job, epochs)
    if not job.is_comparing:
        st.progress(trainings.share_done(job, epochs), progress_text(job, len(epochs), total))
    parts = [f"at most {duration_text(left)} left"] if left is not None else []
    parts += [device_text(job)] if job.machine and job.state == queue.RUNNING else []
    parts += [f"attempt {job.attempts}"] if job.attempts > 1 else []
    st.caption(" · ".join(parts))


def _draw_trials(job: JobRow) -> None:
    if job.trials:
        st.dataframe(trials_table(job), hide_index=True, key=f"trials_{job.id}")


def _draw_curves(job: JobRow, epochs: list[Epoch]) -> None:
    """One line a part: a plain training has one, folds and searches have several."""
    if not epochs:
        return
    parts = list(dict.fromkeys(epoch.part for epoch in epochs))
    curves = _OF_OUTLINES if job.request.architecture == OUTLINE else _CURVES
    for column, (title, keys, names) in zip(st.columns(2), curves, strict=True):
        if len(parts) > 1:  # one line each, or nobody finds their way
            title, keys, names = _OF_PARTS[title]
        figure = go.Figure()
        for number, part in enumerate(parts):
            rows = [epoch for epoch in epochs if epoch.part == part]
            for key, name, dash in zip(keys, names, _DASHES[: len(keys)], strict=True):
                figure.add_scatter(
                    x=[epoch.epoch for epoch in rows],
                    y=[epoch.measures.get(key) for epoch in rows],
                    name=f"{part} {name}".strip(),
                    mode="lines+markers",
                    line={"dash": dash, "color": _COLOURS[number % len(_COLOURS)] if len(parts) > 1 else None},
                )
        legend = {"orientation": "v"} if len(parts) > 1 else {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
        figure.update_layout(
            title=title, xaxis_title="epoch", height=300, margin={"l": 50, "r": 10, "t": 60, "b": 40}, legend=legend
        )
        column.plotly_chart(figure, key=f"curve_{job.id}_{title}")
