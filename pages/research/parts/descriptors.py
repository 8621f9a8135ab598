"""How far the measured words, a language model's and the readers' agree on the same lesions, by descriptor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from html import escape

import pandas as pd
import streamlit as st

from core.evaluation.charts.base import Provenance
from core.evaluation.charts.tables import descriptors_figure
from core.evaluation.statistics.agreement import DescriptorAgreement, descriptor_agreement
from core.language.question import descriptors
from core.records.language.answers import Compared, compared
from core.records.people.permissions import Actor
from pages.parts import address, tables
from pages.parts.figures import draw_figure
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database

MEASURED, LANGUAGE_MODEL, READER = "measured", "language model", "reader"
FIRST, FINAL = "first impression", "final read"
FEW = 20


def draw_descriptors(actor: Actor) -> None:
    """Which model, which read, then table and figure."""
    with refusals_shown(stops=True):
        lesions = compared(database(), actor)
    if not lesions:
        st.info(
            "No language model has described a lesion of a study with a final read yet. An administrator permits it on "
            "the page Settings.", icon=":material/info:",
        )  # fmt: skip
        return
    left, right = st.columns(2)
    model = address.select("Language model", sorted({one.model for one in lesions}), key="language", at=left)
    read = address.segments(
        "The reader's words of the", (FIRST, FINAL), key="read", at=right,
        help="In the first impression the reader had seen neither of the others; in the final read both may have been "
        "before them.",
    )  # fmt: skip
    own = [one for one in lesions if one.model == model]
    found = agreements(own, read)
    of, n_patients = _provenance(own, model, read), len({one.patient for one in own})
    st.caption(
        f"Lesions that {plain(model)} described: {len(own)}, patients: {n_patients}. Outlines of "
        "the network, words of the BI-RADS ultrasound lexicon. The language model's are unverified; none of the three "
        "is the truth, and agreement is not being right."
    )
    head = ["Descriptor", "Between", "Lesions", "Patients", "Kappa", "Same word"]
    rows = [_cells(one) for one in found]
    st.html(tables.html_table(head, rows, label="Agreement by descriptor", texts=["Between"]))
    draw_figure(
        descriptors_figure(found, provenance=of), lambda: _frame(found), of=of, name="descriptors",
        alt="Kappa of each pair by descriptor",
    )  # fmt: skip
    st.caption(
        "Cohen's kappa without an order between words, over the lesions for which both have a word; 95 % intervals "
        f"draw patients. Grey: fewer than {FEW} lesions, too few to lean on."
    )


def agreements(lesions: Sequence[Compared], read: str) -> tuple[DescriptorAgreement, ...]:
    """Of the measured words, the language model's and those of one kind of read."""
    described = {
        MEASURED: [one.measured for one in lesions],
        LANGUAGE_MODEL: [one.language_model for one in lesions],
        f"{READER}, {read}": [one.first if read == FIRST else one.final for one in lesions],
    }
    words = {one.name: one.values for one in descriptors()}
    return descriptor_agreement(described, words, [one.patient for one in lesions])


def _cells(one: DescriptorAgreement) -> list[str]:
    faint = ' style="color:#767d85"' if one.n < FEW else ""
    why = "one patient" if one.n_patients < 2 else "one word throughout"
    nan = f'<td><span class="value">n/a</span><span class="interval">{why}</span></td>'
    return [
        f'<th scope="row">{escape(one.descriptor)}</th>',
        f'<td class="text"{faint}>{escape(one.first)} and {escape(one.second)}</td>',
        f"<td{faint}>{one.n}</td>",
        f"<td{faint}>{one.n_patients}</td>",
        tables.estimate_cell(one.kappa) if one.kappa.value == one.kappa.value else nan,
        tables.estimate_cell(one.agreed),
    ]


def _frame(found: Sequence[DescriptorAgreement]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "descriptor": one.descriptor, "first": one.first, "second": one.second, "lesions": one.n,
                "patients": one.n_patients, "kappa": one.kappa.value, "kappa_low": one.kappa.low,
                "kappa_high": one.kappa.high, "same_word": one.agreed.value, "same_word_low": one.agreed.low,
                "same_word_high": one.agreed.high,
            }
            for one in found
        ]
    )  # fmt: skip


def _provenance(lesions: Sequence[Compared], model: str, read: str) -> Provenance:
    whole = json.dumps([[dict(w) for w in (one.measured, one.language_model, one.first, one.final)] for one in lesions])
    sha256 = hashlib.sha256(whole.encode()).hexdigest()
    return Provenance(f"this site, {model}", f"reader's {read}", len(lesions), None, sha256)
