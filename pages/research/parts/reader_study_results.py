"""What came of a reader study: of one that was closed here, or of a table from elsewhere."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core.errors import InvalidInput
from core.evaluation.charts.curves import binormal_figure, mean_roc_figure, reader_areas_figure
from core.evaluation.statistics.intervals import one_case_each
from core.evaluation.statistics.reader_study import Components, Difference, ReaderStudy, against_one, power, with_holm
from core.evaluation.statistics.reader_study_summary import (
    MEASURES,
    UNTESTED,
    analyse,
    analyse_seconds,
    binormal_rows,
    components_text,
    df_text,
    f_text,
    measure_title,
    moments_text,
    not_inferior_sentences,
    odds_sentence,
    one_shot_sentence,
    sentence,
)
from core.evaluation.tables.reader_studies import INDEPENDENT_ELSEWHERE, read_study, write_imrmc, write_long_table
from core.evaluation.tables.rjafroc import write_workbook
from core.records.people.permissions import SignedIn
from core.records.reader_studies.learnt_cases import learnt_sentences, unlisted_sentences
from core.records.reader_studies.protocol import Protocol
from core.records.reader_studies.readings import Results
from core.records.reads.reader_scores import names_of_weights
from core.reports.content import when
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.reports.reader_study import ReaderStudyReport, reader_study_document
from core.wording import how_many
from pages.parts.figures import draw_download
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import deferred, require, settings

PARTIAL = (0.8, 1.0)
"""Specificities of the partial area: where screening works. Fixed, so that nobody chooses them by their result."""
_FORMATS = (
    "A table with the columns reader, modality, case, truth (0 or 1) and score, and patient where one has several "
    "cases; MRMCaov's (treatment, rating), iMRMC's text file and RJafroc's workbook are read as they are. Readers are "
    "numbered in everything that is shown."
)


def design_facts(protocol: Protocol) -> list[tuple[str, str]]:
    """What was planned, as names and values."""
    kind = f"hybrid, {protocol.shared} cases read by all" if protocol.shared else "split-plot"
    split = "fully crossed" if protocol.groups == 1 else f"{protocol.groups} groups ({kind})"
    facts = [
        (
            "Cases", f"{protocol.n_breasts} breasts of {len(protocol.cases)} {protocol.modality} studies, "
            f"{protocol.n_positive} malignant",
        ),
        ("Cases from", protocol.source),
        ("Readers", f"{len(protocol.readers)} readers, {split}"),
        ("Sessions", protocol.design + (f", {protocol.pause_days} days apart" if protocol.pause_days else "")),
        ("Models compared", "A {}, B {}".format(*protocol.aids) if protocol.aids else ""),
        ("Training cases", str(len(protocol.training)) if protocol.training else ""),
        ("Called", f"from a suspicion of {protocol.cut}"),
        ("Margin of non-inferiority", f"{protocol.margin:g}" if protocol.margin else ""),
        ("Order", f"each reader's own, seed {protocol.seed}"),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value]


def draw_results(actor: SignedIn, found: Results) -> None:
    """A closed study: warnings, every analysis, times, and what can be taken home."""
    protocol = found.row.protocol
    limits = []
    if found.n_missing:
        limits.append(f"{how_many(found.n_missing, 'read')} {'is' if found.n_missing == 1 else 'are'} missing.")
        st.warning(limits[-1], icon=":material/warning:")
    if found.n_marked:
        limits.append(
            f"{found.n_marked} unaided reads are by readers who had seen an answer about the pictures before."
        )
        st.warning(limits[-1], icon=":material/visibility:")
    for limit in limits_of_models(found):
        limits.append(limit)
        st.warning(plain(limit), icon=":material/policy:")
    summary = analyse_cached(found.study, cut=protocol.cut, margin=protocol.margin or None)
    draw_analysis(found.study, summary, margin=protocol.margin)
    tests = tests_of_models(found, summary)
    if tests:
        st.markdown("**The average unaided reader against each model alone**")
        for test in tests:
            st.markdown(f"- {plain(sentence(test))}")
    times = draw_times(found)
    seconds = draw_seconds(found)
    report = ReaderStudyReport(
        title=protocol.title, study=found.study, summary=summary, made_at=datetime.now(UTC), made_by=actor.name,
        question=protocol.question, site_name=settings().site_name, cut=protocol.cut, margin=protocol.margin or None,
        design=[*design_facts(protocol), *model_facts(found)],
        reading=[("Training", f"{2 * len(protocol.training)} reads a reader that do not count")],
        registration=[
            ("Protocol", f"sha256 {found.row.sha256}"),
            *([("Locked", when(found.row.locked_at))] if found.row.locked_at else []),
            *([("Closed", when(found.row.closed_at))] if found.row.closed_at else []),
        ],
        against=tests, times=times, seconds=seconds,
        limits=[
            *limits, f"{100 * protocol.n_positive / protocol.n_breasts:.0f} % of the cases are malignant: predictive "
            "values of this set hold nowhere else, and readers may notice the enrichment.",
        ],
    )  # fmt: skip
    draw_downloads(report, pd.DataFrame(found.table))


def limits_of_models(found: Results) -> list[str]:
    """What the answers that stood before the readers cannot show: of several weights, not of every breast, of pictures
    that the weights have learnt from."""
    n_breasts, names = found.row.protocol.n_breasts, names_of_weights(found.models)
    limits = [
        f"Reads with the answer of {model_id} are of {n} sets of weights together and measure none of them alone."
        for model_id, n in Counter(model_id for model_id, _ in found.models).items()
        if n > 1
    ]
    then = "" if found.row.protocol.aids else " and is not compared with the readers"
    limits += [
        f"{names[key]} answered {n_answered(scores)} of {how_many(n_breasts, 'breast')}{then}."
        for key, scores in found.models.items()
        if n_answered(scores) < n_breasts
    ]
    return [*limits, *learnt_sentences(found.learnt), *unlisted_sentences(found.learnt)]


def n_answered(scores: np.ndarray) -> int:
    return int((~np.isnan(scores)).sum())


def model_facts(found: Results) -> list[tuple[str, str]]:
    """Which weights stood before the readers, and how the truth came about."""
    n_breasts, names = found.row.protocol.n_breasts, names_of_weights(found.models)
    models = [
        (f"Index test, {names[key]}", f"weights sha256 {key[1]}, answered {n_answered(scores)} of {n_breasts} breasts")
        for key, scores in found.models.items()
    ]
    truth = "the label of the data set" if found.row.protocol.source else "truth entered at this site for each breast"
    return [*models, ("Reference standard", truth)]


def draw_table(actor: SignedIn) -> None:
    """A table from elsewhere, analysed in the same way; nothing of it is stored."""
    file = st.file_uploader("Reads", type=["csv", "txt", "imrmc", "xlsx"], key="rs_table")
    if file is None:
        st.caption(_FORMATS)
        return
    left, right = st.columns(2)
    cut = left.number_input("Called from a score of", value=None, key="rs_table_cut", placeholder="no cut")
    margin = right.number_input(
        "Margin of non-inferiority", 0.0, 0.5, 0.0, step=0.01, key="rs_table_margin", help="In area"
    )
    with refusals_shown(stops=True):
        study = _numbered_study(hashlib.sha256(file.getvalue()).hexdigest(), file.getvalue())
        summary = analyse_cached(study, cut=cut, margin=margin or None)
    draw_analysis(study, summary, margin=margin)
    report = ReaderStudyReport(
        title="Reader study", study=study, summary=summary, made_at=datetime.now(UTC), made_by=actor.name,
        site_name=settings().site_name, cut=cut, margin=margin or None,
        registration=[("Table", f"sha256 {hashlib.sha256(file.getvalue()).hexdigest()}")],
        limits=["How cases, readers and their order were chosen is not in the table that this was computed from.",
                *study.remarks],
    )  # fmt: skip
    draw_downloads(report, None)


@st.cache_data(max_entries=6, ttl="1h", show_spinner="Reading the table")
def _numbered_study(sha256: str, _content: bytes) -> ReaderStudy:
    study = read_study(_content)
    return replace(study, readers=tuple(f"reader {number}" for number in range(1, len(study.readers) + 1)))


def analyse_cached(study: ReaderStudy, *, cut: float | None, margin: float | None) -> Mapping[str, Any]:
    """`analyse` with the partial area, computed once for what it depends on."""
    return _analysed(key_of(study), study.modalities, cut, margin, study)


def key_of(study: ReaderStudy) -> str:
    """Of the reads, the truth and who is whose patient, every case of them."""
    patients = "" if study.patients is None else "\0".join(map(str, study.patients))
    return hashlib.sha256(study.scores.tobytes() + study.is_positive.tobytes() + patients.encode()).hexdigest()


@st.cache_data(max_entries=16, ttl="1h", show_spinner="Analysing the reads")
def _analysed(
    key: str, modalities: Sequence[str], cut: float | None, margin: float | None, _study: ReaderStudy
) -> dict[str, Any]:
    is_enough = analyse(_study, cut=cut)
    if "area" not in is_enough:
        return is_enough
    return analyse(_study, cut=cut, margin=margin, partial=PARTIAL)


def draw_analysis(study: ReaderStudy, summary: Mapping[str, Any], *, margin: float) -> None:
    """Every number that the reads permit."""
    if "note" in summary:
        st.caption(summary["note"])
    for remark in study.remarks:
        st.warning(plain(remark), icon=":material/warning:")
    if "area" in summary:
        _draw_areas(study, summary, margin)
    for one in summary["one_shot"]:
        st.markdown(f"U-statistic (Gallas 2006), area, {plain(one_shot_sentence(one))}")
        if not one["is_difference"]:
            st.caption(f"Moments M1 to M8: {moments_text(one)}")
    for measure in ("sensitivity", "specificity"):
        if f"{measure}_gee" in summary:
            st.markdown(
                f"{measure.capitalize()} by estimating equations: {plain(odds_sentence(summary[f'{measure}_gee']))}"
            )
    with st.expander("Binormal curve of each reader", icon=":material/show_chart:", key="rs_binormal"):
        _draw_binormal(study, summary)


def _draw_areas(study: ReaderStudy, summary: Mapping[str, Any], margin: float) -> None:
    area = summary["area"]
    for one in area["analyses"][0]["differences"]:
        st.markdown(
            f"**Area, random readers and cases** (Obuchowski-Rockette, Hillis): {plain(sentence(Difference(**one)))}"
        )
    left, right = st.columns(2)
    left.plotly_chart(
        mean_roc_figure(study), theme=None, key="rs_roc", alt="Mean ROC curve of the readers under each modality"
    )
    right.plotly_chart(
        reader_areas_figure(study.readers, area["by_reader"]), theme=None, key="rs_areas",
        alt="Area of each reader under each modality",
    )  # fmt: skip
    table = pd.DataFrame(
        [
            {
                "Measure": measure_title(measure, summary[measure]), "Readers": analysis["readers"],
                "Cases": analysis["cases"],
                **{mean["modality"]: round(mean["value"], 4) for mean in summary[measure]["means"]},
                "Difference": f"{one['first']} - {one['second']}", "Value": round(one["value"], 4),
                "Low": round(one["low"], 4), "High": round(one["high"], 4),
                "df": df_text(one["df"]),
                "p": float(f"{one['p']:.3g}"), "p (Holm)": float(f"{one['p_holm']:.3g}"),
                "Remark": UNTESTED if one["se"] == 0 else "",
            }
            for measure in MEASURES
            if measure in summary
            for analysis in summary[measure]["analyses"]
            for one in analysis["differences"]
        ]
    )  # fmt: skip
    wide = {name: st.column_config.TextColumn(width="large") for name in ("Measure", "Remark")}
    st.dataframe(table, hide_index=True, width="stretch", height="content", column_config=wide, placeholder="")
    st.caption("Value, low and high: of the difference, with its 95 % interval. Random: for others like these.")
    draw_download(lambda: table, name="reader-study-measures", action="design_reader_study")
    for measure in (one for one in MEASURES if one in summary):
        title = plain(measure_title(measure, summary[measure]))
        for one in summary[measure]["analyses"][0]["differences"] if measure != "area" else ():
            st.markdown(f"{title}, random readers and cases: {plain(sentence(Difference(**one)))}")
        st.caption(f"{title}, components of variance: {components_text(summary[measure])}.")
    if "dbm" in area:
        st.caption(f"DBM, area: {f_text(area['dbm'])}.")
    for said in not_inferior_sentences(area):
        st.markdown(f"Margin {margin:g}. {plain(said)}")
    if study.fully_crossed:
        with st.expander("Power of another study like this one", icon=":material/calculate:", key="rs_next"):
            _draw_power(study, area)


@st.fragment
def _draw_power(study: ReaderStudy, area: Mapping[str, Any]) -> None:
    """Power by the formulas of Hillis, Obuchowski & Berbaum (2011), from this study's components of variance."""
    require("design_reader_study")
    left, middle, right = st.columns(3)
    readers = int(left.number_input("Readers", 2, 200, max(len(study.readers), 2), key="rs_next_readers"))
    ratio = float(middle.number_input("Times as many cases", 0.1, 50.0, 1.0, step=0.5, key="rs_next_ratio"))
    effect = float(
        right.number_input("Difference in area", 0.005, 0.5, 0.05, step=0.005, format="%.3f", key="rs_next_effect")
    )
    with refusals_shown():
        chance = power(Components(**area["components"]), readers=readers, effect=effect, case_ratio=ratio)
        st.markdown(f"Such a difference is found at 5 % in **{100 * chance:.0f} %** of such studies.")
    st.caption(
        "Hillis, Obuchowski & Berbaum 2011, random readers and cases, with this study's components of variance of the "
        "area, which a small study knows badly; the share of cancers stays as it was."
    )


