"""Our models beside what was published, as tables; the rows are made where `docs/results.md` is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
import streamlit as st

from core.evaluation.published import published
from core.evaluation.tables.of_cards import state_of
from core.evaluation.tables.scores import safe_csv
from core.models.cards import LEAKING, Card, leaks_of, read_test_scores
from pages.parts import tables
from pages.parts.figures import with_audit
from pages.parts.markdown import plain
from train.publishing.results import (
    NOT_RECORDED,
    Measures,
    PublishedComparison,
    compare_with_published,
    measures_of,
    published_without_model,
)


def draw_published(cards: Sequence[Card]) -> None:
    """The table, its download, and the figures that nothing here stands against."""
    measurable = [card for card in cards if read_test_scores(card) is not None]
    if not measurable:
        st.info("No model here comes with test scores yet. Train or install one, and it stands beside the claims.")
    measured = measured_of(tuple(measurable))
    rows = [*compare_with_published(measurable, measured), *published_without_model(measurable)]
    head = ["System", "Published", "On", "Ours", "Our test cases", "Why they differ", "Source"]
    st.html(tables.html_table(head, [_cells(row) for row in rows], label="Published figures beside ours", texts=head))
    st.download_button(
        "CSV",
        with_audit(lambda: safe_csv(pd.DataFrame([_line(row) for row in rows])).encode(), data_sha256="",
                what="published-figures.csv"),
        file_name="secondread-published-figures.csv",
        mime="text/csv",
        key="csv_published",
        on_click="ignore",
        icon=":material/download:",
    )  # fmt: skip
    for other in published().without_counterpart:
        source = f" {plain(other.source)}." if other.source else ""
        st.caption(f"{plain(other.what)}: {plain(other.words)}.{source}")


def believable_table() -> str:
    """Collections, believable figures, and those that rather show a leak."""
    rows = [
        [
            f'<th scope="row">{escape(one.data)}</th>',
            _text(one.believable),
            _text(one.leakage or "not known"),
            _text(one.source or NOT_RECORDED),
        ]
        for one in published().ceilings
    ]
    head = ["Collection", "Believable", "Rather a leak", "Source"]
    return tables.html_table(head, rows, label="What figures to believe", texts=head)


def measured_of(cards: Sequence[Card]) -> dict[str, Measures]:
    """Model -> every measure of its test scores, computed once for the same cards and scores."""
    return _measured(tuple(map(state_of, cards)), cards)


@st.cache_data(max_entries=8, show_spinner="Measuring the models")
def _measured(states: tuple[str, ...], _cards: Sequence[Card]) -> dict[str, Measures]:
    return {card.model_id: dict(measures_of(card)) for card in _cards}


def _cells(row: PublishedComparison) -> list[str]:
    mark = ""
    if row.card is not None and (leaks := leaks_of(row.card)):
        mark = f'<span class="leak" title="{escape(" ".join(leaks))}">{LEAKING}</span>'
    ours = "<br>".join(escape(one) for one in row.ours_text) or "not trained here yet"
    return [
        f'<th scope="row">{escape(row.system)}{mark}</th>',
        f"<td class='text'>{'<br>'.join(escape(one) for one in row.theirs)}</td>",
        _text(row.on),
        f"<td class='text'>{ours}</td>",
        _text(_tested(row)),
        _text(row.why),
        _text(row.source_text),
    ]


def _text(words: str) -> str:
    return f"<td class='text'>{escape(words)}</td>"


def _tested(row: PublishedComparison) -> str:
    """How many cases of what, by which hash."""
    if row.card is None:
        return ""
    data = row.card.data
    counts = data.cases_in("test")
    return (
        f"{data.name or 'unnamed'}: {sum(counts.values())}, {counts.get(row.card.positive, 0)} "
        f"{row.card.positive}; data {data.sha256[:8]}, weights {row.card.weights_sha256[:8]}"
    )


def _line(row: PublishedComparison) -> dict[str, object]:
    return {
        "system": row.system,
        "published": "; ".join(row.theirs),
        "published_on": row.on,
        "ours": "; ".join(row.ours_text),
        "our_test_cases": _tested(row),
        "why_they_differ": row.why,
        "source": row.source_text,
        "data_sha256": row.card.data.sha256 if row.card is not None else "",
        "weights_sha256": row.card.weights_sha256 if row.card is not None else "",
        "leaking_split": bool(row.card is not None and leaks_of(row.card)),
    }
