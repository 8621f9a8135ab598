"""What must not be passed unthinkingly: findings of a comparison that need a written reason before a promotion.

Whether a model has seen the cases it is tested on: the same picture, the same patient, nearly the same picture.

A candidate and a live model on the same test cases, as a cohort that everything of `core.evaluation` can measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.errors import InvalidInput
from core.evaluation.cache import ComparisonCache
from core.evaluation.statistics.intervals import n_patients
from core.evaluation.statistics.operating_points import operating_rows
from core.evaluation.tables.cohort import Cohort, cohort_of_scores
from core.evaluation.tables.scores import KEYS
from core.models.cards import CHANCE, CHANCE_AUC, PROMISE, Card
from core.types import Estimate
from core.wording import how_many

_COLUMNS = ("sha256", "pixels_sha256", "perceptual_hash", "patient")


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many tested cases a model was trained or chosen on; each counts once, under the first that is true of it.

    same: the same picture. patients: another picture of the same patient. alike: nearly the same picture, by its
    perceptual hash. of: how many were tested.
    """

    same: int
    patients: int
    alike: int
    of: int

    @property
    def n(self) -> int:
        return self.same + self.patients + self.alike

    @property
    def kinds(self) -> str:
        """ "4 the same picture, 3 the same patient"; "" where there is none."""
        kinds = {
            "the same picture": self.same,
            "the same patient": self.patients,
            "nearly the same picture": self.alike,
        }
        return ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n)

    @property
    def text(self) -> str:
        """ "7 of 117: 4 the same picture, 3 the same patient", or "none of 117"."""
        return f"{self.n} of {self.of}: {self.kinds}" if self.n else f"none of {self.of}"


def overlap(tested: pd.DataFrame, known: pd.DataFrame, *, alike_bits: int) -> Overlap:
    """Compare tested cases with those that a model knows.

    Both have any of the columns sha256, pixels_sha256, perceptual_hash (hex) and patient, "" where something is not
    known, and `part`: a case is not compared with its own part (the fold that tested it), "" is no part. alike_bits:
    in how many bits perceptual hashes of nearly the same picture may differ.
    """
    tested, known = (table.reindex(columns=[*_COLUMNS, "part"], fill_value="") for table in (tested, known))
    same, patients, alike = (np.zeros(len(tested), bool) for _ in range(3))
    for part, chosen in tested.groupby("part").indices.items():
        others = known[known["part"] != part] if part else known
        rows = tested.iloc[chosen]
        same[chosen] = _shared(rows, others, "sha256") | _shared(rows, others, "pixels_sha256")
        patients[chosen] = _shared(rows, others, "patient")
        alike[chosen] = _near(rows["perceptual_hash"], others["perceptual_hash"], alike_bits)
    patients &= ~same
    alike &= ~same & ~patients
    return Overlap(int(same.sum()), int(patients.sum()), int(alike.sum()), len(tested))


def _shared(rows: pd.DataFrame, others: pd.DataFrame, column: str) -> np.ndarray:
    return np.asarray(rows[column].isin(set(others[column]) - {""}))


def _near(rows: pd.Series, others: pd.Series, bits: int) -> np.ndarray:
    """For each hash whether one of the others differs in so few bits."""
    found = np.zeros(len(rows), bool)
    known = _as_uint64(others[others != ""])
    places = np.flatnonzero((rows != "").to_numpy())
    for place, one in zip(places, _as_uint64(rows.iloc[places]), strict=True):
        found[place] = bool(len(known)) and int(np.bitwise_count(known ^ one).sum(axis=1).min()) <= bits
    return found


def _as_uint64(hashes: pd.Series) -> np.ndarray:
    """(n, words) uint64 of hex hashes of one length."""
    raw = [bytes.fromhex(one) for one in hashes]
    return np.frombuffer(b"".join(raw), np.uint64).reshape(len(raw), -1) if raw else np.zeros((0, 1), np.uint64)


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
        _require_same_truth(candidate, scores, live, live_scores)
        tables = {CANDIDATE: (candidate, scores), LIVE: (live, live_scores)}
    subgroups = pd.DataFrame(index=range(len(scores)))
    if groups is not None:
        subgroups = groups.set_index("case").reindex(scores["case"])
    return cohort_of_scores(
        tables,
        scores[list(KEYS)],
        dataset=candidate.data.name or "unnamed data",
        in_folds="fold" in scores,
        titles={name: f"{card.title} ({name})" for name, (card, _) in tables.items()},
        subgroups=subgroups,
    )


def _require_same_truth(candidate: Card, scores: pd.DataFrame, live: Card, live_scores: pd.DataFrame) -> None:
    one = (scores["label"] == candidate.positive).to_numpy()
    other = (live_scores["label"] == live.positive).to_numpy()
    if (one != other).any():
        raise InvalidInput(
            f"The candidate and the live model disagree about the truth of {int((one != other).sum())} shared cases, "
            "so they cannot be compared on them."
        )


