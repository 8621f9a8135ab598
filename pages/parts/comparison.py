"""What stands below the curves, each part computed when its tab is opened: pairs, calibration, decisions, subgroups,
classes, training runs.

Mean and spread of a model's runs with different seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape

import pandas as pd
import streamlit as st

from core.evaluation.cache import ComparisonCache
from core.evaluation.charts import curves as curve_charts
from core.evaluation.charts import tables as table_charts
from core.evaluation.charts.runs import HISTORY_MEASURES, class_bars, history_figure, seeds_figure
from core.evaluation.statistics.calibration import CalibrationLine
from core.evaluation.statistics.comparison import PairedTest, cross_validated, mean_of
from core.evaluation.statistics.metrics import Spread, spread
from core.evaluation.statistics.subgroups import FEWEST_OF_A_CLASS, SMALL
from core.evaluation.statistics.summary import ScorerResult, families
from core.evaluation.tables.cohort import with_scorers
from core.wording import how_many
from pages.parts import address
from pages.parts import tables as tables
from pages.parts.figures import colour, draw_download, draw_figure
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown

SHOWN = {**tables.FIXED, "accuracy": "Accuracy", "macro_auc": "Macro AUC", "macro_f1": "Macro F1"}

_Spreads = Mapping[str, Mapping[str, Spread]]
"""Model -> measure -> its spread over the model's seeds."""


def draw_seeds(numbers: ComparisonCache, names: Sequence[str]) -> None:
    """One row a model and measure: mean over its seeds, spread between them, every run."""
    found = families(names)
    if not found:
        st.info(
            "None of these scorers are runs of one model with different seeds. Start a training with several seeds "
            "(page Training), or name columns `model-seed0`, `model-seed1`: two runs or more show here as mean and "
            "spread, because a single run may be lucky."
        )
        return
    runs = {model: [numbers.results([name])[name] for name in of_model] for model, of_model in found.items()}
    spreads = {model: spread([one.measures for one in of_model]) for model, of_model in runs.items()}
    _draw_table(numbers, found, spreads)
    of = numbers.cohort.provenance([name for of_model in found.values() for name in of_model])
    areas = {model: {one.name: one.measures["auc"] for one in of_model} for model, of_model in runs.items()}
    draw_figure(
        seeds_figure(areas, provenance=of),
        lambda: _every_run(runs),
        of=of,
        name="seeds",
        alt="Area under the ROC curve of every run",
    )
    draw_download(lambda: _every_spread(spreads), of=of, name="seeds-spread", label="CSV, mean and spread")
    st.caption(plain(of.text))


def _draw_table(numbers: ComparisonCache, found: Mapping[str, Sequence[str]], spreads: _Spreads) -> None:
    keys = [key for key in SHOWN if any(key in one for one in spreads.values())]
    rows = []
    for model, measured in spreads.items():
        marks = {tables.leak_mark(numbers.cohort, name) for name in found[model]} - {""}
        cells = [f'<th scope="row">{escape(model)}{next(iter(marks), "")}</th>', f"<td>{len(found[model])}</td>"]
        rows.append([*cells, *(_cell(measured.get(key)) for key in keys)])
    head = ["Model", "Seeds", *(SHOWN[key] for key in keys)]
    st.html(tables.html_table(head, rows, label="Mean and spread over seeds"))
    st.caption(
        "Mean ± standard deviation between seeds, over the lowest and the highest run. It says how much luck a single "
        "run has; it is not the interval of new patients, which stands beside each run below."
    )


def _cell(one: Spread | None) -> str:
    if one is None or math.isnan(one.mean):
        return "<td></td>"
    return (
        f'<td><span class="value">{one.mean:.3f} ± {one.deviation:.3f}</span>'
        f'<span class="interval">{one.lowest:.3f} to {one.highest:.3f}</span></td>'
    )


def _every_run(runs: Mapping[str, Sequence[ScorerResult]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"model": model, "scorer": one.name, "measure": key, "value": it.value, "low": it.low, "high": it.high}
            for model, of_model in runs.items()
            for one in of_model
            for key, it in one.measures.items()
        ]
    )


def _every_spread(spreads: _Spreads) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "model": model, "measure": key, "mean": one.mean, "deviation": one.deviation, "lowest": one.lowest,
                "highest": one.highest, "seeds": one.seeds,
            }
            for model, measured in spreads.items()
            for key, one in measured.items()
        ]
    )  # fmt: skip


MEAN, WEIGHTED = "mean of both", "weighted sum of both"


