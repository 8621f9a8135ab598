"""The models' cards: what each reads, what it came from, what was measured and with which uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.evaluation.charts.base import Provenance
from core.evaluation.charts.curves import reliability_figure, roc_figure
from core.evaluation.statistics.calibration import reliability
from core.evaluation.statistics.curves import roc_curve
from core.evaluation.statistics.intervals import Bootstrap
from core.evaluation.tables.of_cards import headline, measured_at, state_of
from core.findings.proposals import measured_levels
from core.models.cards import (
    Card,
    all_cards,
    leak_text,
    leaks_of,
    live_cards,
    override_text,
    read_test_scores,
    retrain_text,
    spread_text,
    withheld_text,
)
from core.models.live import read_live
from core.models.operating_point import OperatingPoint, operating_point
from core.models.outline_card import live_outline_card
from core.models.registry import ARCHITECTURES
from core.records.reads.annotations import proposal_answers
from core.records.site_settings import points_here
from core.settings import Settings
from pages.parts import address, card_rows
from pages.parts.figures import draw_download
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings

EVERY = "every kind"


def draw_headline(card: Card) -> None:
    """The measured numbers, each with its interval and its number of cases."""
    draw_measured(state_of(card), card)
    if not (measured := headline(card)):
        return
    with opened("Every measure", ":material/list:", key=f"every_{card.model_id}") as is_open:
        if is_open:
            st.table(card_rows.measure_rows(measured), width="content")


# What Streamlit made of tables and curves is kept with the card and sent again: making it anew for ten models took
# most of the page, for every reader.
@st.cache_resource(show_spinner="Computing the curves", max_entries=64)
def draw_measured(state: str, _card: Card) -> None:
    """state: of the whole card and its scores, of which this is the part that is the same for everybody."""
    measured = headline(_card)
    if not measured:
        st.info("It comes without test scores, so nothing is said of its quality.", icon=":material/info:")
        return
    for note in card_rows.quality_notes(_card, measured):
        st.warning(note, icon=":material/warning:")
    st.table(card_rows.measure_rows(card_rows.headline_text(measured)), width="content")
    if spread := spread_text(_card):
        st.caption(f"{spread}: so far do networks of its kind differ. The interval above is of patients alone.")
    drawn = figures(_card)
    if drawn:
        left, right = st.columns(2)
        left.plotly_chart(drawn[0], key=f"roc_{_card.model_id}", config={"displayModeBar": False})
        right.plotly_chart(drawn[1], key=f"calibration_{_card.model_id}", config={"displayModeBar": False})


def figures(card: Card) -> tuple[go.Figure, go.Figure] | None:
    """(ROC with its threshold, calibration) of its own test cases, or None where it comes without test scores."""
    scores = read_test_scores(card)
    if scores is None:
        return None
    labels = (scores["label"] == card.positive).to_numpy().astype(int)
    values, patients = scores[card.positive].to_numpy(), scores["patient"].to_numpy()
    provenance = Provenance(
        dataset=card.data.name,
        split="test",
        n=len(scores),
        positives=int(labels.sum()),
        data_sha256=card.data.sha256,
        weights={card.model_id: card.weights_sha256},
    )
    curve = roc_curve(labels, values, Bootstrap(patients, len(scores)))
    roc = roc_figure({card.model_id: curve}, thresholds={card.model_id: card.threshold.value}, provenance=provenance)
    return roc, reliability_figure({card.model_id: reliability(labels, values, patients)}, provenance=provenance)


@contextmanager
def opened(title: str, icon: str, *, key: str) -> Iterator[bool]:
    """A part that few look at: whether it is open, so that its tables are not made for everybody."""
    part = st.expander(title, icon=icon, key=key, on_change="rerun")
    with part:
        yield bool(part.open)


def draw_overview(cards: Sequence[Card], here: Settings) -> None:
    """One row a model; a click on a column's head sorts, and the table searches in itself."""
    answering = {card.weights_sha256 for card in live_cards(here)}
    rows = []
    for card in cards:
        area, counts = card.measured, card.data.cases_in("test")
        rows.append(
            {
                "Model": card.title,
                "Reads": str(card.modality),
                "Answers": "yes" if card.weights_sha256 in answering else "measured only",
                "AUC": area.auc if area is not None else None,
                "Low": area.low if area is not None else None,
                "High": area.high if area is not None else None,
                "Test cases": sum(counts.values()) or None,
                "Positive": counts.get(card.positive),
                "Learnt from": card.data.name or "not stated",
                "Split": "leaks" if leaks_of(card) else card.data.split_by or "not stated",
                "Weights": card.weights_sha256[:8],
            }
        )
    columns = {name: st.column_config.NumberColumn(format="%.3f") for name in ("AUC", "Low", "High")}
    table = pd.DataFrame(rows)
    st.dataframe(
        table, hide_index=True, width="stretch", height="content", key="models_overview", column_config=columns
    )
    draw_download(lambda: table, name="models", action="see_models")
    st.caption("AUC on each model's own test cases, low and high of its 95 % interval. A click on a head sorts.")