FEWEST = 20
"""Patients with cases of each class below which a test set is too small to say anything."""
_BOTH = (CANDIDATE, LIVE)


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """key: under which a reason is kept. sentence: what was found, with its numbers."""

    key: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known beside the scores.

    leaks: of the candidate's split, as its card or its data set's audit says. seen: whose training ("candidate",
    "live") -> which of the compared cases it has seen, None where that cannot be told. is_replaced: the live model
    is the one that the candidate would replace. is_compared: both scored the same cases. measured:
    the candidate's area under the ROC curve on all its test cases; None where its card does not say it: then that on
    the compared ones counts. has_reference: a live model reads this kind of image, also where it would not be replaced.
    broken_promise: of the candidate's threshold, as a sentence; "" where it holds.
    """

    leaks: tuple[str, ...]
    seen: Mapping[str, Overlap | None]
    is_replaced: bool
    is_compared: bool
    measured: Estimate | None = None
    has_reference: bool = False
    broken_promise: str = ""


def failed_checks(numbers: ComparisonCache, found: Circumstances, *, margin: float) -> tuple[FailedCheck, ...]:
    """Every line that the candidate crosses. margin: of sensitivity, specificity and calibration error, as a share."""
    table = numbers.cohort.table
    lines = []
    if (found.is_replaced or found.has_reference) and not found.is_compared:
        lines.append(
            FailedCheck(
                "not compared", "It was not compared with the live model: they have no scores of the same cases."
            )
        )
    if found.is_compared:
        lines += _worse(numbers, margin)
    if found.leaks:
        lines.append(
            FailedCheck("leak", f"The candidate's split leaks ({'; '.join(found.leaks)}): its numbers flatter it.")
        )
    for name in _BOTH:
        seen = found.seen.get(name)
        if seen is not None and seen.n:
            lines.append(
                FailedCheck(
                    f"seen by {name}",
                    f"{seen.n} of the {seen.of} test cases are known to the {name} model from its training "
                    f"({seen.kinds}): its numbers are too good.",
                )
            )
    positives = table.positives or 0
    if found.measured is not None or 0 < positives < table.n:
        area = found.measured or numbers.results([CANDIDATE])[CANDIDATE].measures["auc"]
        if area.low <= CHANCE_AUC:
            lines.append(
                FailedCheck(
                    CHANCE,
                    f"It may be no better than chance: its area under the ROC curve is {area.value:.3f} (95 % interval "
                    f"{area.low:.3f} to {area.high:.3f}), and the interval reaches {CHANCE_AUC:.2f} or lower. Promoted "
                    "with a reason, it answers, and every read says by whose decision and why.",
                )
            )
    if found.broken_promise:
        lines.append(
            FailedCheck(
                PROMISE,
                f"{found.broken_promise} Promoted with a reason, it answers, and every read says by whose decision and "
                "why.",
            )
        )
    is_positive = np.zeros(table.n, bool) if table.is_positive is None else table.is_positive
    of_positive, of_other = (n_patients(one, table.patients) for one in (is_positive, ~is_positive))
    if min(of_positive, of_other) < FEWEST:
        lines.append(
            FailedCheck(
                "too small",
                f"The test cases are {positives} positive of {how_many(of_positive, 'patient')} and "
                f"{table.n - positives} other ones of {how_many(of_other, 'patient')}; below {FEWEST} patients of each "
                "no claim rests on them.",
            )
        )
    return tuple(lines)


def _worse(numbers: ComparisonCache, margin: float) -> list[FailedCheck]:
    table, thresholds = numbers.cohort.table, numbers.cohort.thresholds
    if not table.positives or table.positives == table.n:
        return [FailedCheck("not compared", "The shared test cases are all of one class, so nothing can be compared.")]
    lines = []
    rows = {row.name: row for row in operating_rows(table, {name: thresholds[name] for name in _BOTH})}
    for kind in ("sensitivity", "specificity"):
        new, old = (rows[name].shares[f"{kind}_at_threshold"].value for name in _BOTH)
        if old - new > margin + 1e-9:
            lines.append(
                FailedCheck(
                    kind,
                    f"Its {kind} at its threshold is {new:.3f}, that of the live model {old:.3f}: "
                    f"{100 * (old - new):.1f} percentage points less, and the margin is {100 * margin:.0f}.",
                )
            )
    results = numbers.results(_BOTH)
    new, old = (results[name].measures["ece"].value for name in _BOTH)
    if new - old > margin + 1e-9:
        lines.append(
            FailedCheck(
                "calibration",
                f"Its probabilities lie {100 * new:.1f} percentage points from what was observed (expected calibration "
                f"error), those of the live model {100 * old:.1f}: more than the margin of {100 * margin:.0f} further.",
            )
        )
    (pair,) = numbers.pairs(_BOTH)
    if pair.high < 0:
        lines.append(
            FailedCheck(
                "area",
                f"Its area under the ROC curve is clearly lower: by {-pair.difference:.3f} "
                f"(95 % interval {-pair.high:.3f} to {-pair.low:.3f}).",
            )
        )
    return lines
