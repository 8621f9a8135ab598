"""What is known of leaks in a data set: on the models' cards, in the files if they are here, and what a leak costs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
import streamlit as st

from core.errors import ModelUnavailable
from core.evaluation.tables.own_cases import (
    between_splits,
    cases_of_files,
    is_tested,
    known_to,
    read_own_cases,
    remarks_on,
)
from core.models.cards import LEAKING, Card, leaks_of, read_test_scores
from core.records.data_sets import VersionRow
from core.wording import how_many
from pages.parts import tables
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.progress import progress_bar
from pages.parts.session import settings
from pages.parts.training_tables import leakage_lines
from pages.research.parts.data_here import manifest_here
from pages.research.parts.published_tables import measured_of
from train.datasets.leakage import LeakageReport, leakage_of_model, looks_at
from train.publishing.results import as_text, difference_text
from train.recipe.programme import BY_GROUP, BY_IMAGE

_COST = {"auc": "AUC", "macro_auc": "Macro AUC", "accuracy": "Accuracy", "macro_f1": "Macro F1"}


_OWN_FORMAT = """
Upload a CSV file with any of the columns `sha256` (of a file's bytes), `pixels_sha256` and `perceptual_hash` as in the
list of cases beside a model's weights, and, to have your own split looked at, `split` and `patient`. Or upload the
files themselves: they are hashed in memory and not stored.
"""


def draw_own(cards: Sequence[Card]) -> None:
    """Cases of one's own: what each model here knows of them from its training, and leaks of one's own split."""
    st.markdown(_OWN_FORMAT)
    left, right = st.columns(2)
    table = left.file_uploader("A list of hashes", type=["csv"], key="own_cases")
    files = right.file_uploader("Or the files", accept_multiple_files=True, key="own_files")
    if table is None and not files:
        st.stop()
    with refusals_shown(stops=True):
        own = (
            read_own_cases(table.getvalue()) if table is not None else cases_of_files([one.getvalue() for one in files])
        )
    between = between_splits(own)
    for (tested, known), shared in between.items():
        st.error(
            f"Of {shared.of} cases of {plain(tested)}, {shared.n} are known from {plain(known)}: {shared.kinds}.",
            icon=":material/policy:",
        )
    for remark in remarks_on(own):
        st.warning(plain(remark), icon=":material/warning:")
    if not between and own["split"].map(is_tested).any():
        st.success("No case of a test or validation split is known from training.", icon=":material/check:")
    rows: list[dict[str, str | int | None]] = []
    for card in cards:
        try:
            seen = known_to(card, own)
        except ModelUnavailable as damaged:
            rows.append({"Model": card.title, "Id": card.model_id, "Known": None, "How": str(damaged)})
            continue
        text = "its folder does not list its cases" if seen is None else seen.kinds or "none"
        rows.append({"Model": card.title, "Id": card.model_id, "Known": None if seen is None else seen.n, "How": text})
    st.markdown(f"**{len(own)} cases, held against what each model was trained or chosen on**")
    st.dataframe(rows, hide_index=True, width="stretch", key="own_against_models")
    st.caption(
        "The same picture by the hash of its bytes or of what it shows, nearly the same one by its perceptual hash. "
        "Files that are uploaded are compared by the hash of their bytes alone: a copy in another format is not found."
    )


def draw_version(row: VersionRow) -> None:
    """A data set of this site: the audit that was made when it was added, before anything was trained on it."""
    verdict = plain(str(row.audit.get("verdict", "")))
    (st.error if row.is_leaking else st.success)(verdict, icon=":material/policy:")
    st.caption(
        f"{how_many(row.n_cases, 'case')}, {row.modality}, data {row.manifest_sha256[:8]}, "
        f"used by {how_many(row.n_jobs, 'training')}"
    )
    _draw_counts(pd.DataFrame(row.counts).T.fillna(0).astype(int))
    for line in leakage_lines(row.audit):
        st.markdown(line)


def draw_models(cards: Sequence[Card]) -> None:
    """The numbers measured on this data set, how each model's split was made and what its card keeps of leaks."""
    tested = [card for card in cards if read_test_scores(card) is not None]
    measured = measured_of(tuple(tested))
    rows = []
    for card in tested:
        leaks, own = leaks_of(card), measured[card.model_id]
        mark = f'<span class="leak">{LEAKING}</span>' if leaks else ""
        counts = card.data.cases_in("test")
        said = " ".join(leaks) or ("no leak was found" if card.data.leaks is not None else "the card does not say")
        rows.append(
            [
                f'<th scope="row">{escape(card.model_id)}{mark}</th>',
                f'<td><span class="value">{sum(counts.values())}</span>'
                f'<span class="interval">{counts.get(card.positive, 0)} positive</span></td>',
                tables.estimate_cell(own["auc"]),
                tables.estimate_cell(own["accuracy"]) if "accuracy" in own else "<td></td>",
                f'<td class="text">{escape(card.data.split_by or "not stated")}</td>',
                f'<td class="text">{escape(said)}</td>',
            ]
        )
    head = ["Model", "Test cases", "AUC", "Accuracy", "Kept together by", "Audit before its training (on the card)"]
    if rows:
        st.html(tables.html_table(head, rows, label="Models and what their cards say of leaks", texts=head[-2:]))
    data = cards[0].data
    st.caption(
        plain(
            f"{data.name or 'unnamed data'}: {data.n or '?'} cases of {data.patients or '?'} patients "
            f"or groups, data {data.sha256[:8]}. 95 % intervals below the values."
        )
    )


def draw_findings(cards: Sequence[Card]) -> None:
    """The audit of the files themselves, for every way in which these models were split."""
    st.subheader("The files, audited here", anchor=False)
    data = cards[0].data
    manifest = manifest_here(data.sha256, data.name)
    if manifest is None:
        st.info(
            "The files of this data set are not on this machine, so above stands what the cards say. To audit them "
            "here, an administrator adds the data set (page Data sets), or starts SecondRead with SECONDREAD_DATA_ROOT "
            "naming the folder that holds its manifest.csv.",
            icon=":material/hide_image:",
        )
        return
    with progress_bar() as report:
        looks = looks_at(
            settings(),
            manifest,
            progress=lambda done, of: report(f"Reading the files: {done} of {of}", 0.95 * done / of),
        )
    judged: dict[str, tuple[LeakageReport, list[str]]] = {}
    for card in cards:
        with refusals_shown():
            found = leakage_of_model(manifest, card, looks)
            same = judged.setdefault(repr(found.to_json()), (found, []))
            same[1].append(card.model_id)
    for found, names in judged.values():
        (st.error if found.is_leaking else st.success)(plain(found.verdict), icon=":material/policy:")
        st.caption(
            f"Split of {plain(', '.join(names))}: {found.n_cases} cases; every file was read, its bytes hashed and its "
            "picture compared with all others."
        )
        _draw_counts(found.counts)
        for line in leakage_lines(found.to_json()):
            st.markdown(line)


def draw_cost(cards: Sequence[Card]) -> None:
    """The same network on the same cases, split by image and by group: the difference is what a leak is worth."""
    st.subheader("What a leak costs", anchor=False)
    by_id = {card.model_id: card for card in cards}
    pairs = [
        (by_id[name], by_id[f"{name.removesuffix(BY_IMAGE)}{BY_GROUP}"])
        for name in by_id
        if name.endswith(BY_IMAGE) and f"{name.removesuffix(BY_IMAGE)}{BY_GROUP}" in by_id
    ]
    if not pairs:
        st.info(
            "To see it, the same network is trained twice on the same cases, once split by image and once by group. "
            "No such pair has been trained on this data set yet.",
            icon=":material/info:",
        )
        return
    for pair in pairs:
        measured = measured_of(pair)
        rows = []
        for card, words in zip(pair, ("by image", "by group of near-duplicates"), strict=True):
            mark = f'<span class="leak">{LEAKING}</span>' if leaks_of(card) else ""
            found = sum(leak.n for leak in card.data.leaks or ())
            cells = [
                f'<th scope="row">split {words}{mark}</th>',
                f'<td class="text">{escape(card.model_id)}</td>',
            ]
            cells += [f"<td>{found}</td>", *(f"<td>{as_text(measured[card.model_id].get(key))}</td>" for key in _COST)]
            rows.append(cells)
        head = ["", "Model", "Leaks found", *_COST.values()]
        st.html(tables.html_table(head, rows, label="The same network, split by image and by group", texts=["Model"]))
        st.markdown(plain(difference_text(*pair)))
        st.caption("Nothing differs but the split: the surplus of the first row is what its leak pretends.")


def _draw_counts(counts: pd.DataFrame) -> None:
    """Cases by split (rows) and label (columns)."""
    head = ["Split", *(str(label) for label in counts.columns)]
    rows = [
        [f'<th scope="row">{escape(str(split))}</th>', *(f"<td>{int(n)}</td>" for n in row)]
        for split, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    st.html(tables.html_table(head, rows, label="Cases by split and label"))
