"""Releases: what is live, a candidate beside it, and who decided what and why."""

from __future__ import annotations

import streamlit as st

from core.models.cards import live_cards, withheld_cards
from core.models.live import OUTLINE_NETWORK
from core.models.registry import OUTLINE
from core.records import queue
from core.records.releases import decisions
from pages.admin.release_parts.history import draw_decisions, draw_leads, draw_model
from pages.admin.release_parts.outlines import draw_outline_network
from pages.admin.release_parts.promotion import ask_reference, draw_gate, examined
from pages.admin.release_parts.shadows import draw_begin, draw_shadows
from pages.parts import address
from pages.parts.figures import draw_style
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings
from train.queue import trainings
from train.queue.trainings import JobRow

actor = require("manage_releases")
db = database()
draw_style()


NO_CANDIDATE = "Choose the candidate to look at"


def candidate_text(job: JobRow) -> str:
    """One line for the choice, which shows text as it is."""
    return f"{job.id} · {job.request.model_id} · {job.data_set} v{job.version} · {job.created_by_name}"


def _is_outline(job: JobRow) -> bool:
    return job.request.architecture == OUTLINE


st.title("Releases", anchor=False)
st.caption(
    "A candidate answers nobody until somebody promotes it here, by name and with a reason; there is always a way back."
)
note = st.session_state.pop("release_note", None)
if note:
    st.success(plain(note), icon=":material/check:")

with refusals_shown(stops=True):
    decided = decisions.decisions(db, actor)
    live = {card.model_id: card for card in live_cards(settings())}
    withheld = {card.model_id: card for card in withheld_cards(settings())}
    finished = [job for job in trainings.list_jobs(db, actor) if job.state == queue.DONE and job.result]
    outlines = {str(job.result["weights_sha256"]): job for job in finished if job.result and _is_outline(job)}
    finished = [job for job in finished if not _is_outline(job)]

st.subheader("Live", anchor=False)
for model_id in dict.fromkeys([*live, *withheld, *(one.model_id for one in decided)]):
    if model_id == OUTLINE_NETWORK:
        continue
    own = [one for one in decided if one.model_id == model_id]
    draw_model(actor, model_id, live.get(model_id), own, withheld.get(model_id))

if live:
    st.subheader("Lead", anchor=False)
    st.caption(
        "The lead's number stands first for each breast; the other models are folded under it. By default an ensemble "
        "leads, and a weak or leaking model only where there is no other."
    )
    draw_leads(actor, list(live.values()))

draw_shadows(actor)
st.subheader("Candidates", anchor=False)
if finished:
    by_id = {str(job.id): job for job in finished}
    asked = address.select(
        "A finished training", [*([NO_CANDIDATE] if len(finished) > 1 else []), *by_id], key="candidate",
        format_func=lambda one: candidate_text(by_id[one]) if one in by_id else one,
    )  # fmt: skip
    chosen = by_id.get(asked)
    if chosen is not None and chosen.result is not None:
        with refusals_shown():
            draw_begin(actor, finished, chosen.id)
            live_sha256 = decisions.live_now(db, actor, chosen.result["model_id"])
            draw_gate(actor, examined(actor, chosen.id, live_sha256, ask_reference(actor, chosen.id)))
elif outlines:
    st.info("No model that gives a probability was trained here yet. The outline network that was stands below.")
else:
    st.info("No training has finished yet. Start one on the page Training; its candidate appears here.")

draw_outline_network(actor, decided, outlines)
if decided:
    st.subheader("Decisions", anchor=False)
    draw_decisions(decided)
