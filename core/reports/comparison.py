"""A comparison of scorers as one file to keep or send: HTML that loads nothing from anywhere, or PDF."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from reportlab.graphics.shapes import Drawing
from reportlab.platypus import Flowable, Spacer, Table

from core.evaluation.cache import ComparisonCache
from core.evaluation.statistics.calibration import CalibrationLine
from core.evaluation.statistics.comparison import McNemarTest
from core.evaluation.statistics.operating_points import OperatingRow
from core.models.cards import LEAKING
from core.reports import blocks, content, plots
from core.types import Estimate

_TEMPLATES = Path(__file__).parent / "templates"
TITLE = "Comparison of scorers"
METHODS = (
    "Intervals are 95 %. AUC: DeLong's where every patient has one case, else from bootstrap draws of patients. Shares "
    "at the operating point: Wilson's, widened where a patient has several cases. Others: bootstrap draws of patients.",
    "Pairs: DeLong's test on the cases both scored, p adjusted by Holm over the pairs of this report; the interval of "
    "the difference is from draws of patients. DeLong's and McNemar's tests take cases to be independent.",
    "Predictive values hold for this set's own share of positives. Sensitivity at 88.9 % specificity, and specificity "
    "at 86.9 % sensitivity: the working points of US screening radiologists (BCSC, Lehman et al. 2017).",
)


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """What was on the screen. mode: how the thresholds were chosen, in words."""

    numbers: ComparisonCache
    rows: Sequence[OperatingRow]
    calls: Mapping[str, Sequence[McNemarTest]]
    mode: str
    made_at: datetime
    made_by: str
    site_name: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows)


@dataclass(frozen=True, slots=True)
class Part:
    """A heading with what stands under it. table: its first row heads it; shares: widths of its columns.

    alarms: sentences in red.
    """

    heading: str
    table: Sequence[Sequence[str]] = ()
    shares: Sequence[float] = ()
    drawings: Sequence[Drawing] = ()
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    alarms: Sequence[str] = ()


def build_comparison_html(report: ComparisonReport) -> str:
    """One self-contained page; plots are SVG pictures."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["svg_address"] = plots.svg_address
    template = environment.get_template("comparison.html")
    return template.render(title=TITLE, research_use=content.RESEARCH_USE, parts=list(_parts(report)))


def build_comparison_pdf(report: ComparisonReport) -> bytes:
    """A4 pages, numbered."""
    return blocks.build_document(TITLE, list(_story(report)))


def _story(report: ComparisonReport) -> Iterator[Flowable]:
    yield blocks.banner(content.RESEARCH_USE)
    yield blocks.paragraph(TITLE, blocks.text_style(17, bold=True, before=8, after=2))
    for part in _parts(report):
        yield from blocks.heading(part.heading)
        yield Spacer(1, 3)
        if part.facts:
            yield blocks.facts(part.facts)
        if part.drawings:
            pairs = [list(part.drawings[at : at + 2]) for at in range(0, len(part.drawings), 2)]
            for pair in pairs:
                yield pair[0] if len(pair) == 1 else Table([pair], colWidths=[blocks.WIDTH / 2] * 2)
        if len(part.table) > 1:
            yield blocks.table(part.table, part.shares)
        for alarm in part.alarms:
            yield blocks.paragraph(alarm, blocks.text_style(9, bold=True, colour=blocks.ALARM, before=3))
        for note in part.notes:
            yield blocks.paragraph(note, blocks.text_style(8, colour=blocks.SOFT, before=3))


def _parts(report: ComparisonReport) -> Iterator[Part]:
    yield _provenance(report)
    yield _curves(report)
    yield _operating(report)
    yield _measures(report)
    if len(report.names) > 1:
        yield _pairs(report)
    yield _calibration(report)
    yield Part("How these numbers were made", notes=METHODS)


def _provenance(report: ComparisonReport) -> Part:
    cohort, table = report.numbers.cohort, report.numbers.cohort.table
    facts = [
        ("Made", f"{content.when(report.made_at)} by {report.made_by}"),
        *([("Site", report.site_name)] if report.site_name else []),
        ("Data set", cohort.dataset),
        ("Split", cohort.split),
        ("Cases", f"{table.n}, of {len(set(table.patients))} patients or groups"),
        ("Positive", f"{table.positives} ({table.positive})"),
        ("Data", f"sha256 {cohort.data_sha256}"),
        ("Scores", f"sha256 {table.sha256}"),
        *((f"Weights of {name}", f"sha256 {cohort.weights[name]}") for name in report.names if name in cohort.weights),
        ("Operating point", report.mode),
        ("Bootstrap", f"{report.numbers.resamples:,} draws of patients"),
    ]
    alarms = tuple(
        f"LEAKING SPLIT, {name}: {leak} Its numbers here are too good."
        for name in report.names
        for leak in cohort.leaks.get(name, ())
    )
    return Part("What was compared", facts=facts, alarms=alarms)


