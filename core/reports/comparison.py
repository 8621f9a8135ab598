"""The report of a comparison of scorers, as blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.evaluation.cache import ComparisonCache
from core.evaluation.charts.curves import decision_figure, precision_recall_figure, reliability_figure, roc_figure
from core.evaluation.statistics.calibration import CalibrationLine
from core.evaluation.statistics.comparison import McNemarTest
from core.evaluation.statistics.operating_points import OperatingRow
from core.models.cards import LEAKING
from core.reports import content, plots
from core.reports.document import RESEARCH_USE, Banner, Block, Document, Facts, Heading, Plots, Table, Text
from core.types import Estimate
from core.version import software
from core.wording import how_many

_SIDE = plots.WIDTH / 2 - 14
TITLE = "Comparison of scorers"
METHODS = (
    "Intervals are 95 %. AUC: DeLong's where every patient has one case, else from bootstrap draws of patients. Shares "
    "at the operating point: Wilson's, widened where a patient has several cases. Others: bootstrap draws of patients, "
    "widened to hold the value where they lean to one side of it (marked).",
    "ECE: expected calibration error over 15 bins of equally many cases.",
    "Pairs: DeLong's test on the cases both scored, p adjusted by Holm over the pairs of this report; the interval of "
    "the difference is from draws of patients. Where a patient has several cases, the tests count patients: variance "
    "of Obuchowski 1997 for areas, signs of the patients' differences in McNemar's test.",
    "Predictive values hold for this set's own share of positives. Sensitivity at 88.9 % specificity, and specificity "
    "at 86.9 % sensitivity: the working points of US readers of screening mammograms (BCSC, Lehman et al. 2017).",
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


def comparison_document(report: ComparisonReport) -> Document:
    """What was compared, how the scorers did, and how the numbers were made."""
    parts = [_provenance, _curves, _operating, _measures, *([_pairs] if len(report.names) > 1 else []), _calibration]
    blocks: list[Block] = [Banner(RESEARCH_USE), Heading(TITLE, level=1)]
    for part in parts:
        blocks += part(report)
    return Document(TITLE, [*blocks, Heading("How these numbers were made"), *(Text(one, "soft") for one in METHODS)])


def _provenance(report: ComparisonReport) -> Iterator[Block]:
    cohort, table = report.numbers.cohort, report.numbers.cohort.table
    facts = [
        ("Made", f"{content.when(report.made_at)} by {content.named(report.made_by)}"),
        ("Software", software()),
        *([("Site", report.site_name)] if report.site_name else []),
        ("Data set", cohort.dataset),
        ("Split", cohort.split),
        ("Cases", f"{table.n}, of {len(set(table.patients))} patients or groups"),
        ("Positive", f"{table.positives} ({table.positive})"),
        ("Data", f"sha256 {cohort.data_sha256}"),
        ("Scores", f"sha256 {table.sha256}"),
        *(
            (f"Weights of {content.named(name)}", f"sha256 {cohort.weights[name]}")
            for name in report.names
            if name in cohort.weights
        ),
        ("Operating point", report.mode),
        ("Bootstrap", f"{report.numbers.resamples:,} draws of patients"),
    ]
    yield Heading("What was compared")
    yield Facts(facts)
    for name in report.names:
        for leak in cohort.leaks.get(name, ()):
            yield Text(f"LEAKING SPLIT, {content.named(name)}: {leak} Its numbers here are too good.", "alarm")


def _curves(report: ComparisonReport) -> Iterator[Block]:
    roc = roc_figure(report.numbers.roc(report.names))
    precision_recall = precision_recall_figure(report.numbers.precision_recall(report.names))
    calls_right = [(row.sensitivity, row.shares["ppv_at_threshold"].value) for row in report.rows]
    drawings = [
        plots.plot(roc, plots.Axes("ROC"), side=_SIDE,
                   marks=[(row.false_positive_rate, row.sensitivity) for row in report.rows]),
        plots.plot(precision_recall, plots.Axes("Precision and recall"), side=_SIDE, marks=calls_right),
        plots.legend([_marked(report, name) for name in report.names], width=plots.WIDTH - 28),
    ]  # fmt: skip
    yield Heading("Curves, with the operating points")
    yield Plots(drawings, "ROC curves, and precision over recall")


def _operating(report: ComparisonReport) -> Iterator[Block]:
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
    yield Heading("At the operating point")
    yield Table([head, *rows], [0.17, 0.11, *[0.06] * 4, *[0.12] * 4])


def _measures(report: ComparisonReport) -> Iterator[Block]:
    head = ["Scorer", "Cases", "AUC", "Average precision", "Sens. at 88.9 % spec.", "Spec. at 86.9 % sens.", "Brier",
            "ECE"]  # fmt: skip
    keys = ("auc", "average_precision", "sensitivity_at_specificity_889", "specificity_at_sensitivity_869", "brier",
            "ece")  # fmt: skip
    results = report.numbers.results(report.names)
    rows = [
        [_marked(report, name), f"{one.n} ({one.positives})", *(_cell(one.measures[key]) for key in keys)]
        for name, one in results.items()
    ]
    yield Heading("At no threshold")
    yield Table([head, *rows], [0.19, 0.09, *[0.12] * 6])
    for name, one in results.items():
        if one.missing:
            yield Text(f"{content.named(name)} has no score for {how_many(one.missing, 'case')}.", "soft")


def _pairs(report: ComparisonReport) -> Iterator[Block]:
    calls = {(test.first, test.second): test for test in report.calls.get("accuracy", ())}
    head = ["First", "Second", "Cases", "AUC difference", "z", "p", "p, Holm", "McNemar p, Holm"]
    rows = [
        [
            _marked(report, test.first),
            _marked(report, test.second),
            str(test.n),
            f"{test.difference:+.4f}\n{test.low:+.3f} to {test.high:+.3f}" if not test.why_not else "not compared",
            f"{test.z:.2f}" if not test.why_not else "",
            content.p_text(test.p),
            content.p_text(test.p_holm),
            content.p_text(calls[test.first, test.second].p_holm) if (test.first, test.second) in calls else "",
        ]
        for test in report.numbers.pairs(report.names)
    ]
    yield Heading("Are the differences real?")
    yield Table([head, *rows], [0.2, 0.2, 0.08, 0.17, 0.07, 0.09, 0.09, 0.1])


def _calibration(report: ComparisonReport) -> Iterator[Block]:
    bins, decisions = report.numbers.reliability(report.names), report.numbers.decision(report.names)
    decision = decision_figure(decisions)
    reach = max(float(curve.thresholds[-1]) for curve in decisions.values())
    drawings = [
        plots.plot(reliability_figure(bins), plots.Axes("Calibration"), side=_SIDE),
        plots.plot(decision, plots.Axes("Decision curve", (0.0, reach), decision.layout.yaxis.range), side=_SIDE),
    ]
    yield Heading("Calibration and net benefit")
    yield Plots(drawings, "Calibration, and decision curves")
    head = ["Scorer", "Slope (1 is best)", "Intercept (0)", "In the large (0)", "Scores at 0 or 1"]
    rows = []
    for name, line in report.numbers.calibration(report.names).items():
        if isinstance(line, CalibrationLine):
            cells = [_cell(line.slope), _cell(line.intercept), _cell(line.in_the_large), str(line.clipped)]
        else:
            cells = ["none", "none", "none", ""]
        rows.append([_marked(report, name), *cells])
    yield Table([head, *rows], [0.28, 0.18, 0.18, 0.18, 0.18])


def _marked(report: ComparisonReport, name: str) -> str:
    """A scorer's name; with the words for it where its numbers come from a leaking split."""
    return f"{content.named(name)} ({LEAKING})" if name in report.numbers.cohort.leaks else name


def _cell(one: Estimate) -> str:
    if math.isnan(one.value):
        return "n/a"
    marked = f"\n{one.widened_text}" if one.widened_text else ""
    return f"{one.value:.3f}\n{one.low:.3f} to {one.high:.3f}{marked}"