def draw_pairs(numbers: ComparisonCache, names: Sequence[str]) -> None:
    """The matrix of adjusted p-values, and everything about each pair."""
    if len(names) < 2:
        st.info("Choose two scorers or more; every pair is then tested on the cases that both scored.")
        return
    tests = numbers.pairs(names)
    n_compared = sum(not test.why_not for test in tests)
    of = numbers.cohort.provenance(names)
    figure = table_charts.pairs_figure(tests, provenance=of)
    longest = max(len(name) for name in names)
    figure.update_xaxes(side="top", tickangle=-40)  # below, slanted names would lie on the caption
    figure.update_layout(margin_t=min(30 + 5 * longest, 200), height=220 + 34 * len(names) + min(5 * longest, 170))
    st.caption(
        f"DeLong's paired test of the areas, p adjusted by Holm over {how_many(n_compared, 'pair')}; coloured below "
        "0.05. Where a patient has several cases, its variance is over patients (Obuchowski 1997). The interval of the "
        "difference draws patients and assumes no distribution; where the two disagree, believe the interval."
    )
    draw_figure(figure, lambda: tables.pairs_table(tests), name="pairs", alt="Adjusted p-values of all pairs", of=of)
    rows = [
        [
            f'<th scope="row">{tables.pair_text(numbers.cohort, test)}</th>',
            f"<td>{test.n}</td>",
            f'<td colspan="5" style="white-space:normal;text-align:left">Not compared: {test.why_not}.</td>',
        ]
        if test.why_not
        else [
            f'<th scope="row">{tables.pair_text(numbers.cohort, test)}</th>',
            f"<td>{test.n}</td>",
            f'<td><span class="value">{test.difference:+.4f}</span>'
            f'<span class="interval">{test.low:+.4f} to {test.high:+.4f}</span></td>',
            f"<td>{test.z:.3f}</td>",
            f"<td>{p_text(test.p)}</td>",
            f"<td><b>{p_text(test.p_holm)}</b></td>" if test.p_holm < 0.05 else f"<td>{p_text(test.p_holm)}</td>",
        ]
        for test in tests
    ]
    head = ["Pair", "Cases", "AUC difference", "z", "p", "p, Holm"]
    st.html(tables.html_table(head, rows, label="Paired tests"))


def p_text(value: float) -> str:
    """A p-value as papers print it."""
    if value != value:
        return "n/a"
    return "&lt;0.0001" if value < 0.0001 else f"{value:.4f}"


def draw_calibration(numbers: ComparisonCache, names: Sequence[str]) -> None:
    """Does 13 % mean 13 %?"""
    bins = numbers.reliability(names)
    of = numbers.cohort.provenance(names)
    figure = curve_charts.reliability_figure(bins, provenance=of)
    frame = pd.DataFrame(
        [
            {
                "scorer": name, "low": one.low, "high": one.high, "mean_score": one.mean_score,
                "observed": one.observed.value, "observed_low": one.observed.low, "observed_high": one.observed.high,
                "cases": one.observed.n, "positives": one.positives,
            }
            for name, found in bins.items()
            for one in found
        ]
    )  # fmt: skip
    draw_figure(figure, lambda: frame, name="calibration", alt="Reliability diagram", of=of)
    st.caption(
        "At most 15 bins with equally many cases, equal scores kept together; bars are Wilson's intervals. A score "
        "that was never meant as a probability (a reader's suspicion, an uncalibrated network) need not lie on the "
        "line."
    )
    lines, parts = numbers.calibration(names), numbers.brier(names)
    rows = []
    for index, name in enumerate(names):
        line, part = lines[name], parts[name]
        cells = [tables.name_cell(numbers.cohort, name, colour(index))]
        if isinstance(line, CalibrationLine):
            cells += [tables.estimate_cell(one) for one in (line.slope, line.intercept, line.in_the_large)]
            cells.append(f"<td>{line.clipped}</td>")
        else:
            cells.append(f'<td colspan="4" style="white-space:normal;text-align:left">{escape(line)}</td>')
        terms = (part.brier, part.reliability, part.resolution, part.uncertainty, part.within_bins)
        rows.append([*cells, *(f"<td>{one:.4f}</td>" for one in terms)])
    head = ["Scorer", "Slope (1 is best)", "Intercept (0)", "In the large (0)", "Scores at 0 or 1", "Brier",
            "= reliability", "- resolution", "+ uncertainty", "+ within bins"]  # fmt: skip
    st.html(tables.html_table(head, rows, label="Calibration"))
    st.caption("With many scores at exactly 0 or 1, which have no log odds, slope and intercept say little.")


