"""Places figures and their downloads on a page; styles the researcher's tables."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.evaluation.charts.base import COLOURS, Provenance
from core.evaluation.tables.scores import safe_csv
from core.records.audit.trail import record_comparison_export
from core.records.people import sessions
from core.records.people.permissions import Person
from pages.parts import address
from pages.parts.session import database, deferred, session_token

_STYLE = (Path(__file__).parent / "figures.css").read_text(encoding="utf-8")
_FORMATS, _FORMAT, _FORMAT_DRAWN = ("PNG", "SVG"), "picture", "research_picture_format"
_LEGEND_COLUMNS, _LINE_PX, _PLOT_PX = 3, 21, 500


def with_audit(build: Callable[[], bytes], *, data_sha256: str, what: str) -> Callable[[], bytes]:
    """A download that the audit trail tells of, once it is made."""
    actor, db = sessions.actor_of(session_token()), database()

    def made(_: Person) -> bytes:
        document = build()
        record_comparison_export(db, actor, what=what, data_sha256=data_sha256)
        return document

    return deferred("compare_models", made)


def draw_style() -> None:
    st.html(f"<style>{_STYLE}</style>")


def colour(index: int) -> str:
    """The colour of the scorer at this place, as the figures draw it."""
    return COLOURS[index % len(COLOURS)]


def picture_format() -> None:
    """What the camera of every figure saves; the choice stands in the address."""
    label, choice = st.columns([1, 4], vertical_alignment="center", gap="small", width=420)
    label.caption("Camera saves")
    chosen = address.segments(
        "What the camera over a figure saves", _FORMATS, key=_FORMAT, at=choice, label_visibility="collapsed"
    )
    # Inside a fragment; the figures of the tabs, outside it, are told as well.
    if st.session_state.setdefault(_FORMAT_DRAWN, chosen) != chosen:
        st.session_state[_FORMAT_DRAWN] = chosen
        st.rerun()


def draw_figure(figure: go.Figure, table: Callable[[], pd.DataFrame], *, of: Provenance, name: str, alt: str) -> None:
    """The figure, its camera (PNG or SVG), and its numbers as CSV, made when asked for. name: of the files and keys."""
    entries = sum(1 for trace in figure.data if trace.name and trace.showlegend is not False)
    extra = 0 if figure.layout.showlegend is False else _LINE_PX * ceil(entries / _LEGEND_COLUMNS)
    figure.update_layout(height=(figure.layout.height or _PLOT_PX) + extra + figure.layout.margin.b - 60)
    saved = address.one_of(_FORMATS, key=_FORMAT).lower()
    st.plotly_chart(
        figure,
        key=f"figure_{name}",
        theme=None,
        alt=alt,
        config={
            "displaylogo": False,
            "displayModeBar": True,
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
            "toImageButtonOptions": {"format": saved, "filename": f"secondread-{name}", "scale": 2},
        },
    )
    draw_download(table, of=of, name=name)


def draw_download(
    table: Callable[[], pd.DataFrame],
    *,
    name: str,
    of: Provenance | None = None,
    label: str = "CSV",
    action: str = "compare_models",
) -> None:
    """A button that makes and saves a table; no cell starts a formula in a spreadsheet.

    of: what the numbers of a comparison were computed from. They are saved with it, and the audit trail tells of it.
    action: what whoever asks must be allowed to do, where it is no comparison.
    """

    def made() -> bytes:
        return safe_csv(table() if of is None else of.stated_in(table())).encode()

    st.download_button(
        label,
        deferred(action, lambda _: made())
        if of is None
        else with_audit(made, data_sha256=of.data_sha256, what=f"{name}.csv"),
        file_name=f"secondread-{name}.csv",
        mime="text/csv",
        key=f"csv_{name}",
        on_click="ignore",
        icon=":material/download:",
        help=f"The numbers of this part ({name.replace('-', ' ')}) as a table",
    )
