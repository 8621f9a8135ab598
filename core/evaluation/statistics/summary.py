"""A whole table of scores at once: every scorer's measures, and every pair, from the same draws of patients.

Several runs of the same model with different seeds: what is the network's, and what is luck?
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.errors import InvalidInput
from core.evaluation.statistics.comparison import McNemarTest, PairedTest, compare_areas, compare_calls
from core.evaluation.statistics.intervals import N_RESAMPLES, Bootstrap, delong, n_patients, one_case_each
from core.evaluation.statistics.metrics import confusion_matrix, evaluate_binary, evaluate_classes
from core.evaluation.tables.scores import ClassScores, ScoreTable
from core.types import Estimate
from core.wording import how_many


@dataclass(frozen=True, slots=True)
class ScorerResult:
    """What one scorer achieved on the cases it scored.

    positives: None where only classes are compared. missing: cases of the table without its score. delong_se: of the
    area with cases as the samples, NaN where unknown; delong_se_patients: with patients (Obuchowski 1997). measures: as
    `evaluate_binary` and `evaluate_classes` name them. matrix: counts, rows the true class, columns the predicted one,
    in the order of `classes`; None for a single score.
    """

    name: str
    n: int
    positives: int | None
    missing: int
    measures: Mapping[str, Estimate]
    delong_se: float = math.nan
    delong_se_patients: float = math.nan
    area_by: str = ""
    classes: tuple[str, ...] = ()
    matrix: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class TableResult:
    """All of a table. warnings: sentences that belong beside the numbers. left_out: columns that may be scorers."""

    n: int
    positives: int | None
    positive: str | None
    patients: int
    resamples: int
    seed: int
    sha256: str
    scorers: tuple[ScorerResult, ...]
    pairs: tuple[PairedTest, ...] = ()
    calls: tuple[McNemarTest, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    left_out: tuple[str, ...] = ()


def evaluate_table(
    table: ScoreTable,
    *,
    with_pairs: bool = False,
    threshold: float | None = None,
    resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> TableResult:
    """Measures of every scorer in the order of the columns. threshold: the same for all, adds `_at_threshold` and, with
    pairs, McNemar's test."""
    bootstrap = Bootstrap(table.patients, table.n, resamples=resamples, seed=seed)
    names = dict.fromkeys([*table.scorers, *table.class_scorers])
    scorers = tuple(evaluate_scorer(table, name, bootstrap, threshold) for name in names)
    pairs: tuple[PairedTest, ...] = ()
    calls: tuple[McNemarTest, ...] = ()
    if with_pairs and table.is_positive is not None:
        pairs = compare_areas(table.is_positive, table.scorers, bootstrap)
        if threshold is not None:
            at = dict.fromkeys(table.scorers, threshold)
            calls = compare_calls(table.is_positive, table.scorers, at, table.patients)
    return TableResult(
        n=table.n,
        positives=table.positives,
        positive=table.positive,
        patients=len(set(table.patients)),
        resamples=resamples,
        seed=seed,
        sha256=table.sha256,
        scorers=scorers,
        pairs=pairs,
        calls=calls,
        warnings=tuple(table_warnings(table, scorers)),
        left_out=tuple(column.name for column in table.left_out if column.scale is not None),
    )


def evaluate_scorer(table: ScoreTable, name: str, bootstrap: Bootstrap, threshold: float | None = None) -> ScorerResult:
    """Measures of one scorer on the cases it scored. draws: of all cases of the table."""
    of_classes = table.class_scorers.get(name)
    if table.is_positive is None:
        assert of_classes is not None  # `read_scores` wants a positive label for a single score
        scored = ~np.isnan(of_classes.probabilities[:, 0])
        measures, counts = _over_classes(table, of_classes, scored, bootstrap, name)
        return ScorerResult(
            name, int(scored.sum()), None, int((~scored).sum()), measures, classes=of_classes.classes, matrix=counts
        )
    scores = table.scorers[name]
    scored = ~np.isnan(scores)
    labels, patients = table.is_positive[scored], table.patients[scored]
    if not labels.any() or labels.all():
        raise InvalidInput(
            f"The {int(scored.sum())} cases that {name!r} scored are not of both classes. Leave the column out."
        )
    matrix: np.ndarray | None = None
    found = evaluate_binary(labels, scores[scored], patients, threshold, bootstrap=bootstrap.only(scored))
    if of_classes is not None:
        over_classes, matrix = _over_classes(table, of_classes, scored, bootstrap, name)
        found = {**over_classes, **found}
    return ScorerResult(
        name=name,
        n=int(scored.sum()),
        positives=int(labels.sum()),
        missing=int((~scored).sum()),
        measures=found,
        delong_se=delong(labels, scores[scored]).se,
        delong_se_patients=delong(labels, scores[scored], patients).se,
        area_by="delong" if one_case_each(patients) else "bootstrap of patients",
        classes=of_classes.classes if of_classes is not None else (),
        matrix=matrix,
    )


def _over_classes(
    table: ScoreTable, of_classes: ClassScores, scored: np.ndarray, bootstrap: Bootstrap, name: str
) -> tuple[dict[str, Estimate], np.ndarray]:
    index = {label: number for number, label in enumerate(of_classes.classes)}
    labels = np.array([index[label] for label in table.labels[scored]], np.int64)
    probabilities = of_classes.probabilities[scored]
    absent = [label for label, number in index.items() if not (labels == number).any()]
    if absent:
        raise InvalidInput(
            f"{name!r} has probabilities of {', '.join(absent)}, and no case it scored is of that class. "
            "Measures over classes need cases of each; leave the column out."
        )
    measures = evaluate_classes(
        labels, probabilities, of_classes.classes, table.patients[scored], bootstrap=bootstrap.only(scored)
    )
    return measures, confusion_matrix(labels, probabilities.argmax(axis=1), len(index))


def table_warnings(table: ScoreTable, scorers: Sequence[ScorerResult]) -> list[str]:
    """What belongs beside the numbers of these scorers: missing scores, few cases, columns that are no scorers."""
    found = []
    incomplete = {result.name: result.missing for result in scorers if result.missing}
    if incomplete:
        words = ", ".join(f"{name} has no score for {missing}" for name, missing in incomplete.items())
        found.append(
            f"Of {table.n} cases, {words}. Each is measured on its own cases; pairs use the cases that both have."
        )
    if table.positives is not None:
        is_positive = table.labels == table.positive
        fewest = min(n_patients(one, table.patients) for one in (is_positive, ~is_positive))
        if min(table.positives, table.n - table.positives) < 20:
            found.append("There are fewer than 20 cases of one class: intervals are wide, and no claim rests on them.")
        elif fewest < 20:
            found.append(
                f"The cases of one class are of {how_many(fewest, 'patient')} only: intervals draw patients, and from "
                "so few they may be too narrow. No claim rests on them."
            )
    if not one_case_each(table.patients):
        found.append(
            "Some patients have several cases. Paired tests and intervals count patients; standard errors and p of "
            "the plain DeLong test, where they are printed, take cases to be independent."
        )
    return [*found, *table.remarks, *(str(column) for column in table.left_out)]


_SEED = re.compile(r"^(?P<model>.+?)[-_ @:]*seed[-_ =]?(?P<seed>\d+)(?P<rest>.*)$", re.IGNORECASE)


def families(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Model -> its runs, for models with two runs or more. A run is named as trainings name them: `MODEL-seed3`."""
    found: dict[str, list[str]] = {}
    for name in names:
        match = _SEED.match(name)
        if match:
            found.setdefault(match["model"], []).append(name)
    return {model: tuple(runs) for model, runs in found.items() if len(runs) > 1}
