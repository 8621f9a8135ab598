"""One slider for all scorers: the points on both curves, the table and every confusion matrix move together.

A fragment: moving the slider runs nothing else of the page, and no bootstrap again.

The comparison as one file to keep or send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core.evaluation.cache import ComparisonCache
from core.evaluation.charts.base import INK
from core.evaluation.charts.curves import precision_recall_figure, roc_figure
from core.evaluation.charts.runs import with_points
from core.evaluation.statistics.agreement import agreement
from core.evaluation.statistics.comparison import McNemarTest
from core.evaluation.statistics.curves import mean_sensitivity
from core.evaluation.statistics.operating_points import (
    OperatingRow,
    Threshold,
    operating_rows,
    thresholds_at_specificity,
)
from core.evaluation.tables.cohort import Cohort
from core.reports.comparison import ComparisonReport, comparison_document
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from pages.parts import address
from pages.parts import tables as tables
from pages.parts.figures import colour, draw_download, draw_figure, picture_format, with_audit
from pages.parts.markdown import plain
from pages.parts.session import require, settings, signed_in


def draw_report_buttons(
    numbers: ComparisonCache, rows: Sequence[OperatingRow], calls: Mapping[str, Sequence[McNemarTest]], mode: str
) -> None:
    """Two downloads of what is on the screen, made when they are asked for."""
    person = signed_in(is_activity=False)
    report = ComparisonReport(
        numbers=numbers,
        rows=rows,
        calls=calls,
        mode=mode,
        made_at=datetime.now(UTC),
        made_by=person.name if person else "",
        site_name=settings().site_name,
    )
    kinds = (
        ("HTML", "html", "text/html", lambda: build_html(comparison_document(report)).encode()),
        ("PDF", "pdf", "application/pdf", lambda: build_pdf(comparison_document(report))),
    )
    with st.container(horizontal=True):
        for name, ending, mime, build in kinds:
            st.download_button(
                f"Comparison as {name}",
                with_audit(build, data_sha256=numbers.cohort.data_sha256, what=f"comparison.{ending}"),
                file_name=f"secondread-comparison.{ending}",
                mime=mime,
                key=f"comparison_{ending}",
                on_click="ignore",
                icon=":material/description:",
            )


ONE_SCORE, SAME_SPECIFICITY, OWN = "One score", "Same specificity", "Each its own"
_BANDS_MOST = 6


@st.fragment
def draw_operating_point(numbers: ComparisonCache, names: tuple[str, ...]) -> None:
    """Slider, curves, table, confusion matrices, tests at the operating point, and the report of all this."""
    require("compare_models")
    cohort = numbers.cohort
    thresholds, words = _choose_thresholds(numbers, names)
    rows = operating_rows(cohort.table, thresholds)
    _draw_curves(numbers, names, rows, words)
    st.subheader("Measures", anchor=False)
    with st.spinner("Computing measures, intervals and pairs"):
        results, pairs, calls = numbers.results(names), numbers.pairs(names), numbers.calls(thresholds)
    st.html(tables.table_of_measures(cohort, results, rows, pairs, calls, colour))
    st.caption(
        "Value over its 95 % interval. Bold: the best of its column, and only where the paired test tells it apart "
        "from every other scorer here (Holm-adjusted p below 0.05: DeLong for AUC, where the interval of the "
        "difference must also leave out 0; McNemar for sensitivity and specificity). The other columns have no paired "
        f"test here and are never bold. Intervals: {numbers.resamples:,} bootstrap draws of patients; Wilson's, "
        "widened for patients with several cases, for shares at the operating point; DeLong's for AUC where every "
        'patient has one case. "Widened": the draws alone would leave the value '
        "out; they lean to one side of it by so much. ECE: expected calibration error over 15 bins of equally many "
        "cases. Specificity 0.000 at 86.9 % sensitivity: only calling everybody reaches that "
        "sensitivity."
    )
    of = cohort.provenance(names)
    draw_download(lambda: tables.measures_table(results, rows), of=of, name="measures", label="CSV, every measure")
    with st.expander("Sort and filter these numbers", icon=":material/filter_list:", key="sorting"):
        sortable = tables.measures_table(results, rows)
        asked = address.several(
            "Measures", list(dict.fromkeys(sortable["measure"])), key="measures",
            default=["auc", "sensitivity_at_threshold", "specificity_at_threshold"],
        )  # fmt: skip
        found = sortable[sortable["measure"].isin(asked)]
        st.dataframe(found.drop(columns=["missing", "delong_se"]), hide_index=True, key="measures_sorted")
    st.subheader("Confusion matrices", anchor=False)
    st.html(tables.confusion_grid(cohort, rows, colour))
    st.caption(plain(of.text))
    draw_download(lambda: confusion_table(rows), of=of, name="confusion")
    with st.expander("Predictive values at other prevalences", icon=":material/percent:", key="predictive"):
        _draw_prevalences(cohort, rows)
    if len(names) > 1:
        differently = st.expander(
            "Who calls differently: McNemar, kappa, correlation",
            icon=":material/compare_arrows:", key="differently", on_change="rerun",
        )  # fmt: skip
        if differently.open:  # every pair's ranks, which nobody waits for who does not look at them
            with differently:
                _draw_agreement(numbers, thresholds, words)
    draw_report_buttons(numbers, rows, calls, words)


def confusion_table(rows: Sequence[OperatingRow]) -> pd.DataFrame:
    """The four counts of every scorer."""
    return pd.DataFrame(
        [
            {
                "scorer": row.name, "threshold": row.threshold, "true_positives": row.counts.true_positives,
                "false_negatives": row.counts.false_negatives, "false_positives": row.counts.false_positives,
                "true_negatives": row.counts.true_negatives,
            }
            for row in rows
        ]
    )  # fmt: skip


def _choose_thresholds(numbers: ComparisonCache, names: tuple[str, ...]) -> tuple[Mapping[str, Threshold], str]:
    """Scorer -> threshold, and the choice in words."""
    cohort = numbers.cohort
    has_own = all(name in cohort.thresholds for name in names)
    modes = [ONE_SCORE, SAME_SPECIFICITY, *([OWN] if has_own else [])]
    left, right = st.columns([2, 5], vertical_alignment="bottom")
    mode = address.segments("Operating point", modes, key="mode", at=left)
    if mode == OWN:
        right.caption("Each model at the threshold that was fixed on its validation cases, before these were seen.")
        return {
            name: cohort.thresholds[name] for name in names
        }, "each model's own threshold, fixed on validation cases"
    if mode == SAME_SPECIFICITY:
        specificity = address.slider(
            "Specificity of every scorer, at least", 0.5, 1.0, step=0.001, key="specificity", default=0.889, at=right,
            format="%.3f",
        )  # fmt: skip
        right.caption("Thresholds are chosen on these cases, so sensitivities flatter a little. 0.889: BCSC, US.")
        found = thresholds_at_specificity(numbers.roc(names, with_bands=False), specificity)
        return found, f"specificity of at least {specificity:.3f} on these cases"
    at = address.slider(
        "Threshold: a case is called positive at or above this score", 0.0, 1.0, step=0.005, key="at",
        default=_usual(cohort, names), at=right, format="%.3f",
    )  # fmt: skip
    return dict.fromkeys(names, at), f"positive at or above a score of {at:.3f}"


def _usual(cohort: Cohort, names: Sequence[str]) -> float:
    """Where the slider starts: the middle of the models' own thresholds, else one half."""
    known = [float(np.median(cohort.thresholds[name])) for name in names if name in cohort.thresholds]
    return float(np.median(known)) if known else 0.5


