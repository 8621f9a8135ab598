"""What is live of each model, who decided it, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from core.models.cards import Card, override_text, withheld_text
from core.models.lead import lead_of
from core.models.live import read_live
from core.models.outline_card import OutlineCard
from core.records.people.permissions import Actor
from core.records.releases import decisions
from core.records.releases.decisions import Decision, Released
from pages.parts.figures import draw_download
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, settings
from pages.parts.training_tables import when


def draw_model(
    actor: Actor, model_id: str, live: Released | None, decided: Sequence[Decision], withheld: Card | None = None
) -> None:
    """One model: what answers, and the forms to roll back and to retire. decided: of this model, the newest first.

    withheld: its card where it could answer and does not (`withheld_text`).
    """
    last = next(
        (one for one in decided if one.decision in (decisions.PROMOTE, decisions.ROLL_BACK, decisions.RETIRE)), None
    )
    state = f"weights {live.weights_sha256[:8]}" if live is not None else "does not answer"
    words = "as it is shipped" if live is not None else "measured only" if withheld is not None else "was never live"
    if last is not None and withheld is None:
        words = f"since {when(last.created_at)} by {plain(last.person_name)}"
    numbers = _numbers_text(live or withheld)
    with st.expander(f"{plain(model_id)} · {state} · {words}{numbers}", key=f"model_{model_id}"):
        if last is not None:
            st.text(f"{last.decision}: {last.reason}")
        live_sha256 = decisions.live_now(database(), actor, model_id)
        earlier = [
            card for card in decisions.releases_of(database(), actor, model_id) if card.weights_sha256 != live_sha256
        ]
        own = live if isinstance(live, Card) else None
        _say_chance(own, withheld)
        reason = st.text_input("Why", key=f"why_{model_id}")
        chosen, back, end = st.columns([3, 1, 1], vertical_alignment="bottom")
        back_to = chosen.selectbox(
            "Earlier release", earlier, format_func=_release_text,
            key=f"earlier_{model_id}_{live_sha256}", disabled=not earlier, placeholder="none",
        )  # fmt: skip
        no_way_back = None if back_to is not None else "There is no earlier release of this model here."
        is_back = back.button(
            "Roll back", key=f"roll_back_{model_id}", disabled=back_to is None, width="stretch", help=no_way_back
        )
        not_live = None if live_sha256 is not None else "This model does not answer, so there is nothing to retire."
        is_end = end.button(
            "Retire", key=f"retire_{model_id}", disabled=live_sha256 is None, width="stretch", help=not_live
        )
        with refusals_shown():
            if is_back and back_to is not None:
                decisions.roll_back(
                    database(), actor, model_id, back_to.weights_sha256, live_sha256=live_sha256, reason=reason
                )
                _note_and_rerun(
                    f"{model_id} answers with the weights {back_to.weights_sha256[:8]} from the next read on."
                )
            if is_end:
                decisions.retire(database(), actor, model_id, live_sha256=live_sha256, reason=reason)
                _note_and_rerun(f"{model_id} does not answer any more.")
            is_allowed = own is not None and bool(override_text(settings(), own))
            if withheld is not None or is_allowed:
                _draw_override(actor, model_id, live_sha256, reason, is_allowed=is_allowed)


def _numbers_text(card: Released | None) -> str:
    if isinstance(card, OutlineCard):
        one = card.measured.get("own test cases", {}).get("dice")
        return f" · test Dice {one.value:.3f} ({one.low:.3f} to {one.high:.3f}, {one.n} pictures)" if one else ""
    area = card.measured if card is not None else None
    return f" · test AUC {area.auc:.3f} ({area.low:.3f} to {area.high:.3f}, {area.n} cases)" if area else ""


def _say_chance(live: Card | None, withheld: Card | None) -> None:
    """What is known of a model that may be no better than chance, and by whose decision it answers."""
    if withheld is not None:
        st.warning(plain(withheld_text(withheld)), icon=":material/warning:")
    override = override_text(settings(), live) if live is not None else ""
    if override:
        st.warning(plain(override), icon=":material/warning:")


def _draw_override(actor: Actor, model_id: str, live_sha256: str | None, reason: str, *, is_allowed: bool) -> None:
    """The button that lets a withheld model answer, or withholds it again; `reason` is kept with the decision."""
    word = "Withhold" if is_allowed else "Let it answer all the same"
    if st.button(word, key=f"allow_{model_id}"):
        decide = decisions.end_allow if is_allowed else decisions.allow
        decide(database(), actor, model_id, live_sha256=live_sha256, reason=reason)
        does = "does not answer any more" if is_allowed else "answers from the next read on; every read says why"
        _note_and_rerun(f"{model_id} {does}.")


def draw_decisions(decided: Sequence[Decision]) -> None:
    """Every decision there was, with the reasons to pass red lines, as a table."""
    rows = [
        {
            "Time (UTC)": one.created_at.strftime("%Y-%m-%d %H:%M:%S"),
            "Person": one.person_name,
            "Decision": one.decision,
            "Model": one.model_id,
            "Weights": one.weights_sha256[:8],
            "Before": (one.previous_sha256 or "")[:8],
            "Training": one.job_id,
            "Compared with": _compared_text(one),
            "Reason": one.reason,
            "Red lines passed": "; ".join(f"{line}: {words}" for line, words in one.passed.items()),
        }
        for one in decided
    ]
    st.dataframe(rows, hide_index=True, width="stretch", key="release_decisions")
    draw_download(lambda: pd.DataFrame(rows), name="releases", action="manage_releases")


def _compared_text(one: Decision) -> str:
    reference = one.evidence.get("compared_with")
    return f"{reference['model']} {reference['weights_sha256'][:8]}" if reference else ""


def _release_text(card: Released) -> str:
    return f"{card.weights_sha256[:8]}, made {card.created or 'at an unknown time'}"


def _note_and_rerun(note: str) -> None:
    st.session_state.release_note = note
    st.rerun()


def _named_or(by_default: str, model_id: str) -> str:
    return model_id or by_default


def draw_leads(actor: Actor, cards: Sequence[Card]) -> None:
    """Whose number stands first for a reader, one choice a modality. cards: the live ones."""
    for modality in dict.fromkeys(card.modality for card in cards):
        own = [card.model_id for card in cards if card.modality is modality]
        named = read_live(settings()).leads.get(modality.value, "")
        lead = lead_of(settings(), modality)
        options = ["", *dict.fromkeys(([named] if named else []) + own)]
        words = "by default" if named or lead is None else f"by default: {lead.model_id}"
        chosen, save = st.columns([4, 1], vertical_alignment="bottom")
        model_id = chosen.selectbox(
            f"Leads on {modality}", options, index=options.index(named), key=f"lead_{modality}_{named}",
            format_func=partial(_named_or, words),
        )  # fmt: skip
        if lead is not None and lead.note:
            st.warning(plain(f"{lead.note} {lead.model_id} leads in its place."), icon=":material/warning:")
        why = "This model leads already. Choose another first." if model_id == named else None
        if save.button(
            "Name the lead", key=f"name_lead_{modality}", disabled=model_id == named, width="stretch", help=why
        ):
            with refusals_shown():
                decisions.name_lead(database(), actor, modality, model_id or None)
                _note_and_rerun(f"{model_id or 'The default'} leads on {modality} from the next page on.")
