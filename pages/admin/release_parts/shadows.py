"""Models that run silently beside the live ones: begin, look at what they said, end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from core.evaluation.statistics.shadow import ShadowComparison
from core.models.cards import Card, live_cards, shadow_cards
from core.records.people.permissions import Actor
from core.records.releases import decisions, shadows
from pages.parts.figures import draw_download
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, settings
from train.queue.trainings import JobRow

FEW = 20
"""Images under which nothing is read out of a comparison."""


def draw_shadows(actor: Actor) -> None:
    """Every model that runs silently now, with what it said so far."""
    for card in shadow_cards(settings()):
        short = card.weights_sha256[:8]
        with st.container(border=True, key=f"shadow_{short}"):
            st.markdown(f"**{plain(card.model_id)}** · weights {short} runs silently")
            with refusals_shown():
                _draw_comparison(actor, card)
                reason = st.text_input("Why it ends", key=f"why_shadow_{short}")
                if st.button("End the silent run", key=f"end_shadow_{short}", icon=":material/visibility_off:"):
                    decisions.end_shadow(database(), actor, card.model_id, card.weights_sha256, reason=reason)
                    _note_and_rerun(f"{card.model_id} with the weights {short} does not run silently any more.")


def draw_begin(actor: Actor, finished: Sequence[JobRow], job_id: int) -> None:
    """The form that lets a candidate run silently; none for one that is live already."""
    (job,) = (one for one in finished if one.id == job_id)
    if job.result and job.result["weights_sha256"] in {card.weights_sha256 for card in live_cards(settings())}:
        return
    with st.expander("Let it run silently first", key="begin_shadow"):
        st.caption(
            "It reads every new image after the live models have answered. Its answers are kept apart and shown to no "
            "reader; here they stand beside the live ones once studies are final."
        )
        reason = st.text_input("Why it runs silently", key=f"why_begin_{job_id}")
        if st.button("Begin", key=f"begin_shadow_{job_id}", icon=":material/visibility_off:"):
            with refusals_shown():
                decisions.start_shadow(database(), actor, job_id, reason=reason)
                _note_and_rerun(f"The candidate of training {job.id} runs silently from the next read on.")


def _draw_comparison(actor: Actor, card: Card) -> None:
    reference = _ask_reference(card)
    found = shadows.shadow_comparison(database(), actor, card.model_id, card.weights_sha256, reference=reference)
    if found.n == 0:
        st.caption("No final study was read by both yet.")
        return
    for line in comparison_lines(found):
        st.markdown(plain(line))
    draw_download(
        lambda: shadows.shadow_answers(database(), actor, card.model_id, card.weights_sha256, reference=reference),
        name=f"shadow-{card.weights_sha256[:8]}",
        action="manage_releases",
    )


def _ask_reference(card: Card) -> str | None:
    """The live model that a silent one of a new name is compared with; None where one of its own name is live."""
    live = [one.model_id for one in live_cards(settings()) if one.modality is card.modality]
    if card.model_id in live or not live:
        return None
    return st.selectbox("Compared with", live, key=f"shadow_beside_{card.weights_sha256[:8]}")


def comparison_lines(found: ShadowComparison) -> list[str]:
    """What a comparison says, a sentence each."""
    lines = [f"{found.n} images of {found.studies} final studies were read by both."]
    if found.n < FEW:
        lines.append(f"Fewer than {FEW}: read nothing out of the figures.")
    lines.append(
        f"Median score {found.median_live:.3f} live, {found.median_shadow:.3f} silent (Kolmogorov-Smirnov "
        f"p {found.ks_p:.2g}); they call {100 * found.disagreement:.0f} % of the images differently"
        + ("." if math.isnan(found.correlation) else f", Spearman's correlation is {found.correlation:.2f}.")
    )
    if found.test is None:
        lines.append("The truth of too few images is known to compare areas under the ROC curve.")
    else:
        lines.append(
            f"On {found.test.n} images whose truth is known ({found.test.positives} malignant), its area minus the "
            f"live one's is {found.test.difference:+.3f} ({found.test.low:+.3f} to {found.test.high:+.3f}, "
            f"p {found.test.p:.2g})."
        )
    return lines


def _note_and_rerun(note: str) -> None:
    st.session_state.release_note = note
    st.rerun()
