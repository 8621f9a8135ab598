"""The cases a comparison is made on: the test cases of a data set's models, or an uploaded table of scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from core.errors import InvalidInput
from core.evaluation.charts.base import Provenance
from core.evaluation.tables.scores import BOOKKEEPING, KEYS, ClassScores, ScoreTable
from core.models.cards import Card, TrainingOnCard, case_thresholds, leaks_of, read_test_scores

SOURCE_COLUMN = "source"
FINDING_SCORERS = ("descriptors in readers' outlines", "descriptors and image model")
"""Scorers made of measured findings (docs/findings.md), out of fold, beside the models of their cases."""
PROPOSED_SCORERS = ("descriptors in the network's outlines", "descriptors in the network's outlines and image model")
"""The same, measured within what an outline network proposed that had not learnt from the case."""
UPLOADED = "split not stated"


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Scored cases and what must be said of them.

    dataset, split: words for captions. data_sha256: of the manifest, or of the uploaded file. weights: scorer ->
    sha256. thresholds: scorer -> its own threshold, one or (n,) where folds have their own; only where it was fixed
    on other cases than these. titles: scorer -> what people call it. leaks: scorer -> why its
    numbers are too good; only those that leak.
    """

    dataset: str
    split: str
    table: ScoreTable
    data_sha256: str
    weights: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, float | np.ndarray] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, TrainingOnCard] = field(default_factory=dict)
    leaks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The content and what is said of it, as one hash: what computed numbers are kept under."""
        thresholds = {name: np.asarray(one, np.float64).tolist() for name, one in self.thresholds.items()}
        said = (
            self.dataset,
            self.split,
            self.table.sha256,
            self.table.positive,
            self.data_sha256,
            self.names,
            thresholds,
        )
        of_scorers = (dict(self.weights), dict(self.titles), dict(self.leaks), dict(self.runs))
        return hashlib.sha256(repr((*said, *of_scorers)).encode()).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.table.scorers)

    def title(self, name: str) -> str:
        return self.titles.get(name, name)

    def provenance(self, names: Sequence[str]) -> Provenance:
        """What a figure of these scorers states."""
        table = self.table
        return Provenance(
            dataset=self.dataset,
            split=self.split,
            n=table.n,
            positives=table.positives,
            data_sha256=self.data_sha256,
            weights={name: self.weights[name] for name in names if name in self.weights},
            leaking=tuple(name for name in names if name in self.leaks),
        )


@dataclass(frozen=True, slots=True)
class CardGroup:
    """Models measured on the test cases of one data set. key: readable and stable, for a choice and an address."""

    key: str
    title: str
    cards: tuple[Card, ...]


def data_sha256(card: Card) -> str:
    """Which cases a model was made from and tested on, as the hash of their manifest; "" where the card is silent."""
    return card.data.sha256


def group_cards(cards: Sequence[Card]) -> tuple[CardGroup, ...]:
    """Models that may be compared: same data set (by hash), kind of image and positive class, tested in the same way.

    Scores out of fold are of all cases, those of a test split of a fifth of them: together they would have few cases
    in common. The group with most models that can read comes first, of equals that with most models: it has most to
    compare. In it, first those that can read.
    """
    groups: dict[tuple[str, str, str, str, str], list[Card]] = {}
    for card in cards:
        how = " in folds" if card.data.folds else ""
        name = card.data.name or "unnamed data"
        groups.setdefault((name, data_sha256(card), card.modality, card.positive, how), []).append(card)
    found: dict[str, CardGroup] = {}
    for (name, sha256, modality, positive, how), members in sorted(
        groups.items(), key=lambda item: (-sum(card.has_weights for card in item[1]), -len(item[1]))
    ):
        key, title = f"{name} {modality}{how} {sha256[:8]}", f"{name}, {modality}{how}"
        if key in found:  # of the same cases, but of another question: the larger group keeps its address
            key, title = f"{key} {positive}", f"{title}, of {positive.replace('_', ' ')}"
        found[key] = CardGroup(key, title, tuple(sorted(members, key=lambda card: not card.has_weights)))
    return tuple(found.values())


def cohort_of_cards(group: CardGroup) -> Cohort | None:
    """The test scores of a group's models side by side, by case; None where no model comes with its scores.

    A case that one model was not tested on has no score of it. Labels that differ between models are refused; of
    patients that differ (a version of a data set keeps together what another parted) the coarser ones are taken.
    """
    tables = {card.model_id: (card, read_test_scores(card)) for card in group.cards}
    known = {name: (card, scores) for name, (card, scores) in tables.items() if scores is not None and len(scores)}
    if not known:
        return None
    keys = pd.concat([scores[list(KEYS)] for _, scores in known.values()]).drop_duplicates()
    if keys[["case", "label"]].drop_duplicates()["case"].duplicated().any():
        raise InvalidInput("The models of this data set disagree about the label of a case.")
    if keys["case"].duplicated().any():
        keys = _of_coarser_patients([scores[list(KEYS)] for _, scores in known.values()])
    subgroups = pd.DataFrame(index=pd.Index(keys["case"]))
    for card, scores in known.values():
        taken = (*card.classes, *BOOKKEEPING, *KEYS, *subgroups.columns)
        others = [name for name in scores.columns if name not in taken]
        subgroups = subgroups.join(scores.set_index("case")[others]) if others else subgroups
    sources = np.array([_source(case) for case in keys["case"]], object)
    if len(set(sources)) > 1 and SOURCE_COLUMN not in subgroups:
        subgroups[SOURCE_COLUMN] = sources
    in_folds = any(np.ndim(case_thresholds(card, scores)) for card, scores in known.values())
    titles = {name: card.title for name, (card, _) in known.items()}
    cohort = cohort_of_scores(known, keys, dataset=group.title, in_folds=in_folds, titles=titles, subgroups=subgroups)
    return with_scorers(cohort, _finding_scores(group.cards, keys["case"]))


def _of_coarser_patients(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The cases of all tables, each once; who is one patient in any of them is one here."""
    rows = pd.concat([one.assign(patient=f"{number} " + one["patient"]) for number, one in enumerate(tables)])
    cases, at_case = np.unique(rows["case"], return_inverse=True)
    patients, at_patient = np.unique(rows["patient"], return_inverse=True)
    n = len(cases) + len(patients)
    linked = coo_array((np.ones(len(rows)), (at_case, len(cases) + at_patient)), shape=(n, n))
    of_case = pd.Series(connected_components(linked, directed=False)[1][: len(cases)], cases)
    keys = rows[list(KEYS)].drop_duplicates("case")
    return keys.assign(patient=[f"p{of_case[case] + 1}" for case in keys["case"]])