@st.fragment
def _draw_binormal(study: ReaderStudy, summary: Mapping[str, Any]) -> None:
    """A reader's points and fitted curves, and the areas of all."""
    require("design_reader_study")
    reader = st.selectbox("Reader", study.readers, key="rs_binormal_reader")
    st.plotly_chart(
        binormal_figure(study, reader), theme=None, key="rs_binormal_roc",
        alt="Empirical points and binormal ROC curve of one reader under each modality",
    )  # fmt: skip
    st.caption(
        "Maximum likelihood of the binormal model (Dorfman & Alf 1969), each reader and modality by itself: "
        "sensitivity = Φ(a + b Φ⁻¹(1 - specificity)), area Φ(a / √(1 + b²)). No test here rests on these curves."
    )
    table = pd.DataFrame(binormal_rows(summary)).round(4)
    wide = {"remark": st.column_config.TextColumn(width="large")}
    st.dataframe(table, hide_index=True, width="stretch", height="content", column_config=wide)
    draw_download(lambda: table, name="reader-study-binormal", action="design_reader_study")


def tests_of_models(found: Results, summary: Mapping[str, Any]) -> Sequence[Difference]:
    """The average unaided reader against each model that answered every case, with the same weights."""
    if found.row.protocol.aids:
        return ()  # nobody read unaided
    names = names_of_weights(found.models)
    whole = {names[key]: scores for key, scores in found.models.items() if not np.isnan(scores).any()}
    if not whole or "area" not in summary:
        return ()
    readers = found.study.scores[0]
    return with_holm([against_one(name, readers, scores, found.study) for name, scores in whole.items()])


