"""Mean and spread of a model's runs with different seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from core.evaluation.charts_runs import seeds_figure
from core.evaluation.metrics import Spread, spread
from core.evaluation.seeds import families
from core.evaluation.summary import ScorerResult
from core.evaluation.workbench import Workbench
from pages.parts import research_tables as tables
from pages.parts.research_figures import draw_download, draw_figure
from pages.parts.words import plain

SHOWN = {**tables.FIXED, "accuracy": "Accuracy", "macro_auc": "Macro AUC", "macro_f1": "Macro F1"}

_Spreads = Mapping[str, Mapping[str, Spread]]
"""Model -> measure -> its spread over the model's seeds."""


def draw_seeds(bench: Workbench, names: Sequence[str]) -> None:
    """One row a model and measure: mean over its seeds, spread between them, every run."""
    found = families(names)
    if not found:
        st.info(
            "None of these scorers are runs of one model with different seeds. Start a training with several seeds "
            "(page Training), or name columns `model-seed0`, `model-seed1`: two runs or more show here as mean and "
            "spread, because a single run may be lucky."
        )
        return
    runs = {model: [bench.results([name])[name] for name in of_model] for model, of_model in found.items()}
    spreads = {model: spread([one.measures for one in of_model]) for model, of_model in runs.items()}
    _draw_table(bench, found, spreads)
    of = bench.cohort.provenance([name for of_model in found.values() for name in of_model])
    areas = {model: {one.name: one.measures["auc"] for one in of_model} for model, of_model in runs.items()}
    draw_figure(
        seeds_figure(areas, provenance=of),
        lambda: _every_run(runs),
        of=of,
        name="seeds",
        alt="Area under the ROC curve of every run",
    )
    draw_download(lambda: _every_spread(spreads), of=of, name="seeds-spread", label="CSV, mean and spread")
    st.caption(plain(of.words))


def _draw_table(bench: Workbench, found: Mapping[str, Sequence[str]], spreads: _Spreads) -> None:
    keys = [key for key in SHOWN if any(key in one for one in spreads.values())]
    rows = []
    for model, measured in spreads.items():
        marks = {tables.leak_mark(bench.cohort, name) for name in found[model]} - {""}
        cells = [f'<th scope="row">{tables.escape(model)}{next(iter(marks), "")}</th>', f"<td>{len(found[model])}</td>"]
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