def finding_scores_file(card: Card) -> Path:
    """Where the scores of `FINDING_SCORERS` and `PROPOSED_SCORERS` lie, on the test cases of this card that have such
    an outline."""
    return card.folder / f"{card.weights_sha256[:8]}.finding_scores.csv"


def _finding_scores(cards: Sequence[Card], cases: pd.Series) -> dict[str, np.ndarray]:
    """Scorer -> (n,) probabilities, NaN for a case without an outline; none where no card has such scores."""
    for path in map(finding_scores_file, cards):
        if path.is_file():
            found = pd.read_csv(path, dtype={"case": str}).set_index("case").reindex(cases)
            known = [name for name in (*FINDING_SCORERS, *PROPOSED_SCORERS) if name in found]
            return {name: found[name].to_numpy(np.float64) for name in known}
    return {}


def cohort_of_scores(
    known: Mapping[str, tuple[Card, pd.DataFrame]],
    keys: pd.DataFrame,
    *,
    dataset: str,
    in_folds: bool,
    titles: Mapping[str, str],
    subgroups: pd.DataFrame,
) -> Cohort:
    """Models side by side on the cases of `keys` (case, patient, label), NaN where one has no score of a case.

    known: scorer -> its card and scores, as `read_test_scores`. Each is judged at its own threshold, fixed on its
    validation cases. in_folds: whether the scores are out of fold. subgroups: rows as in `keys`.
    """
    cases, labels = keys["case"].to_numpy(str), keys["label"].to_numpy(str)
    digest = hashlib.sha256()
    scorers: dict[str, np.ndarray] = {}
    of_classes: dict[str, ClassScores] = {}
    thresholds: dict[str, float | np.ndarray] = {}
    for name, (card, scores) in known.items():
        digest.update(card.weights_sha256.encode() + scores.to_csv(index=False).encode())
        own = case_thresholds(card, scores)
        thresholds[name] = pd.Series(own, index=scores["case"]).reindex(cases).to_numpy() if np.ndim(own) else own
        probabilities = scores.set_index("case")[list(card.classes)].reindex(cases).to_numpy(np.float64)
        scorers[name] = probabilities[:, card.positive_index]
        if len(card.classes) > 2 and set(labels) == set(card.classes):
            of_classes[name] = ClassScores(card.classes, probabilities)
    first = next(card for card, _ in known.values())
    return Cohort(
        dataset=dataset,
        split="test cases, out of fold" if in_folds else "test",
        table=ScoreTable(
            cases=cases,
            patients=keys["patient"].to_numpy(str),
            labels=labels,
            positive=first.positive,
            is_positive=labels == first.positive,
            scorers=scorers,
            class_scorers=of_classes,
            subgroups=subgroups.fillna("").astype(str).reset_index(drop=True),
            sha256=digest.hexdigest(),
        ),
        data_sha256=first.data.sha256,
        weights={name: card.weights_sha256 for name, (card, _) in known.items()},
        thresholds=thresholds,
        titles=titles,
        runs={name: card.training for name, (card, _) in known.items()},
        leaks={name: found for name, (card, _) in known.items() if (found := leaks_of(card))},
    )


def cohort_of_upload(table: ScoreTable) -> Cohort:
    """An uploaded table: nothing is known of its scorers but their scores."""
    return Cohort("uploaded scores", UPLOADED, table, table.sha256)


def with_scorers(cohort: Cohort, added: Mapping[str, np.ndarray]) -> Cohort:
    """The cohort with more scorers, such as a mean of two; scores (n,) in [0, 1]. Raises InvalidInput for a name that a
    scorer of the cohort has already."""
    if not added:
        return cohort
    if taken := [name for name in added if name in cohort.names]:
        raise InvalidInput(f"A scorer is called {taken[0]!r}, as what is made of two is. Name its column otherwise.")
    digest = hashlib.sha256(cohort.table.sha256.encode())
    for name, scores in added.items():
        digest.update(name.encode() + np.ascontiguousarray(scores, np.float64).tobytes())
    table = replace(cohort.table, scorers={**cohort.table.scorers, **added}, sha256=digest.hexdigest())
    return replace(cohort, table=table)


def _source(case: str) -> str:
    """`ultrasound/busi/benign/x.png` is of the collection `busi`; other names tell no source."""
    parts = case.split("/")
    return parts[1] if len(parts) > 2 else ""
