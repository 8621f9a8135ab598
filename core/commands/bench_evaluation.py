"""How much ranking once saves: a whole table against a loop over scikit-learn, in one run. Read the ratios."""

from __future__ import annotations

import time

import numpy as np
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from core.evaluation.cache import ComparisonCache
from core.evaluation.charts.curves import precision_recall_figure, roc_figure
from core.evaluation.statistics.comparison import compare_areas
from core.evaluation.statistics.intervals import Bootstrap
from core.evaluation.statistics.operating_points import operating_rows
from core.evaluation.statistics.reader_study import RoeMetz, dealt_out, simulate
from core.evaluation.statistics.reader_study_summary import analyse
from core.evaluation.statistics.summary import evaluate_table
from core.evaluation.tables.cohort import cohort_of_upload
from core.evaluation.tables.scores import ScoreTable

N_CASES, N_POSITIVES, N_SCORERS, N_RESAMPLES = 1440, 61, 24, 2000
N_READERS, READER_STUDY_SECONDS = 14, 5
_LOOP_RESAMPLES = 40
"""scikit-learn's loop is timed on so many resamples of one scorer and multiplied out: the whole takes minutes."""


def run() -> list[str]:
    """Lines for the terminal: the size of a reader study, every measure, every resample, every pair."""
    table = made_up_table()
    began = time.perf_counter()
    result = evaluate_table(table, with_pairs=True, resamples=N_RESAMPLES)
    ours = time.perf_counter() - began
    loop = _sklearn_seconds(table) * N_SCORERS * N_RESAMPLES / _LOOP_RESAMPLES
    assert table.is_positive is not None
    began = time.perf_counter()
    compare_areas(table.is_positive, table.scorers)
    pairs = time.perf_counter() - began
    numbers, names = ComparisonCache(cohort_of_upload(table)), tuple(table.scorers)
    figures: list[object] = []
    (cold, curves), (cached, _) = _page_seconds(numbers, names, figures), _page_seconds(numbers, names, figures)
    readers = _reader_study_seconds()
    return [
        f"Evaluation of {N_SCORERS} scorers x {N_CASES:,} cases, {N_RESAMPLES:,} draws, {len(result.pairs)} pairs:",
        f"  all measures, draws and pairs                {ours:8.2f} s   x   1.00",
        f"  of that, DeLong's test of all pairs           {pairs:8.2f} s   x {pairs / ours:6.2f}",
        f"  page Compare with every part, cold            {cold:8.2f} s   x {cold / ours:6.2f}",
        f"  of that, until its curves are there          {curves:8.2f} s   x {curves / ours:6.2f}",
        f"  the same page again, nothing changed          {cached:8.3f} s   x {cached / ours:6.3f}",
        f"  a loop over scikit-learn, areas and draws     {loop:8.2f} s   x {loop / ours:6.2f}   "
        f"(from {_LOOP_RESAMPLES} draws of one scorer)",
        f"  ours is {loop / ours:.0f} x faster than the loop",
        "",
        f"Reader study of {N_READERS} readers x {N_CASES:,} cases, 2 modalities ({READER_STUDY_SECONDS} s at most):",
        f"  areas, shares, Obuchowski-Rockette, U, GEE   {readers[0]:8.2f} s",
        f"  the same in 2 groups (split-plot)            {readers[1]:8.2f} s",
    ]


def _reader_study_seconds() -> tuple[float, float]:
    """Everything that `core reader-study analyse` computes, fully crossed and with readers and cases in two groups."""
    study = simulate(
        RoeMetz(),
        readers=N_READERS,
        positives=N_POSITIVES,
        negatives=N_CASES - N_POSITIVES,
        rng=np.random.default_rng(0),
    )
    seconds = []
    for one in (study, dealt_out(study, 2)):
        began = time.perf_counter()
        analyse(one, cut=1.0, margin=0.05, partial=(0.8, 1.0))
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def _page_seconds(numbers: ComparisonCache, names: tuple[str, ...], figures: list[object]) -> tuple[float, float]:
    """Seconds of all that the page Compare computes of these scorers, in its order, and of them until the curves are
    there. figures: the curves it has drawn, which it keeps."""
    began = time.perf_counter()
    provenance = numbers.cohort.provenance(names)
    thresholds = dict.fromkeys(names, 0.5)
    operating_rows(numbers.cohort.table, thresholds)
    if not figures:  # of so many scorers without bands
        figures.append(roc_figure(numbers.roc(names, with_bands=False), provenance=provenance))
        found = numbers.precision_recall(names, with_bands=False)
        figures.append(precision_recall_figure(found, provenance=provenance))
    curves = time.perf_counter() - began
    numbers.results(names)
    numbers.pairs(names)
    numbers.calls(thresholds)
    numbers.decision(names)
    numbers.reliability(names)
    numbers.brier(names)
    numbers.calibration(names)
    return time.perf_counter() - began, curves


def made_up_table(seed: int = 0) -> ScoreTable:
    """Scores made in code, two breasts a patient; every third scorer has four fifths of its scores at exactly 0."""
    rng = np.random.default_rng(seed)
    is_positive = np.zeros(N_CASES, bool)
    is_positive[rng.choice(N_CASES, N_POSITIVES, replace=False)] = True
    difficulty = rng.normal(size=N_CASES)
    scorers = {}
    for number in range(N_SCORERS):
        raw = 1 / (1 + np.exp(-(2 * is_positive + 0.6 * difficulty + rng.normal(size=N_CASES) - 3)))
        scorers[f"scorer {number + 1}"] = np.where(raw < np.quantile(raw, 0.8), 0.0, raw) if number % 3 == 0 else raw
    return ScoreTable(
        cases=np.arange(N_CASES).astype(str),
        patients=(np.arange(N_CASES) // 2).astype(str),
        labels=is_positive.astype(int).astype(str),
        positive="1",
        is_positive=is_positive,
        scorers=scorers,
    )


def _sklearn_seconds(table: ScoreTable) -> float:
    """The same draws and the measures scikit-learn has, one resample after another, for the second scorer."""
    labels, scores = table.is_positive, list(table.scorers.values())[1]
    assert labels is not None
    weights = next(Bootstrap(table.patients, table.n, resamples=_LOOP_RESAMPLES).blocks())
    began = time.perf_counter()
    for column in range(_LOOP_RESAMPLES):
        drawn = np.repeat(np.arange(table.n), weights[:, column].astype(int))
        roc_auc_score(labels[drawn], scores[drawn])
        average_precision_score(labels[drawn], scores[drawn])
        brier_score_loss(labels[drawn], scores[drawn])
        sklearn_roc_curve(labels[drawn], scores[drawn])
    return time.perf_counter() - began
