"""The outline network: which one outlines, a trained one beside it, and the way there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core.errors import ModelUnavailable
from core.models.live import OUTLINE_NETWORK
from core.models.outline_card import OutlineCard, live_outline_card
from core.records.people.permissions import Actor
from core.records.releases import outline_check
from core.records.releases.decisions import Decision
from core.records.releases.outline_check import OutlineExamination
from core.types import Estimate
from pages.admin.release_parts.history import draw_model
from pages.admin.release_parts.promotion import ask_for_reasons
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, settings
from train.queue.trainings import JobRow


def draw_outline_network(actor: Actor, decided: Sequence[Decision], trained: Mapping[str, JobRow]) -> None:
    """Nothing where there is neither a live network nor a trained one nor a decision. decided: of every model.

    trained: sha256 of weights -> the training here that made them.
    """
    with refusals_shown():
        try:
            live = live_outline_card(settings())
        except ModelUnavailable as damaged:
            live = None
            st.warning(plain(str(damaged)), icon=":material/warning:")
        candidates = outline_check.outline_candidates(database(), actor)
        own = [one for one in decided if one.model_id == OUTLINE_NETWORK]
        if live is None and not candidates and not own:
            return
        st.subheader("Outline network", anchor=False)
        st.caption("It proposes outlines in ultrasound pictures and gives no probability, so it has a gate of its own.")
        draw_model(actor, OUTLINE_NETWORK, live, own)
        if not candidates:
            return
        by_sha256 = {card.weights_sha256: card for card in candidates}
        chosen = st.selectbox(
            "A trained outline network", list(by_sha256), index=0 if len(by_sha256) == 1 else None,
            format_func=lambda one: _text(by_sha256[one], trained.get(one)), key="outline_candidate",
            placeholder="Choose one",
        )  # fmt: skip
        if chosen is not None:
            _draw_gate(actor, outline_check.examine_outline(database(), actor, chosen))


def _draw_gate(actor: Actor, found: OutlineExamination) -> None:
    for note in found.notes:
        st.info(plain(note), icon=":material/info:")
    n = found.n_shared or found.n_tested
    whose = "that both were tested on" if found.n_shared else "of the candidate"
    st.markdown(f"Measured on **{n}** test pictures {whose}, with 95 % intervals over patients.")
    rows = [
        {
            "": one.title,
            "Candidate": _estimate_text(one.candidate),
            "Live": _estimate_text(one.live),
            "Difference": _estimate_text(one.difference, sign="+"),
            "Pictures": one.candidate.n,
        }
        for one in found.differences
    ]
    st.table(rows, hide_index=True)
    short = found.candidate.weights_sha256[:8]
    passed = ask_for_reasons(f"outline_{short}", found.lines)
    reason = st.text_area("Why it is promoted", key=f"promote_reason_outline_{short}", height=80)
    st.caption(
        "It outlines from the next page on. Findings that were accepted before stay as they are. Your name and these "
        "reasons are kept."
    )
    if st.button(
        "Promote this outline network", type="primary", icon=":material/publish:", key=f"promote_outline_{short}"
    ):
        outline_check.promote_outline(
            database(), actor, found.candidate.weights_sha256, live_sha256=found.live_sha256, reason=reason,
            passed=passed,
        )  # fmt: skip
        st.session_state.release_note = f"{OUTLINE_NETWORK} is live with the weights {short}."
        st.rerun()


def _estimate_text(one: Estimate | None, sign: str = "") -> str:
    return "" if one is None else f"{one.value:{sign}.3f} ({one.low:{sign}.3f} to {one.high:{sign}.3f})"


def _text(card: OutlineCard, job: JobRow | None) -> str:
    """One line for the choice, which shows text as it is."""
    short = card.weights_sha256[:8]
    if job is not None:
        return f"{short} · training {job.id} · {job.data_set} v{job.version} · {job.created_by_name}"
    return f"{short} · {card.folder.parent.name} · made {card.created or 'at an unknown time'}"