def draw_decisions(numbers: ComparisonCache, names: Sequence[str]) -> None:
    """Is acting on the score better than acting on everybody or nobody?"""
    curves = numbers.decision(names)
    of = numbers.cohort.provenance(names)
    figure = curve_charts.decision_figure(curves, provenance=of)
    frame = pd.concat(
        [
            pd.DataFrame(
                {
                    "scorer": name, "threshold": curve.thresholds, "net_benefit": curve.net_benefit, "low": curve.low,
                    "high": curve.high, "act_on_everybody": curve.treat_all,
                }
            )
            for name, curve in curves.items()
        ]
    )  # fmt: skip
    draw_figure(figure, lambda: frame, name="decision", alt="Decision curves", of=of)
    st.caption(
        "Net benefit: true positives a case, less false positives times the odds of the threshold (Vickers & Elkin "
        "2006). It reads scores as calibrated probabilities, at this set's share of positives. Bands: 95 %."
    )


def draw_subgroups(numbers: ComparisonCache, names: Sequence[str]) -> None:
    """The area in every subgroup of a column of the table."""
    columns = [str(name) for name in numbers.cohort.table.subgroups.columns]
    if not columns:
        st.info(
            "These scores come without a column to group by. Add one to the table (source, density, view, "
            "magnification, lesion size, scanner) and upload it again: every column that holds no scores becomes one."
        )
        return
    left, right = st.columns(2)
    column = address.select("Group by", columns, key="by", at=left)
    name = address.select("Scorer", names, key="of", at=right)
    groups = numbers.subgroups(column, name)
    of = numbers.cohort.provenance([name])
    figure = table_charts.forest_figure(groups, provenance=of)
    frame = pd.DataFrame(
        [
            {
                "scorer": name, "column": one.column, "value": one.value, "cases": one.n, "positives": one.positives,
                "auc": one.auc.value if one.auc else None, "low": one.auc.low if one.auc else None,
                "high": one.auc.high if one.auc else None,
            }
            for one in groups
        ]
    )  # fmt: skip
    draw_figure(figure, lambda: frame, name="subgroups", alt="Area under the ROC curve in subgroups", of=of)
    unsaid = [f"{one.value} ({one.positives} of {one.n} positive)" for one in groups if one.auc is None]
    if unsaid:
        st.info(
            f"Nothing can be said of {plain(', '.join(unsaid))}: an area needs positive cases of "
            f"{FEWEST_OF_A_CLASS} patients and others of {FEWEST_OF_A_CLASS} at least.",
            icon=":material/info:",
        )
    st.caption(
        f"Grey: fewer than {SMALL} cases. Differences between subgroups are not tested here, and the more there are, "
        "the wider the best and the worst lie apart by chance."
    )


def draw_classes(numbers: ComparisonCache, names: Sequence[str]) -> None:
    """Precision, recall and F1 of every class, as bars, and the matrix over classes."""
    results = {name: one for name, one in numbers.results(names).items() if one.classes}
    if not results:
        st.info(
            "These scorers have one score a case. A model with a probability for each class (columns `model:class`) "
            "shows here what it does to every class."
        )
        return
    first = next(iter(results.values())).classes
    same = {name: one for name, one in results.items() if one.classes == first}
    provenance = numbers.cohort.provenance(list(same))
    measured = {name: one.measures for name, one in same.items()}
    overall = ("accuracy", "majority_accuracy", "balanced_accuracy", "macro_auc", "macro_f1", "kappa", "mcc")
    rows = [
        [
            tables.name_cell(numbers.cohort, name, colour(index)),
            *(tables.estimate_cell(found[key]) for key in overall),
        ]
        for index, (name, found) in enumerate(measured.items())
    ]
    head = ["Scorer", "Accuracy", "Majority class", "Balanced accuracy", "Macro AUC", "Macro F1", "Kappa", "MCC"]
    st.html(tables.html_table(head, rows, label="Measures over classes"))
    frame = pd.DataFrame(
        [
            {"scorer": name, "measure": key, "value": one.value, "low": one.low, "high": one.high, "n": one.n}
            for name, found in measured.items()
            for key, one in found.items()
        ]
    )
    for measure, column in zip(("precision", "recall", "f1"), st.columns(3), strict=True):
        with column:
            draw_figure(
                class_bars(measured, first, measure, provenance=provenance),
                lambda: frame,
                of=provenance,
                name=f"class-{measure}",
                alt=f"{measure} of every class",
            )
    for index, (name, one) in enumerate(same.items()):
        if one.matrix is None:
            continue
        st.markdown(f"**{plain(name)}**: the class with the highest probability")
        of = numbers.cohort.provenance([name])
        drawn = table_charts.matrix_figure(one.matrix, first, provenance=of)
        matrix = pd.DataFrame(one.matrix, index=list(first), columns=list(first)).rename_axis("truth").reset_index()
        draw_figure(drawn, partial(_same, matrix), of=of, name=f"matrix-{index}", alt=f"Confusion matrix of {name}")