def draw_site_threshold(card: Card, point: OperatingPoint) -> None:
    """What this site holds scores against, where that is not the card's threshold; measured on the test cases."""
    st.markdown(f"**At this site**: {plain(point.text)}")
    measured = card_rows.headline_text(measured_at(card, point))
    if measured:
        st.table(card_rows.measure_rows(measured), width="content")


def draw_card(card: Card, point: OperatingPoint, here: Settings) -> None:
    st.subheader(plain(f"{card.title}, {card.modality}"), anchor=False)
    st.caption(plain(card.model_id))
    if not card.has_weights:
        st.info(plain(retrain_text(card)), icon=":material/info:")
    override = override_text(here, card)
    if override or withheld_text(card):
        st.warning(plain(override or withheld_text(card)), icon=":material/warning:")
    for leak in leaks_of(card):
        st.error(f"{plain(leak_text(leak))} Its numbers here are too good.", icon=":material/warning:")
    for limit in card.limits:
        st.markdown(f":material/warning: {plain(limit)}")
    st.markdown("**Measured on its test cases**")
    draw_headline(card)
    st.markdown(plain((point if point.is_of_card else operating_point(card)).text))
    if not point.is_of_card:
        draw_site_threshold(card, point)
    with opened("Data, training and calibration", ":material/description:", key=f"facts_{card.model_id}") as is_open:
        if is_open:
            st.table({name: plain(value) for name, value in card_rows.fact_rows(card)})
            st.table(card_rows.split_rows(card))
    where = card_rows.localisation_rows(card)
    if where:
        title = "Where it looks: the pointing game on validation cases"
        with opened(title, ":material/my_location:", key=f"looks_{card.model_id}") as is_open:
            if is_open:
                said = "How often the heat map's highest point lies inside the outline of the lesion, beside a guess."
                st.caption(said)
                st.table(where)
    if added := card_rows.branch_rows(card):
        with opened("What each branch adds", ":material/call_split:", key=f"branches_{card.model_id}") as is_open:
            if is_open:
                st.caption(
                    "The network asked again on its test cases, with a branch that says the same of all of them."
                )
                st.table(added)


def outline_answers(answers: Mapping[str, Mapping[str, int]], here: Settings) -> None:
    """What readers here did with the outlines that the outline network proposed; it is no card of the list."""
    with refusals_shown():
        card = live_outline_card(here)
        if card is not None and (counts := answers.get(card.model_id)):
            said = ", ".join(f"{n} {answer}" for answer, n in counts.items())
            st.markdown(f"**Outlines proposed to readers at this site** ({plain(card.title)}): {said}.")


def draw_proposals(card: Card, counts: Mapping[str, int]) -> None:
    """What readers here did with the places that the model proposed."""
    if counts:
        said = ", ".join(f"{n} {answer}" for answer, n in counts.items())
        st.markdown(f"**Places proposed to readers at this site**: {said}.")
    level = measured_levels().get(card.weights_sha256)
    if level is not None:
        st.caption(f"Of its heat map it proposes {level.text}.")


def choose_cards(cards: Sequence[Card], here: Settings) -> list[Card]:
    """The cards of the kind of image that is asked for; those that do not answer only if they are wished."""
    kinds = list(dict.fromkeys(card.modality.value for card in cards))
    kind = EVERY
    if len(kinds) > 1:
        options = (EVERY, *kinds)
        kind = address.segments("Kind of image", options, key="kind", wrap=True)
    shown = [card for card in cards if kind in (EVERY, card.modality.value)]
    answering = {card.weights_sha256 for card in live_cards(here)}
    measured_only = [card for card in shown if card.weights_sha256 not in answering]
    if measured_only and not address.toggle(
        f"Also those that were trained and measured only ({len(measured_only)})", key="measured"
    ):
        return [card for card in shown if card.weights_sha256 in answering]
    return shown


person = require("see_models")
st.title("Models", anchor=False)
st.caption("All numbers are computed from the scores of each model's own test cases. Nobody types one.")
here = settings()
cards = all_cards(here)
answers = proposal_answers(database(), person)
if not cards:
    st.info("No model has been released yet. Studies can be read and reported without one.", icon=":material/info:")
chosen = choose_cards(cards, here)
points = points_here(database(), tuple(chosen))
if chosen:
    draw_overview(chosen, here)
for card in chosen:
    with st.container(border=True):
        draw_card(card, points[card.weights_sha256], here)
        draw_proposals(card, answers.get(card.model_id, {}))
outline_answers(answers, here)
retired = sorted(model_id for model_id, chosen in read_live(here).chosen.items() if chosen is None)
if retired:
    st.caption(f"Retired, and answering no more: {plain(', '.join(retired))}.")
fitted = {card.architecture for card in cards}
waiting = [entry.title for entry in ARCHITECTURES if entry.id not in fitted]
if waiting:
    st.caption(f"Not trained yet: {plain(', '.join(waiting))}.")
