"""Back-reads: models read the site's studies with nobody waiting; chosen, watched, stopped, scores taken home."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from core.models.cards import live_cards
from core.records.people.permissions import SignedIn
from core.records.queue import CANCELLED, DEAD, DONE, FAILED, QUEUED
from core.records.reads import back_reads
from core.records.reads.back_reads import BackRead
from core.records.reads.studies import list_studies
from core.reports.content import when
from core.serving.cluster import noted_nodes
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, deferred, require, settings
from pages.parts.training_tables import duration_text

ACTION = "manage_releases"
STALE_SECONDS = 60
CHOOSABLE_MOST = 1000
"""Studies that can be chosen singly, the newest; older ones by their days."""


def choosable(actor: SignedIn) -> dict[str, str]:
    """Study id -> its name and day, the newest first."""
    rows = list_studies(database(), actor)
    return {row.id: f"{row.display_name} · {row.taken_on or row.created_at.date()}" for row in rows[:CHOOSABLE_MOST]}


def offer_start(actor: SignedIn) -> None:
    cards = {card.model_id: card for card in live_cards(settings())}
    named = choosable(actor)
    with st.form("start_back_read"):
        left, right = st.columns(2)
        since = left.date_input("Taken from", value=None, format="YYYY-MM-DD", help="Empty: as old as there are.")
        until = right.date_input("Taken until", value=None, format="YYYY-MM-DD", help="Empty: until today.")
        chosen = st.multiselect(
            "Models", list(cards), format_func=lambda model_id: cards[model_id].title,
            help="None chosen: every live model reads what it can.",
        )  # fmt: skip
        only = st.multiselect(
            "Studies", list(named), format_func=lambda study: named[study],
            help=f"None chosen: every study of these days. The newest {CHOOSABLE_MOST:,} can be chosen singly.",
        )  # fmt: skip
        if st.form_submit_button("Start a back-read", type="primary", icon=":material/playlist_play:"):
            with refusals_shown():
                asked = [cards[model_id] for model_id in chosen or cards]
                number = back_reads.start(database(), actor, asked, since=since, until=until, only=only)
                st.session_state["back_read_note"] = f"Back-read {number} waits for the worker."
                st.rerun()


@st.fragment(run_every=3)
def watched() -> None:
    """Everything that moves; looks again by itself."""
    actor = require(ACTION, is_activity=False)
    with refusals_shown(stops=True):
        rows = back_reads.newest(database(), actor)
    if not rows:
        st.info("There is no back-read yet.")
    for row in rows:
        draw(actor, row)
    draw_nodes()


def draw(actor: SignedIn, row: BackRead) -> None:
    n_all = sum(row.counts.values())
    n_done, n_failed = row.counts.get(DONE, 0), row.counts.get(FAILED, 0) + row.counts.get(DEAD, 0)
    with st.container(border=True, key=f"back_read_{row.id}"):
        st.markdown(f"**Back-read {row.id}** by {plain(', '.join(row.models))}")
        st.caption(f"Started by {plain(row.created_by_name)}, {when(row.created_at)}")
        if not n_all:
            st.caption("Its studies were deleted.")
            return
        st.progress((n_all - row.n_open) / n_all, f"{n_done} of {n_all} studies read")
        parts = [f"{n_failed} could not be read"] if n_failed else []
        parts += [f"{row.counts[CANCELLED]} stopped"] if row.counts.get(CANCELLED) else []
        if row.n_open:
            parts += [f"{n} being read on {plain(machine)}" for machine, n in sorted(row.machines.items())]
            if row.per_minute is not None and row.seconds_left is not None:
                parts += [f"{row.per_minute:.1f} studies a minute", f"about {duration_text(row.seconds_left)} left"]
        st.caption(" · ".join(parts) or ("Waits for the worker." if row.n_open else "Everything was read."))
        offer_acts(actor, row)
        if n_failed:
            with st.expander(f"What could not be read ({n_failed})", key=f"failures_{row.id}"):
                found = back_reads.failures(database(), actor, row.id)
                table = [{"Study": study, "Why": why} for study, why in found]
                st.dataframe(table, hide_index=True, width="stretch", key=f"failures_table_{row.id}")


def offer_acts(actor: SignedIn, row: BackRead) -> None:
    stop, go_on, scores = st.columns(3)
    waits = None if row.counts.get(QUEUED) else "Nothing of it waits any more."
    if stop.button(
        "Stop", key=f"stop_{row.id}", icon=":material/stop:", disabled=bool(waits), help=waits, width="stretch"
    ):
        with refusals_shown():
            back_reads.stop(database(), actor, row.id)
            st.rerun()
    is_left = any(row.counts.get(state) for state in (CANCELLED, FAILED, DEAD))
    waits = None if is_left else "Nothing of it was stopped or failed."
    if go_on.button(
        "Go on", key=f"go_on_{row.id}", icon=":material/play_arrow:", disabled=not is_left, help=waits, width="stretch"
    ):
        with refusals_shown():
            back_reads.go_on(database(), actor, row.id)
            st.rerun()
    waits = None if row.counts.get(DONE) else "No study was read yet."
    scores.download_button(
        "Scores (CSV)", deferred(ACTION, lambda _: back_reads.scores_csv(database(), actor, row.id).encode()),
        f"back-read-{row.id}.csv", "text/csv", key=f"scores_{row.id}", icon=":material/download:",
        disabled=bool(waits), help=waits, width="stretch", on_click="ignore",
    )  # fmt: skip


def draw_nodes() -> None:
    if not settings().ray_address:
        return
    st.subheader("Cluster", anchor=False)
    seen = noted_nodes(settings())
    if seen is None:
        st.warning("No worker has seen the cluster yet. Look at it with: python -m core cluster")
        return
    at, nodes = seen
    if (datetime.now(UTC) - at).total_seconds() > STALE_SECONDS:
        st.warning("No worker sees the cluster now; this is what it was.")
    table = [
        {
            "Node": node.name,
            "State": "alive" if node.is_alive else "lost",
            "CPUs for work": node.cpus,
            "GPUs": node.gpus,
            "Memory (MiB)": node.memory_mib,
        }
        for node in nodes
    ]
    st.dataframe(table, hide_index=True, width="stretch", key="nodes")
    st.caption(f"As a worker saw it, {when(at)}.")


actor = require(ACTION)
st.title("Back-reads", anchor=False)
st.caption(
    "Models read the site's studies with nobody waiting, each study once. What they say is shown to nobody who reads "
    "and changes no study. The worker does it, on this machine or on the nodes of the site's cluster."
)
if note := st.session_state.pop("back_read_note", None):
    st.success(plain(note), icon=":material/check:")
offer_start(actor)
watched()