def _same(table: pd.DataFrame) -> pd.DataFrame:
    return table


def draw_training(numbers: ComparisonCache, names: Sequence[str]) -> None:
    """Loss, accuracy, learning rate and time of the runs that made these models."""
    runs = {name: run for name, run in numbers.cohort.runs.items() if name in names and run.history}
    if not runs:
        st.info("No card of these scorers keeps the history of its training. Models trained here keep one.")
        return
    # In the order of all scorers: a run keeps the colour that its scorer has in every figure.
    histories = {name: runs[name].history if name in runs else () for name in names}
    best = {name: run.best_epoch for name, run in runs.items() if run.best_epoch is not None}
    st.caption("Solid: validation. Dotted: training. Star: the epoch whose weights were kept.")
    of = numbers.cohort.provenance(list(runs))
    columns = st.columns(2)
    place = 0
    for measure in HISTORY_MEASURES:
        figure = history_figure(histories, measure, best, provenance=of)
        if figure is None:
            continue
        with columns[place % 2]:
            figure.update_layout(height=340)
            draw_figure(
                figure, lambda: _histories(histories), name=f"run-{measure}", alt=HISTORY_MEASURES[measure][0], of=of
            )
        place += 1


def _histories(histories: dict[str, tuple[Mapping[str, float | None], ...]]) -> pd.DataFrame:
    return pd.DataFrame([{"scorer": name, **row} for name, rows in histories.items() for row in rows])


def draw_hybrid(numbers: ComparisonCache, names: Sequence[str]) -> None:
    """Does reader + AI beat both? The mean of two scorers, and their weighted sum with weights from other cases."""
    if len(names) < 2:
        st.info("Choose two scorers or more, for example a reader and a model: this shows whether both together are "
                "better than either.")  # fmt: skip
        return
    left, right = st.columns(2)
    first = address.select("First (a reader)", names, key="first", at=left)
    second = address.select("Second (a model)", [name for name in names if name != first], key="second", at=right)
    with refusals_shown():
        hybrid, weights = _hybrid(numbers.cohort.key, first, second, numbers)
        chosen = (first, second, MEAN, WEIGHTED)
        results, tests = hybrid.results(chosen), hybrid.pairs(chosen)
        rows = []
        for index, name in enumerate(chosen):
            cells = [tables.name_cell(hybrid.cohort, name, colour(index))]
            cells += [tables.estimate_cell(results[name].measures[key]) for key in ("auc", "average_precision")]
            for other in (first, second):
                cells.append(_difference_cell(tests, name, other))
            rows.append(cells)
        head = ["Scorer", "AUC", "Average precision", f"AUC less that of {first}", f"AUC less that of {second}"]
        st.html(tables.html_table(head, rows, label="Hybrid of two scorers"))
        of = hybrid.cohort.provenance((first, second))
        draw_download(lambda: tables.pairs_table(tests), of=of, name="hybrid")
        st.caption(
            f"Weight of {plain(first)} in each of {len(weights)} folds of patients, chosen for the highest AUC on the "
            f"other folds: {', '.join(f'{weight:.2f}' for weight in weights)}. Differences: 95 % interval from draws "
            f"of patients (the weights are not drawn anew), DeLong p adjusted by Holm over {len(tests)} pairs."
        )
        st.caption(plain(of.text))


@st.cache_resource(max_entries=8, ttl="1h", show_spinner="Computing the hybrid")
def _hybrid(key: str, first: str, second: str, _numbers: ComparisonCache) -> tuple[ComparisonCache, tuple[float, ...]]:
    table = _numbers.cohort.table
    mixed, weights = cross_validated(table, first, second)
    added = {MEAN: mean_of(table, first, second), WEIGHTED: mixed}
    return ComparisonCache(with_scorers(_numbers.cohort, added)), weights


def _difference_cell(tests: Sequence[PairedTest], name: str, other: str) -> str:
    for test in tests:
        if {test.first, test.second} == {name, other}:
            sign = 1 if test.first == name else -1
            low, high = sorted((sign * test.low, sign * test.high))
            return (
                f'<td><span class="value">{sign * test.difference:+.4f}</span><span class="interval">{low:+.4f} to '
                f"{high:+.4f}; p {p_text(test.p_holm)}</span></td>"
            )
    return "<td></td>"


SECTIONS = {
    "Pairs": draw_pairs,
    "Calibration": draw_calibration,
    "Decision curve": draw_decisions,
    "Subgroups": draw_subgroups,
    "Classes": draw_classes,
    "Hybrid": draw_hybrid,
    "Seeds": draw_seeds,
    "Training": draw_training,
}
"""Tab -> what draws it."""
