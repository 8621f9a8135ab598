"""One version of a data set: what is in it, some of its pictures, its near-duplicates, its audit, another split.

Figures of a data set: how many of what, and how large.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.evaluation.charts.base import COLOURS, INK
from core.records import data_sets
from core.records.data_sets import VersionRow
from core.records.people.permissions import Actor
from core.wording import how_many
from pages.admin.data_set_parts.pairs import settle, thumbnail
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.progress import progress_bar
from pages.parts.session import database
from pages.parts.training_tables import counts_table, leakage_lines, split_text
from train.datasets import overview as contents
from train.datasets import versions
from train.datasets.overview import Overview
from train.datasets.split import SPLITS
from train.datasets.versions import FOLDS_LEAST, FOLDS_MOST, SplitRequest

_HEIGHT = 280


def bars(table: pd.DataFrame, column: str, labels: list[str]) -> go.Figure:
    """Cases (`cases`) for each value of `column`, a bar a value, coloured by `label`."""
    figure = go.Figure()
    for number, label in enumerate(labels):
        rows = table[table["label"] == label]
        figure.add_bar(
            x=rows[column], y=rows["cases"], name=label, text=rows["cases"], textposition="outside", textangle=0,
            cliponaxis=False, marker_color=COLOURS[number % len(COLOURS)],
        )  # fmt: skip
    most = max(table["cases"], default=0)
    figure.update_layout(barmode="group", yaxis_title="pictures", yaxis_range=[0, 1.15 * most + 1])  # and its number
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=[*SPLITS, *sorted(set(table[column]))])
    return _calm(figure)


def sizes(table: pd.DataFrame, labels: list[str]) -> go.Figure:
    """A dot a picture: width against height, coloured by `label`."""
    figure = go.Figure()
    for number, label in enumerate(labels):
        rows = table[table["label"] == label]
        figure.add_scatter(
            x=rows["width"], y=rows["height"], name=label, mode="markers",
            marker={"color": COLOURS[number % len(COLOURS)], "size": 6, "opacity": 0.6},
        )  # fmt: skip
    figure.update_layout(xaxis_title="width in pixels", yaxis_title="height in pixels")
    return _calm(figure)


def _calm(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        height=_HEIGHT, margin={"l": 55, "r": 10, "t": 30, "b": 45}, font_color=INK,
        legend={"orientation": "h", "y": 1.15},
    )  # fmt: skip
    return figure


COUNTS, PICTURES, PAIRS, AUDIT, SPLIT = "Counts and sizes", "Pictures", "Near-duplicates", "Audit", "New split"
_PER_ROW, _ROWS = 6, 2


def show(actor: Actor, row: VersionRow) -> None:
    """Everything there is to see and do of one version."""
    st.caption(
        f"{how_many(row.n_cases, 'picture')}, {row.modality} · split: {split_text(row.split)} · "
        f"used by {how_many(row.n_jobs, 'training')} · cases {row.manifest_sha256[:8]}"
    )
    (st.error if row.is_leaking else st.success)(plain(str(row.audit.get("verdict", ""))))
    parts = [COUNTS, PICTURES, PAIRS, AUDIT, SPLIT]
    part = st.segmented_control("Show", parts, default=COUNTS, required=True, key="data_set_part", wrap=True)
    with refusals_shown():
        if part == COUNTS:
            _show_counts(actor, row)
        elif part == PICTURES:
            _show_pictures(actor, row)
        elif part == PAIRS:
            settle(actor, row)
        elif part == AUDIT:
            _show_audit(row)
        else:
            _split_anew(actor, row)


def labels_of(row: VersionRow) -> list[str]:
    """Every label of a version, in one order for all its figures."""
    return sorted({label for counts in row.counts.values() for label in counts})


@st.cache_data(max_entries=32, ttl="1h", show_spinner="Reading the pictures' sizes")
def _overview(manifest_sha256: str, version_id: int, _actor: Actor) -> Overview:
    return contents.overview(database(), _actor, version_id)


def _show_counts(actor: Actor, row: VersionRow) -> None:
    seen, labels = _overview(row.manifest_sha256, row.id, actor), labels_of(row)
    units = "patients or groups" if seen.has_patients else "units that stay together (no patients are given)"
    masks = f" · {seen.n_masks} with an outline of the lesion" if seen.n_masks else ""
    st.caption(f"{seen.n_units} {units} · {seen.mib:.1f} MiB · {seen.size_text}{masks}")
    left, right = st.columns(2)
    with left:
        st.markdown("**Pictures by part and class**")
        figure = bars(seen.counts, "part", labels)
        st.plotly_chart(figure, key="data_set_counts", config={"displaylogo": False})
        st.dataframe(counts_table(row.counts), width="content", hide_index=True)
    with right:
        st.markdown("**Sizes**")
        figure = sizes(seen.sizes, labels)
        st.plotly_chart(figure, key="data_set_sizes", config={"displaylogo": False})
    if not seen.subgroups:
        st.caption("The data set names no subgroups (side, view, magnification, manufacturer, …).")
        return
    for number, (column, table) in enumerate(seen.subgroups.items()):
        with (left, right)[(number + 1) % 2]:
            st.markdown(f"**By {column}**")
            figure = bars(table, "value", labels)
            st.plotly_chart(figure, key=f"data_set_{column}", config={"displaylogo": False})


def _show_pictures(actor: Actor, row: VersionRow) -> None:
    seed = st.session_state.setdefault("data_set_pictures_seed", 0)
    if st.button("Show others", icon=":material/shuffle:", key="data_set_pictures_others"):
        seed = st.session_state.data_set_pictures_seed = seed + 1
    for label in labels_of(row):
        n = sum(counts.get(label, 0) for counts in row.counts.values())
        st.markdown(f"**{plain(label)}** · {n}")
        drawn = contents.pictures_of(database(), actor, row.id, label=label, most=_PER_ROW * _ROWS, seed=seed)
        for start in range(0, len(drawn), _PER_ROW):
            for place, (file, part) in zip(st.columns(_PER_ROW), drawn[start : start + _PER_ROW], strict=False):
                with place, refusals_shown():
                    st.image(thumbnail(file), caption=part)


def _show_audit(row: VersionRow) -> None:
    for line in leakage_lines(row.audit):
        st.markdown(line)
    if not row.audit.get("findings"):
        st.markdown("Nothing was found.")


def _split_anew(actor: Actor, row: VersionRow) -> None:
    st.caption(
        "Makes a new version; this one stays as it is. Cases of one patient or group are never parted, and classes "
        "keep their shares. The same seed gives the same split."
    )
    least = min(sum(counts.get(label, 0) for counts in row.counts.values()) for label in labels_of(row))
    columns = st.columns([2, 1, 1, 2], vertical_alignment="bottom")
    kind = columns[0].segmented_control(
        "Divide into", ["60/20/20", "k folds"], default="60/20/20", required=True, key=f"split_kind_{row.id}"
    )
    folds = columns[1].number_input(
        "Folds",
        FOLDS_LEAST,
        FOLDS_MOST,
        5,
        key=f"split_folds_{row.id}",
        disabled=kind != "k folds",
        help=None if kind == "k folds" else "Choose k folds first.",
    )
    seed = columns[2].number_input("Seed", 0, 2**31 - 1, int(row.split.get("seed", 0)) + 1, key=f"seed_{row.id}")
    per_class = columns[3].number_input(
        f"Of each class only (at most {least})", 1, least, None, placeholder="all", key=f"split_per_class_{row.id}",
        help="A balanced subset, drawn by the seed: as many pictures of each class. Empty: all pictures.",
    )  # fmt: skip
    if st.button("Make the new split", type="primary", key=f"split_{row.id}", icon=":material/call_split:"):
        request = SplitRequest(int(seed), int(folds) if kind == "k folds" else 0, int(per_class or 0))
        with refusals_shown(), progress_bar() as report:
            made = versions.split_anew(database(), actor, row.id, request, progress=report)
            go_to(data_sets.load_version(database(), actor, made))


def go_to(row: VersionRow) -> None:
    """Shows that version from the next run on."""
    st.session_state.data_set_wanted = (row.data_set_id, row.id)
    st.rerun()
