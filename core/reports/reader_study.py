"""The report of a reader study, as blocks, in the order of STARD 2015 (Bossuyt et al., BMJ 351:h5527).

With what STARD-AI and the reporting of multi-reader multi-case studies ask for besides: which weights answered, how
readers and cases were assigned, components of variance, whether readers and cases are random. What the study cannot
know of itself (funding, setting, training of the readers) is named as missing. Nothing in it says who anybody is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.evaluation.charts.curves import mean_roc_figure
from core.evaluation.statistics.reader_study import LEVEL, Difference, ReaderStudy
from core.evaluation.statistics.reader_study_summary import (
    MEASURES,
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
    stand_ins,
)
from core.reports import content, plots
from core.reports.document import RESEARCH_USE, Banner, Block, Document, Facts, Heading, Plots, Table, Text
from core.version import software

METHODS = (
    "Area: empirical area under the ROC curve of each reader. Modalities are compared by the model of Obuchowski and "
    "Rockette (1995) with DeLong's covariances, over patients where one has several cases (Obuchowski 1997), and "
    "Hillis' degrees of freedom (2007); intervals are 95 %, p is two-sided, and adjusted by Holm over pairs of "
    "modalities.",
    "Random readers and cases: the statement is for other readers like these and other cases like these. Fixed: for "
    "these alone.",
    "U-statistic: Gallas 2006, one-shot, unbiased variance; every read pair of cases counts the same. Its variance and "
    "DBM take cases to be independent.",
    "Binormal curves: Dorfman and Alf 1969, maximum likelihood for each reader and modality by itself; no test "
    "rests on them.",
    "Estimating equations: Liang and Zeger 1986, clusters are patients, for these readers.",
)
NOT_KNOWN = (
    "The report is made from what the study recorded. Authors add: eligibility and setting of the patients, how the "
    "reference standard was established, experience and training of the readers, funding, and ethics approval."
)
Facts_ = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ReaderStudyReport:
    """summary: of `core.evaluation.statistics.reader_study_summary.analyse`.

    design, reading: facts of the protocol and of how it went; registration: what was locked when. against: tests of the
    average unaided reader against models alone. times: reader, modality, median, mean and number of reads. seconds: of
    `analyse_seconds`, None where it cannot be computed. limits: sentences.
    """

    title: str
    study: ReaderStudy
    summary: Mapping[str, Any]
    made_at: datetime
    made_by: str
    question: str = ""
    site_name: str = ""
    cut: float | None = None
    margin: float | None = None
    design: Facts_ = ()
    reading: Facts_ = ()
    registration: Facts_ = ()
    against: Sequence[Difference] = ()
    times: Sequence[Sequence[str]] = ()
    seconds: Mapping[str, Any] | None = None
    limits: Sequence[str] = field(default=())


def reader_study_document(report: ReaderStudyReport) -> Document:
    """Title, what was found, why, how, results, limits, and where it is registered."""
    blocks: list[Block] = [Banner(RESEARCH_USE), Heading(report.title, level=1)]
    for part in (_abstract, _introduction, _methods, _results, _discussion, _other):
        blocks += part(report)
    return Document(report.title, blocks)


def _abstract(report: ReaderStudyReport) -> Iterator[Block]:
    found = report.summary
    yield Heading("Summary")
    yield Text(
        f"{len(found['readers'])} readers read {found['positives']} positive and {found['negatives']} negative cases "
        f"under {len(found['modalities'])} modalities ({', '.join(found['modalities'])})."
    )
    for analysis in found.get("area", {}).get("analyses", ())[:1]:
        for one in analysis["differences"]:
            yield Text(f"Area under the ROC curve, random readers and cases: {sentence(Difference(**one))}.")
            yield Text(_conclusion(Difference(**one), len(analysis["differences"])))


def _conclusion(one: Difference, n_pairs: int) -> str:
    """Of several pairs a difference counts as shown where p adjusted by Holm says so, too."""
    if one.se == 0:
        return (
            f"Without an interval the study shows neither a difference between {one.first} and {one.second} nor that "
            "there is none."
        )
    if one.low <= 0 <= one.high:
        return f"The interval holds 0: the study does not show a difference between {one.first} and {one.second}."
    better, worse = (one.first, one.second) if one.value > 0 else (one.second, one.first)
    adjusted = f", and p adjusted over {n_pairs} pairs is {content.p_text(one.p_holm)}" if n_pairs > 1 else ""
    if n_pairs > 1 and not one.p_holm < LEVEL:
        return (
            f"The interval of this pair alone leaves out 0{adjusted}: together the pairs do not show a difference "
            f"between {one.first} and {one.second}."
        )
    return (
        f"The interval leaves out 0{adjusted}: for readers and cases like these the area is larger under {better} than "
        f"{worse}."
    )


def _introduction(report: ReaderStudyReport) -> Iterator[Block]:
    yield Heading("Introduction")
    yield Text(report.question, "comment") if report.question else Text("No question was stated.", "soft")
    if report.margin:
        yield Text(f"Hypothesis: not inferior in area by a margin of {report.margin:g}.")


def _methods(report: ReaderStudyReport) -> Iterator[Block]:
    yield Heading("Methods")
    crossed = "every reader read every case" if report.study.fully_crossed else "not every reader read every case"
    yield Heading("Design, cases and readers", level=3)
    yield Facts([*report.design, ("Reads", crossed)])
    yield Heading("Analysis", level=3)
    for one in METHODS:
        yield Text(one)
    if report.cut is not None:
        yield Text(f"Sensitivity and specificity: a case counts as called from a score of {report.cut:g} on.")
    if "note" in report.summary:
        yield Text(str(report.summary["note"]))


def _results(report: ReaderStudyReport) -> Iterator[Block]:
    found = report.summary
    yield Heading("Results")
    yield Heading("Flow and distribution", level=3)
    yield Facts(
        [
            ("Cases", f"{found['positives']} positive, {found['negatives']} negative"),
            ("Reads missing", str(found["missing_reads"])),
            *report.reading,
        ]
    )
    if "area" in found:
        names = list(found["modalities"])
        yield Plots(
            [
                plots.plot(
                    mean_roc_figure(report.study, with_readers=False), plots.Axes("Mean ROC"), side=plots.WIDTH / 2
                ),
                plots.legend(names, width=plots.WIDTH / 2 - 28),
            ],
            "Mean ROC curve of the readers under each modality",
        )
    for measure in MEASURES:
        if measure in found:
            yield from _of_measure(measure, found[measure], found["modalities"], found["readers"])
    yield from _others(report)


def _of_measure(
    measure: str, found: Mapping[str, Any], names: Sequence[str], readers: Sequence[str]
) -> Iterator[Block]:
    yield Heading(measure_title(measure, found), level=3)
    share = 0.7 / len(names)
    rows = [[name, *(f"{found['by_reader'][one][name]:.3f}" for one in names)] for name in readers]
    means = {one["modality"]: one for one in found["means"]}
    mean = [
        "mean (95 %)",
        *(f"{means[one]['value']:.3f}\n{means[one]['low']:.3f} to {means[one]['high']:.3f}" for one in names),
    ]
    yield Table([["Reader", *names], *rows, mean], [0.3, *[share] * len(names)])
    head = ["Readers", "Cases", "Difference", "95 % interval", "se", "df", "t", "p", "p, Holm"]
    every = [(analysis, one) for analysis in found["analyses"] for one in analysis["differences"]]
    tests = [
        [
            analysis["readers"], analysis["cases"], f"{one['first']} - {one['second']}\n{one['value']:+.4f}",
            *([
                f"{one['low']:+.4f} to {one['high']:+.4f}", f"{one['se']:.4f}", df_text(one["df"]), f"{one['t']:.3f}",
                content.p_text(one["p"]), content.p_text(one["p_holm"]),
            ] if one["se"] > 0 else ["", "0", "", "", "", ""]),
        ]
        for analysis, one in every
    ]  # fmt: skip
    yield Table([head, *tests], [0.09, 0.09, 0.2, 0.2, 0.08, 0.1, 0.08, 0.08, 0.08])
    if said := stand_ins(found):
        yield Text(f"{said}.")
    for analysis, one in every:
        if one["se"] == 0:
            where = f"{analysis['readers'].capitalize()} readers, {analysis['cases']} cases"
            yield Text(f"{where}: {sentence(Difference(**one))}.")
    yield Text(f"Components of variance: {components_text(found)}.", "soft")
    if "dbm" in found:
        yield Text(f"DBM (jackknife pseudovalues): {f_text(found['dbm'])}.", "soft")
    yield from (Text(f"{said}.") for said in not_inferior_sentences(found))


def _others(report: ReaderStudyReport) -> Iterator[Block]:
    yield Heading("Other analyses", level=3)
    for one in report.summary["one_shot"]:
        yield Text(f"U-statistic, area, {one_shot_sentence(one)}.")
        if not one["is_difference"]:
            yield Text(f"Moments M1 to M8: {moments_text(one)}.", "soft")
    for measure in ("sensitivity", "specificity"):
        if f"{measure}_gee" in report.summary:
            odds = odds_sentence(report.summary[f"{measure}_gee"])
            yield Text(f"{measure.capitalize()} by estimating equations: {odds}.")
    yield Heading("Binormal curve of each reader", level=3)
    rows = [
        [
            row["reader"], row["modality"],
            *(
                "n/a" if math.isnan(row[name]) else f"{row[name]:.3f}"
                for name in ("empirical area", "binormal area", "a", "b")
            ),
            row["remark"],
        ]
        for row in binormal_rows(report.summary)
    ]  # fmt: skip
    head = ["Reader", "Modality", "Empirical area", "Binormal area", "a", "b", "Remark"]
    yield Table([head, *rows], [0.15, 0.15, 0.12, 0.12, 0.1, 0.1, 0.26])
    for test in report.against:
        yield Text(f"Against a model alone: {sentence(test)}.")
    if report.times:
        yield Heading("Seconds a case", level=3)
        yield Table([["Reader", "Modality", "Median", "Mean", "Reads"], *report.times], [0.3, 0.25, 0.15, 0.15, 0.15])
    for analysis in (report.seconds or {}).get("analyses", ())[:1]:
        for one in analysis["differences"]:
            yield Text(f"Mean seconds a case, random readers and cases: {sentence(Difference(**one))}.")
        yield Text(f"Components of variance: {components_text(report.seconds or {})}.", "soft")


def _discussion(report: ReaderStudyReport) -> Iterator[Block]:
    yield Heading("Limits")
    for one in (*report.limits, NOT_KNOWN):
        yield Text(one)


def _other(report: ReaderStudyReport) -> Iterator[Block]:
    yield Heading("Other information")
    yield Facts(
        [
            *report.registration,
            ("Made", f"{content.when(report.made_at)} by {content.named(report.made_by)}"),
            *([("Site", report.site_name)] if report.site_name else []),
            ("Software", software()),
        ]
    )