def draw_times(found: Results) -> list[list[str]]:
    """Seconds a case by reader and modality; the same as rows of the report."""
    table = pd.DataFrame(found.table)
    if table.empty:
        return []
    exams = table.drop_duplicates(["reader", "modality", "exam"])  # its breasts were read at once
    times = exams.groupby(["reader", "modality"])["seconds"]
    shown = times.agg(["median", "mean", "count"]).round(1).reset_index()
    st.markdown("**Seconds a case**")
    st.dataframe(shown, hide_index=True, height="content")
    draw_download(lambda: shown, name="reader-study-seconds", action="design_reader_study")
    interrupted = int((exams["interruptions"] > 0).sum())
    st.caption(f"{interrupted} reads were interrupted: the case was opened again, and its time counts from then.")
    return [[str(cell) for cell in row] for row in shown.itertuples(index=False)]


def draw_seconds(found: Results) -> Mapping[str, Any] | None:
    """Whether one modality takes longer; None where too little was read for it."""
    try:
        summary = analyse_seconds(found.seconds)
    except InvalidInput:
        return None
    for one in summary["analyses"][0]["differences"]:
        st.markdown(f"Mean seconds a case, random readers and cases: {plain(sentence(Difference(**one)))}")
    st.caption(f"Components of variance of the seconds: {components_text(summary)}.")
    return summary


