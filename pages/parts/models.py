"""Models in memory: one copy a process for each weights file, shared by everyone who reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from core.models.cards import Card

if TYPE_CHECKING:
    from core.models.inference import Reader


def loaded(card: Card) -> Reader:
    """The card's model, loaded and warmed up at the first call (seconds); imports TensorFlow only then."""
    return _loaded(card.weights_sha256, card)


@st.cache_resource(show_spinner=False, max_entries=8)
def _loaded(weights_sha256: str, _card: Card) -> Reader:
    from core.models.inference import load_model

    return load_model(_card)