def _draw_curves(numbers: ComparisonCache, names: tuple[str, ...], rows: Sequence[OperatingRow], chosen: str) -> None:
    left, right = st.columns([2, 5], vertical_alignment="bottom")
    drawn, with_mean = names, False
    if len(names) > _BANDS_MOST:  # so many curves with their bands would hide one another
        drawn = address.several("Curves that are drawn", names, key="drawn", default=names) or names
        with_mean = address.toggle(f"Mean of all {len(names)}", key="mean", default=True)
    bands = address.toggle(
        "95 % bands",
        key="bands",
        default=len(drawn) <= _BANDS_MOST,
        at=left,
        help="From the bootstrap that draws patients",
    )
    with right:
        picture_format()
    roc, precision_recall = _curves(numbers.cohort.key, names, bands, with_mean, numbers)
    on_roc, on_pr = {}, {}
    for row in rows:
        counts, at = row.counts, f"threshold {tables.threshold_text(row.threshold)}"
        n_positives, n_negatives = counts.true_positives + counts.false_negatives, counts.n
        n_negatives -= n_positives
        words = (
            f"{at}: sensitivity {row.sensitivity:.3f} ({counts.true_positives} of {n_positives}), specificity "
            f"{1 - row.false_positive_rate:.3f} ({counts.false_positives} of {n_negatives} called falsely)"
        )
        on_roc[row.name] = (row.false_positive_rate, row.sensitivity, words)
        precision = row.shares["ppv_at_threshold"]
        called = counts.true_positives + counts.false_positives
        spoken = f"{at}: precision {precision.value:.3f} ({counts.true_positives} of {called} called)"
        on_pr[row.name] = (row.sensitivity, precision.value, spoken)
    st.caption(f"The points on the curves, and all counts and shares below: {chosen}.")
    left, right = st.columns(2)
    with left:
        st.markdown("**ROC**")
        of = numbers.cohort.provenance(names)
        figure = _only(with_points(roc, on_roc), names, drawn)
        draw_figure(figure, lambda: roc_table(numbers, names), of=of, name="roc", alt="ROC curves")
    with right:
        st.markdown("**Precision and recall**")
        draw_figure(
            _only(with_points(precision_recall, on_pr), names, drawn),
            lambda: precision_recall_table(numbers, names),
            of=of,
            name="precision-recall",
            alt="Precision-recall curves",
        )