def draw_downloads(report: ReaderStudyReport, reads: pd.DataFrame | None) -> None:
    """The report, and the tables that other programs read; numbered, without a name or an id."""
    study = report.study
    made = {
        ("Report (PDF)", "report.pdf", "application/pdf"): lambda: build_pdf(reader_study_document(report)),
        ("Report (HTML)", "report.html", "text/html"): lambda: build_html(reader_study_document(report)).encode(),
        ("For MRMCaov", "mrmcaov.csv", "text/csv"): lambda: write_long_table(study).encode(),
        ("For iMRMC", "study.imrmc", "text/plain"): lambda: write_imrmc(study).encode(),
    }
    if study.fully_crossed:
        kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        made["For RJafroc", "rjafroc.xlsx", kind] = lambda: write_workbook(study)
    if reads is not None:
        made["Reads", "reads.csv", "text/csv"] = lambda: reads.to_csv(index=False).encode()
    with st.container(horizontal=True):
        for (label, name, kind), build in made.items():
            st.download_button(
                label,
                deferred("design_reader_study", lambda _, build=build: build()),  # type: ignore[misc]
                f"secondread-reader-study-{name}",
                kind,
                icon=":material/download:",
                on_click="ignore",
            )
    if not one_case_each(study.patients):
        st.caption(INDEPENDENT_ELSEWHERE)
