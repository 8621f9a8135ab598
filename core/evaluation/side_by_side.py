"""A candidate and a live model on the same test cases, as a cohort that everything of `core.evaluation` can measure."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from core.errors import InvalidInput
from core.evaluation.cohort import Cohort
from core.evaluation.scores import ClassScores, ScoreTable
from core.models.cards import Card, case_thresholds
from core.models.leaks import leaks_of

CANDIDATE, LIVE = "candidate", "live"


def side_by_side(
    candidate: Card,
    scores: pd.DataFrame,
    live: Card | None = None,
    live_scores: pd.DataFrame | None = None,
    groups: pd.DataFrame | None = None,
) -> Cohort:
    """The cases that both scored, with scorers "candidate" and "live"; without a live model all of the candidate's.

    scores, live_scores: as `cards.read_test_scores`. groups: `case` and columns to make subgroups of. Every model is
    judged at its own threshold, which was fixed on its validation cases. Raises InvalidInput where the two disagree
    about a case.
    """
    tables = {CANDIDATE: (candidate, scores)}
    if live is not None and live_scores is not None:
        shared = set(scores["case"]) & set(live_scores["case"])
        scores = scores[scores["case"].isin(shared)].reset_index(drop=True)
        live_scores = live_scores.set_index("case").loc[list(scores["case"])].reset_index()
        _demand_same_truth(candidate, scores, live, live_scores)
        tables = {CANDIDATE: (candidate, scores), LIVE: (live, live_scores)}
    labels = scores["label"].to_numpy(str)
    digest = hashlib.sha256()
    scorers, of_classes, thresholds = {}, {}, {}
    for name, (card, table) in tables.items():
        digest.update(card.weights_sha256.encode() + table.to_csv(index=False).encode())
        probabilities = table[list(card.classes)].to_numpy(np.float64)
        scorers[name] = probabilities[:, card.positive_index]
        if len(card.classes) > 2 and set(labels) == set(card.classes):
            of_classes[name] = ClassScores(card.classes, probabilities)
        own = case_thresholds(card, table)
        thresholds[name] = own if isinstance(own, np.ndarray) else float(own)
    data = candidate.raw.get("data", {})
    subgroups = pd.DataFrame(index=range(len(scores)))
    if groups is not None:
        subgroups = groups.set_index("case").reindex(scores["case"]).fillna("").astype(str).reset_index(drop=True)
    return Cohort(
        dataset=str(data.get("name", "unnamed data")),
        split="test cases, out of fold" if "fold" in scores else "test",
        table=ScoreTable(
            cases=scores["case"].to_numpy(str),
            patients=scores["patient"].to_numpy(str),
            labels=labels,
            positive=candidate.positive,
            is_positive=labels == candidate.positive,
            scorers=scorers,
            class_scorers=of_classes,
            subgroups=subgroups,
            sha256=digest.hexdigest(),
        ),
        data_sha256=str(data.get("sha256", "")),
        weights={name: card.weights_sha256 for name, (card, _) in tables.items()},
        thresholds=thresholds,
        titles={name: f"{card.title} ({name})" for name, (card, _) in tables.items()},
        runs={name: card.raw.get("training", {}) for name, (card, _) in tables.items()},
        leaks={name: found for name, (card, _) in tables.items() if (found := leaks_of(card))},
    )


def _demand_same_truth(candidate: Card, scores: pd.DataFrame, live: Card, live_scores: pd.DataFrame) -> None:
    one = (scores["label"] == candidate.positive).to_numpy()
    other = (live_scores["label"] == live.positive).to_numpy()
    if (one != other).any():
        raise InvalidInput(
            f"The candidate and the live model disagree about the truth of {int((one != other).sum())} shared cases, "
            "so they cannot be compared on them."
        )
