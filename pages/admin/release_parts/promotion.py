"""The gate: a candidate beside the live model, and what has to be written down before it is promoted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from core.evaluation.charts.curves import roc_figure
from core.evaluation.promotion import CANDIDATE, LIVE, FailedCheck
from core.evaluation.statistics.operating_points import compare_calls_by_class, operating_rows
from core.models.cards import Card
from core.records.people.permissions import Actor
from core.records.releases import promotion_check
from core.records.releases.promotion_check import Examination
from pages.parts import address, card_rows
from pages.parts import tables as tables
from pages.parts.comparison import draw_calibration, draw_classes, draw_decisions, draw_pairs, draw_subgroups
from pages.parts.figures import colour, draw_download, draw_figure
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.operating_points import confusion_table, roc_table
from pages.parts.session import database, settings
from train.publishing import score_live as live_scoring

MIB = 2**20


def ask_reference(actor: Actor, job_id: int) -> str | None:
    """The live weights to stand beside a candidate that replaces none; None where there is nothing to choose."""
    choices = {card.model_id: card for card in promotion_check.reference_choices(database(), actor, job_id)}
    if len(choices) < 2:
        return None
    chosen = address.select(
        "Live model beside it", list(choices), key="beside",
        help="No model of the candidate's name is live, so it would replace none; look at it beside any other.",
    )  # fmt: skip
    return choices[chosen].weights_sha256


def examined(actor: Actor, job_id: int, live_sha256: str | None, reference: str | None = None) -> Examination:
    """The comparison, computed once for a candidate, what is live, what stands beside it, and the margin."""
    return _examined(job_id, live_sha256, reference, settings().sensitivity_margin_percent, actor)


@st.cache_resource(max_entries=8, ttl="10m", show_spinner="Comparing the candidate with the live model")
def _examined(job_id: int, live_sha256: str | None, reference: str | None, margin: int, _actor: Actor) -> Examination:
    return promotion_check.examine(database(), _actor, job_id, reference=reference)


def draw_gate(actor: Actor, found: Examination) -> None:
    """Everything to look at, top to bottom, then the decision."""
    _draw_models(found)
    _draw_scoring(actor, found)
    for note in found.notes:
        st.info(plain(note), icon=":material/info:")
    table = found.numbers.cohort.table
    if table.positives and table.positives < table.n:
        _draw_numbers(found)
    else:
        st.warning("The test cases are all of one class, so nothing can be measured on them.")
    _draw_localisation(found)
    _draw_decision(actor, found)


def _draw_models(found: Examination) -> None:
    columns = [(CANDIDATE, found.candidate), *([(LIVE, found.live)] if found.live else [])]
    facts = (
        ("Model", lambda card: f"{card.title} ({card.model_id})"),
        ("Weights", lambda card: card.weights_sha256[:8]),
        ("Learnt from", card_rows.data_text),
        ("Started from", lambda card: card.initialisation or "not stated"),
        ("Made", lambda card: card.created or "not stated"),
        ("Size", _size),
    )
    rows = [{"": what} | {name: plain(words(card)) for name, card in columns} for what, words in facts]
    rows.append({"": "Seconds an image"} | {name: _speed(found, name) for name, _ in columns})
    rows.append({"": "Test cases known from training"} | {name: _seen(found, name) for name, _ in columns})
    st.table(rows, hide_index=True)
    if found.live is None:
        st.info("No live model reads this kind of image, so the candidate stands alone.", icon=":material/info:")
    elif not found.is_replaced:
        is_live = found.candidate.weights_sha256 == found.live_sha256
        replaced = "These weights are live." if is_live else "No model of this name is live: nothing would be replaced."
        st.info(f"{replaced} Beside it, for orientation: {plain(found.live.title)}.", icon=":material/info:")


def _size(card: Card) -> str:
    size = card.weights.bytes
    return f"{size / MIB:.1f} MiB of weights" if size else "its members'"


def _seen(found: Examination, name: str) -> str:
    if name == LIVE and not found.is_compared:
        return "not compared yet"
    seen = found.seen.get(name)
    return seen.text if seen is not None else "cannot be told"


def _speed(found: Examination, name: str) -> str:
    if name not in found.speeds:
        return "not measured yet"
    ratio = found.speeds[name] / found.speeds[LIVE]
    return f"{found.speeds[name]:.3f}" + (f" ({ratio:.2f} times the live one's)" if name == CANDIDATE else "")


def _draw_scoring(actor: Actor, found: Examination) -> None:
    if found.live is None or (found.is_scored and found.speeds):
        return
    words = (
        "The live model has no scores of these test cases, so the two cannot be compared yet."
        if not found.is_compared
        else "The live model can be scored on the candidate's own test cases, and the speed of both measured."
    )
    st.warning(words, icon=":material/scale:")
    if st.button(
        f"Score the live model on these {found.n_tested} test cases", icon=":material/play_arrow:", key="score_live"
    ):
        with refusals_shown():
            with st.status("Scoring the live model; leaving this page ends it", expanded=True) as status:
                for sentence in live_scoring.score_live(
                    database(), actor, found.job_id, reference=found.live.weights_sha256
                ):
                    status.update(label=plain(sentence))
            _examined.clear()
            st.rerun()


def _draw_numbers(found: Examination) -> None:
    numbers, cohort = found.numbers, found.numbers.cohort
    names = cohort.names
    of = cohort.provenance(names)
    st.subheader("On the same test cases", anchor=False)
    st.caption(plain(of.text))
    if found.is_compared:
        _draw_difference(found)
    rows = operating_rows(cohort.table, cohort.thresholds)
    calls = compare_calls_by_class(cohort.table, cohort.thresholds)
    st.html(tables.table_of_measures(cohort, numbers.results(names), rows, numbers.pairs(names), calls, colour))
    st.caption(
        "Each model at its own threshold, fixed on its validation cases. 95 % intervals. Bold: clearly better by the "
        "paired test."
    )
    left, right = st.columns(2)
    with left:
        own = {row.name: row.threshold for row in rows if not math.isnan(row.threshold)}
        figure = roc_figure(numbers.roc(names), thresholds=own, provenance=of)
        draw_figure(
            figure, lambda: roc_table(numbers, names), name="gate-roc", alt="ROC curves of candidate and live", of=of
        )
    with right:
        st.markdown("**Confusion matrices**")
        st.html(tables.confusion_grid(cohort, rows, colour))
        draw_download(lambda: confusion_table(rows), name="gate-confusion", of=of)
    sections = {
        "Calibration": draw_calibration,
        "Subgroups": draw_subgroups,
        "Classes": draw_classes,
        "Paired test": draw_pairs,
        "Decision curve": draw_decisions,
    }
    for tab, draw in zip(address.tabs(list(sections), key="section"), sections.values(), strict=True):
        if tab.open:
            with tab, refusals_shown():
                draw(numbers, names)


def _draw_difference(found: Examination) -> None:
    (pair,) = found.numbers.pairs((CANDIDATE, LIVE))
    direction = "higher" if pair.difference > 0 else "lower"
    clear = (
        "the interval leaves out 0" if pair.low > 0 or pair.high < 0 else "the interval includes 0: no clear difference"
    )
    st.markdown(
        f"The candidate's area under the ROC curve is **{abs(pair.difference):.3f} {direction}** "
        f"({pair.low:+.3f} to {pair.high:+.3f}, DeLong's paired test p = {pair.p:.3f}, {pair.n} cases, of which "
        f"{pair.positives} positive): {clear}."
    )


def _draw_localisation(found: Examination) -> None:
    cards = [(CANDIDATE, found.candidate), *([(LIVE, found.live)] if found.live else [])]
    with st.expander("Where they look: the pointing game, each on its own validation cases"):
        for name, card in cards:
            st.markdown(f"**{name}**, {plain(card.title)}")
            where = card_rows.localisation_rows(card)
            if where:
                st.table(where)
            else:
                st.caption("Not measured: its data has no outlines of lesions.")


def _draw_decision(actor: Actor, found: Examination) -> None:
    st.subheader("Decide", anchor=False)
    if found.candidate.weights_sha256 == found.live_sha256:
        st.success("These weights are live.", icon=":material/check:")
        return
    passed = ask_for_reasons(str(found.job_id), found.lines)
    reason = st.text_area("Why it is promoted", key=f"promote_reason_{found.job_id}", height=80)
    st.caption(
        f"It answers from the next read on as {plain(found.candidate.model_id)}. Reads made before keep their answers. "
        "Your name and these reasons are kept."
    )
    if st.button("Promote this candidate", type="primary", icon=":material/publish:", key=f"promote_{found.job_id}"):
        with refusals_shown():
            promotion_check.promote(
                database(), actor, found.job_id, live_sha256=found.live_sha256, reason=reason, passed=passed,
                reference=found.live.weights_sha256 if found.live is not None else None,
            )  # fmt: skip
            st.session_state.release_note = (
                f"{found.candidate.model_id} is live with the weights of training {found.job_id}."
            )
            st.rerun()


def ask_for_reasons(name: str, lines: Sequence[FailedCheck]) -> dict[str, str]:
    """Each red line with its sentence and the reason to pass it: key -> reason. name: of the candidate, in keys."""
    if not lines:
        st.success("No red line is crossed.", icon=":material/check:")
    passed = {}
    for line in lines:
        st.error(plain(line.sentence), icon=":material/dangerous:")
        passed[line.key] = st.text_input(
            f"Why this may be passed ({line.key})",
            key=f"pass_{name}_{line.key}",
        )
    return passed
