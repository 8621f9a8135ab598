"""A data set of this site's own reads: what there is, and the administrator's explicit act."""

from __future__ import annotations

import streamlit as st

from core.records.people.permissions import Actor
from core.types import Modality
from core.wording import how_many
from pages.admin.data_set_parts.add import ask_what, begin, begun, round_, why_not
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database
from train.datasets import own_reads
from train.datasets.own_reads import LABELLINGS, TWO
from train.queue.imports import READS, ImportRequest


def add_reads(actor: Actor) -> None:
    """The form, what it would give, and what it does."""
    name, modality, seed = ask_what("reads", kind=Modality.MAMMOGRAPHY)
    st.caption(
        "Studies whose final read is saved and whose truth was entered become training cases, without names: the "
        "pixels, side, view and manufacturer, and a hash for each patient that only this site can make. Text that is "
        "burnt into a picture is not removed. Deleting a study later does not take it out of a data set."
    )
    labelling = st.segmented_control("Labels", LABELLINGS, default=TWO, required=True, key=f"reads_labels_{round_()}")
    if modality is None:
        return
    with refusals_shown(stops=True):
        there = own_reads.own_reads(database(), actor, modality, labelling)
    n = len(there.found.images)
    words = ", ".join(f"{count} {plain(label)}" for label, count in there.counts.items())
    if not n:
        st.info(f"No study of {modality.value} has a final read and a truth yet.")
    else:
        st.markdown(f"**{how_many(n, 'image')} of {how_many(there.found.n_studies, 'study', 'studies')}**: {words}")
    for sentence, count in there.found.left_out.items():
        st.caption(f"Left out: {how_many(count, 'image')}. {plain(sentence)}")
    confirmed = st.checkbox(
        "Our site may use these studies to train models, and I make this data set of them by my own decision.",
        key=f"reads_confirmed_{round_()}",
        disabled=not n,
    )
    is_ready = bool(name) and confirmed and n > 0
    waits_for = why_not(
        {
            "a name": not name,
            "studies with a final read and a truth": not n,
            "your decision above": bool(n) and not confirmed,
        }
    )
    if st.button(
        "Make the data set", type="primary", disabled=not is_ready, key=f"reads_add_{round_()}", help=waits_for
    ):
        with refusals_shown():
            request = ImportRequest(READS, name, modality, seed, labelling=labelling, is_confirmed=confirmed)
            begin(actor, request, {})
            begun(())