def _curves(report: ComparisonReport) -> Part:
    width, height = blocks.WIDTH / 2 - 14, blocks.WIDTH / 2 - 14
    at = {row.name: row for row in report.rows}
    roc = {
        name: plots.Curve(
            curve.false_positive_rate, curve.sensitivity, (at[name].false_positive_rate, at[name].sensitivity)
        )
        for name, curve in report.numbers.roc(report.names).items()
    }
    found = report.numbers.precision_recall(report.names)
    precision_recall = {
        name: plots.Curve(*_stairs(curve.recall, curve.precision), (at[name].sensitivity, _ppv(at[name])))
        for name, curve in found.items()
    }
    share = next(iter(found.values())).prevalence
    axes = (
        plots.Axes("ROC", "1 - specificity", "sensitivity", guide=((0, 0), (1, 1))),
        plots.Axes("Precision and recall", "recall", "precision", guide=((0, share), (1, share))),
    )
    drawings = [
        plots.plot(axes[0], roc, width=width, height=height),
        plots.plot(axes[1], precision_recall, width=width, height=height),
        plots.legend([_marked(report, name) for name in report.names], width=blocks.WIDTH - 28),
    ]
    return Part("Curves, with the operating points", drawings=drawings)


def _stairs(recall: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points with the corners between them: precision is not interpolated."""
    return np.repeat(recall, 2)[:-1], np.repeat(precision, 2)[1:]


def _ppv(row: OperatingRow) -> float:
    return row.shares["ppv_at_threshold"].value


def _operating(report: ComparisonReport) -> Part:
    head = ["Scorer", "Threshold", "TP", "FN", "FP", "TN", "Sensitivity", "Specificity", "PPV", "NPV"]
    rows = [
        [
            _marked(report, row.name),
            "by fold" if math.isnan(row.threshold) else f"{row.threshold:.4g}",
            *(
                str(count)
                for count in (
                    row.counts.true_positives,
                    row.counts.false_negatives,
                    row.counts.false_positives,
                    row.counts.true_negatives,
                )
            ),
            *(_cell(row.shares[f"{key}_at_threshold"]) for key in ("sensitivity", "specificity", "ppv", "npv")),
        ]
        for row in report.rows
    ]
    return Part("At the operating point", [head, *rows], [0.17, 0.11, *[0.06] * 4, *[0.12] * 4])


def _measures(report: ComparisonReport) -> Part:
    head = ["Scorer", "Cases", "AUC", "Average precision", "Sens. at 88.9 % spec.", "Spec. at 86.9 % sens.", "Brier",
            "ECE"]  # fmt: skip
    keys = ("auc", "average_precision", "sensitivity_at_specificity_889", "specificity_at_sensitivity_869", "brier",
            "ece")  # fmt: skip
    results = report.numbers.results(report.names)
    rows = [
        [_marked(report, name), f"{one.n} ({one.positives})", *(_cell(one.measures[key]) for key in keys)]
        for name, one in results.items()
    ]
    missing = [f"{name} has no score for {one.missing} cases." for name, one in results.items() if one.missing]
    return Part("At no threshold", [head, *rows], [0.19, 0.09, *[0.12] * 6], notes=missing)


def _pairs(report: ComparisonReport) -> Part:
    calls = {(test.first, test.second): test for test in report.calls.get("accuracy", ())}
    head = ["First", "Second", "Cases", "AUC difference", "z", "p", "p, Holm", "McNemar p, Holm"]
    rows = [
        [
            _marked(report, test.first),
            _marked(report, test.second),
            str(test.n),
            f"{test.difference:+.4f}\n{test.low:+.3f} to {test.high:+.3f}",
            f"{test.z:.2f}",
            _p(test.p),
            _p(test.p_holm),
            _p(calls[test.first, test.second].p_holm) if (test.first, test.second) in calls else "",
        ]
        for test in report.numbers.pairs(report.names)
    ]
    return Part("Are the differences real?", [head, *rows], [0.2, 0.2, 0.08, 0.17, 0.07, 0.09, 0.09, 0.1])


def _calibration(report: ComparisonReport) -> Part:
    side = blocks.WIDTH / 2 - 14
    bins = {
        name: plots.Curve(np.array([one.mean_score for one in found]), np.array([one.observed.value for one in found]))
        for name, found in report.numbers.reliability(report.names).items()
    }
    decisions = report.numbers.decision(report.names)
    first = next(iter(decisions.values()))
    top = max(0.001, *(float(curve.net_benefit.max()) for curve in decisions.values()))
    curves = {name: plots.Curve(curve.thresholds, curve.net_benefit) for name, curve in decisions.items()}
    reach = (0.0, float(first.thresholds[-1]))
    drawings = [
        plots.plot(
            plots.Axes("Calibration", "mean score of the bin", "share of positives", guide=((0, 0), (1, 1))),
            bins, width=side, height=side,
        ),
        plots.plot(
            plots.Axes("Decision curve", "threshold probability", "net benefit", reach, (-0.3 * top, 1.1 * top),
                       guide=((0, 0), (reach[1], 0))),
            curves, width=side, height=side,
        ),
    ]  # fmt: skip
    head = ["Scorer", "Slope (1 is best)", "Intercept (0)", "In the large (0)", "Scores at 0 or 1"]
    rows = []
    for name, line in report.numbers.calibration(report.names).items():
        if isinstance(line, CalibrationLine):
            cells = [_cell(line.slope), _cell(line.intercept), _cell(line.in_the_large), str(line.clipped)]
        else:
            cells = ["none", "none", "none", ""]
        rows.append([_marked(report, name), *cells])
    return Part("Calibration and net benefit", [head, *rows], [0.28, 0.18, 0.18, 0.18, 0.18], drawings)


def _marked(report: ComparisonReport, name: str) -> str:
    """A scorer's name; with the words for it where its numbers come from a leaking split."""
    return f"{name} ({LEAKING})" if name in report.numbers.cohort.leaks else name


def _cell(one: Estimate) -> str:
    if math.isnan(one.value):
        return "n/a"
    return f"{one.value:.3f}\n{one.low:.3f} to {one.high:.3f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"