@st.cache_data(max_entries=32, show_spinner="Computing the curves and their bands")
def _curves(
    key: str, names: tuple[str, ...], bands: bool, with_mean: bool, _numbers: ComparisonCache
) -> tuple[go.Figure, go.Figure]:
    provenance = _numbers.cohort.provenance(names)
    figures = (
        roc_figure(_numbers.roc(names, with_bands=bands), provenance=provenance),
        precision_recall_figure(_numbers.precision_recall(names, with_bands=bands), provenance=provenance),
    )
    if with_mean:
        grid, sensitivity = mean_sensitivity(_numbers.roc(names, with_bands=False).values())
        figures[0].add_scatter(
            x=grid, y=sensitivity, mode="lines", name=f"mean of {len(names)}", line={"color": INK, "width": 3},
            hovertemplate="specificity %{customdata:.3f}<br>mean sensitivity %{y:.3f}", customdata=1 - grid,
        )  # fmt: skip
    return figures


def _only(figure: go.Figure, names: tuple[str, ...], drawn: tuple[str, ...]) -> go.Figure:
    """Without the curves, bands and points of scorers that are not drawn; the others keep their colours."""
    hidden = {str(place) for place, name in enumerate(names) if name not in drawn}
    figure.data = tuple(trace for trace in figure.data if trace.legendgroup not in hidden)
    return figure


def roc_table(numbers: ComparisonCache, names: Sequence[str]) -> pd.DataFrame:
    """Every point of every ROC curve."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "scorer": name, "threshold": curve.thresholds, "sensitivity": curve.sensitivity,
                    "specificity": 1 - curve.false_positive_rate, "true_positives": curve.true_positives,
                    "false_positives": curve.false_positives,
                }
            )
            for name, curve in numbers.roc(names, with_bands=False).items()
        ]
    )  # fmt: skip


def precision_recall_table(numbers: ComparisonCache, names: Sequence[str]) -> pd.DataFrame:
    """Every point of every precision-recall curve."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "scorer": name, "threshold": curve.thresholds, "recall": curve.recall,
                    "precision": curve.precision, "true_positives": curve.true_positives, "called": curve.called,
                }
            )
            for name, curve in numbers.precision_recall(names, with_bands=False).items()
        ]
    )  # fmt: skip


def _draw_prevalences(cohort: Cohort, rows: Sequence[OperatingRow]) -> None:
    st.caption(
        "These cases have their own share of positives; a clinic has another. By Bayes' rule, from sensitivity and "
        "specificity at the operating point: 0.5 % is screening, 2 % work-up, 50 % a balanced set."
    )
    chosen = address.number(
        "Your prevalence, %", 0.01, 99.99, step=0.5, key="prevalence", default=10.0, format="%.2f", width=220
    )
    st.html(tables.prevalence_table(cohort, rows, chosen / 100, colour))


def _draw_agreement(numbers: ComparisonCache, thresholds: Mapping[str, Threshold], words: str) -> None:
    cohort = numbers.cohort
    st.caption(f"Called {words}.")
    tests = numbers.calls(thresholds)["accuracy"]
    scorers = {name: cohort.table.scorers[name] for name in thresholds}
    found = agreement(scorers, thresholds, cohort.table.patients)  # type: ignore[arg-type]
    shown = pd.DataFrame(
        [
            {
                "Pair": f"{one.first} vs {one.second}",
                "Cases": one.n,
                "Called differently": f"{100 * one.disagreement.value:.1f} %",
                "95 % interval": f"{100 * one.disagreement.low:.1f} to {100 * one.disagreement.high:.1f} %",
                "Only first right": test.only_first,
                "Only second right": test.only_second,
                "McNemar p": test.p,
                "p, Holm": test.p_holm,
                "Kappa": one.kappa,
                "Spearman": one.spearman,
            }
            for one, test in zip(found, tests, strict=True)
        ]
    )
    st.dataframe(shown, hide_index=True)
    draw_download(
        lambda: tables.calls_table(numbers.calls(thresholds)),
        of=cohort.provenance(list(thresholds)),
        name="mcnemar",
        label="CSV, tests",
    )
