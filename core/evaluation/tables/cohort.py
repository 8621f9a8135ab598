"""The cases a comparison is made on: the test cases of a data set's models, or an uploaded table of scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from core.errors import InvalidInput
from core.evaluation.charts.base import Provenance
from core.evaluation.tables.scores import BOOKKEEPING, KEYS, ClassScores, ScoreTable
from core.models.cards import Card, TrainingOnCard, case_thresholds, leaks_of, read_test_scores

SOURCE_COLUMN = "source"
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
        """The content, as one hash: what computed numbers are kept under."""
        return hashlib.sha256(f"{self.table.sha256}|{self.table.positive}|{self.data_sha256}".encode()).hexdigest()

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
    in common. The group with most models comes first: it has most to compare. In it, first those that can read.
    """
    groups: dict[tuple[str, str, str, str, str], list[Card]] = {}
    for card in cards:
        how = " in folds" if card.data.folds else ""
        name = card.data.name or "unnamed data"
        groups.setdefault((name, data_sha256(card), card.modality, card.positive, how), []).append(card)
    return tuple(
        CardGroup(
            f"{name} {modality}{how} {sha256[:8]}",
            f"{name}, {modality}{how}",
            tuple(sorted(members, key=lambda card: not card.has_weights)),
        )
        for (name, sha256, modality, _, how), members in sorted(groups.items(), key=lambda item: -len(item[1]))
    )


def cohort_of_cards(group: CardGroup) -> Cohort | None:
    """The test scores of a group's models side by side, by case; None where no model comes with its scores.

    A case that one model was not tested on has no score of it. Labels that differ between models are refused.
    """
    tables = {card.model_id: (card, read_test_scores(card)) for card in group.cards}
    known = {name: (card, scores) for name, (card, scores) in tables.items() if scores is not None and len(scores)}
    if not known:
        return None
    keys = pd.concat([scores[list(KEYS)] for _, scores in known.values()]).drop_duplicates()
    if keys["case"].duplicated().any():
        raise InvalidInput("The models of this data set disagree about the label or the patient of a case.")
    keys = keys.set_index("case")
    scorers: dict[str, np.ndarray] = {}
    of_classes: dict[str, ClassScores] = {}
    thresholds: dict[str, float | np.ndarray] = {}
    subgroups = pd.DataFrame(index=keys.index)
    digest = hashlib.sha256()
    for name, (card, scores) in known.items():
        digest.update(card.weights_sha256.encode() + scores.to_csv(index=False).encode())
        indexed = scores.set_index("case")
        own = case_thresholds(card, scores)
        if not np.isscalar(own):
            own = pd.Series(np.asarray(own), index=scores["case"]).reindex(keys.index).to_numpy()
        thresholds[name] = own if isinstance(own, np.ndarray) else float(own)
        probabilities = indexed[list(card.classes)].reindex(keys.index).to_numpy(np.float64)
        scorers[name] = probabilities[:, card.positive_index]
        if len(card.classes) > 2:
            of_classes[name] = ClassScores(card.classes, probabilities)
        others = [c for c in indexed.columns if c not in (*card.classes, *BOOKKEEPING, *KEYS, *subgroups.columns)]
        subgroups = subgroups.join(indexed[others]) if others else subgroups
    sources = np.array([_source(case) for case in keys.index], object)
    if len(set(sources)) > 1 and SOURCE_COLUMN not in subgroups:
        subgroups[SOURCE_COLUMN] = sources
    labels = keys["label"].to_numpy(str)
    positive = group.cards[0].positive
    cards = {name: card for name, (card, _) in known.items()}
    first = group.cards[0]
    return Cohort(
        dataset=group.title,
        split="test cases, out of fold" if any(np.ndim(one) for one in thresholds.values()) else "test",
        table=ScoreTable(
            cases=keys.index.to_numpy(str),
            patients=keys["patient"].to_numpy(str),
            labels=labels,
            positive=positive,
            is_positive=labels == positive,
            scorers=scorers,
            class_scorers=of_classes,
            subgroups=subgroups.fillna("").astype(str).reset_index(drop=True),
            sha256=digest.hexdigest(),
        ),
        data_sha256=data_sha256(first),
        weights={name: card.weights_sha256 for name, card in cards.items()},
        thresholds=thresholds,
        titles={name: card.title for name, card in cards.items()},
        runs={name: card.training for name, card in cards.items()},
        leaks={name: found for name, card in cards.items() if (found := leaks_of(card))},
    )


def cohort_of_upload(table: ScoreTable) -> Cohort:
    """An uploaded table: nothing is known of its scorers but their scores."""
    return Cohort("uploaded scores", UPLOADED, table, table.sha256)


def with_scorers(cohort: Cohort, added: Mapping[str, np.ndarray]) -> Cohort:
    """The cohort with more scorers, such as a mean of two; scores (n,) in [0, 1]."""
    digest = hashlib.sha256(cohort.table.sha256.encode())
    for name, scores in added.items():
        digest.update(name.encode() + np.ascontiguousarray(scores, np.float64).tobytes())
    table = replace(cohort.table, scorers={**cohort.table.scorers, **added}, sha256=digest.hexdigest())
    return replace(cohort, table=table)


def _source(case: str) -> str:
    """`ultrasound/busi/benign/x.png` is of the collection `busi`; other names tell no source."""
    parts = case.split("/")
    return parts[1] if len(parts) > 2 else ""
