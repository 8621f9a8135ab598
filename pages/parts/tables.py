"""Tables of a comparison as HTML and as data frames; pure functions. Every name from a file is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import pandas as pd

from core.evaluation.statistics.comparison import McNemarTest, PairedTest
from core.evaluation.statistics.metrics import PREVALENCES, predictive_values
from core.evaluation.statistics.operating_points import OperatingRow, clear_best, differ_by
from core.evaluation.statistics.summary import ScorerResult
from core.evaluation.tables.cohort import Cohort
from core.models.cards import LEAKING
from core.types import Estimate

FIXED: Mapping[str, str] = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "sensitivity_at_specificity_889": "Sensitivity at 88.9 % specificity",
    "specificity_at_sensitivity_869": "Specificity at 86.9 % sensitivity",
    "brier": "Brier score",
    "ece": "ECE",
}
"""Measures that no threshold moves, and what heads their columns."""
MOVING: Mapping[str, str] = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}
"""Measures at the operating point."""
UNDEFINED: Mapping[str, str] = {
    "sensitivity": "no positive case", "specificity": "no negative case", "ppv": "nobody called",
    "npv": "everybody called",
}  # fmt: skip
"""Why one of them is of no case."""


def number(value: float, digits: int = 3) -> str:
    """A number for the screen; "n/a" where it is not defined."""
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def estimate_cell(one: Estimate, *, is_bold: bool = False, undefined: str = "not defined") -> str:
    """The value over its interval, as a table cell. undefined: why there is none, where it is NaN."""
    if math.isnan(one.value):
        return f'<td><span class="value">n/a</span><span class="interval">{undefined}</span></td>'
    value = f"<b>{number(one.value)}</b>" if is_bold else number(one.value)
    return (
        f'<td><span class="value">{value}</span>'
        f'<span class="interval">{number(one.low)} to {number(one.high)}</span>{_bias(one)}</td>'
    )


def _bias(one: Estimate) -> str:
    """That an interval was widened to hold its estimate, and by how much the draws lie beside it."""
    return f'<span class="interval">{one.widened_text}</span>' if one.widened_text else ""


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, label: str, texts: Sequence[str] = ()) -> str:
    """A table that scrolls sideways in itself on a narrow screen.

    `head` is plain; `rows` hold whole cells (`<th>` first). texts: heads of columns that hold words, not numbers.
    """
    top = "".join(f'<th scope="col"{" class=text" if name in texts else ""}>{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="sr-scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f'<table class="sr-numbers"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def name_cell(cohort: Cohort, name: str, colour: str) -> str:
    """A row's head: a mark in the scorer's colour and its name."""
    return f'<th scope="row"><i style="background:{colour}"></i>{escape(name)}{leak_mark(cohort, name)}</th>'


def leak_mark(cohort: Cohort, name: str) -> str:
    """The red words beside a scorer whose numbers come from a leaking split; else nothing."""
    sentences = cohort.leaks.get(name, ())
    return f'<span class="leak" title="{escape(" ".join(sentences))}">{LEAKING}</span>' if sentences else ""


def pair_text(cohort: Cohort, test: PairedTest) -> str:
    """ "first vs second" as HTML, each with its mark."""
    first, second = (f"{escape(name)}{leak_mark(cohort, name)}" for name in (test.first, test.second))
    return f"{first} vs {second}"


def table_of_measures(
    cohort: Cohort,
    results: Mapping[str, ScorerResult],
    rows: Sequence[OperatingRow],
    pairs: Sequence[PairedTest],
    calls: Mapping[str, Sequence[McNemarTest]],
    colours: Callable[[int], str],
) -> str:
    """Scorers x measures. Bold: the best, where the paired test tells it apart from every other one."""
    best = best_of(results, rows, pairs, calls)
    head = ["Scorer", "Cases", "AUC", "Threshold", *MOVING.values()]
    head += [words for key, words in FIXED.items() if key != "auc"]
    body = []
    for index, row in enumerate(rows):
        result = results[row.name]
        cells = [
            name_cell(cohort, row.name, colours(index)),
            f'<td><span class="value">{result.n}</span><span class="interval">{result.positives} positive</span></td>',
            estimate_cell(result.measures["auc"], is_bold=best["auc"] == row.name),
            f"<td>{threshold_text(row.threshold)}</td>",
        ]
        for key in MOVING:
            one = row.shares[f"{key}_at_threshold"]
            cells.append(estimate_cell(one, is_bold=best.get(key) == row.name, undefined=UNDEFINED[key]))
        cells += [estimate_cell(result.measures[key]) for key in FIXED if key != "auc"]
        body.append(cells)
    return html_table(head, body, label="Scorers and their measures")


def best_of(
    results: Mapping[str, ScorerResult],
    rows: Sequence[OperatingRow],
    pairs: Sequence[PairedTest],
    calls: Mapping[str, Sequence[McNemarTest]],
) -> dict[str, str | None]:
    """Measure -> the scorer that is clearly best, or None. Only measures that have a paired test here."""
    found = {"auc": clear_best({row.name: results[row.name].measures["auc"].value for row in rows}, differ_by(pairs))}
    for key in ("sensitivity", "specificity"):
        values = {row.name: row.shares[f"{key}_at_threshold"].value for row in rows}
        found[key] = clear_best(values, differ_by(calls[key]))
    return found


def threshold_text(threshold: float) -> str:
    """A threshold as people read it."""
    if math.isnan(threshold):
        return "each fold's own"
    return "above every score" if math.isinf(threshold) else f"{threshold:.4g}"


def confusion_grid(cohort: Cohort, rows: Sequence[OperatingRow], colours: Callable[[int], str]) -> str:
    """The confusion matrix of every scorer, side by side."""
    positive = cohort.table.positive or "positive"
    yes, no = ("positive", "negative") if positive == "1" else (escape(positive), f"not {escape(positive)}")
    drawn = []
    for index, row in enumerate(rows):
        one = row.counts
        cells = (
            (one.true_positives, one.true_positives + one.false_negatives, "right"),
            (one.false_negatives, one.true_positives + one.false_negatives, "wrong"),
            (one.false_positives, one.false_positives + one.true_negatives, "wrong"),
            (one.true_negatives, one.false_positives + one.true_negatives, "right"),
        )
        shown = [
            f'<td class="{kind}" style="--share:{count / whole if whole else 0:.3f}"><b>{count}</b>'
            f"<span>{100 * count / whole if whole else 0:.1f} %</span></td>"
            for count, whole, kind in cells
        ]
        drawn.append(
            f'<figure><figcaption><i style="background:{colours(index)}"></i>{escape(row.name)}'
            f"{leak_mark(cohort, row.name)}"
            f"<span>threshold {threshold_text(row.threshold)}</span></figcaption>"
            f'<table><thead><tr><th></th><th scope="col">called {yes}</th><th scope="col">not called</th></tr></thead>'
            f'<tbody><tr><th scope="row">{yes}</th>{shown[0]}{shown[1]}</tr>'
            f'<tr><th scope="row">{no}</th>{shown[2]}{shown[3]}</tr></tbody></table></figure>'
        )
    return f'<div class="sr-matrices">{"".join(drawn)}</div>'


def prevalence_table(cohort: Cohort, rows: Sequence[OperatingRow], chosen: float, colours: Callable[[int], str]) -> str:
    """PPV and NPV restated where a share of the women is positive."""
    shares = list(dict.fromkeys([*PREVALENCES, chosen]))
    head = ["Scorer", "Threshold", *(f"{kind} at {100 * share:g} %" for share in shares for kind in ("PPV", "NPV"))]
    body = []
    for index, row in enumerate(rows):
        sensitivity, specificity = (row.shares[f"{key}_at_threshold"] for key in ("sensitivity", "specificity"))
        cells = [name_cell(cohort, row.name, colours(index)), f"<td>{threshold_text(row.threshold)}</td>"]
        for share in shares:
            ppv, npv = predictive_values(sensitivity, specificity, share)
            cells += [estimate_cell(ppv, undefined=UNDEFINED["ppv"]), estimate_cell(npv, undefined=UNDEFINED["npv"])]
        body.append(cells)
    return html_table(head, body, label="Predictive values at stated prevalences")


def pairs_table(tests: Sequence[PairedTest]) -> pd.DataFrame:
    """One row a pair, everything about it."""
    return pd.DataFrame(
        [
            {
                "first": test.first, "second": test.second, "cases": test.n, "positives": test.positives,
                "difference": test.difference, "low": test.low, "high": test.high, "se": test.se, "z": test.z,
                "p": test.p, "p_holm": test.p_holm,
            }
            for test in tests
        ]
    )  # fmt: skip


def calls_table(calls: Mapping[str, Sequence[McNemarTest]]) -> pd.DataFrame:
    """McNemar's tests, one row a pair and measure."""
    return pd.DataFrame(
        [
            {
                "measure": measure, "first": test.first, "second": test.second, "cases": test.n,
                "only_first_right": test.only_first, "only_second_right": test.only_second, "p": test.p,
                "p_holm": test.p_holm,
            }
            for measure, tests in calls.items()
            for test in tests
        ]
    )  # fmt: skip


def measures_table(results: Mapping[str, ScorerResult], rows: Sequence[OperatingRow] = ()) -> pd.DataFrame:
    """One row a scorer and measure: value, limits, n."""
    at = {row.name: row for row in rows}
    found = []
    for name, result in results.items():
        measured = dict(result.measures) | (dict(at[name].shares) if name in at else {})
        for measure, one in measured.items():
            found.append(
                {
                    "scorer": name, "measure": measure, "value": one.value, "low": one.low, "high": one.high,
                    "n": one.n, "bias_where_widened": one.bias,
                    "threshold": at[name].threshold if name in at else math.nan, "cases": result.n,
                    "positives": result.positives, "missing": result.missing, "delong_se": result.delong_se,
                }
            )  # fmt: skip
    return pd.DataFrame(found)
