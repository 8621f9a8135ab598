"""Settings: what this site chooses, each with its default and who changed it when."""

from __future__ import annotations

import streamlit as st

from core.models.cards import Card, live_cards
from core.models.operating_point import OperatingPoint
from core.records import site_settings
from core.records.people.permissions import Actor
from core.records.reads import retention
from core.records.site_settings import Chosen, OwnThreshold
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings

actor = require("manage_settings")
db = database()


def value_input(row: Chosen) -> str | int:
    """The widget for one choice; its key holds the value, so that a change elsewhere shows."""
    key = f"setting_{row.choice.key}_{row.value}"
    if row.choice.options:
        options = list(row.choice.options)
        return st.selectbox(row.choice.title, options, index=options.index(str(row.value)), key=key)
    least, most = site_settings.bounds(row.choice, db.settings)
    return int(st.number_input(row.choice.title, least, most, int(row.value), 1, key=key))


def draw(actor: Actor, row: Chosen) -> None:
    """One choice: its widget, its story, and the two buttons."""
    with st.container(border=True):
        value = value_input(row)
        st.caption(row.choice.sentence)
        limit = " (also the most that can be chosen here)" if row.choice.is_cap else ""
        st.caption(f"Default: {row.default}{limit}")
        if row.choice.key == "keep_pixels_days" and value != row.value:
            n = retention.n_due(db, actor, int(value))
            if n:
                st.warning(
                    f"Saving this removes the pictures of {n} {'study' if n == 1 else 'studies'} within an hour."
                )
        if row.at is not None:
            st.text(f"Changed by {row.by_name or 'somebody'}, {row.at:%Y-%m-%d %H:%M} UTC")
        save, back, _ = st.columns([1, 1, 3])
        if save.button("Save", key=f"save_{row.choice.key}", disabled=value == row.value, width="stretch"):
            with refusals_shown():
                site_settings.choose(db, actor, row.choice.key, value)
                st.rerun()
        if back.button("Back to default", key=f"default_{row.choice.key}", disabled=row.at is None, width="stretch"):
            with refusals_shown():
                site_settings.back_to_default(db, actor, row.choice.key)
                st.rerun()


def draw_threshold(actor: Actor, card: Card, own: OwnThreshold | None, point: OperatingPoint) -> None:
    """One model's threshold: the site's own value, and what the threshold that counts now means."""
    with st.container(border=True):
        value = 100 * (own.value if own else card.threshold.value)
        percent = st.number_input(
            f"{plain(card.title)}, {card.modality} (%)",
            0.01, 99.99, value, 0.01, key=f"own_{card.weights_sha256}_{value:.3f}",
        )  # fmt: skip
        st.caption(f"Default: {100 * card.threshold.value:.2f}, the card's. Counts now: {plain(point.text)}")
        if own is not None:
            st.text(f"Set by {own.by_name or 'somebody'}, {own.at:%Y-%m-%d %H:%M} UTC")
        save, back, _ = st.columns([1, 1, 3])
        if save.button("Save", key=f"save_own_{card.model_id}", disabled=percent == value, width="stretch"):
            with refusals_shown():
                site_settings.set_own(db, actor, card, percent / 100)
                st.rerun()
        if back.button("Back to default", key=f"default_own_{card.model_id}", disabled=own is None, width="stretch"):
            with refusals_shown():
                site_settings.forget_own(db, actor, card)
                st.rerun()


st.title("Settings", anchor=False)
st.caption("A change counts from the next upload, study or click on, for everybody, without a restart.")
with refusals_shown(stops=True):
    choices = site_settings.chosen(db, actor)
for choice in choices:
    draw(actor, choice)

with refusals_shown(stops=True):
    cards = live_cards(settings())
    own = site_settings.own_thresholds(db, actor)
    points = site_settings.points_here(db, cards)
if cards:
    st.subheader("The site's own thresholds", anchor=False)
    st.caption(
        "They count while Thresholds is set to site. A value belongs to the weights it was set for: other weights "
        "begin with their card's threshold again."
    )
for card in cards:
    draw_threshold(actor, card, own.get(card.weights_sha256), points[card.weights_sha256])
