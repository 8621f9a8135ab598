"""Near-duplicates of a version side by side, and what to do with each: keep together, or drop one.

Kept pictures of data sets, small.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from core.records import data_sets
from core.records.data_sets import VersionRow
from core.records.people.permissions import Actor
from core.wording import how_many
from pages.parts.figures import draw_download
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.progress import progress_bar
from pages.parts.session import database, settings
from train.datasets import near_duplicates, overview, versions
from train.datasets.near_duplicates import NearDuplicate
from train.datasets.versions import DECISIONS, TOGETHER


@st.cache_data(max_entries=600, ttl="1h", show_spinner=False)
def thumbnail(file: str) -> np.ndarray:
    """A kept picture, small; its name is the hash of its content. Raises NotFound."""
    return overview.thumbnail(settings(), file)


_PER_PAGE = 8


def settle(actor: Actor, row: VersionRow) -> None:
    """Shows the pairs, a page at a time, remembers the decisions, and makes a version of them when asked."""
    pairs = _pairs(actor, row)
    if not pairs:
        st.success("No two pictures of this version are nearly the same.", icon=":material/check:")
        return
    decided: dict[tuple[str, str], str] = st.session_state.setdefault(f"pairs_{row.id}", {})
    across, labels = sum(pair.is_across for pair in pairs), sum(len(set(pair.labels)) > 1 for pair in pairs)
    st.caption(
        f"{how_many(len(pairs), 'pair')}: {across} in different parts of the split (a leak), {labels} with different "
        "labels. Pairs that are kept together stay in one part. Dropping leaves a picture out of the new version; this "
        "version stays as it is."
    )
    n_pages = -(-len(pairs) // _PER_PAGE)
    page = st.pagination(n_pages, key=f"pairs_page_{row.id}") if n_pages > 1 else 1
    for number, pair in enumerate(pairs[(page - 1) * _PER_PAGE : page * _PER_PAGE]):
        _show_pair(row, pair, decided, f"pair_{row.id}_{page}_{number}")
    _conclude(actor, row, pairs, decided)


def _pairs(actor: Actor, row: VersionRow) -> list[NearDuplicate]:
    with progress_bar() as report:
        return near_duplicates.near_duplicates(database(), actor, row.id, progress=report)


def _show_pair(row: VersionRow, pair: NearDuplicate, decided: dict[tuple[str, str], str], key: str) -> None:
    files = (pair.first, pair.second)
    with st.container(border=True, key=key):
        places = st.columns([2, 2, 3])
        for place, file, label, part in zip(places, files, pair.labels, pair.parts, strict=False):
            with place, refusals_shown():
                st.image(thumbnail(file), width=224)
                st.caption(f"{plain(label)} · {part}")
        with places[2]:
            st.markdown(_description(pair))
            chosen = st.radio(
                "What to do",
                ["leave as it is", *DECISIONS],
                index=1 + DECISIONS.index(decided[files]) if files in decided else 0,
                key=f"decide_{_round(row)}_{row.id}_{pair.first[:20]}_{pair.second[:20]}",
            )
            if chosen in DECISIONS:
                decided[files] = chosen
            else:
                decided.pop(files, None)


def _round(row: VersionRow) -> int:
    """In the keys of the choices: another number makes new ones, which show what was decided for all."""
    return int(st.session_state.get(f"pairs_round_{row.id}", 0))


def _description(pair: NearDuplicate) -> str:
    words = [f"Alike: {pair.correlation:.2f} of 1"]
    if pair.is_across:
        words.append(":red[in different parts: a leak]")
    if len(set(pair.labels)) > 1:
        words.append(":orange[different labels: one of them is wrong, or the picture shows both]")
    if pair.is_together:
        words.append("kept together already")
    return "  \n".join(words)


def _conclude(actor: Actor, row: VersionRow, pairs: list[NearDuplicate], decided: dict[tuple[str, str], str]) -> None:
    across = [pair for pair in pairs if pair.is_across and (pair.first, pair.second) not in decided]
    columns = st.columns([2, 2, 1], vertical_alignment="bottom")
    together = f"Keep {how_many(len(across), 'leaking pair')} together"
    if across and columns[1].button(together, key=f"pairs_all_{row.id}"):
        decided.update({(pair.first, pair.second): TOGETHER for pair in across})
        st.session_state[f"pairs_round_{row.id}"] = _round(row) + 1
        st.rerun()
    with columns[2]:
        draw_download(lambda: _table(pairs, decided), name=f"near-duplicates-{row.number}", action="manage_data")
    decisions = how_many(len(decided), "decision")
    words = f"Make a new version of {decisions}" if decided else "Decide a pair to make a new version"
    waits = None if decided else "Say of one pair or more whether it stays together."
    if columns[0].button(words, type="primary", disabled=not decided, key=f"pairs_settle_{row.id}", help=waits):
        with refusals_shown(), progress_bar() as report:
            made = versions.settle_pairs(database(), actor, row.id, dict(decided), progress=report)
            new = data_sets.load_version(database(), actor, made)
            del st.session_state[f"pairs_{row.id}"]
            st.session_state.data_set_wanted = (new.data_set_id, new.id)
            st.rerun()


def _table(pairs: list[NearDuplicate], decided: dict[tuple[str, str], str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "first": [pair.first for pair in pairs],
            "second": [pair.second for pair in pairs],
            "alike": [round(pair.correlation, 4) for pair in pairs],
            "label of first": [pair.labels[0] for pair in pairs],
            "label of second": [pair.labels[1] for pair in pairs],
            "part of first": [pair.parts[0] for pair in pairs],
            "part of second": [pair.parts[1] for pair in pairs],
            "decision": [decided.get((pair.first, pair.second), "") for pair in pairs],
        }
    )
